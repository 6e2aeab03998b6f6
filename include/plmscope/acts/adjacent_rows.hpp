// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/acts/activation_batch.hpp>
#include <plmscope/acts/reader.hpp>
#include <plmscope/core/activation_source.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Any reader's residues, each with its neighbour: rows [n, 2 d] hold a residue and, beside it, the
/// next one of its protein; the last has the one before it, and an only one itself. As many rows as
/// the reader has, so that they can be shuffled and stay together (`shuffled_rows`); `paired_rows`
/// makes batches for training of them. Rows of a protein must come in one batch, by position, as
/// readers promise.
template <class Reader, class Backend>
class adjacent_rows {
  static_assert(require_reader<Reader, Backend>::value);

 public:
  explicit adjacent_rows(Reader reader) : reader_(std::move(reader)) {}

  activation_source source() const { return reader_.source(); }
  std::size_t width() const { return 2 * reader_.width(); }
  std::size_t total_rows() const { return reader_.total_rows(); }
  void rewind(std::size_t epoch) { reader_.rewind(epoch); }

  bool read(Backend& be, activation_batch<Backend>& out) {
    if (!reader_.read(be, batch_)) return false;
    const std::size_t n = batch_.rows.rows(), d = batch_.rows.cols();
    const auto& origins = batch_.origins;
    const auto same = [&](std::size_t a, std::size_t b) {
      return origins[a].protein == origins[b].protein;
    };
    std::vector<std::uint32_t> neighbour(n);
    for (std::size_t i = 0; i < n; ++i) {
      const bool next = i + 1 < n && same(i, i + 1), before = i > 0 && same(i, i - 1);
      neighbour[i] = static_cast<std::uint32_t>(next ? i + 1 : before ? i - 1 : i);
    }
    ids_.reshape(be, 1, n);
    be.upload(std::span<const std::uint32_t>(neighbour), ids_.all());
    out.rows.reshape(be, n, 2 * d);
    be.copy(const_view<Backend>(batch_.rows), out.rows.all().col_range(0, d));
    be.gather_rows(const_view<Backend>(batch_.rows), const_view<Backend, std::uint32_t>(ids_),
                   out.rows.all().col_range(d, d));
    out.origins = origins;
    return true;
  }

  bool pass(std::vector<row_origin>& origins)
    requires(reader_concepts::has_pass<Reader>)
  {
    return reader_.pass(origins);
  }
  std::string identity() const
    requires(reader_concepts::has_identity<Reader>)
  {
    return reader_.identity() + ", with neighbours";
  }

 private:
  Reader reader_;
  activation_batch<Backend> batch_;
  matrix<std::uint32_t, Backend> ids_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
