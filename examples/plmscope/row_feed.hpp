// SPDX-License-Identifier: MIT
#pragma once

#include "backend.hpp"

#include <plmscope/core/activation_source.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/tensor/matrix.hpp>
#include <plmscope/train/row_pair.hpp>

#include <cstddef>
#include <functional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

/// Any source of batches as one type, so that the trainer is compiled once.
template <class Batch>
struct batch_feed {
  std::function<plmscope::activation_source()> source;
  std::function<std::size_t()> width;
  std::function<Batch(program_backend&, std::size_t)> next;
  std::function<std::size_t()> position;
  std::function<void(program_backend&, std::size_t)> seek;
  std::function<std::string()> identity;

  /// `rows` must outlive it.
  template <class Rows>
    requires(!std::is_same_v<Rows, batch_feed>)
  explicit batch_feed(Rows& rows)
      : source([&rows] { return rows.source(); }),
        width([&rows] { return rows.width(); }),
        next([&rows](program_backend& be, std::size_t n) -> Batch {
          if constexpr (std::is_same_v<Batch, plmscope::const_view<program_backend>>) {
            return rows.next(be, n);
          } else {
            return plmscope::pair_of(rows.next(be, n));
          }
        }),
        position([&rows] { return rows.position(); }),
        seek([&rows](program_backend& be, std::size_t to) { rows.seek(be, to); }),
        identity([&rows] { return rows.identity(); }) {}
};

/// Rows [m, width].
using row_feed = batch_feed<plmscope::const_view<program_backend>>;
/// Rows that go in, and those that should come out, or none.
using pair_feed = batch_feed<plmscope::row_pair<program_backend>>;

/// Several feeds of the same residues in the same order, side by side in a row: what a reader of
/// several sites gives, from readers of one site.
class joined_rows {
 public:
  explicit joined_rows(std::vector<row_feed> parts) : parts_(std::move(parts)) {}

  /// Sites are named `a+b`.
  plmscope::activation_source source() const {
    auto s = parts_.front().source();
    for (std::size_t i = 1; i < parts_.size(); ++i) s.site += "+" + parts_[i].source().site;
    return s;
  }
  std::size_t width() const {
    std::size_t sum = 0;
    for (const auto& p : parts_) sum += p.width();
    return sum;
  }
  plmscope::const_view<program_backend> next(program_backend& be, std::size_t rows) {
    if (parts_.size() == 1) return parts_.front().next(be, rows);
    std::size_t first = 0;
    for (const auto& p : parts_) {
      const auto part = p.next(be, rows);
      if (first == 0) rows_.reshape(be, part.rows(), width());
      be.copy(part, rows_.all().col_range(first, part.cols()));
      first += part.cols();
    }
    return rows_;
  }
  std::size_t position() const { return parts_.front().position(); }
  void seek(program_backend& be, std::size_t to) {
    for (const auto& p : parts_) p.seek(be, to);
  }
  std::string identity() const {
    std::string text;
    for (const auto& p : parts_) text += (text.empty() ? "" : "; beside it ") + p.identity();
    return text;
  }

 private:
  std::vector<row_feed> parts_;
  plmscope::matrix<float, program_backend> rows_;
};
