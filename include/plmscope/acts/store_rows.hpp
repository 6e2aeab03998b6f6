// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/acts/activation_store_reader.hpp>
#include <plmscope/core/rng.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

struct store_rows_options {
  std::size_t buffer_rows = std::size_t{1} << 18;  ///< in memory at a time
  std::size_t run_rows = 1024;  ///< read in one piece; a batch mixes buffer_rows / run_rows runs
};

/// Endless batches of rows of a store in random order, read at the speed of sequential reading:
/// every epoch takes runs of consecutive rows in random order from all shards, loads as many as fit
/// the buffer (in the order of the files, while the system fetches the next load), and hands out
/// the rows of the load in random order. Each row comes exactly once an epoch; a batch may end one
/// load or epoch and begin the next. Everything follows from the seed and the number of rows handed
/// out, so `seek` resumes without a saved buffer. Feeds trainers like `shuffled_rows`.
template <class Backend = cpu>
class store_rows {
 public:
  using real = typename Backend::real;

  store_rows(activation_store store, std::string_view site, std::uint64_t seed = 0,
             store_rows_options options = {})
      : store_(std::move(store)),
        site_(store_.manifest().find(site)),
        seed_(seed),
        run_rows_(std::clamp<std::size_t>(options.run_rows, 1, store_detail::rows_of(store_))),
        runs_((store_.rows() + run_rows_ - 1) / run_rows_),
        runs_a_load_(std::clamp<std::size_t>(options.buffer_rows / run_rows_, 1, runs_)),
        loads_((runs_ + runs_a_load_ - 1) / runs_a_load_) {}

  activation_source source() const { return store_.manifest().source(site_); }
  std::size_t width() const noexcept { return store_.manifest().sites[site_].width; }
  std::size_t total_rows() const noexcept { return store_.rows(); }

  /// The next `rows` rows, [rows, d]; valid until the next call. Fewer when the store holds fewer.
  const_view<Backend> next(Backend& be, std::size_t rows) {
    rows = std::min(rows, total_rows());
    out_.reshape(be, rows, width());
    for (std::size_t done = 0; done < rows;) {
      if (used_ == order_.size()) load(be);
      const std::size_t n = std::min(rows - done, order_.size() - used_);
      ids_.reshape(be, 1, n);
      be.upload(std::span<const std::uint32_t>(order_).subspan(used_, n), ids_.all());
      be.gather_rows(buffer_, const_view<Backend, std::uint32_t>(ids_),
                     out_.all().row_range(done, n));
      used_ += n;
      done += n;
      handed_out_ += n;
    }
    return out_;
  }

  /// Store, site, seed and sizes: what decides every row and its place.
  std::string identity() const {
    return store_detail::identity(store_, site_) + ", seed " + std::to_string(seed_) +
           ", runs of " + std::to_string(run_rows_) + " rows, " +
           std::to_string(runs_a_load_) + " in memory";
  }

  /// Rows handed out so far, and back to the state after so many.
  std::size_t position() const noexcept { return handed_out_; }
  void seek(Backend& be, std::size_t rows) {
    handed_out_ = rows;
    order_.clear();
    used_ = 0;
    next_load_ = rows / total_rows() * loads_;
    for (std::size_t left = rows % total_rows(); left > 0;) {
      const std::size_t size = load_rows(next_load_);
      if (left < size) {
        load(be);
        used_ = left;
        return;
      }
      left -= size;
      ++next_load_;
    }
  }

 private:
  // The runs of load `i`, counted over all epochs, in the order of the files.
  std::vector<std::size_t> runs_of(std::size_t i) const {
    const permutation order(runs_, seed_, 0x5707e00 + i / loads_);
    const std::size_t first = i % loads_ * runs_a_load_;
    std::vector<std::size_t> runs;
    for (std::size_t r = first; r < std::min(first + runs_a_load_, runs_); ++r) {
      runs.push_back(static_cast<std::size_t>(order(r)));
    }
    std::ranges::sort(runs);
    return runs;
  }
  std::size_t rows_of(std::size_t run) const noexcept {
    return std::min(run_rows_, store_.rows() - run * run_rows_);
  }
  std::size_t load_rows(std::size_t i) const {
    std::size_t rows = 0;
    for (const std::size_t run : runs_of(i)) rows += rows_of(run);
    return rows;
  }

  void load(Backend& be) {
    const auto runs = runs_of(next_load_);
    std::vector<std::size_t> to{0};
    for (const std::size_t run : runs) to.push_back(to.back() + rows_of(run));
    const std::size_t d = width();
    buffer_.reshape(be, to.back(), d);
    store_detail::fill_rows(be, buffer_.all(), staging_, [&](std::span<float> numbers) {
      store_detail::for_each_part(be, runs.size(), [&](std::size_t i) {
        store_.read(site_, runs[i] * run_rows_,
                    numbers.subspan(to[i] * d, (to[i + 1] - to[i]) * d));
      });
    });
    order_.resize(to.back());
    std::iota(order_.begin(), order_.end(), 0u);
    // Fisher-Yates; every load is a stream of its own.
    const rng random(seed_, 0x10ad00000000 + next_load_);
    for (std::size_t i = order_.size(); i > 1; --i) {
      std::swap(order_[i - 1], order_[static_cast<std::size_t>(random.below(i, i))]);
    }
    used_ = 0;
    ++next_load_;
    if (loads_ == 1) return;
    for (const std::size_t run : runs_of(next_load_)) {
      store_.will_need(site_, run * run_rows_, rows_of(run));
    }
  }

  activation_store store_;
  std::size_t site_;
  std::uint64_t seed_;
  std::size_t run_rows_;
  std::size_t runs_;  // of an epoch; the last may be shorter
  std::size_t runs_a_load_;
  std::size_t loads_;  // of an epoch
  std::size_t next_load_ = 0;
  matrix<real, Backend> buffer_;
  matrix<real, Backend> out_;
  matrix<std::uint32_t, Backend> ids_;
  std::vector<float> staging_;
  std::vector<std::uint32_t> order_;
  std::size_t used_ = 0;
  std::size_t handed_out_ = 0;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
