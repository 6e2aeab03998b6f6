// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <cstddef>
#include <cstdint>

namespace plmscope::inline PLMSCOPE_ABI {

namespace dead_columns_detail {

/// place[ids[i]] = i
struct remember_places {
  const std::uint32_t* ids;
  std::uint32_t* place;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t i) const {
    place[ids[i]] = static_cast<std::uint32_t>(i);
  }
};

/// to[r, i] = from[r, ids[i]]
template <class Real>
struct copy_columns {
  const Real* from;
  std::size_t from_stride;
  const std::uint32_t* ids;
  Real* to;
  std::size_t to_stride;
  PLMSCOPE_HD void operator()(std::size_t r, std::size_t i) const {
    to[r * to_stride + i] = from[r * from_stride + ids[i]];
  }
};

/// to[r, i] = from[r, place[ids[i]]]
template <class Real>
struct copy_placed_columns {
  const Real* from;
  std::size_t from_stride;
  const std::uint32_t* ids;
  const std::uint32_t* place;
  Real* to;
  std::size_t to_stride;
  PLMSCOPE_HD void operator()(std::size_t r, std::size_t i) const {
    to[r * to_stride + i] = from[r * from_stride + place[ids[i]]];
  }
};

}  // namespace dead_columns_detail

/// Pre-activations of the latents that may turn out dead, kept from the tiles as the encoder makes
/// them, so that nothing computes them again. Who is dead is known only after a batch has fired,
/// but it is some of those that were silent for long before it. Memory: [m, expected], at most
/// twice.
template <class B>
class dead_columns {
 public:
  using real = typename B::real;

  /// Nothing is expected and nothing kept.
  void clear() noexcept {
    expected_ = rows_ = 0;
    asked_ = false;
  }

  /// Before the tiles of `rows` rows: keeps latents silent for `at_least` tokens; false where it is
  /// known that there are none.
  bool expect(B& be, const_view<B, std::int64_t> since_fired, std::int64_t at_least,
              std::size_t rows) {
    clear();
    ids_.reshape(be, 1, since_fired.cols());
    number_ = be.ids_where(since_fired, at_least, ids_.all());
    asked_ = true;
    batch_ = rows;
    if constexpr (B::on_host) make_room(be);
    return asked_ || expected_ > 0;
  }

  /// The next rows of pre-activations [.., F]. The first call waits for the number of those that are
  /// expected, while a device has the product to do that made these rows.
  void take(B& be, const_view<B> pre) {
    make_room(be);
    if (expected_ == 0) return;
    be.entries(
        pre.rows(), expected_,
        dead_columns_detail::copy_columns<real>{pre.data(), pre.stride(), ids_.data(),
                                                values_.data() + rows_ * expected_, expected_});
    rows_ += pre.rows();
  }

  /// All rows of a batch of `rows` were taken.
  bool has(std::size_t rows) const noexcept { return expected_ > 0 && rows_ == rows; }

  /// The columns of `ids` [1, n], all of them expected, ascending; valid until the next call.
  const_view<B> pick(B& be, const_view<B, std::uint32_t> ids) {
    if (ids.cols() == expected_) return values_;
    picked_.reshape(be, rows_, ids.cols());
    be.entries(
        rows_, ids.cols(),
        dead_columns_detail::copy_placed_columns<real>{values_.data(), expected_, ids.data(),
                                                       place_.data(), picked_.data(), ids.cols()});
    return picked_;
  }

 private:
  void make_room(B& be) {
    if (!asked_) return;
    asked_ = false;
    expected_ = number_;
    if (expected_ == 0) return;
    place_.reshape(be, 1, ids_.cols());
    be.entries(1, expected_, dead_columns_detail::remember_places{ids_.data(), place_.data()});
    values_.reshape(be, batch_, expected_);
  }

  matrix<std::uint32_t, B> ids_;    // [1, F] expected ones first
  matrix<std::uint32_t, B> place_;  // [1, F] where an expected latent stands among them
  matrix<real, B> values_, picked_;
  typename B::count number_ = {};  // of expected ones, when `asked_`
  bool asked_ = false;
  std::size_t batch_ = 0;
  std::size_t expected_ = 0;
  std::size_t rows_ = 0;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
