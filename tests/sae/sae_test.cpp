// SPDX-License-Identifier: MIT
#include <plmscope/backend/cpu.hpp>
#include <plmscope/backend/reference.hpp>
#include <plmscope/core/rng.hpp>
#include <plmscope/sae/sae.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace {

using plmscope::codes;
using plmscope::const_view;
using plmscope::cpu;
using plmscope::matrix;
using plmscope::normalization;
using plmscope::normalizer;
using plmscope::reference;
using plmscope::sae;
using plmscope::top_k;

// A sparsifier as a user writes it: keeps the k largest entries by magnitude, with their sign.
struct abs_top_k {
  static constexpr std::string_view id = "abs_top_k";
  std::size_t k = 32;

  template <class B>
  void select(B& be, plmscope::const_view<B> pre, plmscope::codes<B>& out) const {
    be.top_k_rows(pre, k, plmscope::by_magnitude{}, out);
  }
};
static_assert(plmscope::sparsifier<abs_top_k>);
static_assert(plmscope::sparsifier_for<abs_top_k, cpu>);
static_assert(plmscope::sparsifier_for<abs_top_k, reference>);
static_assert(plmscope::sparsifier<top_k>);
static_assert(!plmscope::sparsifier<int>);
static_assert(!plmscope::sparsifier_for<normalizer, cpu>);

constexpr std::size_t d = 12;
constexpr std::size_t features = 30;

template <class B>
matrix<typename B::real, B> rows_of(B& be, std::size_t m, std::uint64_t stream = 1) {
  const plmscope::rng random(8, stream);
  matrix<typename B::real, B> x(be, m, d);
  for (std::size_t i = 0; i < x.size(); ++i) {
    x.data()[i] = static_cast<typename B::real>(static_cast<float>(1 + random.normal(i)));
  }
  return x;
}

template <class Model>
void randomise(Model& model) {
  std::uint64_t stream = 100;
  model.parameters().for_each([&](const char*, auto& p) {
    const plmscope::rng random(8, ++stream);
    for (std::size_t i = 0; i < p.size(); ++i) {
      p.data()[i] = static_cast<typename Model::real>(static_cast<float>(0.4 * random.normal(i)));
    }
  });
}

template <class Sparsifier, class B>
auto make(const normalizer& n = {}, std::size_t k = 5) {
  sae<Sparsifier, B> model(
      {.d_model = d, .features = features, .sparsifier = {.k = k}, .normalize = n});
  randomise(model);
  return model;
}

TEST_CASE("a fresh SAE: unit decoder, encoder a copy, biases zero, same seed same bits") {
  sae<> a({.d_model = 33, .features = 70, .seed = 4});
  sae<> b({.d_model = 33, .features = 70, .seed = 4});
  sae<> c({.d_model = 33, .features = 70, .seed = 5});
  const auto same = [](const auto& x, const auto& y) {
    return std::equal(x.data(), x.data() + x.size(), y.data());
  };
  CHECK(a.d_model() == 33);
  CHECK(a.features() == 70);
  CHECK(same(a.parameters().decoder, b.parameters().decoder));
  CHECK_FALSE(same(a.parameters().decoder, c.parameters().decoder));
  CHECK(same(a.parameters().decoder, a.parameters().encoder));
  for (std::size_t f = 0; f < 70; ++f) {
    double squares = 0;
    for (const float v : a.parameters().decoder.all().row(f)) squares += std::pow(v, 2);
    CHECK(squares == doctest::Approx(1).epsilon(1e-6));
    CHECK(a.parameters().encoder_bias(0, f) == 0);
  }
  for (std::size_t j = 0; j < 33; ++j) CHECK(a.parameters().decoder_bias(0, j) == 0);
}

// z and x' by the formulas of the class comment, dense and in double.
template <class Select>
std::vector<double> formula(sae<abs_top_k, reference>& model, const std::vector<double>& n,
                            std::size_t m, const Select& select) {
  const auto& p = model.parameters();
  std::vector<double> out;
  for (std::size_t r = 0; r < m; ++r) {
    std::vector<double> a(features);
    for (std::size_t f = 0; f < features; ++f) {
      a[f] = p.encoder_bias(0, f);
      for (std::size_t j = 0; j < d; ++j) {
        a[f] += p.encoder(f, j) * (n[r * d + j] - p.decoder_bias(0, j));
      }
    }
    const std::set<std::size_t> kept = select(a);
    for (std::size_t j = 0; j < d; ++j) {
      double v = p.decoder_bias(0, j);
      for (const std::size_t f : kept) v += a[f] * p.decoder(f, j);
      out.push_back(v);
    }
  }
  return out;
}

TEST_CASE("encode and decode are the formulas, for a sparsifier of the user's own") {
  constexpr std::size_t m = 20;
  auto model = make<abs_top_k, reference>();
  auto& be = model.backend();
  const auto x = rows_of(be, m);
  matrix<double, reference> out(be, m, d);
  codes<reference> z;
  model.reconstruct(const_view<reference>(x), out.all(), &z);
  REQUIRE(z.entries() == m * 5);
  std::size_t negative = 0;
  for (std::size_t e = 0; e < z.entries(); ++e) negative += z.values()[e] < 0 ? 1U : 0U;
  CHECK(negative > 0);
  const auto want = formula(model, {x.data(), x.data() + x.size()}, m, [](const auto& a) {
    std::vector<std::size_t> ids(features);
    for (std::size_t f = 0; f < features; ++f) ids[f] = f;
    std::stable_sort(ids.begin(), ids.end(),
                     [&](auto i, auto j) { return std::abs(a[i]) > std::abs(a[j]); });
    return std::set<std::size_t>(ids.begin(), ids.begin() + 5);
  });
  double worst = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    worst = std::max(worst, std::abs(out.data()[i] - want[i]));
  }
  CHECK(worst < 1e-12);
}

template <class Sparsifier>
void check_backends_agree() {
  for (const auto kind : {normalization::none, normalization::scalar, normalization::per_dimension,
                          normalization::token_layer_norm}) {
    normalizer n{.kind = kind, .scale = 0.3};
    if (kind == normalization::per_dimension) n.mean.assign(d, 0.5), n.deviation.assign(d, 2.0);
    auto fast = make<Sparsifier, cpu>(n);
    auto exact = make<Sparsifier, reference>(n);
    for (const std::size_t m : std::vector<std::size_t>{0, 1, 5, 700}) {
      INFO("normaliser ", std::string(normalizer::name(kind)), ", rows ", m);
      const auto x = rows_of(fast.backend(), m, m);
      const auto y = rows_of(exact.backend(), m, m);
      matrix<float, cpu> a(fast.backend(), m, d);
      matrix<double, reference> b(exact.backend(), m, d);
      codes<cpu> z;
      codes<reference> w;
      fast.reconstruct(const_view<cpu>(x), a.all(), &z);
      exact.reconstruct(const_view<reference>(y), b.all(), &w);
      CHECK(z.features() == features);
      REQUIRE(z.rows() == m);
      REQUIRE(z.entries() == w.entries());
      CHECK(std::equal(z.offsets(), z.offsets() + m + 1, w.offsets()));
      CHECK(std::equal(z.ids(), z.ids() + z.entries(), w.ids()));
      double worst = 0;
      for (std::size_t i = 0; i < a.size(); ++i) {
        worst = std::max(worst, std::abs(static_cast<double>(a.data()[i]) - b.data()[i]));
      }
      CHECK(worst < 1e-4);
      // Codes handed out or not: the same reconstruction. Encode and decode in two calls, too.
      matrix<float, cpu> again(fast.backend(), m, d);
      fast.reconstruct(const_view<cpu>(x), again.all());
      CHECK(std::equal(a.data(), a.data() + a.size(), again.data()));
    }
  }
}

TEST_CASE("cpu and reference agree, TopK") { check_backends_agree<top_k>(); }
TEST_CASE("cpu and reference agree, a user's sparsifier") { check_backends_agree<abs_top_k>(); }

TEST_CASE("TopK keeps at most k positive values") {
  for (const std::size_t k : std::vector<std::size_t>{0, 1, 29, 30, 31, 500}) {
    auto model = make<top_k, cpu>({}, k);
    const auto x = rows_of(model.backend(), 40);
    codes<cpu> z;
    model.encode(const_view<cpu>(x), z);
    std::size_t wrong = 0;
    for (std::size_t r = 0; r < 40; ++r) {
      wrong += z.offsets()[r + 1] - z.offsets()[r] > static_cast<std::int64_t>(k) ? 1U : 0U;
      for (auto e = z.offsets()[r] + 1; e < z.offsets()[r + 1]; ++e) {
        wrong += z.ids()[e] <= z.ids()[e - 1] ? 1U : 0U;
      }
    }
    for (std::size_t e = 0; e < z.entries(); ++e) wrong += !(z.values()[e] > 0) ? 1U : 0U;
    CHECK(wrong == 0);
    if (k > 0) CHECK(z.entries() > 0);
  }
}

TEST_CASE("lengths of decoder rows in the codes do not change reconstructions of all latents") {
  sae<top_k, reference> plain({.d_model = d, .features = features, .sparsifier = {.k = features}});
  sae<top_k, reference> scaled({.d_model = d,
                                .features = features,
                                .sparsifier = {.k = features},
                                .lengths = plmscope::row_lengths::in_codes});
  randomise(plain);
  randomise(scaled);
  const auto x = rows_of(plain.backend(), 9);
  matrix<double, reference> a(plain.backend(), 9, d), b(scaled.backend(), 9, d);
  codes<reference> z, w;
  plain.reconstruct(const_view<reference>(x), a.all(), &z);
  scaled.reconstruct(const_view<reference>(x), b.all(), &w);
  for (std::size_t i = 0; i < a.size(); ++i) {
    CHECK(a.data()[i] == doctest::Approx(b.data()[i]).epsilon(1e-10));
  }
  REQUIRE(z.entries() == w.entries());
  for (std::size_t e = 0; e < z.entries(); ++e) {
    double squares = 0;
    for (const double v : plain.parameters().decoder.all().row(z.ids()[e])) squares += v * v;
    CHECK(w.values()[e] == doctest::Approx(std::sqrt(squares) * z.values()[e]).epsilon(1e-10));
  }
}

template <class F>
std::string id_of(const F& f) {
  try {
    f();
  } catch (const plmscope::error& e) {
    return std::string(e.id());
  }
  return "nothing thrown";
}

TEST_CASE("what an SAE refuses") {
  CHECK(id_of([] { sae<> model({.d_model = 0, .features = 4}); }) == "sae.101");
  CHECK(id_of([] { sae<> model({.d_model = 4, .features = 0}); }) == "sae.101");
  auto model = make<top_k, cpu>();
  auto& be = model.backend();
  codes<cpu> z;
  matrix<float, cpu> wide(be, 3, d + 1), out(be, 3, d);
  CHECK(id_of([&] { model.encode(const_view<cpu>(wide), z); }) == "sae.102");
  CHECK(id_of([&] { model.encode(const_view<cpu>(wide).col_range(0, d - 1), z); }) == "sae.102");
  CHECK(id_of([&] { model.reconstruct(const_view<cpu>(wide), out.all()); }) == "sae.102");
}

// The views handed in lie inside of larger memory: a missing check shows as "nothing thrown".
TEST_CASE("decode refuses codes and outputs of other shapes") {
  auto model = make<top_k, cpu>();
  auto& be = model.backend();
  const auto x = rows_of(be, 4);
  matrix<float, cpu> large(be, 8, 4 * d);
  codes<cpu> z;
  model.encode(const_view<cpu>(x), z);
  const auto part = [&](std::size_t rows, std::size_t cols) {
    return large.all().row_range(0, rows).col_range(0, cols);
  };
  CHECK_NOTHROW(model.decode(z, part(4, d)));
  CHECK_THROWS_AS(model.decode(z, part(4, d - 1)), plmscope::error);
  CHECK_THROWS_AS(model.decode(z, part(4, d + 1)), plmscope::error);
  CHECK_THROWS_AS(model.decode(z, part(3, d)), plmscope::error);
  CHECK_THROWS_AS(model.decode(z, part(5, d)), plmscope::error);
  CHECK_THROWS_AS(model.reconstruct(const_view<cpu>(x), large.all().row_range(0, 4)),
                  plmscope::error);
  codes<cpu> foreign(be, features + 1);
  matrix<float, cpu> pre(be, 4, features + 1);
  pre(0, 3) = 1;
  be.top_k_rows(const_view<cpu>(pre), 2, plmscope::by_value{}, foreign);
  CHECK_THROWS_AS(model.decode(foreign, part(4, d)), plmscope::error);
}

TEST_CASE("decode refuses codes of another batch than the last where the normaliser needs it") {
  auto model = make<top_k, cpu>({.kind = normalization::token_layer_norm});
  auto& be = model.backend();
  const auto large = rows_of(be, 8);
  codes<cpu> eight, four;
  matrix<float, cpu> out(be, 8, d);
  model.encode(const_view<cpu>(large).row_range(0, 4), four);
  model.encode(const_view<cpu>(large), eight);
  CHECK_NOTHROW(model.decode(eight, out.all()));
  CHECK_THROWS_AS(model.decode(four, out.all().row_range(0, 4)), plmscope::error);
}

TEST_CASE("a normaliser that does not fit the width is refused") {
  for (const std::size_t size : std::vector<std::size_t>{d - 1, d + 1}) {
    normalizer n{.kind = normalization::per_dimension};
    n.mean.assign(size, 0.0);
    n.deviation.assign(size, 1.0);
    const auto encode = [&] {
      auto model = make<top_k, cpu>(n);
      const auto x = rows_of(model.backend(), 4);
      codes<cpu> z;
      model.encode(const_view<cpu>(x), z);
    };
    INFO("mean and deviation of ", size, " dimensions");
    CHECK_THROWS_AS(encode(), plmscope::error);
  }
}

}  // namespace
