// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/eval/concept_result.hpp>
#include <plmscope/io/npy.hpp>
#include <plmscope/tensor/codes.hpp>

// xtensor moved its headers into subfolders with 0.26; both layouts are accepted.
#if __has_include(<xtensor/containers/xadapt.hpp>)
#include <xtensor/containers/xadapt.hpp>
#include <xtensor/containers/xtensor.hpp>
#else
#include <xtensor/xadapt.hpp>
#include <xtensor/xtensor.hpp>
#endif

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <type_traits>
#include <string>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

// Results as xtensor views over our memory: nothing is copied, so the owner must outlive the view.
// Only ranks known at compile time are used. This is the one header that includes xtensor.

/// A host view as a two-dimensional xtensor view [rows, cols] with its row stride.
template <class Backend, class T>
auto as_xtensor(view<Backend, T> x) {
  static_assert(Backend::on_host, "plmscope: only host views can be seen by xtensor");
  const std::array<std::size_t, 2> shape{x.rows(), x.cols()};
  const std::array<std::ptrdiff_t, 2> strides{static_cast<std::ptrdiff_t>(x.stride()), 1};
  // xtensor wants the number of entries here, however far apart they lie.
  return xt::adapt(x.data(), x.size(), xt::no_ownership(), shape, strides);
}

/// Host numbers [rows, cols], row-major, for example the states that `collect` keeps.
template <class T>
auto as_xtensor(std::span<T> values, std::size_t rows, std::size_t cols) {
  const std::array<std::size_t, 2> shape{rows, cols};
  return xt::adapt(values.data(), rows * cols, xt::no_ownership(), shape);
}

/// A vector.
template <class T>
auto as_xtensor(std::span<T> values) {
  const std::array<std::size_t, 1> shape{values.size()};
  return xt::adapt(values.data(), values.size(), xt::no_ownership(), shape);
}

/// Sparse codes as three vectors, in the layout of scipy.sparse.csr_matrix: `indptr` [rows + 1],
/// `indices` and `data` [entries].
template <class Backend>
struct codes_as_xtensor {
  static_assert(Backend::on_host, "plmscope: only host codes can be seen by xtensor");
  using real = typename Backend::real;
  explicit codes_as_xtensor(const codes<Backend>& z)
      : indptr(as_xtensor(std::span<const std::int64_t>(z.offsets(), z.rows() + 1))),
        indices(as_xtensor(std::span<const std::uint32_t>(z.ids(), z.entries()))),
        data(as_xtensor(std::span<const real>(z.values(), z.entries()))) {}

  decltype(as_xtensor(std::span<const std::int64_t>())) indptr;
  decltype(as_xtensor(std::span<const std::uint32_t>())) indices;
  decltype(as_xtensor(std::span<const real>())) data;
};

/// Codes as a dense array [rows, features]. This one is a copy, of the size that sparse codes avoid.
template <class Backend>
xt::xtensor<typename Backend::real, 2> to_dense_xtensor(const codes<Backend>& z) {
  xt::xtensor<typename Backend::real, 2> out =
      xt::zeros<typename Backend::real>({z.rows(), z.features()});
  for (std::size_t r = 0; r < z.rows(); ++r) {
    for (auto e = z.offsets()[r]; e < z.offsets()[r + 1]; ++e) out(r, z.ids()[e]) = z.values()[e];
  }
  return out;
}

/// One number of every row of a score table, `&concept_quality::score` of the held-out side for
/// example, as a strided vector over the table.
inline auto held_out_column(std::span<const concept_result> table,
                            double concept_quality::*number = &concept_quality::score) {
  static_assert(sizeof(concept_result) % sizeof(double) == 0);
  constexpr auto step = static_cast<std::ptrdiff_t>(sizeof(concept_result) / sizeof(double));
  const double* first = table.empty() ? nullptr : &(table.front().held_out.*number);
  const std::array<std::size_t, 1> shape{table.size()};
  const std::array<std::ptrdiff_t, 1> strides{step};
  return xt::adapt(first, table.size(), xt::no_ownership(), shape, strides);
}

/// Writes any xtensor expression as .npy (row-major, atomically).
template <class Expression>
void save_npy(const std::filesystem::path& path, const Expression& expression) {
  using value = std::remove_cv_t<typename Expression::value_type>;
  std::vector<value> values(expression.size());
  std::copy(expression.template cbegin<xt::layout_type::row_major>(),
            expression.template cend<xt::layout_type::row_major>(), values.begin());
  const std::vector<std::size_t> shape(expression.shape().begin(), expression.shape().end());
  write_npy(path, shape, std::span<const value>(values));
}

/// Reads an .npy of rank N with all the checks of `read_npy`; another rank is `npy_rank`.
template <class T, std::size_t N>
xt::xtensor<T, N> load_npy(const std::filesystem::path& path) {
  const npy_array<T> in = read_npy<T>(path);
  if (in.shape.size() != N) {
    throw error(rules::npy_rank, {.where = path.string(), .expected = std::to_string(N) + " dimensions",
                                  .found = std::to_string(in.shape.size())});
  }
  std::array<std::size_t, N> shape{};
  std::copy(in.shape.begin(), in.shape.end(), shape.begin());
  xt::xtensor<T, N> out(shape);
  std::copy(in.data.begin(), in.data.end(), out.begin());
  return out;
}

}  // namespace plmscope
