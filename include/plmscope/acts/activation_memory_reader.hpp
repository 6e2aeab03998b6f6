// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/acts/activation_batch.hpp>
#include <plmscope/acts/activation_memory.hpp>
#include <plmscope/acts/activation_store_reader.hpp>
#include <plmscope/core/rng.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Reads one site of an `activation_memory` as `model_reader` reads it from the model: the same
/// rows in the same order for the same seed, bit for bit. The memory is shared, the place in it is
/// not. Errors: acts.113 for a site that is not there.
template <class Backend = cpu>
class activation_memory_reader {
 public:
  activation_memory_reader(std::shared_ptr<const activation_memory> memory, std::string_view site,
                           std::uint64_t seed = 0, std::size_t rows_per_batch = 8192)
      : memory_(std::move(memory)),
        site_(memory_->find(site)),
        seed_(seed),
        rows_per_batch_(rows_per_batch) {}

  activation_source source() const { return memory_->source(site_); }
  std::size_t width() const noexcept { return memory_->width(site_); }
  std::size_t total_rows() const noexcept { return memory_->rows(); }
  std::size_t proteins() const noexcept { return memory_->proteins(); }

  void rewind(std::size_t epoch) noexcept {
    next_ = 0;
    epoch_ = epoch;
  }

  bool read(Backend& be, activation_batch<Backend>& out) {
    if (!pass(out.origins)) return false;
    out.rows.reshape(be, out.origins.size(), width());
    store_detail::fill_rows(be, out.rows.all(), staging_, [&](std::span<float> to) {
      std::size_t done = 0;
      for (const std::size_t p : batch_) {
        const auto rows = memory_->numbers(site_, memory_->first_row(p), memory_->rows_of(p));
        std::ranges::copy(rows, to.subspan(done, rows.size()).begin());
        done += rows.size();
      }
    });
    return true;
  }

  /// Goes past the batch that `read` would deliver, without its rows.
  bool pass(std::vector<row_origin>& origins) {
    const permutation order(proteins(), seed_, 0xac7500 + epoch_);
    origins.clear();
    batch_.clear();
    for (; next_ < proteins() && origins.size() < rows_per_batch_; ++next_) {
      const std::size_t p = epoch_ == 0 ? next_ : static_cast<std::size_t>(order(next_));
      const std::size_t rows = memory_->rows_of(p);
      if (rows == 0) continue;
      if (!batch_.empty() && origins.size() + rows > rows_per_batch_) break;
      batch_.push_back(p);
      for (std::size_t i = 0; i < rows; ++i) {
        origins.push_back({static_cast<std::uint32_t>(p), static_cast<std::uint32_t>(i)});
      }
    }
    return !origins.empty();
  }

  /// Model, site, sequences, seed and size of batches: what decides every row and its place.
  std::string identity() const {
    const auto from = source();
    return "model " + from.model + " " + from.model_hash + " at " + from.site + ", sequences " +
           memory_->sequences_hash() + ", seed " + std::to_string(seed_) + ", " +
           std::to_string(rows_per_batch_) + " rows a batch";
  }

 private:
  std::shared_ptr<const activation_memory> memory_;
  std::size_t site_;
  std::uint64_t seed_;
  std::size_t rows_per_batch_;
  std::size_t next_ = 0;
  std::size_t epoch_ = 0;
  std::vector<std::size_t> batch_;  // proteins
  std::vector<float> staging_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
