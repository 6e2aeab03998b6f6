// SPDX-License-Identifier: MIT
// Products with operands in bfloat16 and int8: what they cost in accuracy, and what they must not
// cost.
#include <tests/golden.hpp>

#include <plmscope/backend/cpu.hpp>
#include <plmscope/io/uniprot_tsv.hpp>
#include <plmscope/plm/collect.hpp>
#include <plmscope/plm/esm2.hpp>
#include <plmscope/plm/verify.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace {

using plmscope::product_precision;

}  // namespace

TEST_CASE("a precision that provider or processor lack is refused") {
  CHECK(plmscope::cpu(1).with(product_precision::fp32).precision() == product_precision::fp32);
  using twice = plmscope::basic_cpu<double, plmscope::eigen_gemm>;
  CHECK_THROWS_WITH_AS(plmscope::cpu(1).with(product_precision::tf32),
                       doctest::Contains("backend.106"), plmscope::error);
  CHECK_THROWS_WITH_AS(twice(1).with(product_precision::bf16), doctest::Contains("backend.106"),
                       plmscope::error);
  if (!plmscope::bf16_weights::available()) {
    CHECK_THROWS_WITH_AS(plmscope::cpu(1).with(product_precision::bf16),
                         doctest::Contains("backend.106"), plmscope::error);
  }
}

namespace {

using backend = plmscope::cpu;
using plmscope::site;

std::vector<site> all_states(std::size_t layers) {
  std::vector<site> sites;
  for (std::size_t i = 0; i <= layers; ++i) {
    sites.push_back(plmscope::hidden_state_site(i, layers));
  }
  sites.push_back(plmscope::logits{});
  return sites;
}

/// Calls f(precision, limit of the relative L2) for what this processor has.
template <class F>
void for_each_short(const F& f) {
  for (const auto& [p, limit] :
       {std::pair(product_precision::bf16, 1e-2), std::pair(product_precision::int8, 6e-2)}) {
    if (!backend::computes(p)) {
      golden::skip("this processor has no products in " + std::string(to_string(p)));
      continue;
    }
    INFO("precision ", std::string(to_string(p)));
    f(p, limit);
  }
}

}  // namespace

TEST_CASE("short products: states near those of fp32, and the same bits however they are run") {
  plmscope::packed_batch batch;
  batch.add("MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQVKVKALPDAQFEVVHSLAKWKRQ");
  batch.add("GG<mask>W");
  batch.add("MALWMRLLPLLALLALWGPDPAAAFVNQHLCGSHLVEALYLVCGERGFFYTPKT");
  for (const auto& config :
       {plmscope::esm2_sizes[0].config(),
        plmscope::esm2_config{.layers = 4, .d_model = 96, .heads = 4, .feed_forward = 384}}) {
    const auto sites = all_states(config.layers);
    const auto run = [&](backend be, const plmscope::packed_batch& b, std::size_t tokens) {
      auto weights = plmscope::random_esm2_weights(be, config, 3);
      plmscope::esm2<backend> model(be, std::move(weights), tokens);
      plmscope::collect<float> keep(sites);
      model.forward(b, keep);
      return keep;
    };
    const auto exact = run(backend(2), batch, 2048);
    for_each_short([&](product_precision p, double limit) {
      const auto rounded = run(backend(2).with(p), batch, 2048);
      double worst = 0;
      for (const site& at : sites) {
        const double apart = golden::relative_l2(rounded.states(at), exact.states(at));
        CAPTURE(to_string(at));
        CHECK(apart <= limit);
        if (at != site(plmscope::embeddings{})) CHECK(apart > 1e-4);
        worst = golden::worse(worst, apart);
      }
      golden::report(std::string(to_string(p)) + " width " + std::to_string(config.d_model), worst,
                     limit);
      for (const std::size_t threads : {1u, 3u}) {
        const auto again = run(backend(threads).with(p), batch, 70);
        for (const site& at : sites) {
          CHECK(std::ranges::equal(again.states(at), rounded.states(at)));
        }
      }
      plmscope::packed_batch alone;
      alone.add(batch.tokens().subspan(batch.first_row(2), batch.length(2)));
      const auto single = run(backend(2).with(p), alone, 2048);
      for (const site& at : sites) {
        const std::size_t width = at.kind() == plmscope::site_kind::logits ? 33 : config.d_model;
        CHECK(std::ranges::equal(single.states(at),
                                 rounded.states(at).subspan(batch.first_row(2) * width)));
      }
    });
  }
}

TEST_CASE("what short products cost a trained model: variance of its states that is lost") {
  const auto folder = golden::repository() / "examples/data/esm2_mini";
  plmscope::packed_batch batch;
  const auto proteins =
      plmscope::read_uniprot_tsv(golden::repository() / "examples/data/uniprot_demo.tsv");
  for (std::size_t i = 0; i < proteins.size(); i += 41) {
    if (proteins[i].sequence.size() <= 600) batch.add(proteins[i].sequence);
  }
  REQUIRE(batch.sequences() > 10);
  const auto sites = all_states(plmscope::esm2<backend>::load(folder).layers());
  const auto run = [&](backend be) {
    auto model = plmscope::esm2<backend>::load(folder, {}, be);
    plmscope::collect<float> keep(sites);
    model.forward(batch, keep);
    return keep;
  };
  const auto exact = run(backend(2));
  for_each_short([&](product_precision p, double) {
    const auto rounded = run(backend(2).with(p));
    const double limit = p == product_precision::bf16 ? 1e-5 : 3e-4;
    double worst = 0;
    for (const site& at : sites) {
      if (at == site(plmscope::embeddings{})) continue;
      const auto x = exact.states(at);
      const auto y = rounded.states(at);
      const std::size_t width = x.size() / batch.rows();
      std::vector<double> mean(width, 0);
      for (std::size_t i = 0; i < x.size(); ++i) mean[i % width] += static_cast<double>(x[i]);
      double error = 0;
      double variance = 0;
      for (std::size_t i = 0; i < x.size(); ++i) {
        const double d = static_cast<double>(x[i]) - static_cast<double>(y[i]);
        const double v =
            static_cast<double>(x[i]) - mean[i % width] / static_cast<double>(batch.rows());
        error += d * d;
        variance += v * v;
      }
      worst = golden::worse(worst, error / variance);
    }
    CHECK(worst < limit);
    CHECK(worst > 1e-8);
    golden::report(std::string(to_string(p)) + " FVU of states", worst, limit);
  });
}
