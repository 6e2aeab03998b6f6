// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/activation_source.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <cstddef>
#include <string>
#include <utility>

namespace plmscope::inline PLMSCOPE_ABI {

/// Batches of pairs out of rows that hold two rows side by side, such as a residue and its
/// neighbour
/// (`adjacent_rows`): `next(be, 2 n)` gives [2 n, d], the first of all pairs, then the second, so
/// that row i belongs to row i + n. For `contrastive_penalty`.
template <class Reader, class Backend>
class paired_rows {
 public:
  explicit paired_rows(Reader reader) : reader_(std::move(reader)) {}

  activation_source source() const { return reader_.source(); }
  std::size_t width() const { return reader_.width() / 2; }
  Reader& reader() noexcept { return reader_; }
  std::size_t position() const { return reader_.position(); }
  void seek(Backend& be, std::size_t pairs) { reader_.seek(be, pairs); }
  std::string identity() const { return reader_.identity() + ", in pairs"; }

  /// `rows` / 2 pairs, or fewer where the reader has fewer.
  const_view<Backend> next(Backend& be, std::size_t rows) {
    const const_view<Backend> both = reader_.next(be, rows / 2);
    const std::size_t n = both.rows(), d = both.cols() / 2;
    out_.reshape(be, 2 * n, d);
    be.copy(both.col_range(0, d), out_.all().row_range(0, n));
    be.copy(both.col_range(d, d), out_.all().row_range(n, n));
    return out_;
  }

 private:
  Reader reader_;
  matrix<typename Backend::real, Backend> out_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
