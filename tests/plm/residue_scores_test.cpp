// SPDX-License-Identifier: MIT
#include <tests/plm/error_text.hpp>

#include <plmscope/plm/collect.hpp>
#include <plmscope/plm/esm2.hpp>
#include <plmscope/plm/esmc.hpp>
#include <plmscope/plm/lm_scores.hpp>
#include <plmscope/plm/residue_scores.hpp>
#include <plmscope/plm/variant.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace {

using plmscope::cpu;
using plmscope::esm2;
using plmscope::parse_variant;
using plmscope::residue_context;
using plmscope::substitution;
using plmscope::variant;

esm2<> small_model() {
  return esm2<>::random({.layers = 2, .d_model = 16, .heads = 2, .feed_forward = 64}, 3, cpu(2));
}

// ln p of every token at one row of one pass.
std::vector<double> row_of(esm2<>& model, std::span<const std::int32_t> tokens, std::size_t row) {
  plmscope::packed_batch batch;
  batch.add(tokens);
  plmscope::collect<double> keep({plmscope::logits{}});
  model.forward(batch, keep);
  return plmscope::log_softmax(keep.states(plmscope::logits{}).subspan(row * 33, 33));
}

}  // namespace

TEST_CASE("masked scores come from passes with one residue hidden, whatever the batches") {
  auto model = small_model();
  const auto tokens = plmscope::tokenize("MKTAXYI<mask>AK");
  const auto scores = plmscope::score_residues(model, tokens, residue_context::masked);
  REQUIRE(scores.residues() == 10);
  CHECK(scores.vocabulary == 33);
  double sum = 0;
  for (std::size_t i = 0; i < 10; ++i) {
    auto hidden = tokens;
    hidden[i + 1] = plmscope::alphabet::mask;
    const auto expected = row_of(model, hidden, i + 1);
    CHECK(std::vector<double>(scores.row(i).begin(), scores.row(i).end()) == expected);
    CHECK(scores.own(i) == expected[static_cast<std::size_t>(tokens[i + 1])]);
    sum += scores.own(i);
  }
  CHECK(scores.perplexity() == doctest::Approx(std::exp(-sum / 10)));
  std::vector<std::size_t> steps;
  for (const std::size_t room : {1u, 24u, 40u}) {
    steps.clear();
    const auto again = plmscope::score_residues(model, tokens, residue_context::masked, room,
                                                [&](std::size_t done, std::size_t all) {
                                                  CHECK(all == 10);
                                                  steps.push_back(done);
                                                });
    CHECK(again.log_p == scores.log_p);
    CHECK(steps.back() == 10);
    CHECK(steps.size() == (room == 1 ? 10u : room == 24 ? 5u : 4u));
  }
}

TEST_CASE("visible scores come from one pass; entropy is over the amino acids") {
  auto model = small_model();
  const auto tokens = plmscope::tokenize("MKTAYI");
  const auto scores = plmscope::score_residues(model, tokens, residue_context::visible);
  for (std::size_t i = 0; i < 6; ++i) {
    const auto expected = row_of(model, tokens, i + 1);
    CHECK(std::vector<double>(scores.row(i).begin(), scores.row(i).end()) == expected);
    double total = 0;
    for (std::size_t t = 4; t < 24; ++t) total += std::exp(expected[t]);
    double entropy = 0;
    for (std::size_t t = 4; t < 24; ++t) {
      const double p = std::exp(expected[t]) / total;
      entropy -= p * std::log(p);
    }
    CHECK(scores.entropy_at(i) == doctest::Approx(entropy));
    CHECK(scores.entropy_at(i) <= std::log(20.0));
  }
  CHECK(error_of([&] {
          plmscope::score_residues(model, plmscope::tokenize(""), residue_context::visible);
        }).starts_with("plm.103 "));
}

TEST_CASE("ESM-C scores residues as well") {
  auto model = plmscope::esmc<>::random(
      {.layers = 1, .d_model = 16, .heads = 2, .feed_forward = 32}, 3, cpu(1));
  const auto scores =
      plmscope::score_residues(model, plmscope::tokenize("MKTAYI"), residue_context::masked);
  CHECK(scores.vocabulary == model.width(plmscope::logits{}));
  CHECK(scores.perplexity() > 1);
}

TEST_CASE("variants read, and what is none") {
  CHECK(parse_variant("A24G") == variant{{23, 'A', 'G'}});
  CHECK(parse_variant("A24G:K5R,M1X") == variant{{23, 'A', 'G'}, {4, 'K', 'R'}, {0, 'M', 'X'}});
  CHECK(parse_variant("A24A") == variant{{23, 'A', 'A'}});
  for (const char* text :
       {"", "A", "AG", "A0G", "A-1G", "24G", "A24", "a24G", "A24*", "A24G:", ":A24G", "A24G::K5R",
        "A24G A25G", "A 24G", "A24G:A24C", "A2.4G", "A99999999999999999999G", "p.A24G"}) {
    CAPTURE(text);
    CHECK(error_of([&] { parse_variant(text); }).starts_with("plm.135 "));
  }
}

TEST_CASE("the effect of a variant is the sum over its substitutions") {
  auto model = small_model();
  const auto tokens = plmscope::tokenize("MKTAYIAKQR");
  const auto letter = [](char c) { return plmscope::alphabet::token_of(c); };
  const auto visible = plmscope::score_residues(model, tokens, residue_context::visible);
  const auto masked = plmscope::score_residues(model, tokens, residue_context::masked);
  const variant one = parse_variant("A4G");
  const variant two = parse_variant("R10W:K2R");
  CHECK(plmscope::score_variant(visible, one) ==
        visible.at(3, letter('G')) - visible.at(3, letter('A')));
  CHECK(
      plmscope::score_variant(visible, two) ==
      doctest::Approx(visible.substitution(9, letter('W')) + visible.substitution(1, letter('R'))));
  CHECK(plmscope::score_variant(visible, parse_variant("A4A")) == 0);

  const std::vector<variant> all{two, one, parse_variant("K2H:R10D"), parse_variant("A4C"), {}};
  const auto effects = plmscope::score_masked(model, tokens, all);
  REQUIRE(effects.size() == 5);
  CHECK(effects[1] == doctest::Approx(plmscope::score_variant(masked, one)));
  CHECK(effects[4] == 0);
  auto hidden = tokens;
  hidden[2] = hidden[10] = plmscope::alphabet::mask;
  const auto second = row_of(model, hidden, 2);
  const auto tenth = row_of(model, hidden, 10);
  const auto id = [&](char c) { return static_cast<std::size_t>(letter(c)); };
  CHECK(effects[0] ==
        doctest::Approx(tenth[id('W')] - tenth[id('R')] + second[id('R')] - second[id('K')]));
  CHECK(effects[2] ==
        doctest::Approx(second[id('H')] - second[id('K')] + tenth[id('D')] - tenth[id('R')]));
  CHECK(plmscope::score_masked(model, tokens, all, 1) == effects);
  CHECK(plmscope::score_masked(model, tokens, {}).empty());

  for (const char* wrong : {"A5G", "A11G", "W99A"}) {
    const variant v = parse_variant(wrong);
    CHECK(error_of([&] { plmscope::score_variant(visible, v); }).starts_with("plm.136 "));
    CHECK(error_of([&] { plmscope::score_masked(model, tokens, {v}); }).starts_with("plm.136 "));
  }
}
