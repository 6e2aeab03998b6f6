// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/plm/hook.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Calls run(first, end) for one run of whole sequences after the other, each of at most `tokens`
/// tokens; a longer sequence is a run of its own.
template <class Batch, class Run>
void for_each_slice(const Batch& batch, std::size_t tokens, const Run& run) {
  for (std::size_t first = 0; first < batch.sequences();) {
    const std::size_t start = batch.first_row(first);
    std::size_t end = first + 1;
    while (end < batch.sequences() && batch.first_row(end + 1) - start <= tokens) ++end;
    run(first, end);
    first = end;
  }
}

/// Some whole sequences of a packed batch as a forward pass needs them: what a hook is told of
/// them, and tokens, positions and offsets in the memory of a backend. Keeps its memory from one
/// slice to the next.
template <class Backend>
class packed_slice {
 public:
  /// Sequences [first, end). The batch must outlive the use of `shown`.
  template <class Batch>
  void load(Backend& be, const Batch& batch, std::size_t first, std::size_t end) {
    const std::size_t start = batch.first_row(first);
    const std::size_t rows = batch.first_row(end) - start;
    host_offsets_.clear();
    longest_ = 0;
    for (std::size_t s = first; s < end; ++s) {
      host_offsets_.push_back(static_cast<std::int64_t>(batch.first_row(s) - start));
      longest_ = std::max(longest_, batch.length(s));
    }
    host_offsets_.push_back(static_cast<std::int64_t>(rows));
    shown_ = {first, start, host_offsets_, batch.tokens().subspan(start, rows),
              batch.positions().subspan(start, rows)};
    put(be, shown_.tokens, tokens_);
    put(be, shown_.positions, positions_);
    put(be, shown_.offsets, offsets_);
  }

  const batch_slice& shown() const noexcept { return shown_; }
  std::size_t rows() const noexcept { return shown_.rows(); }
  /// Tokens of the longest sequence.
  std::size_t longest() const noexcept { return longest_; }

  /// As row ids of an embedding table, for `gather_rows`.
  const_view<Backend, std::uint32_t> tokens() const noexcept { return tokens_; }
  const_view<Backend, std::int32_t> positions() const noexcept { return positions_; }
  const_view<Backend, std::int64_t> offsets() const noexcept { return offsets_; }

 private:
  template <class T, class U>
  static void put(Backend& be, std::span<const T> from, matrix<U, Backend>& to) {
    to.reshape(be, 1, from.size());
    be.upload(from, to.all());
  }

  batch_slice shown_;
  std::vector<std::int64_t> host_offsets_;
  std::size_t longest_ = 0;
  matrix<std::uint32_t, Backend> tokens_;
  matrix<std::int32_t, Backend> positions_;
  matrix<std::int64_t, Backend> offsets_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
