// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/acts/activation_batch.hpp>
#include <plmscope/acts/reader.hpp>
#include <plmscope/core/view.hpp>

#include <cstddef>
#include <utility>

namespace plmscope::inline PLMSCOPE_ABI {

/// One row per protein: the mean over its residues (special tokens do not count). A reader itself,
/// so protein-level SAEs train and score like any other.
template <class Reader>
class mean_pooled {
 public:
  explicit mean_pooled(Reader reader) : reader_(std::move(reader)) {}

  activation_source source() const {
    activation_source s = reader_.source();
    s.site += ".mean";
    return s;
  }
  std::size_t width() const { return reader_.width(); }
  std::size_t total_rows() const { return reader_.proteins(); }
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

 private:
  Reader reader_;
};

}  // namespace plmscope
