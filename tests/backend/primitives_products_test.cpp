// SPDX-License-Identifier: MIT
// Dense products against the reference, and what they promise about bits: a row of the result
// depends on its own row of the left operand only.
#include <tests/backend/compare.hpp>

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace {

using namespace compare;
using plmscope::epilogue;

struct product_shape {
  std::size_t m, n, k;
};
const std::vector<product_shape> product_shapes{
    {0, 5, 7},    {5, 0, 7},     {5, 7, 0},     {1, 1, 1},    {1, 257, 63},  {63, 1, 65},
    {64, 64, 64}, {65, 63, 1},   {63, 65, 257}, {2, 129, 31}, {130, 31, 67}, {257, 257, 5},
    {1, 1, 1031}, {513, 17, 33}, {64, 16, 700}};

enum class form { nt, nn, tn };

template <class B, class M>
void multiply(B& be, form f, M&& a, M&& b, M&& c, typename B::real beta) {
  if (f == form::nt) be.gemm_nt(a, b, c, beta);
  if (f == form::nn) be.gemm_nn(a, b, c, beta);
  if (f == form::tn) be.gemm_tn(a, b, c, beta);
}

// |op(a)| |op(b)|, entry by entry, for the error bound.
template <class B>
matrix<double, reference> magnitudes(reference& naive, form f, twin<B>& a, twin<B>& b,
                                     std::size_t m, std::size_t n) {
  const auto absolute = [&](twin<B>& x) {
    matrix<double, reference> out(naive, x.exact().rows(), x.exact().cols());
    for (std::size_t i = 0; i < out.size(); ++i) out.data()[i] = std::abs(x.exact().data()[i]);
    return out;
  };
  matrix<double, reference> out(naive, m, n);
  multiply(naive, f, absolute(a).all(), absolute(b).all(), out.all(), 0.0);
  return out;
}

TEST_CASE("gemm_nt, gemm_nn and gemm_tn with every beta") {
  for_each_provider([]<class B>(B be) {
    using real = typename B::real;
    reference naive;
    for (const auto& [m, n, k] : product_shapes) {
      for (const form f : {form::nt, form::nn, form::tn}) {
        for (const bool strided : {false, true}) {
          for (const numbers kind : all_numbers) {
            INFO("m ", m, " n ", n, " k ", k, " form ", static_cast<int>(f), " strided ", strided,
                 " numbers ", static_cast<int>(kind));
            const bool ta = f == form::tn;
            const bool tb = f == form::nt;
            twin<B> a(be, naive, ta ? k : m, ta ? m : k, strided, kind, 1);
            twin<B> b(be, naive, tb ? n : k, tb ? k : n, strided, numbers::plain, 2);
            const auto size = magnitudes<B>(naive, f, a, b, m, n);
            for (const real beta : {real{0}, real{1}, real(-0.5)}) {
              twin<B> c(be, naive, m, n, strided, numbers::plain, 3);
              twin<B> old(be, naive, m, n, strided, numbers::plain, 3);
              if (beta == real{0}) {  // what stood there is not even looked at
                be.fill(c.fast(), std::numeric_limits<real>::quiet_NaN());
              }
              multiply(be, f, a.fast(), b.fast(), c.fast(), beta);
              multiply(naive, f, a.exact().all(), b.exact().all(), c.exact().all(),
                       static_cast<double>(beta));
              c.check([&](std::size_t r, std::size_t j) {
                return bound<real>(k + 2, size(r, j) + std::abs(static_cast<double>(beta) *
                                                                old(r, j)));
              });
            }
          }
        }
      }
    }
  });
}

TEST_CASE("linear with bias and every epilogue") {
  for_each_provider([]<class B>(B be) {
    using real = typename B::real;
    reference naive;
    for (const auto& [m, n, k] : product_shapes) {
      for (const bool strided : {false, true}) {
        twin<B> x(be, naive, m, k, strided, numbers::plain, 1);
        twin<B> w(be, naive, n, k, strided, numbers::plain, 2);
        twin<B> bias(be, naive, 1, n, strided, numbers::plain, 3);
        const auto packed = be.pack(w.fast());
        CHECK(packed.rows() == n);
        CHECK(packed.cols() == k);
        const auto exact_packed = naive.pack(w.exact());
        const auto size = magnitudes<B>(naive, form::nt, x, w, m, n);
        for (const epilogue then : {epilogue::none, epilogue::gelu, epilogue::add}) {
          for (const bool with_bias : {false, true}) {
            INFO("m ", m, " n ", n, " k ", k, " epilogue ", static_cast<int>(then), " strided ",
                 strided, " bias ", with_bias);
            twin<B> out(be, naive, m, n, strided, numbers::plain, 4);
            twin<B> old(be, naive, m, n, strided, numbers::plain, 4);
            if (then != epilogue::add) {
              be.fill(out.fast(), std::numeric_limits<real>::quiet_NaN());
            }
            be.linear(x.fast(), packed, with_bias ? const_view<B>(bias.fast()) : const_view<B>(),
                      out.fast(), then);
            naive.linear(x.exact(), exact_packed,
                         with_bias ? const_view<reference>(bias.exact()) : const_view<reference>(),
                         out.exact(), then);
            out.check([&](std::size_t r, std::size_t j) {
              const double before = then == epilogue::add ? std::abs(old(r, j)) : 0.0;
              const double sum = bound<real>(
                  k + 2, size(r, j) + before + (with_bias ? std::abs(bias(0, j)) : 0.0));
              // |gelu'| <= 1.13; the kernel's own error is stated in backend/cpu/elementary.hpp.
              if (then != epilogue::gelu) return sum;
              return 1.13 * sum + bound<real>(4, std::abs(out(r, j))) +
                     (sizeof(real) == 4 ? 2.5e-8 : 1e-15);
            });
          }
        }
      }
    }
  });
}

template <class B>
matrix<typename B::real, B> random(B& be, std::size_t rows, std::size_t cols,
                                   std::uint64_t stream) {
  return matrix_of<typename B::real>(be, rows, cols,
                                     [&](std::size_t i) { return number(stream, i); });
}

// x [m, k], w [n, k], v [k, n] and every way to multiply rows of x by them.
template <class B>
struct operands {
  using real = typename B::real;

  operands(B& be, std::size_t m, std::size_t n, std::size_t k)
      : x(random(be, m, k, 1)),
        w(random(be, n, k, 2)),
        v(random(be, k, n, 3)),
        bias(random(be, 1, n, 4)),
        packed(be.pack(w)) {}
  void multiply(B& be, std::size_t first, std::size_t m,
                std::array<matrix<real, B>, 5>& out) const {
    const auto rows = const_view<B>(x).row_range(first, m);
    for (auto& o : out) {
      o = matrix<real, B>(be, m, w.rows());
      be.fill(o.all(), real{1});
    }
    be.gemm_nt(rows, w, out[0]);
    be.gemm_nt(rows, w, out[1], real{1});
    be.gemm_nn(rows, v, out[2]);
    be.linear(rows, packed, bias, out[3], epilogue::gelu);
    be.linear(rows, packed, bias, out[4], epilogue::add);
  }

  matrix<real, B> x, w, v, bias;
  typename B::packed packed;
};

struct width_pair {
  std::size_t n, k;
};
const std::vector<width_pair> width_pairs{{1, 40}, {5, 63}, {67, 320}, {257, 64}, {96, 1280}};

TEST_CASE("the bits of a row depend on nothing but the row") {
  for_each_provider([]<class B>(B be) {
    using real = typename B::real;
    if (!rows_stand_alone<B>()) return;
    constexpr std::size_t most = many<B>(1100, 40);
    for (const auto& [n, k] : width_pairs) {
      const operands<B> o(be, most, n, k);
      std::array<matrix<real, B>, 5> whole;
      o.multiply(be, 0, most, whole);
      std::vector<std::size_t> counts{129, 130, 191, 192, 255, 256, 257, 320, 448, 511, 512, 513,
                                      640, 1024, 1099};
      for (std::size_t m = 1; m <= 128; m += k > 1000 && m > 4 ? 13 : 1) counts.push_back(m);
      std::array<matrix<real, B>, 5> part;
      for (const std::size_t m : counts) {
        const std::size_t first = m % 7;  // other neighbours, another place in memory
        if (first + m > most) continue;
        o.multiply(be, first, m, part);
        for (std::size_t way = 0; way < part.size(); ++way) {
          INFO(m, " rows, n ", n, ", k ", k, ", way ", way);
          CHECK(bytes(be, part[way]) == bytes(be, whole[way].all().row_range(first, m)));
        }
      }
    }
  });
}

TEST_CASE("products have the same bits for any number of threads") {
  for_each_cpu_provider([]<class B>(B be) {
    using real = typename B::real;
    for (const auto& [n, k] : width_pairs) {
      constexpr std::size_t m = 1100;
      const operands<B> o(be, m, n, k);
      const operands<B> transposed(be, k, n, m);  // gemm_tn: the left operand is [k, m]
      std::array<matrix<real, B>, 5> whole, again;
      o.multiply(be, 0, m, whole);
      matrix<real, B> tn(be, m, n);
      be.gemm_tn(transposed.x, o.v, tn);
      for (const std::size_t threads : sizes{1, 3, 7}) {
        B other(threads);
        o.multiply(other, 0, m, again);
        for (std::size_t way = 0; way < again.size(); ++way) {
          INFO(threads, " threads, n ", n, ", k ", k, ", way ", way);
          CHECK(bytes(be, again[way]) == bytes(be, whole[way]));
        }
        matrix<real, B> tn_again(other, m, n);
        other.gemm_tn(transposed.x, o.v, tn_again);
        INFO(threads, " threads, n ", n, ", k ", k, ", gemm_tn");
        CHECK(bytes(be, tn_again) == bytes(be, tn));
      }
    }
  });
}

TEST_CASE("gemm_tn: the bits of a row do not depend on how many columns the left operand has") {
  for_each_provider([]<class B>(B be) {
    using real = typename B::real;
    if (!rows_stand_alone<B>()) return;
    constexpr std::size_t most = 330;
    for (const auto& [n, k] : {width_pair{1, 40}, width_pair{67, 320}, width_pair{96, 1100}}) {
      const operands<B> o(be, k, n, most);
      const operands<B> right(be, 1, n, k);
      matrix<real, B> whole(be, most, n);
      be.gemm_tn(o.x, right.v, whole);
      for (const std::size_t m : sizes{1, 2, 3, 5, 8, 17, 31, 48, 63, 64, 65, 66, 100, 127, 128,
                                       130, 200, 257, 320}) {
        matrix<real, B> part(be, m, n);
        be.gemm_tn(const_view<B>(o.x).col_range(0, m), right.v, part);
        INFO("m ", m, ", n ", n, ", k ", k);
        CHECK(bytes(be, part) == bytes(be, whole.all().row_range(0, m)));
      }
    }
  });
}

TEST_CASE("NaN and infinity in one row stay in that row") {
  for_each_provider([]<class B>(B be) {
    using real = typename B::real;
    for (const std::size_t m : sizes{3, 64, 67, 130}) {
      auto x = random(be, m, 33, 1);
      const auto w = random(be, 19, 33, 2);
      matrix<real, B> out(be, m, 19), clean(be, m, 19);
      be.gemm_nt(x, w, clean);
      be.fill(x.all().row_range(m - 1, 1).col_range(5, 1), std::numeric_limits<real>::quiet_NaN());
      be.fill(x.all().row_range(0, 1).col_range(7, 1), std::numeric_limits<real>::infinity());
      be.gemm_nt(x, w, out);
      CHECK(bytes(be, out.all().row_range(1, m - 2)) ==
            bytes(be, clean.all().row_range(1, m - 2)));
      const std::vector<real> got = to_host(be, out);
      for (std::size_t j = 0; j < 19; ++j) {
        CHECK(std::isnan(got[(m - 1) * 19 + j]));
        CHECK_FALSE(std::isfinite(got[j]));
      }
    }
  });
}

}  // namespace
