// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

namespace plmscope::inline PLMSCOPE_ABI {

/// A number that a device makes, on its way to the host: its copy is queued like any other work.
/// Reading it waits until it has come, and only for what was queued before it; so who asks early
/// and reads late, with work queued in between, leaves the device busy. Without a number it is 0.
///
/// A `Runtime` has send(pointer) -> ticket, receive(ticket) and drop(ticket).
template <class Runtime>
class arriving_count {
 public:
  arriving_count() = default;
  /// `from`: on the device; it may be written again by what is queued later.
  arriving_count(std::shared_ptr<Runtime> run, const std::int64_t* from)
      : run_(std::move(run)), ticket_(run_->send(from)) {}
  arriving_count(arriving_count&& other) noexcept { swap(other); }
  arriving_count& operator=(arriving_count other) noexcept {
    swap(other);
    return *this;
  }
  arriving_count(const arriving_count&) = delete;
  ~arriving_count() {
    if (run_ != nullptr) run_->drop(ticket_);
  }

  operator std::size_t() {
    if (run_ != nullptr) {
      number_ = static_cast<std::size_t>(run_->receive(ticket_));
      run_->drop(ticket_);
      run_.reset();
    }
    return number_;
  }

 private:
  void swap(arriving_count& other) noexcept {
    std::swap(run_, other.run_);
    std::swap(ticket_, other.ticket_);
    std::swap(number_, other.number_);
  }

  std::shared_ptr<Runtime> run_;  // none: the number is known
  std::size_t ticket_ = 0;
  std::size_t number_ = 0;
};

namespace device_kernels {

/// How many of the ids before f pass is where f goes; how many of all pass stands behind the last.
template <class Device, class Run, class Since, class Ids>
arriving_count<typename Device::runtime_type> launch_ids_where(Device& be, const Run& run,
                                                               Since since, std::int64_t at_least,
                                                               Ids out) {
  const std::size_t n = since.cols();
  auto places = be.template scratch<std::int64_t>(n + 1);
  std::int64_t* const place = places.get();
  be.entries(1, n + 1, [=] PLMSCOPE_DEVICE(std::size_t, std::size_t f) {
    place[f] = f > 0 && since.data()[f - 1] >= at_least ? 1 : 0;
  });
  be.runtime().running_sum(place, n + 1);
  be.entries(1, n, [=] PLMSCOPE_DEVICE(std::size_t, std::size_t f) {
    if (since.data()[f] >= at_least) out.data()[place[f]] = static_cast<std::uint32_t>(f);
  });
  return {run, place + n};
}

}  // namespace device_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI
