// SPDX-License-Identifier: MIT
// Sums over dense codes, read block by block: to the bit what they are list by list.
#include <plmscope/backend/cpu.hpp>
#include <plmscope/core/rng.hpp>
#include <plmscope/tensor/codes.hpp>
#include <plmscope/tensor/codes_by_feature.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

template <class Real>
using cpu = plmscope::basic_cpu<Real, plmscope::eigen_gemm>;
template <class Real>
using cmat = plmscope::const_view<cpu<Real>>;
template <class Real>
using matrix = plmscope::matrix<Real, cpu<Real>>;

template <class Real>
matrix<Real> normal(cpu<Real>& be, std::size_t rows, std::size_t cols, std::uint64_t stream) {
  matrix<Real> m(be, rows, cols);
  const plmscope::rng random(11, stream);
  for (std::size_t i = 0; i < m.size(); ++i) m.data()[i] = static_cast<Real>(random.normal(i));
  return m;
}

template <class Real>
bool same_bits(const matrix<Real>& a, const matrix<Real>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(Real)) == 0;
}

// Codes with about `share` of all entries; row 1 has none, row 2 all of them.
template <class Real>
plmscope::codes<cpu<Real>> some_codes(cpu<Real>& be, std::size_t rows, std::size_t features,
                                      double share) {
  matrix<Real> pre(be, rows, features);
  const plmscope::rng random(3, 4);
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t f = 0; f < features; ++f) {
      const std::uint64_t i = 2 * (r * features + f);
      const bool in = r == 1 ? false : r == 2 ? true : random.uniform(i) < share;
      pre(r, f) = in ? static_cast<Real>(random.normal(i + 1)) : Real{0};
    }
  }
  plmscope::codes<cpu<Real>> z;
  z.clear(be, features);
  be.keep_above(cmat<Real>(pre), cmat<Real>(), plmscope::by_magnitude{}, z);
  return z;
}

template <class Real>
void check(std::size_t threads, std::size_t rows, std::size_t features, std::size_t d,
           double share) {
  CAPTURE(threads);
  CAPTURE(rows);
  CAPTURE(features);
  CAPTURE(d);
  namespace kernels = plmscope::cpu_kernels;
  cpu<Real> be(threads);
  const auto z = some_codes(be, rows, features, share);
  REQUIRE(kernels::streams(z));
  REQUIRE(kernels::streams_dots(z) == (share > 0.25));
  const auto dictionary = normal(be, features, d, 1);
  const auto bias = normal(be, 1, d, 2);
  for (const bool biased : {false, true}) {
    const cmat<Real> b = biased ? cmat<Real>(bias) : cmat<Real>();
    matrix<Real> plain(be, rows, d), streamed(be, rows, d);
    for (std::size_t r = 0; r < rows; ++r) {
      kernels::decode_row(kernels::code_row<plmscope::codes<cpu<Real>>>(z, r),
                          cmat<Real>(dictionary), b, plain.data() + r * d);
    }
    be.decode(z, cmat<Real>(dictionary), b, streamed);
    CHECK(same_bits(plain, streamed));
  }

  const auto errors = normal(be, rows, d, 9);
  matrix<Real> plain(be, 1, z.entries()), streamed(be, 1, z.entries());
  for (std::size_t r = 0; r < rows; ++r) {
    for (auto e = static_cast<std::size_t>(z.offsets()[r]);
         e < static_cast<std::size_t>(z.offsets()[r + 1]); ++e) {
      plain.data()[e] = kernels::dot(errors.data() + r * d, dictionary.data() + z.ids()[e] * d, d);
    }
  }
  be.sampled_dot(z, cmat<Real>(errors), cmat<Real>(dictionary), streamed.all());
  CHECK(same_bits(plain, streamed));

  plmscope::codes_by_feature<cpu<Real>> by_feature;
  be.transpose(z, by_feature);
  REQUIRE(kernels::streamed_sums<Real>::pay(features, rows, z.entries()));
  const auto gradient = normal(be, rows, d, 3);
  const auto x = normal(be, rows, d, 4);
  const auto dz = normal(be, 1, z.entries(), 5);
  for (const Real beta : {Real{0}, Real{1}, Real{0.25}}) {
    auto decoder = normal(be, features, d, 6), encoder = normal(be, features, d, 7);
    auto sums = normal(be, 1, features, 8);
    auto one_decoder = normal(be, features, d, 6), one_encoder = normal(be, features, d, 7);
    auto one_sums = normal(be, 1, features, 8);
    for (std::size_t f = 0; f < features; ++f) {
      const auto add = [&](const Real* weights, const matrix<Real>& from, Real* out) {
        for (std::size_t j = 0; j < d; ++j) out[j] = beta == Real{0} ? Real{0} : beta * out[j];
        const auto first = static_cast<std::size_t>(by_feature.offsets()[f]);
        const auto n = static_cast<std::size_t>(by_feature.offsets()[f + 1]) - first;
        kernels::add_weighted_sum(
            n, d, [&](std::size_t e) { return weights[by_feature.entries()[first + e]]; },
            [&](std::size_t e) { return from.data() + by_feature.rows()[first + e] * d; }, out);
      };
      add(z.values(), gradient, one_decoder.data() + f * d);
      add(dz.data(), x, one_encoder.data() + f * d);
      Real sum = beta == Real{0} ? Real{0} : beta * one_sums.data()[f];
      for (auto e = by_feature.offsets()[f]; e < by_feature.offsets()[f + 1]; ++e) {
        sum += dz.data()[by_feature.entries()[e]];
      }
      one_sums.data()[f] = sum;
    }
    be.sparse_backward(by_feature, cmat<Real>(z.values(), 1, z.entries()), dz, gradient, x, decoder,
                       encoder, sums, beta);
    CHECK(same_bits(one_decoder, decoder));
    CHECK(same_bits(one_encoder, encoder));
    CHECK(same_bits(one_sums, sums));
  }
}

}  // namespace

TEST_CASE("streamed sums have the bits of plain ones, for any threads, shapes and beta") {
  for (const std::size_t threads : {1u, 3u}) {
    check<float>(threads, 150, 200, 128, 0.5);
    check<float>(threads, 300, 129, 131, 0.3);
    check<float>(threads, 129, 300, 400, 0.3);
    check<double>(threads, 150, 200, 70, 0.4);
  }
  check<float>(40, 200, 1000, 16, 0.2);  // more threads than slabs
}

TEST_CASE("empty views are left out of a streamed backward pass") {
  cpu<float> be(2);
  const auto z = some_codes(be, 150, 200, 0.5);
  plmscope::codes_by_feature<cpu<float>> by_feature;
  be.transpose(z, by_feature);
  const auto g = normal(be, 150, 64, 1);
  const auto dz = normal(be, 1, z.entries(), 2);
  const cmat<float> values(z.values(), 1, z.entries());
  matrix<float> both(be, 200, 64), other(be, 200, 64), sums(be, 1, 200), one(be, 200, 64),
      one_sums(be, 1, 200);
  const plmscope::view<cpu<float>> none;
  be.sparse_backward(by_feature, values, dz, g, g, both, other, sums);
  be.sparse_backward(by_feature, values, dz, g, cmat<float>(), one, none, none);
  CHECK(same_bits(both, one));
  be.sparse_backward(by_feature, cmat<float>(), dz, cmat<float>(), g, none, one, one_sums);
  CHECK(same_bits(other, one));
  CHECK(same_bits(sums, one_sums));
}

TEST_CASE("few rows or few entries are not streamed") {
  using sums = plmscope::cpu_kernels::streamed_sums<float>;
  CHECK_FALSE(sums::pay(1000, 100, 100'000));
  CHECK_FALSE(sums::pay(1000, 10'240, 64'000));
  CHECK(sums::pay(2048, 1024, 2048 * 128));
  CHECK_FALSE(sums::pay(2048, 1024, 2048 * 128 - 1));
}
