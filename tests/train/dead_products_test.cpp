// SPDX-License-Identifier: MIT
// AuxK's two ways to the same numbers, and pre-activations kept instead of computed again.
#include <tests/devices.hpp>
#include <tests/golden.hpp>
#include <tests/thrown.hpp>
#include <tests/train/random_numbers.hpp>

#include <plmscope/backend/cpu.hpp>
#include <plmscope/backend/reference.hpp>
#include <plmscope/sae/sae.hpp>
#include <plmscope/train/trainer.hpp>
#if defined(PLMSCOPE_TEST_HAS_ONEDNN)
#include <plmscope/backend/cpu/gemm_onednn.hpp>
#endif

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

namespace {

using plmscope::const_view;
using plmscope::matrix;
using plmscope::product_precision;
using numbers = std::vector<double>;
using cpu_double = plmscope::basic_cpu<double, plmscope::eigen_gemm>;

template <class B>
using mat = matrix<typename B::real, B>;

template <class B>
mat<B> upload(B& be, std::size_t rows, std::size_t cols, const numbers& v) {
  mat<B> m(be, rows, cols);
  be.upload(std::span<const double>(v), m.all());
  return m;
}
template <class B>
numbers download(B& be, const mat<B>& m) {
  numbers v(m.size());
  be.download(const_view<B>(m), std::span<double>(v));
  return v;
}

double apart(const numbers& a, const numbers& b) {
  REQUIRE(a.size() == b.size());
  double largest = 0;
  double off = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    largest = std::max(largest, std::abs(a[i]));
    off = std::max(off, std::abs(a[i] - b[i]));
  }
  return off / (largest + 1e-300);
}

struct outcome {
  numbers g, rows, decoder, encoder, bias;
};

// One pass over a dictionary of n latents, of which each row takes k. Every third pre-activation of
// row 0 is exactly 0: `by_raw_value` selects such entries, and they have a gradient.
template <class B>
outcome pass(bool dense, std::size_t m, std::size_t n, std::size_t d, std::size_t k, bool biased,
             bool encoder, product_precision precision = product_precision::fp32) {
  using real = typename B::real;
  using products = plmscope::dead_products<B>;
  B be;
  const std::size_t padded = products::padded(n);
  numbers pre = random_numbers(1, m * n, 1, 1.0);
  for (std::size_t f = 0; f < n; f += 3) pre[f] = 0;
  numbers dictionary = random_numbers(1, n * d, 2, 0.3);
  dictionary.resize(padded * d, 0.0);
  const auto directions = upload(be, padded, d, dictionary);
  const auto target = upload(be, m, d, random_numbers(1, m * d, 3, 1.0));
  const auto x = upload(be, m, d, random_numbers(1, m * d, 4, 1.0));
  const auto bias = upload(be, 1, d, random_numbers(1, d, 5, 1.0));
  plmscope::codes<B> z;
  z.clear(be, n);
  const auto a = upload(be, m, n, pre);
  be.top_k_rows(const_view<B>(a), k, plmscope::by_raw_value{}, z);

  mat<B> g(be, m, d), rows(be, 3, m);
  plmscope::sae_parameters<B> gradient;
  gradient.decoder = mat<B>(be, padded, d);
  gradient.encoder = mat<B>(be, padded, d);
  gradient.encoder_bias = mat<B>(be, 1, padded);
  const plmscope::weighted_squares<real> loss{.scale = static_cast<real>(0.7)};
  products p;
  p.round(be, precision);
  p.choose(dense);
  p.forward(be, z, const_view<B>(directions), biased ? const_view<B>(bias) : const_view<B>(),
            const_view<B>(target), loss, g.all(), rows.all());
  p.backward(be, z, const_view<B>(g), const_view<B>(x), encoder, gradient);
  outcome o{download(be, g), download(be, rows), download(be, gradient.decoder),
            download(be, gradient.encoder), download(be, gradient.encoder_bias)};
  for (numbers* v : {&o.decoder, &o.encoder}) v->resize(n * d);  // the rest is of no meaning
  o.bias.resize(n);
  return o;
}

template <class B>
void both_ways(double limit, std::size_t m = 37, std::size_t n = 83, std::size_t d = 45) {
  for (const std::size_t k : {std::size_t{1}, n / 2, n}) {
    for (const bool biased : {false, true}) {
      for (const bool encoder : {true, false}) {
        const outcome s = pass<B>(false, m, n, d, k, biased, encoder);
        const outcome t = pass<B>(true, m, n, d, k, biased, encoder);
        CHECK(apart(s.g, t.g) < limit);
        CHECK(apart(s.rows, t.rows) < limit);
        CHECK(apart(s.decoder, t.decoder) < limit);
        if (encoder) {
          CHECK(apart(s.encoder, t.encoder) < limit);
          CHECK(apart(s.bias, t.bias) < limit);
        }
      }
    }
  }
}

// As aux_k, but nobody shows it the encoder's tiles.
struct unseeing {
  plmscope::aux_k a;
  std::int64_t dead_after = a.dead_after;
  bool count_first = a.count_first;
  bool detach_residual = a.detach_residual;
  template <class B>
  struct state : plmscope::aux_k::state<B> {};
  template <class B>
  using inputs = plmscope::aux_k::inputs<B>;
  template <class B>
  state<B> start(B& be, const plmscope::sae_parameters<B>& p) const {
    return {a.start(be, p)};
  }
  template <class B>
  void observe(B& be, const plmscope::codes<B>& z, state<B>& s) const {
    a.observe(be, z, s);
  }
  template <class B>
  bool find(B& be, state<B>& s) const {
    return a.find(be, s);
  }
  template <class B>
  void forward(B& be, const inputs<B>& in, state<B>& s, plmscope::view<B, double> slot) const {
    a.forward(be, in, s, slot);
  }
  template <class B>
  const_view<B> residual_pull(const state<B>& s) const {
    return a.residual_pull(s);
  }
  template <class B>
  void backward(B& be, const inputs<B>& in, state<B>& s, plmscope::sae_parameters<B>& gradient,
                plmscope::view<B> sums) const {
    a.backward(be, in, s, gradient, sums);
  }
};

struct trained {
  std::vector<numbers> parameters;
  double aux = 0;
  bool dense = false;
  std::size_t dead = 0, least = 0;  // dead latents, most and fewest of the later steps
};

// Some steps in which latents die and come back.
template <class B, class Dead>
trained train(Dead dead, plmscope::row_lengths lengths, B be = B()) {
  using model_type = plmscope::sae<plmscope::top_k, B>;
  using policies = plmscope::trainer<plmscope::adam, plmscope::warmup_decay,
                                     plmscope::mean_squared_error, plmscope::no_penalty, Dead>;
  typename model_type::options o;
  o.d_model = 24, o.features = 150, o.sparsifier = {.k = 3}, o.lengths = lengths, o.seed = 3;
  model_type model(o, be);
  numbers encoder = download(be, model.parameters().encoder);
  for (std::size_t i = 50 * 24; i < encoder.size(); ++i)
    encoder[i] *= 0.3;  // seldom among the first
  be.upload(std::span<const double>(encoder), model.parameters().encoder.all());
  policies p{.dead = dead};
  plmscope::training_run<model_type, policies> run(model, p);
  trained out;
  for (std::size_t i = 0; i < 8; ++i) {
    const auto x = upload(be, 80, 24, random_numbers(7, 80 * 24, i, 1.0, 0.1));
    run.step(const_view<B>(x), 1e-2);
    out.aux += run.metrics().aux_loss;
    out.dead = std::max(out.dead, run.dead_state().dead_count);
    out.least = i < 4 ? out.dead : std::min(out.least, run.dead_state().dead_count);
    out.dense = out.dense || run.dead_state().products.dense();
  }
  model.parameters().for_each(
      [&](const char*, auto& m) { out.parameters.push_back(download<B>(be, m)); });
  return out;
}

template <class B>
void seen_or_not(double limit) {
  for (const auto lengths : {plmscope::row_lengths::free, plmscope::row_lengths::rank,
                             plmscope::row_lengths::in_codes}) {
    for (const bool first : {true, false}) {
      for (const std::size_t k : {2u, 60u}) {
        const plmscope::aux_k a{.alpha = 0.5, .k = k, .dead_after = 200, .count_first = first};
        const trained kept = train<B>(a, lengths);
        const trained again = train<B>(unseeing{a}, lengths);
        CHECK(kept.aux > 0);
        CHECK(kept.dead > 64);
        CHECK(kept.least < kept.dead);
        CHECK(kept.dense == (k == 60));
        CHECK(kept.aux == doctest::Approx(again.aux).epsilon(limit));
        for (std::size_t i = 0; i < kept.parameters.size(); ++i) {
          CHECK(apart(again.parameters[i], kept.parameters[i]) < limit);
        }
      }
    }
  }
}

}  // namespace

TEST_CASE("dense products and sums over sparse codes agree to rounding") {
  both_ways<plmscope::reference>(1e-13);
  both_ways<cpu_double>(1e-13);
  both_ways<plmscope::cpu>(1e-5);
  both_ways<cpu_double>(1e-13, 200, 300, 40);
#if defined(PLMSCOPE_TEST_HAS_ONEDNN)
  both_ways<plmscope::basic_cpu<float, plmscope::onednn_gemm>>(1e-5);
#endif
  both_ways<devices::twice>(1e-13);
  both_ways<devices::single>(1e-4);
}

TEST_CASE("dense products in bf16 are those of fp32 to three digits; sums stay in fp32") {
  using host = plmscope::cpu;
  using single = devices::single;
  const auto three_digits = []<class B>(B) {
    for (const std::size_t k : {40u, 83u}) {
      const outcome s = pass<B>(true, 37, 83, 45, k, true, true);
      const outcome t = pass<B>(true, 37, 83, 45, k, true, true, product_precision::bf16);
      for (const auto of :
           {&outcome::g, &outcome::rows, &outcome::decoder, &outcome::encoder, &outcome::bias}) {
        CHECK(apart(s.*of, t.*of) < 0.02);
      }
      CHECK(apart(s.g, t.g) > 1e-5);  // they were taken
      const outcome u = pass<B>(false, 37, 83, 45, k, true, true);
      const outcome v = pass<B>(false, 37, 83, 45, k, true, true, product_precision::bf16);
      CHECK(u.encoder == v.encoder);
    }
  };
  if (host::computes(product_precision::bf16)) {
    three_digits(host());
    const plmscope::aux_k a{.alpha = 0.5, .k = 60, .dead_after = 200};
    auto b = a;
    b.product = product_precision::bf16;
    const trained fp32 = train<host>(a, plmscope::row_lengths::free);
    const trained bf16 = train<host>(b, plmscope::row_lengths::free);
    CHECK(fp32.dense);
    CHECK(bf16.aux == doctest::Approx(fp32.aux).epsilon(0.01));
    CHECK(bf16.aux != fp32.aux);
  } else {
    golden::skip("this processor has no products in bf16");
  }
  plmscope::dead_products<plmscope::reference> plain;
  plain.round(plmscope::reference(), product_precision::fp32);
  CHECK(id_thrown([&] { plain.round(plmscope::reference(), product_precision::bf16); }) ==
        "backend.106");
  plmscope::dead_products<single> device;
  CHECK(id_thrown([&] { device.round(single(), product_precision::int8); }) == "backend.106");
}

TEST_CASE("the rule weighs entries against places") {
  using host = plmscope::dead_products<plmscope::cpu>;
  host products;
  CHECK(products.dense_pays(100, 50'000, 1000));
  CHECK_FALSE(products.dense_pays(100, 5'000, 1000));
  CHECK_FALSE(products.dense_pays(100, 0, 0));
  CHECK(plmscope::dead_products<devices::single>().dense_pays(100, 20'000, 1000));
  if (plmscope::cpu::computes(product_precision::bf16)) {
    CHECK_FALSE(products.dense_pays(100, 30'000, 1000));
    products.round(plmscope::cpu(), product_precision::bf16);
    CHECK(products.dense_pays(100, 30'000, 1000));
  }
  CHECK(host::padded(1) == 64);
  CHECK(host::padded(64) == 64);
  CHECK(host::padded(0) == 0);
}

TEST_CASE("pre-activations kept from the encoder's tiles train as those computed again") {
  seen_or_not<plmscope::reference>(1e-9);
  seen_or_not<cpu_double>(1e-9);
  seen_or_not<devices::twice>(1e-9);
}

TEST_CASE("AuxK has the same bits for any number of threads, both ways") {
  for (const std::size_t k : {2u, 60u}) {
    const plmscope::aux_k a{.alpha = 0.5, .k = k, .dead_after = 200};
    const auto one = train<plmscope::cpu>(a, plmscope::row_lengths::free, plmscope::cpu(1));
    const auto three = train<plmscope::cpu>(a, plmscope::row_lengths::free, plmscope::cpu(3));
    CHECK(one.aux == three.aux);
    CHECK(one.parameters == three.parameters);
  }
}
