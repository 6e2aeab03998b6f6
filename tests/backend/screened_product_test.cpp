// SPDX-License-Identifier: MIT
// TopK of a screened product against TopK of the fp32 product, bit for bit, and its bound against
// what bfloat16 really does.
#include <tests/golden.hpp>

#include <plmscope/backend/cpu.hpp>
#include <plmscope/core/rng.hpp>
#include <plmscope/tensor/codes.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

namespace {

using backend = plmscope::cpu;
using table = plmscope::matrix<float, backend>;
using plmscope::by_magnitude;
using plmscope::by_raw_value;
using plmscope::by_value;

bool supported() {
  if (plmscope::bf16_weights::available()) return true;
  golden::skip("this processor has no AVX512-BF16");
  return false;
}

/// Rows, weights and a bias: normal numbers to be spoiled.
struct problem {
  backend be{2};
  table x, w, bias;
  problem(std::size_t m, std::size_t n, std::size_t d, std::uint64_t seed)
      : x(be, m, d), w(be, n, d), bias(be, 1, n) {
    const plmscope::rng numbers(seed, 3);
    std::uint64_t at = 0;
    for (auto* t : {&x, &w, &bias}) {
      for (std::size_t i = 0; i < t->size(); ++i) {
        t->data()[i] = static_cast<float>(numbers.normal(at++));
      }
    }
  }
  template <class F>
  void each(table& t, const F& f) {
    for (std::size_t i = 0; i < t.size(); ++i) t.data()[i] = f(t.data()[i], i);
  }
};

struct outcome {
  plmscope::screening_counts counts;
  double worst = 0;  // |approximate - exact| in units of its bound
  bool same = true;
};

using codes = plmscope::codes<backend>;
using rows = plmscope::const_view<backend>;

template <class Order>
codes screened_codes(backend& be, rows x, rows w, rows bias, std::size_t k,
                     plmscope::screening_counts& counts) {
  backend::screened packed;
  be.screen(w, bias, packed);
  codes out;
  out.clear(be, w.rows());
  // behind codes that are there already
  be.top_k_rows(backend::screened_rows{x.row_range(0, 1), w, bias, packed, counts}, k, Order(),
                out);
  counts = {};
  be.top_k_rows(backend::screened_rows{x.row_range(1, x.rows() - 1), w, bias, packed, counts}, k,
                Order(), out);
  return out;
}

bool equal(const codes& a, const codes& b) {
  const std::size_t n = a.entries();
  return a.rows() == b.rows() && n == b.entries() && std::equal(a.ids(), a.ids() + n, b.ids()) &&
         std::equal(a.offsets(), a.offsets() + a.rows() + 1, b.offsets()) &&
         (n == 0 || std::memcmp(a.values(), b.values(), n * sizeof(float)) == 0);
}

template <class Order>
void compare(problem& p, std::size_t k, outcome& o, bool biased) {
  auto& be = p.be;
  const std::size_t m = p.x.rows();
  const std::size_t n = p.w.rows();
  const rows bias = biased ? rows(p.bias.all()) : rows();
  table exact(be, m, n), rounded(be, m, n);
  be.gemm_nt(p.x.all(), p.w.all(), exact.all());
  if (biased) be.add_row(exact.all(), bias);
  codes want;
  want.clear(be, n);
  be.top_k_rows(exact.all(), k, Order(), want);
  o.same =
      o.same && equal(want, screened_codes<Order>(be, p.x.all(), p.w.all(), bias, k, o.counts));
  // The product in bfloat16 is within the bounds: an entry's, and that of its panel.
  backend::screened packed;
  be.screen(p.w.all(), bias, packed);
  auto short_be = be.with(plmscope::product_precision::bf16);
  short_be.linear(p.x.all(), short_be.pack(p.w.all()), bias, rounded.all());
  for (std::size_t i = 0; i < m; ++i) {
    const auto bound = packed.bound(p.x.all().row_data(i));
    if (!bound.holds()) continue;
    for (std::size_t j = 0; j < n; ++j) {
      const double off = std::abs(static_cast<double>(rounded(i, j)) - double(exact(i, j)));
      o.worst = golden::worse(o.worst, off / static_cast<double>(bound(j)));
      o.same = o.same && bound(j) <= 1.000001f * bound.of_panel(j / 64);
    }
  }
}

outcome compare(problem& p, std::size_t k) {
  outcome o;
  compare<by_raw_value>(p, k, o, false);
  compare<by_magnitude>(p, k, o, true);
  compare<by_value>(p, k, o, true);
  return o;
}

}  // namespace

TEST_CASE("a screened product gives the TopK of the fp32 product, bit for bit, at any size") {
  if (!supported()) return;
  double worst = 0;
  for (const std::size_t n : {1u, 63u, 64u, 65u, 1000u, 3001u}) {
    for (const std::size_t d : {1u, 2u, 31u, 64u, 129u, 700u}) {
      for (const std::size_t m : {1u, 8u, 41u}) {
        problem p(m, n, d, n + d);
        for (const std::size_t k : {0u, 1u, 16u, 64u, 5000u}) {
          CAPTURE(n);
          CAPTURE(d);
          CAPTURE(k);
          const outcome o = compare(p, k);
          CHECK(o.same);
          CHECK(o.worst < 1);
          worst = std::max(worst, o.worst);
          if (n == 3001 && d >= 64 && k > 0 && k < 64) {  // it does what it is for
            CHECK(o.counts.whole == 0);
            CHECK(o.counts.entries >= (m - 1) * k);
            CHECK(o.counts.entries <= (m - 1) * n / 8);
          }
          CHECK(o.counts.rows == m - 1);
          if (k >= n) CHECK(o.counts.whole == m - 1);
        }
      }
    }
  }
  CHECK(worst > 0.1);  // the bound is of the size of the error
  golden::report("error of bfloat16 entries in units of its bound, random rows", worst, 1);
}

TEST_CASE("screening keeps ties, zeros, scales and numbers that are none") {
  if (!supported()) return;
  constexpr std::size_t m = 24, n = 2050, d = 96;
  constexpr float inf = std::numeric_limits<float>::infinity();
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  const auto check = [](const char* what, problem& p, bool has_bound = true) {
    CAPTURE(what);
    double worst = 0;
    for (const std::size_t k : {1u, 8u, 60u}) {
      CAPTURE(k);
      const outcome o = compare(p, k);
      CHECK(o.same);
      CHECK(o.worst < 1);
      worst = std::max(worst, o.worst);
      if (!has_bound) CHECK(o.counts.whole > 0);
    }
    golden::report(std::string("error in units of its bound, ") + what, worst, 1);
  };
  {
    problem p(m, n, d, 1);  // every latent eight times
    for (std::size_t j = 0; j < n; ++j) {
      std::copy_n(&p.w(j % 257, 0), d, &p.w(j, 0));
      p.bias(0, j) = p.bias(0, j % 257);
    }
    check("duplicated latents", p);
  }
  {
    problem p(m, n, d, 2);  // few different sums, all of them exact in bfloat16
    const auto whole = [](float v, std::size_t) { return std::round(v); };
    for (auto* t : {&p.x, &p.w, &p.bias}) p.each(*t, whole);
    check("whole numbers", p);
    p.each(p.x,
           [](float v, std::size_t) { return v * 0x1.01p0f; });  // halfway between two bfloat16
    p.each(p.w, [](float v, std::size_t) { return v * 0x1.03p0f; });
    check("numbers at the middle between two bfloat16", p);
  }
  {
    problem p(m, n, d, 3);  // all rounded the same way: rows and latents along one direction
    p.each(p.x, [](float v, std::size_t) { return 0x1.00fffep0f + 0 * v; });
    p.each(p.w,
           [](float, std::size_t i) { return i / d % 3 == 0 ? 0x1.00fffep0f : -0x1.00fffep0f; });
    check("errors that all add up", p);
    CHECK(compare(p, 8).worst > 0.8);  // the bound is nearly met
  }
  {
    problem p(m, n, d, 4);
    std::fill_n(&p.x(3, 0), 2 * d, 0.0f);
    std::fill_n(&p.w(100, 0), 900 * d, 0.0f);
    check("rows and latents of zeros", p);
    p.each(p.bias, [](float, std::size_t) { return 0.0f; });
    check("zeros without a bias", p);
    p.each(p.bias, [](float, std::size_t i) { return i % 5 == 0 ? 1e4f : -1e4f; });
    check("a bias far above the sums", p);
  }
  for (const float scale : {1e-30f, 1e-20f, 1e-12f, 1e12f}) {
    problem p(m, n, d, 5);
    const auto times = [scale](float v, std::size_t) { return v * scale; };
    p.each(p.x, times);
    p.each(p.bias, times);
    check("small or large rows", p);
    p.each(p.w, times);
    check("small or large rows and weights", p);
  }
  {
    problem p(m, n, d, 6);  // most below 2^-126
    p.each(p.x, [](float v, std::size_t i) { return i % 7 == 0 ? v : v * 1e-39f; });
    p.each(p.w, [](float v, std::size_t i) { return i % 5 == 0 ? v : v * 1e-40f; });
    check("denormal numbers", p);
    p.each(p.x, [](float v, std::size_t i) { return i % 7 == 0 ? v * 1e-39f : v; });
    p.each(p.bias, [](float, std::size_t) { return 0.0f; });
    check("denormal numbers alone", p);
  }
  {
    problem p(m, n, d, 7);
    p.x(2, 5) = nan;
    p.x(4, 0) = inf;
    p.x(6, 1) = -inf;
    p.x(8, 2) = 3.4e38f;
    std::fill_n(&p.x(9, 0), d, 1e38f);
    check("rows with NaN, infinities and overflow", p, false);
    p.bias(0, 77) = inf;
    check("an infinite bias", p, false);
    p.bias(0, 77) = 0;
    p.w(1000, 3) = nan;
    check("a NaN in a weight", p, false);
    p.w(1000, 3) = -inf;
    p.w(5, 3) = 3.4e38f;
    check("an infinite weight", p, false);
  }
  {
    problem p(m, n, d, 8);  // lengths of latents spread over ten decades
    p.each(p.w, [](float v, std::size_t i) {
      return v * std::pow(10.0f, static_cast<float>(i / d % 11) - 5);
    });
    check("latents of all lengths", p);
  }
}

TEST_CASE("screened codes are the same for any number of threads and rows") {
  if (!supported()) return;
  problem p(500, 2100, 80, 9);
  plmscope::screening_counts counts;
  const auto run = [&](std::size_t threads, std::size_t m, std::size_t first) {
    backend be(threads);
    return screened_codes<by_value>(be, rows(p.x.all()).row_range(first, m), p.w.all(),
                                    p.bias.all(), 20, counts);
  };
  const auto all = run(1, 500, 0);
  for (const std::size_t threads : {2u, 3u, 7u}) CHECK(equal(run(threads, 500, 0), all));
  const auto few = run(2, 13, 100);
  REQUIRE(few.entries() == static_cast<std::size_t>(all.offsets()[113] - all.offsets()[100]));
  CHECK(std::equal(few.ids(), few.ids() + few.entries(), all.ids() + all.offsets()[100]));
  CHECK(std::equal(few.values(), few.values() + few.entries(), all.values() + all.offsets()[100]));
}

TEST_CASE("entries of gemm_nt have bits of their own") {
  using twice = plmscope::basic_cpu<double, plmscope::eigen_gemm>;
  const auto check = [](auto be_of) {
    auto be = be_of(2);
    using B = decltype(be);
    using Real = typename B::real;
    using matrix = plmscope::matrix<Real, B>;
    double worst = 0;
    for (const std::size_t d : {0u, 1u, 17u, 64u, 333u, 1280u, 3500u}) {
      const std::size_t m = 37, n = 151;
      matrix a(be, m, d), b(be, n, d), c(be, m, n), sum(be, m, n);
      const plmscope::rng numbers(d, 4);
      for (std::size_t i = 0; i < a.size(); ++i) a.data()[i] = static_cast<Real>(numbers.normal(i));
      for (std::size_t i = 0; i < b.size(); ++i) {
        b.data()[i] = static_cast<Real>(numbers.normal(100000 + i));
      }
      be.gemm_nt(a.all(), b.all(), c.all());
      for (std::size_t i = 0; i < m; ++i) {
        for (std::size_t j = 0; j < n; ++j) {
          long double exact = 0, size = 1;
          for (std::size_t e = 0; e < d; ++e) {
            const long double term = static_cast<long double>(a(i, e)) * b(j, e);
            exact += term;
            size += std::abs(term);
          }
          worst = std::max(worst, static_cast<double>(std::abs(exact - c(i, j)) / size));
        }
      }
      for (const std::size_t threads : {1u, 3u}) {  // other threads, parts of rows and columns
        auto other = be_of(threads);
        matrix part(other, 5, 70);
        const plmscope::const_view<B> av = a.all(), bv = b.all();
        other.gemm_nt(av.row_range(20, 5), bv.row_range(66, 70), part.all());
        for (std::size_t i = 0; i < 5; ++i) {
          for (std::size_t j = 0; j < 70; ++j) CHECK(part(i, j) == c(20 + i, 66 + j));
        }
      }
      for (std::size_t i = 0; i < sum.size(); ++i) sum.data()[i] = 3;
      be.gemm_nt(a.all(), b.all(), sum.all(), Real{2});
      for (std::size_t i = 0; i < sum.size(); ++i) CHECK(sum.data()[i] == c.data()[i] + 6);
    }
    return worst;
  };
  CHECK(check([](std::size_t threads) { return backend(threads); }) < 1e-6);
  CHECK(check([](std::size_t threads) { return twice(threads); }) < 2e-15);
}
