// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/acts/activation_batch.hpp>
#include <plmscope/acts/reader.hpp>
#include <plmscope/core/view.hpp>

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// One row per protein: the mean over its residues (special tokens do not count). A reader itself,
/// so protein-level SAEs train and score like any other.
template <class Reader>
class mean_pooled {
 public:
  explicit mean_pooled(Reader reader) : reader_(std::move(reader)), rows_(reader_.proteins()) {
    if constexpr (reader_concepts::has_pass<Reader>) {  // proteins without residues have no row
      rows_ = 0;
      reader_.rewind(0);
      for (std::vector<row_origin> batch; pass(batch);) rows_ += batch.size();
      reader_.rewind(0);
    }
  }

  activation_source source() const {
    activation_source s = reader_.source();
    s.site += ".mean";
    return s;
  }
  std::size_t width() const { return reader_.width(); }
  std::size_t total_rows() const { return rows_; }
  std::size_t proteins() const { return reader_.proteins(); }
  void rewind(std::size_t epoch) { reader_.rewind(epoch); }

  template <class B>
  bool read(B& be, activation_batch<B>& out) {
    activation_batch<B> residues;
    out.origins.clear();
    if (!reader_.read(be, residues)) return false;
    std::size_t proteins = 0;
    for (std::size_t r = 0; r < residues.origins.size(); ++r) {
      proteins += r == 0 || residues.origins[r].protein != residues.origins[r - 1].protein;
    }
    out.rows.reshape(be, proteins, reader_.width());
    for (std::size_t first = 0; first < residues.origins.size();) {
      std::size_t end = first + 1;
      while (end < residues.origins.size() &&
             residues.origins[end].protein == residues.origins[first].protein) {
        ++end;
      }
      const auto row = out.rows.all().row_range(out.origins.size(), 1);
      be.column_sums(const_view<B>(residues.rows).row_range(first, end - first), row);
      be.scale(row, static_cast<typename B::real>(1.0 / static_cast<double>(end - first)));
      out.origins.push_back({residues.origins[first].protein, 0});
      first = end;
    }
    return true;
  }

  /// Goes past the batch that `read` would deliver, as far as the reader beneath can.
  bool pass(std::vector<row_origin>& origins)
    requires(reader_concepts::has_pass<Reader>)
  {
    if (!reader_.pass(origins)) return false;
    const auto same = [](const row_origin& a, const row_origin& b) {
      return a.protein == b.protein;
    };
    origins.erase(std::unique(origins.begin(), origins.end(), same), origins.end());
    for (auto& o : origins) o.position = 0;
    return true;
  }

  std::string identity() const
    requires(reader_concepts::has_identity<Reader>)
  {
    return "means of " + reader_.identity();
  }

 private:
  Reader reader_;
  std::size_t rows_;
};

}  // namespace plmscope
