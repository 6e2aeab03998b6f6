// SPDX-License-Identifier: MIT
#include <tests/golden.hpp>

#include <plmscope/backend/reference.hpp>
#include <plmscope/core/rng.hpp>
#include <plmscope/sae/any_sae.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

using plmscope::any_sae;
using plmscope::input_centring;
using plmscope::normalization;
using plmscope::normalizer;
using plmscope::reference;
using plmscope::row_lengths;
using plmscope::sae;

namespace {

constexpr std::size_t d = 8, features = 24, rows = 40;

template <class S>
sae<S, reference> made(typename sae<S, reference>::options o) {
  o.d_model = d;
  o.features = features;
  sae<S, reference> model(std::move(o));
  std::uint64_t stream = 0;
  model.parameters().for_each([&](const std::string& name, auto& m) {
    const plmscope::rng random(21, ++stream);
    std::vector<double> v(m.size());
    for (std::size_t i = 0; i < v.size(); ++i) {
      // exactly what float32 holds, so that the file loses nothing but what is folded
      v[i] = static_cast<double>(static_cast<float>(0.6 * random.normal(i)));
      if (name == "threshold") v[i] = std::abs(v[i]);
    }
    model.backend().upload(std::span<const double>(v), m.all());
  });
  model.source = {"esm2 \"x\"", "ab12", "resid_post.3"};
  model.training_record["note"] = "two\nlines";
  return model;
}

struct result {
  std::vector<double> codes, recon;
};

result computed(any_sae<reference>& model) {
  reference be;
  plmscope::matrix<double, reference> x(be, rows, d), y(be, rows, model.d_out());
  const plmscope::rng random(3, 3);
  for (std::size_t i = 0; i < x.size(); ++i) x.data()[i] = 0.5 + 2 * random.normal(i);
  plmscope::codes<reference> z;
  model.reconstruct(x, y, &z);
  result r{std::vector<double>(rows * features, 0.0), {y.data(), y.data() + y.size()}};
  for (std::size_t i = 0; i < rows; ++i) {
    for (auto e = static_cast<std::size_t>(z.offsets()[i]);
         e < static_cast<std::size_t>(z.offsets()[i + 1]); ++e) {
      r.codes[i * features + z.ids()[e]] = z.values()[e];
    }
  }
  return r;
}

double deviation(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0, largest = 1e-30;
  for (std::size_t i = 0; i < a.size(); ++i) {
    worst = golden::worse(worst, std::abs(a[i] - b[i]));
    largest = std::max(largest, std::abs(b[i]));
  }
  return worst / largest;
}

template <class S>
void round_trip(const std::string& what, typename sae<S, reference>::options o,
                double limit = 2e-6) {
  INFO(what);
  const golden::scratch_folder folder;
  any_sae<reference> ours(made<S>(std::move(o)));
  plmscope::save_saelens(ours, folder / "deep" / "er");
  auto again = any_sae<reference>::open(folder / "deep" / "er");
  const result a = computed(ours), b = computed(again);
  CHECK(*std::max_element(a.codes.begin(), a.codes.end()) > 0);
  CHECK(deviation(b.codes, a.codes) <= limit);
  CHECK(deviation(b.recon, a.recon) <= limit);
  CHECK(again.source() == ours.source());
  CHECK(again.describe().training_record.at("published.library") == "saelens");
}

template <class S>
std::string refused(typename sae<S, reference>::options o) {
  const golden::scratch_folder folder;
  any_sae<reference> ours(made<S>(std::move(o)));
  try {
    plmscope::save_saelens(ours, folder / "x");
  } catch (const plmscope::error& e) {
    CHECK_FALSE(std::filesystem::exists(folder / "x"));
    return std::string(e.id());
  }
  return "nothing";
}

const normalizer mean_and_deviation{.kind = normalization::per_dimension,
                                    .mean = {1, -2, 0.5, 3, 0, 0, 1, 2},
                                    .deviation = {1, 2, 0.5, 1, 1, 3, 0.25, 1}};
const normalizer unbiased{.kind = normalization::token_layer_norm, .inverse_epsilon = 0, .ddof = 1};

// A sparsifier under every way of bringing rows in and out that SAELens can be given.
template <class S>
void every_way(const std::string& name, S sparsifier, bool lengths = true) {
  const auto plain = [&] {
    typename sae<S, reference>::options o;
    o.sparsifier = sparsifier;
    return o;
  };
  for (const auto centring :
       {input_centring::decoder_bias, input_centring::own_bias, input_centring::none}) {
    for (const normalizer& n :
         {normalizer{}, normalizer{.kind = normalization::scalar, .scale = 0.37},
          mean_and_deviation, unbiased,
          normalizer{.kind = normalization::token_layer_norm,
                     .epsilon = 0,
                     .inverse_epsilon = 0,
                     .centred = false}}) {
      auto o = plain();
      o.centring = centring;
      o.normalize = n;
      round_trip<S>(name + ", " + std::string(normalizer::name(n.kind)), o);
      if (!lengths) continue;
      o.lengths = row_lengths::in_codes;
      round_trip<S>(name + ", lengths in codes", o);
    }
  }
  // the biased deviation is folded; what is left is its epsilon
  auto o = plain();
  o.normalize = {.kind = normalization::token_layer_norm};
  round_trip<S>(name + ", biased deviation", o, 3e-5);
}

}  // namespace

TEST_CASE("an SAE in SAELens' layout computes the same") {
  every_way("relu", plmscope::relu{});
  every_way("top_k", plmscope::top_k{.k = 5});
  every_way("abs_top_k", plmscope::abs_top_k{.k = 5});
  every_way("batch_top_k", plmscope::batch_top_k{.k = 5, .threshold = 0.8});
  every_way("batch_top_k, never set", plmscope::batch_top_k{.threshold = -1});
  every_way("jump_relu", plmscope::jump_relu{});
  every_way("gated", plmscope::gated{});
  sae<plmscope::batch_top_k, reference>::options ranked{
      .sparsifier = {.threshold = 0.8}, .lengths = row_lengths::rank, .blocks = 4};
  round_trip<plmscope::batch_top_k>("ranked by lengths", ranked);
  round_trip<plmscope::jump_relu>("ranked by lengths", {.lengths = row_lengths::rank});
  round_trip<plmscope::jump_relu>("log thresholds", {.sparsifier = {.log_thresholds = true}});
}

TEST_CASE("a transcoder in SAELens' layout computes the same") {
  const normalizer five{.kind = normalization::per_dimension,
                        .mean = {1, 2, 3, 4, 5},
                        .deviation = {1, 0.5, 2, 1, 4}};
  for (const bool skip : {false, true}) {
    for (const auto centring : {input_centring::own_bias, input_centring::none}) {
      for (const normalizer& in : {normalizer{}, mean_and_deviation}) {
        const auto make = [&]<class S>(S s) {
          typename sae<S, reference>::options o;
          o.sparsifier = s;
          o.normalize = in;
          o.d_out = 5;
          o.normalize_out = five;
          o.centring = centring;
          o.skip = skip;
          o.transcodes = true;
          return o;
        };
        round_trip<plmscope::relu>("relu transcoder", make(plmscope::relu{}));
        round_trip<plmscope::jump_relu>("jump_relu transcoder", make(plmscope::jump_relu{}));
        round_trip<plmscope::batch_top_k>("batch_top_k transcoder",
                                          make(plmscope::batch_top_k{.threshold = 0.5}));
      }
    }
  }
  // centred by a shared bias, and results that stay in the normalised space
  round_trip<plmscope::relu>("block transcoder", {.normalize = unbiased, .transcodes = true});
  // an autoencoder with a skip map
  round_trip<plmscope::relu>("skip", {.normalize = mean_and_deviation, .skip = true});
}

TEST_CASE("what SAELens cannot hold is refused by name and writes nothing") {
  CHECK(refused<plmscope::relu>({.unit_input = true}) == "sae.116");
  CHECK(refused<plmscope::group_max>({.sparsifier = {.k = 6}}) == "sae.116");
  CHECK(refused<plmscope::top_k>({.sparsifier = {.k = 3, .negatives = true}}) == "sae.116");
  CHECK(refused<plmscope::top_k>({.lengths = row_lengths::rank}) == "sae.116");
  CHECK(refused<plmscope::top_k>({.transcodes = true}) == "sae.116");
  CHECK(refused<plmscope::gated>({.transcodes = true}) == "sae.116");
  CHECK(refused<plmscope::relu>({.normalize = unbiased, .skip = true}) == "sae.116");
  CHECK(refused<plmscope::relu>({.normalize = {.kind = normalization::token_layer_norm,
                                               .epsilon = 1e-3}}) == "sae.116");
}
