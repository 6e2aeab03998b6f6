// SPDX-License-Identifier: MIT
// What is left of a model behind an SAE, by known answers, and with awkward input.
#include <tests/eval/fidelity_cases.hpp>
#include <tests/golden.hpp>

#include <plmscope/backend/cpu.hpp>
#include <plmscope/eval/compare_fidelity.hpp>
#include <plmscope/eval/fidelity.hpp>
#include <plmscope/plm/any_model.hpp>
#include <plmscope/plm/esm2.hpp>
#include <plmscope/plm/residue_scores.hpp>
#include <plmscope/plm/site.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

using namespace fidelity_cases;
using plmscope::fidelity;
using plmscope::fidelity_condition;
using plmscope::fidelity_figure;
using plmscope::fidelity_masking;
using plmscope::measure_fidelity;
namespace by = plmscope::fidelity_by;

TEST_CASE("a perfect SAE loses nothing, the mean is as bad as mean ablation, zeros as zeros") {
  auto esm = mini();
  const auto at = plmscope::resid_post{3};
  const auto check = [&](const auto& definition) {
    CAPTURE(definition.id);
    if (!definition.protocol.runs_model) return;
    perfect same;
    const auto kept = measure_fidelity(esm, at, same, proteins(), definition);
    CHECK(kept[fidelity_figure::recovered_zero].value == 1);
    CHECK(kept[fidelity_figure::kl_spliced].value == 0);
    CHECK(kept[fidelity_figure::fvu].value == 0);
    CHECK(kept[fidelity_figure::agreement].value == 1);
    CHECK(kept[fidelity_figure::mean_squared_error].value == 0);
    CHECK(kept[fidelity_figure::cosine].value == doctest::Approx(1).epsilon(1e-6));
    CHECK(kept[fidelity_figure::loss_spliced].value == kept[fidelity_figure::loss_clean].value);
    CHECK_FALSE(kept[fidelity_figure::l0].defined());
    CHECK(kept[fidelity_figure::l0].why == "the SAE shows no codes");
    constant nothing{std::vector<float>(esm.d_model(), 0.0f)};
    const auto gone = measure_fidelity(esm, at, nothing, proteins(), definition);
    if (definition.protocol.replaced == definition.protocol.ablated) {
      CHECK(std::abs(gone[fidelity_figure::recovered_zero].value) < 1e-7);  // BioNeMo adds 1e-8
      CHECK(gone[fidelity_figure::kl_recovered_zero].value == 0);
    }
  };
  std::apply([&](const auto&... all) { (check(all), ...); }, by::every{});

  // The mean of the residues' states.
  const auto mean = mean_state(esm, at);
  constant average{mean};
  const auto f = measure_fidelity(esm, at, average, proteins(), by::bionemo{});
  CHECK(f[fidelity_figure::recovered_mean].value == doctest::Approx(0).epsilon(1e-6));
  CHECK(f[fidelity_figure::kl_recovered_mean].value == doctest::Approx(0).epsilon(1e-6));
  CHECK(f[fidelity_figure::fvu].value == doctest::Approx(1).epsilon(1e-6));
  CHECK(f[fidelity_figure::explained_variance].value == doctest::Approx(0).epsilon(1e-6));
}

TEST_CASE("figures of reconstruction on data with a mean and unequal dimensions") {
  // x = 1000 + noise of deviation 1 in dimension 0, 0 + deviation 0.01 in dimension 1; the SAE
  // forgets dimension 1 and is off by 0.5 everywhere in dimension 0.
  plmscope::reconstruction_moments m;
  m.width = 2;
  m.error_sum = {0, 0};
  const std::vector<double> noise{-1, 1, -1, 1};
  const std::vector<double> small{0.01, 0.01, -0.01, -0.01};
  for (std::size_t i = 0; i < 4; ++i) {
    const double x0 = 1000 + noise[i];
    const double x1 = small[i];
    const double e0 = 0.5;
    const double e1 = -x1;
    ++m.rows;
    m.squared_error += e0 * e0 + e1 * e1;
    m.variance += noise[i] * noise[i] + x1 * x1;
    m.squares += x0 * x0 + x1 * x1;
    m.row_shares += 1 - (e0 * e0 + e1 * e1) / (noise[i] * noise[i] + x1 * x1);
    m.error_sum[0] += e0;
    m.error_sum[1] += e1;
  }
  CHECK(m.fvu() == doctest::Approx(0.2501 / 1.0001));
  CHECK(m.explained_up_to_an_offset() == doctest::Approx(1 - 0.0001 / 1.0001));
  CHECK(m.explained_row_by_row() == doctest::Approx(1 - 0.2501 / 1.0001));
  // The published formula hardly notices that a quarter of the variance is gone.
  CHECK(std::abs(m.explained_by_squared_squares()) > 0.99);
  // Without variance nothing is defined.
  CHECK(std::isnan(plmscope::reconstruction_moments{}.fvu()));
  CHECK(std::isnan(plmscope::reconstruction_moments{}.cosine()));
}

TEST_CASE(
    "the same bits for any packing, any number of threads, and both ways of opening a model") {
  const auto at = plmscope::resid_post{2};
  const auto run = [&](std::size_t threads, std::size_t tokens_per_batch, fidelity_masking masking,
                       const auto& definition) {
    auto esm = mini(threads);
    auto sae = random_sae(esm);
    plmscope::fidelity_options options{.tokens_per_batch = tokens_per_batch, .resamples = 50};
    options.masking = masking;
    return measure_fidelity(esm, at, sae, proteins(), definition, options);
  };
  for (const auto& masking :
       {fidelity_masking::none(), fidelity_masking::share_of(0.2, 3), fidelity_masking::each()}) {
    const auto one = run(1, 8192, masking, by::standard{});
    CHECK(same(one, run(3, 8192, masking, by::standard{})));
    CHECK(same(one, run(2, 1, masking, by::standard{})));
    CHECK(same(one, run(2, 150, masking, by::standard{})));
  }
  CHECK(same(run(1, 8192, fidelity_masking::none(), by::interprot{}),
             run(2, 60, fidelity_masking::none(), by::interprot{})));

  auto esm = mini();
  auto any = plmscope::any_model<>::load(golden::repository() / "examples/data/esm2_mini");
  auto sae = random_sae(esm);
  CHECK(
      same(measure_fidelity(esm, at, sae, proteins()), measure_fidelity(any, at, sae, proteins())));
}

TEST_CASE("every residue masked once: the losses of the pseudo-perplexity") {
  auto esm = mini();
  auto sae = random_sae(esm);
  plmscope::fidelity_options options{.mean_ablation = false, .tokens_per_batch = 200};
  options.masking = fidelity_masking::each();
  const auto f =
      measure_fidelity(esm, plmscope::resid_post{2}, sae, proteins(), by::standard{}, options);
  for (std::size_t p = 0; p < proteins().size(); ++p) {
    const auto scores = plmscope::score_residues(esm, plmscope::tokenize(proteins()[p]),
                                                 plmscope::residue_context::masked);
    CHECK(f.of_protein[p].scored == scores.residues());
    CHECK(std::exp(f.of_protein[p].loss(fidelity_condition::clean)) ==
          doctest::Approx(scores.perplexity()).epsilon(1e-6));
  }
  CHECK(f[fidelity_figure::recovered_mean].why == "this ablation was not asked for");
  CHECK(f[fidelity_figure::kl_mean].why == "this ablation was not asked for");
}

TEST_CASE("masks: a share of the known residues, by seed and place alone") {
  const auto tokens = plmscope::tokenize("MKTAYIAKQ<mask>RJQ");
  const auto masks_of = [&](const fidelity_masking& m, std::size_t p) {
    std::vector<std::vector<std::size_t>> out;
    m.sequences_of(p, tokens, [&](const auto& hidden, const auto& masked) {
      CHECK(hidden.size() == tokens.size());
      for (std::size_t t = 0; t < tokens.size(); ++t) {
        const bool chosen = std::ranges::find(masked, t) != masked.end();
        CHECK(hidden[t] == (chosen ? plmscope::alphabet::mask : tokens[t]));
      }
      out.push_back(masked);
    });
    return out;
  };
  const auto m = fidelity_masking::share_of(0.5, 7);
  REQUIRE(masks_of(m, 0).size() == 1);
  CHECK(masks_of(m, 0)[0].size() == 6);  // of the 11 that are neither <mask> nor unknown
  CHECK(std::ranges::is_sorted(masks_of(m, 0)[0]));
  CHECK(masks_of(m, 0) == masks_of(m, 0));
  CHECK(masks_of(m, 0) != masks_of(m, 1));
  CHECK(masks_of(m, 0) != masks_of(fidelity_masking::share_of(0.5, 8), 0));
  CHECK(masks_of(fidelity_masking::share_of(1e-9, 7), 0)[0].size() == 1);
  CHECK(masks_of(fidelity_masking::share_of(1, 7), 0)[0].size() == 11);
  CHECK(masks_of(fidelity_masking::each(), 0).size() == 11);
  CHECK(masks_of(fidelity_masking::none(), 0)[0].empty());
  // Uniform: every residue is chosen about as often.
  std::vector<int> often(tokens.size(), 0);
  for (std::size_t p = 0; p < 2000; ++p) {
    const auto masks = masks_of(fidelity_masking::share_of(0.3, 1), p);
    for (const std::size_t t : masks[0]) ++often[t];
  }
  for (const std::size_t t : fidelity_masking::choosable(tokens)) {
    CHECK(often[t] == doctest::Approx(2000 * 3.0 / 11).epsilon(0.15));
  }
  for (const double wrong : {0.0, -1.0, 1.5, std::nan("")}) {
    CHECK(id_of([&] { fidelity_masking::share_of(wrong); }) == "eval.131");
  }
}

TEST_CASE("intervals: around the value, narrower for a difference on the same proteins") {
  auto esm = mini();
  const auto at = plmscope::resid_post{2};
  std::vector<std::string> many;
  for (std::size_t i = 0; i + 12 < long_protein().size() && many.size() < 16; i += 9) {
    many.push_back(long_protein().substr(i, 12));
  }
  auto a = random_sae(esm, 1);
  auto b = random_sae(esm, 2);
  const auto of_a = measure_fidelity(esm, at, a, many, by::bionemo{});
  const auto of_b = measure_fidelity(esm, at, b, many, by::bionemo{});
  for (const auto f : {fidelity_figure::loss_spliced, fidelity_figure::fvu,
                       fidelity_figure::kl_spliced, fidelity_figure::cosine}) {
    CHECK(of_a[f].low < of_a[f].value);
    CHECK(of_a[f].value < of_a[f].high);
  }
  const auto difference = plmscope::compare_fidelity(of_a, of_b, by::bionemo{});
  const auto loss = static_cast<std::size_t>(fidelity_figure::loss_spliced);
  CHECK(difference[loss].value == of_a.figures[loss].value - of_b.figures[loss].value);
  // Narrower than that of two corpora drawn apart.
  const auto width = [&](const plmscope::estimate& e) { return e.high - e.low; };
  CHECK(width(difference[loss]) <
        0.8 * std::hypot(width(of_a.figures[loss]), width(of_b.figures[loss])));
  const auto none = plmscope::compare_fidelity(of_a, of_a, by::bionemo{});
  CHECK(none[loss].value == 0);
  CHECK(none[loss].low == 0);
  CHECK(none[loss].high == 0);

  CHECK(id_of([&] { plmscope::compare_fidelity(of_a, of_b, by::standard{}); }) == "eval.135");
  many.pop_back();
  const auto fewer = measure_fidelity(esm, at, b, many, by::bionemo{});
  CHECK(id_of([&] { plmscope::compare_fidelity(of_a, fewer, by::bionemo{}); }) == "eval.135");
  std::swap(many[0], many[1]);
  many.push_back(many[2]);
  const auto others = measure_fidelity(esm, at, b, many, by::bionemo{});
  CHECK(id_of([&] { plmscope::compare_fidelity(of_a, others, by::bionemo{}); }) == "eval.135");
}

TEST_CASE("the percentile interval of known values") {
  plmscope::estimate e{.value = 50};
  std::vector<double> values;
  for (int i = 100; i >= 0; --i) values.push_back(i);
  plmscope::set_interval(e, values);
  CHECK(e.low == doctest::Approx(2.5));
  CHECK(e.high == doctest::Approx(97.5));
  plmscope::estimate undefined{.value = 1};
  values[3] = plmscope::not_defined;
  plmscope::set_interval(undefined, values);
  CHECK(std::isnan(undefined.low));
}

TEST_CASE("awkward proteins") {
  auto esm = mini();
  auto sae = random_sae(esm);
  const auto at = plmscope::resid_post{2};
  const auto run = [&](std::vector<std::string> list, const auto& definition) {
    return measure_fidelity(esm, at, sae, list, definition);
  };
  CHECK(id_of([&] { run({}, by::standard{}); }) == "eval.130");
  CHECK(id_of([&] { run({"", ""}, by::standard{}); }) == "eval.130");
  std::apply(
      [&](const auto&... all) {
        const auto one = [&](const auto& definition) {
          CAPTURE(definition.id);
          const auto f = run({"", "W"}, definition);
          CHECK(f.proteins == 1);
          CHECK(f.skipped == 1);
          CHECK(f.residues == 1);
          for (const auto& e : f.figures) {
            CHECK(e.defined() == e.why.empty());
            CHECK(std::isnan(e.low));  // one protein: no interval
          }
          if (definition.protocol.measured == plmscope::fidelity_rows::residues) {
            CHECK(f[fidelity_figure::fvu].why == "the states do not vary");
          }
          if (!definition.protocol.runs_model) return;
          const auto more = run({"W", "MK"}, definition);
          CHECK(more.of_protein.size() == 2);
          CHECK(more[fidelity_figure::loss_clean].defined());
        };
        (one(all), ...);
      },
      by::every{});
  // Residues that cannot be predicted are run, not scored.
  const auto unknown = run({"JJJ", "<mask>J"}, by::bionemo{});
  CHECK(unknown.residues == 5);
  CHECK(unknown.predictions == 0);
  CHECK(unknown[fidelity_figure::loss_clean].why == "no prediction is scored");
  CHECK(unknown[fidelity_figure::kl_spliced].defined());
  const auto masked = run({"JJJ", "MKJ"}, by::standard{});
  CHECK(masked.predictions == 1);
  // Given masks.
  plmscope::fidelity_options options;
  options.masking = fidelity_masking::at({{0}});
  const std::vector<std::string> two{"MKT", "AYI"};
  const auto with_masks = [&] { measure_fidelity(esm, at, sae, two, by::standard{}, options); };
  CHECK(id_of(with_masks) == "eval.134");
  options.masking = fidelity_masking::at({{0, 0}, {1}});
  CHECK(id_of(with_masks) == "eval.134");
  for (const std::size_t wrong : {std::size_t{3}, std::numeric_limits<std::size_t>::max()}) {
    options.masking = fidelity_masking::at({{wrong}, {1}});
    CHECK(id_of(with_masks) == "eval.134");
  }
  options.masking = fidelity_masking::at({{}, {1, 0}});
  CHECK(measure_fidelity(esm, at, sae, two, by::standard{}, options).predictions == 2);
}

TEST_CASE("awkward SAEs and sites") {
  auto esm = mini();
  const auto at = plmscope::resid_post{2};
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinite = std::numeric_limits<float>::infinity();
  for (const float bad : {nan, infinite, -infinite}) {
    std::vector<float> row(esm.d_model(), 1.0f);
    row[5] = bad;
    constant broken{row};
    CHECK(id_of([&] { measure_fidelity(esm, at, broken, proteins()); }) == "eval.133");
    CHECK(id_of([&] { measure_fidelity(esm, at, broken, proteins(), by::gujral{}); }) ==
          "eval.133");
  }
  // Numbers so large that the model behind them has no finite logits.
  constant huge{std::vector<float>(esm.d_model(), 0.0f)};
  for (std::size_t j = 0; j < huge.row.size(); ++j) huge.row[j] = j % 2 == 0 ? 3e38f : -3e38f;
  CHECK(id_of([&] { measure_fidelity(esm, at, huge, proteins(), by::bionemo{}); }) == "eval.133");

  plmscope::sae<> narrow({.d_model = 7, .features = 16, .sparsifier = {.k = 2}}, esm.backend());
  CHECK(id_of([&] { measure_fidelity(esm, at, narrow, proteins()); }) == "eval.132");
  plmscope::sae<> transcoder(
      {.d_model = esm.d_model(), .features = 16, .sparsifier = {.k = 2}, .transcodes = true},
      esm.backend());
  CHECK(id_of([&] { measure_fidelity(esm, at, transcoder, proteins()); }) == "eval.132");
  perfect same;
  CHECK(id_of([&] { measure_fidelity(esm, plmscope::logits{}, same, proteins()); }) == "eval.132");
  CHECK(id_of([&] { measure_fidelity(esm, plmscope::attn_map{0}, same, proteins()); }) ==
        "eval.132");
  CHECK(id_of([&] { measure_fidelity(esm, plmscope::resid_post{99}, same, proteins()); }) ==
        "plm.108");
  // Sites of other widths, and the last one, work.
  for (const plmscope::site where :
       {plmscope::site(plmscope::embeddings{}), plmscope::site(plmscope::mlp_act{1}),
        plmscope::site(plmscope::resid_post{esm.layers() - 1}),
        plmscope::site(plmscope::final_norm{})}) {
    CAPTURE(to_string(where));
    const auto f = measure_fidelity(esm, where, same, proteins(), by::reticular{});
    CHECK(f.at == where);
    CHECK(f[fidelity_figure::kl_spliced].value == 0);
  }
  CHECK(measure_fidelity(esm, at, same, proteins(), by::reticular{}).at ==
        plmscope::site(plmscope::resid_post{3}));
}

TEST_CASE("an ablation that does not harm leaves nothing to recover") {
  using s = by::standard;
  CHECK(s{}.recovered(1, 1.5, 3) == 0.75);
  CHECK(s{}.recovered(1, 4, 3) == -0.5);
  CHECK(std::isnan(s{}.recovered(1, 1, 1)));
  CHECK(std::isnan(s{}.recovered(2, 1, 1)));
  CHECK(by::interplm{}.recovered(1, 2, 1) == 0);  // as published
  CHECK(by::interplm{}.recovered(1, 4, 3) == 0);
  CHECK(std::isnan(by::interprot{}.recovered(1, 2, 1)));
  CHECK(by::interprot{}.recovered(1, 4, 3) == -0.5);
  // Zero ablation of a state that is zero already: <mask> rows of the embeddings.
  auto esm = mini();
  constant nothing{std::vector<float>(esm.d_model(), 0.0f)};
  plmscope::fidelity_options options;
  options.masking = fidelity_masking::share_of(1);
  const auto f =
      measure_fidelity(esm, plmscope::embeddings{}, nothing, proteins(), by::standard{}, options);
  CHECK(f[fidelity_figure::recovered_zero].why == "the ablation does not raise the loss");
  CHECK(f[fidelity_figure::kl_recovered_zero].why == "the ablation changes nothing");
}

TEST_CASE("ESM-C too") {
  for (const auto& path : golden::files("esmc_synthetic", ".model.safetensors")) {
    auto model = plmscope::any_model<>::load(path);
    CHECK_FALSE(plmscope::has_token_dropout(model));
    perfect same;
    const auto f =
        measure_fidelity(model, plmscope::resid_post{1}, same, proteins(), by::interprot{});
    CHECK(f[fidelity_figure::kl_spliced].value == 0);
    CHECK(f[fidelity_figure::fvu].value == 0);
    CHECK(f[fidelity_figure::kl_zero].value > 0);
    CHECK(f[fidelity_figure::loss_zero].value != f[fidelity_figure::loss_clean].value);
  }
  auto esm = mini();
  CHECK(plmscope::has_token_dropout(esm));
}

TEST_CASE("progress counts to the end") {
  auto esm = mini();
  auto sae = random_sae(esm);
  for (const auto& masking : {fidelity_masking::none(), fidelity_masking::each()}) {
    plmscope::fidelity_options options{.tokens_per_batch = 64};
    options.masking = masking;
    std::size_t last = 0;
    std::size_t all = 0;
    measure_fidelity(esm, plmscope::resid_post{1}, sae, proteins(), by::standard{}, options,
                     [&](std::size_t done, std::size_t total) {
                       CHECK(done > last);
                       last = done;
                       all = total;
                     });
    CHECK(last == all);
    CHECK(all > 0);
  }
}
