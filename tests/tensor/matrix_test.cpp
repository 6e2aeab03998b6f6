// SPDX-License-Identifier: MIT
#include <plmscope/backend/cpu.hpp>
#include <plmscope/backend/reference.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

namespace {

using plmscope::const_view;
using plmscope::cpu;
using plmscope::matrix;
using plmscope::reference;
using plmscope::view;

TEST_CASE("views: ranges, strides, entries") {
  float numbers[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
  const view<cpu> x(numbers, 3, 4);
  CHECK(x.size() == 12);
  CHECK(x(2, 1) == 9);
  CHECK(x[3] == 3);
  const auto inner = x.row_range(1, 2).col_range(1, 2);
  CHECK(inner.rows() == 2);
  CHECK(inner.cols() == 2);
  CHECK(inner.stride() == 4);
  CHECK(inner(0, 0) == 5);
  CHECK(inner(1, 1) == 10);
  CHECK(inner.row(1)[0] == 9);
  CHECK(inner.row(1).size() == 2);
  inner(1, 1) = -1;
  CHECK(numbers[10] == -1);
  const const_view<cpu> read = inner;
  CHECK(read.data() == inner.data());
  CHECK(read.stride() == 4);
  CHECK(view<cpu>().empty());
  CHECK(view<cpu>().data() == nullptr);
  CHECK(view<cpu>(numbers, 5).rows() == 1);
  CHECK(x.row_range(3, 0).empty());
  CHECK(x.col_range(0, 0).empty());
  static_assert(!std::is_convertible_v<const_view<cpu>, view<cpu>>);
  static_assert(!std::is_convertible_v<view<cpu>, view<reference, float>>);
}

template <class B>
void check_matrix(B be) {
  using real = typename B::real;
  matrix<real, B> none;
  CHECK(none.empty());
  CHECK(none.rows() == 0);

  matrix<real, B> a(be, 5, 3);
  CHECK(a.size() == 15);
  std::size_t nonzero = 0;
  for (std::size_t i = 0; i < a.size(); ++i) nonzero += a.data()[i] != 0 ? 1U : 0U;
  CHECK(nonzero == 0);
  a(4, 2) = real{7};
  CHECK(a.all()(4, 2) == 7);
  CHECK(std::as_const(a)(4, 2) == 7);

  // Moving hands the memory over and leaves an empty matrix.
  const real* memory = a.data();
  matrix<real, B> b = std::move(a);
  CHECK(b.data() == memory);
  CHECK(b(4, 2) == 7);
  CHECK(a.empty());
  CHECK(a.rows() == 0);
  none = std::move(b);
  CHECK(none.data() == memory);
  CHECK(b.empty());
  static_assert(!std::is_copy_constructible_v<matrix<real, B>>);
  static_assert(!std::is_copy_assignable_v<matrix<real, B>>);
  static_assert(std::is_nothrow_move_constructible_v<matrix<real, B>>);

  // Smaller or equal: the memory stays. Larger: new memory, all zero.
  none.reshape(be, 3, 5);
  CHECK(none.data() == memory);
  CHECK(none.data()[14] == 7);
  none.reshape(be, 1, 2);
  CHECK(none.cols() == 2);
  none.reshape(be, 5, 3);
  CHECK(none.data() == memory);
  none.reshape(be, 4, 4);
  CHECK(none.rows() == 4);
  CHECK(none(3, 3) == 0);
  none.reshape(be, 0, 9);
  CHECK(none.empty());
  CHECK(none.cols() == 9);
}

TEST_CASE("matrix on cpu") { check_matrix(cpu(2)); }
TEST_CASE("matrix on the reference backend") { check_matrix(reference()); }

TEST_CASE("memory of the processor is aligned for its widest vectors") {
  cpu be(1);
  for (const std::size_t n : {std::size_t{1}, std::size_t{7}, std::size_t{1001}}) {
    const matrix<float, cpu> m(be, 1, n);
    CHECK(reinterpret_cast<std::uintptr_t>(m.data()) % 64 == 0);
  }
}

TEST_CASE("a size beyond memory is refused, also where its product wraps around") {
  cpu be(1);
  constexpr std::size_t huge = std::size_t{1} << 33;
  CHECK_THROWS(matrix<float, cpu>(be, huge, huge / 8));
  CHECK_THROWS(matrix<float, cpu>(be, huge, huge));  // 2^66 is 4 modulo 2^64
  matrix<float, cpu> m(be, 2, 2);
  CHECK_THROWS(m.reshape(be, huge, huge));
  CHECK(m.rows() == 2);
}

}  // namespace
