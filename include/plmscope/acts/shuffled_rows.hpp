// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/acts/activation_batch.hpp>
#include <plmscope/acts/reader.hpp>
#include <plmscope/acts/rules.hpp>
#include <plmscope/core/rng.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Endless batches of rows in random order, mixed across proteins, from any reader. A buffer of
/// rows is filled from the reader; when half of it has been handed out it is filled up again and
/// reshuffled. Data that fit into the buffer are read once and only reshuffled every epoch, so the
/// model runs once per protein however long training takes. Equal seeds give equal batches.
template <class Reader, class Backend>
class shuffled_rows {
  static_assert(require_reader<Reader, Backend>::value);

 public:
  using real = typename Backend::real;

  /// `capacity` rows of memory at most. Errors at first use: `acts_buffer`.
  shuffled_rows(Reader reader, std::uint64_t seed, std::size_t capacity = std::size_t{1} << 18)
      : reader_(std::move(reader)),
        seed_(seed),
        capacity_(std::min(capacity, reader_.total_rows())),
        whole_(reader_.total_rows() <= capacity) {}

  activation_source source() const { return reader_.source(); }
  std::size_t width() const { return reader_.width(); }
  Reader& reader() noexcept { return reader_; }

  /// The next `rows` rows, [rows, d]; valid until the next call. Fewer when the data hold fewer.
  const_view<Backend> next(Backend& be, std::size_t rows) {
    rows = std::min(rows, capacity_);
    if (!whole_ && capacity_ < 2 * rows) {
      throw error(rules::acts_buffer, {.expected = "at least " + std::to_string(2 * rows) + " rows",
                                       .found = std::to_string(capacity_)});
    }
    if (buffer_.empty()) {
      buffer_ = matrix<real, Backend>(be, capacity_, reader_.width());
      reader_.rewind(whole_ ? 0 : 1);
      fill(be);
      shuffle();
    } else if (whole_ ? used_ + rows > order_.size() : used_ >= order_.size() / 2) {
      if (!whole_) fill(be);
      shuffle();
    }
    out_.reshape(be, rows, reader_.width());
    ids_.reshape(be, 1, rows);
    be.upload(std::span<const std::uint32_t>(order_).subspan(used_, rows), ids_.all());
    used_ += rows;
    be.gather_rows(buffer_, const_view<Backend, std::uint32_t>(ids_), out_);
    return out_;
  }

 private:
  // Rows already handed out are overwritten by fresh ones.
  void fill(Backend& be) {
    std::vector<std::uint32_t> free(order_.begin(), order_.begin() + static_cast<std::ptrdiff_t>(used_));
    if (order_.empty()) {
      free.resize(capacity_);
      std::iota(free.begin(), free.end(), 0u);
      order_ = free;
    }
    std::sort(free.begin(), free.end());
    for (std::size_t filled = 0; filled < free.size();) {
      if (pending_ == batch_.origins.size()) {
        pending_ = 0;
        if (!reader_.read(be, batch_)) {
          reader_.rewind(++epoch_ + 1);
          batch_.origins.clear();
          continue;
        }
      }
      // runs of free rows take runs of pending rows
      std::size_t run = 1;
      const std::size_t limit =
          std::min(free.size() - filled, batch_.origins.size() - pending_);
      while (run < limit && free[filled + run] == free[filled] + run) ++run;
      be.copy(const_view<Backend>(batch_.rows).row_range(pending_, run),
              buffer_.all().row_range(free[filled], run));
      pending_ += run;
      filled += run;
    }
  }

  // Fisher-Yates; every shuffle is a stream of its own.
  void shuffle() {
    const rng random(seed_, 0x5481f00 + ++shuffles_);
    for (std::size_t i = order_.size(); i > 1; --i) {
      std::swap(order_[i - 1], order_[static_cast<std::size_t>(random.below(i, i))]);
    }
    used_ = 0;
  }

  Reader reader_;
  std::uint64_t seed_;
  std::size_t capacity_;
  bool whole_;
  matrix<real, Backend> buffer_;
  matrix<real, Backend> out_;
  matrix<std::uint32_t, Backend> ids_;
  activation_batch<Backend> batch_;
  std::size_t pending_ = 0;  // rows of batch_ already in the buffer
  std::vector<std::uint32_t> order_;
  std::size_t used_ = 0;
  std::size_t epoch_ = 0;
  std::uint64_t shuffles_ = 0;
};

}  // namespace plmscope
