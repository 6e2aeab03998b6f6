// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/primitives.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/tensor/codes.hpp>

#include <cstddef>

namespace plmscope::inline PLMSCOPE_ABI {

namespace sae_concepts {

/// Backends with `screen` and `screened_rows`.
template <class B>
concept screens =
    requires(B& be, const_view<B> w, typename B::screened& packed) { be.screen(w, w, packed); };

/// Sparsifiers whose `select` takes `screened_rows`, that is any rows that the backend's
/// `top_k_rows` takes.
template <class S, class B>
concept selects_screened =
    screens<B> && requires(const S& s, B& be, const typename B::screened_rows& pre, codes<B>& out) {
      s.select(be, pre, out);
    };

template <class B>
struct screened_weights {
  struct type {};
};
template <screens B>
struct screened_weights<B> {
  using type = typename B::screened;
};

}  // namespace sae_concepts

/// What screening has cost so far, and whether the next tile is worth it. Both ways give the same
/// bits, so it is free to change its mind.
class screening_record {
 public:
  /// Of rows of which all had to be computed again; 0 before the first tile.
  double whole_share() const noexcept { return share(whole_); }
  /// Entries computed one by one, a row.
  double entries() const noexcept { return share(entries_); }
  std::size_t rows() const noexcept { return rows_; }

  /// Packing the weights takes as long as 200 rows save.
  static bool enough(std::size_t batch_rows) noexcept { return batch_rows >= 256; }

  /// Cost of a row in products of a row in fp32: the product in bfloat16 with a look through its
  /// result is a half, entries as `screening_counts::dear` says. Above 0.95 tiles are
  /// multiplied in fp32, but for one in 64, which is screened to see whether that has changed
  /// (after the first steps of a training it does).
  bool pays() noexcept { return cost_ < 0.95 || ++skipped_ % 64 == 0; }

  void add(const screening_counts& c, std::size_t features) noexcept {
    if (c.rows == 0) return;
    rows_ += c.rows;
    entries_ += c.entries;
    whole_ += c.whole;
    const double one_by_one =
        static_cast<double>(c.entries * screening_counts::dear) / static_cast<double>(features);
    cost_ = 0.5 + (one_by_one + static_cast<double>(c.whole)) / static_cast<double>(c.rows);
  }

 private:
  double share(std::size_t n) const noexcept {
    return rows_ == 0 ? 0 : static_cast<double>(n) / static_cast<double>(rows_);
  }
  std::size_t rows_ = 0, entries_ = 0, whole_ = 0, skipped_ = 0;
  double cost_ = 0;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
