// SPDX-License-Identifier: MIT
// Products with operands in bfloat16: what they cost in accuracy, and what they must not cost.
#include <tests/golden.hpp>

#include <plmscope/backend/cpu.hpp>
#include <plmscope/plm/collect.hpp>
#include <plmscope/plm/esm2.hpp>
#include <plmscope/plm/verify.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
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

TEST_CASE("bf16 products: states within 3 % at every layer, and the same bits however it is run") {
  using backend = plmscope::cpu;
  if (!backend::computes(product_precision::bf16)) {
    golden::skip("this processor has no AVX512-BF16");
    return;
  }
  using plmscope::site;
  plmscope::packed_batch batch;
  batch.add("MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQVKVKALPDAQFEVVHSLAKWKRQ");
  batch.add("GG<mask>W");
  batch.add("MALWMRLLPLLALLALWGPDPAAAFVNQHLCGSHLVEALYLVCGERGFFYTPKT");
  for (const auto& config :
       {plmscope::esm2_sizes[0].config(),
        plmscope::esm2_config{.layers = 4, .d_model = 96, .heads = 4, .feed_forward = 384}}) {
    std::vector<site> sites;
    for (std::size_t i = 0; i <= config.layers; ++i) {
      sites.push_back(plmscope::hidden_state_site(i, config.layers));
    }
    sites.push_back(plmscope::logits{});
    const auto run = [&](backend be, const plmscope::packed_batch& b, std::size_t tokens) {
      auto weights = plmscope::random_esm2_weights(be, config, 3);
      plmscope::esm2<backend> model(be, std::move(weights), tokens);
      plmscope::collect<float> keep(sites);
      model.forward(b, keep);
      return keep;
    };
    const auto exact = run(backend(2), batch, 2048);
    const auto rounded = run(backend(2).with(product_precision::bf16), batch, 2048);
    double worst = 0;
    for (const site& at : sites) {
      const double apart = golden::relative_l2(rounded.states(at), exact.states(at));
      CAPTURE(to_string(at));
      CHECK(apart <= 3e-2);
      if (at != site(plmscope::embeddings{})) CHECK(apart > 1e-4);
      worst = golden::worse(worst, apart);
    }
    golden::report("bf16 width " + std::to_string(config.d_model), worst, 3e-2);
    for (const std::size_t threads : {1u, 3u}) {
      const auto again = run(backend(threads).with(product_precision::bf16), batch, 70);
      for (const site& at : sites) {
        CHECK(std::ranges::equal(again.states(at), rounded.states(at)));
      }
    }
    plmscope::packed_batch alone;
    alone.add(batch.tokens().subspan(batch.first_row(2), batch.length(2)));
    const auto single = run(backend(2).with(product_precision::bf16), alone, 2048);
    for (const site& at : sites) {
      const std::size_t width = at.kind() == plmscope::site_kind::logits ? 33 : config.d_model;
      CHECK(std::ranges::equal(single.states(at),
                               rounded.states(at).subspan(batch.first_row(2) * width)));
    }
  }
}
