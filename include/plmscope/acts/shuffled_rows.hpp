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

/// Endless batches of rows in random order, mixed across proteins, from any reader. A buffer is
/// filled with the next rows of the reader, which come in an order of proteins of their own every
/// epoch, and handed out in random order; then the next rows fill it. Each row comes exactly once an
/// epoch. Data that fit into the buffer are read once and only reshuffled every epoch, so the model
/// runs once per protein however long training takes; what does not fill a batch then waits for the
/// next epoch. Everything follows from seed and position, so that `seek` needs no saved buffer. Equal
/// seeds give equal batches.
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
    out_.reshape(be, rows, reader_.width());
    if (shuffles_ == 0) {
      load(be, 0);
    } else if (whole_ && used_ + rows > capacity_) {
      shuffle();
    }
    for (std::size_t done = 0; done < rows;) {
      if (used_ == capacity_) {
        fill(be);
        shuffle();
      }
      const std::size_t n = std::min(rows - done, capacity_ - used_);
      ids_.reshape(be, 1, n);
      be.upload(std::span<const std::uint32_t>(order_).subspan(used_, n), ids_.all());
      be.gather_rows(buffer_, const_view<Backend, std::uint32_t>(ids_),
                     out_.all().row_range(done, n));
      used_ += n;
      done += n;
    }
    return out_;
  }

  /// Rows handed out or left behind so far, and back to the state after so many. Seeking fills the
  /// buffer once; a reader that can `pass` costs nothing beside that, any other reads from the
  /// beginning of the epoch.
  std::size_t position() const noexcept {
    return shuffles_ == 0 ? 0 : (shuffles_ - 1) * capacity_ + used_;
  }
  void seek(Backend& be, std::size_t position) {
    if (capacity_ == 0) return;
    load(be, position / capacity_);
    used_ = position % capacity_;
  }

  /// What decides every row and its place.
  std::string identity() const
    requires(reader_concepts::has_identity<Reader>)
  {
    return reader_.identity() + "; shuffled with seed " + std::to_string(seed_) + ", " +
           std::to_string(capacity_) + " rows in memory";
  }

 private:
  // The buffer as it is when it has been filled `number` times before, data that it holds whole when
  // they have been shuffled so often before.
  void load(Backend& be, std::size_t number) {
    if (capacity_ == 0) return;
    const bool fresh = buffer_.empty();
    if (fresh) buffer_ = matrix<real, Backend>(be, capacity_, reader_.width());
    order_.clear();
    if (!whole_ || fresh) {
      go_to(be, whole_ ? 0 : number * capacity_);
      fill(be);
    }
    shuffles_ = whole_ ? 0 : number;
    for (std::size_t left = whole_ ? number + 1 : 1; left > 0; --left) shuffle();
  }

  // The reader as it is when `row` rows have gone into the buffer.
  void go_to(Backend& be, std::size_t row) {
    const std::size_t total = reader_.total_rows();
    epoch_ = whole_ ? 0 : 1 + row / total;
    row %= total;
    std::size_t before = 0;  // batches that end at or before the row
    std::size_t rows = 0;    // in them
    for (reader_.rewind(epoch_); pass(be) && rows + batch_.origins.size() <= row; ++before) {
      rows += batch_.origins.size();
    }
    reader_.rewind(epoch_);
    for (; before > 0; --before) pass(be);
    pending_ = 0;
    batch_.origins.clear();
    if (rows < row && reader_.read(be, batch_)) {
      pending_ = std::min(row - rows, batch_.origins.size());
    }
  }
  bool pass(Backend& be) {
    if constexpr (reader_concepts::has_pass<Reader>) return reader_.pass(batch_.origins);
    else return reader_.read(be, batch_);
  }

  void fill(Backend& be) {
    for (std::size_t filled = 0; filled < capacity_;) {
      if (pending_ == batch_.origins.size()) {
        pending_ = 0;
        if (!reader_.read(be, batch_)) {
          reader_.rewind(++epoch_);
          batch_.origins.clear();
          continue;
        }
      }
      const std::size_t n = std::min(capacity_ - filled, batch_.origins.size() - pending_);
      be.copy(const_view<Backend>(batch_.rows).row_range(pending_, n),
              buffer_.all().row_range(filled, n));
      pending_ += n;
      filled += n;
    }
    order_.clear();
  }

  // Fisher-Yates; every shuffle is a stream of its own.
  void shuffle() {
    if (order_.empty()) {
      order_.resize(capacity_);
      std::iota(order_.begin(), order_.end(), 0u);
    }
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
