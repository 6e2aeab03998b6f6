// SPDX-License-Identifier: MIT
// Transcoders, crosscoders, cross-layer transcoders and end-to-end SAEs on the states of a model.
#include <plmscope/acts/read_activations.hpp>
#include <plmscope/plm/attribution.hpp>
#include <plmscope/plm/collect.hpp>
#include <plmscope/plm/edit.hpp>
#include <plmscope/plm/esm2.hpp>
#include <plmscope/plm/esm2_gradient.hpp>
#include <plmscope/plm/lm_scores.hpp>
#include <plmscope/sae/sae.hpp>
#include <plmscope/sae/sparsifiers/batch_top_k.hpp>
#include <plmscope/sae/sparsifiers/relu.hpp>
#include <plmscope/train/trainer.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

namespace {

using plmscope::cpu;
using plmscope::esm2;
using plmscope::resid_post;
using plmscope::resid_pre;
using plmscope::site;

struct protein {
  std::string sequence;
};

std::vector<protein> proteins() {
  const plmscope::rng random(3, 1);
  const std::string letters = "ACDEFGHIKLMNPQRSTVWY";
  std::vector<protein> out;
  for (std::size_t p = 0, i = 0; p < 12; ++p) {
    std::string s;
    for (std::size_t r = 0; r < 30 + 7 * p; ++r) s += letters[random.below(i++, letters.size())];
    out.push_back({s});
  }
  return out;
}

esm2<cpu> small_model() {
  return esm2<cpu>::random({.layers = 3, .d_model = 16, .heads = 2, .feed_forward = 64}, 5, cpu(2));
}

}  // namespace

TEST_CASE("several sites in one row are the single sites side by side, bit for bit") {
  auto model = small_model();
  const std::vector<site> sites{resid_post{0}, resid_pre{2}, resid_post{2}};
  plmscope::model_reader both(model, sites, plmscope::sequences_of(proteins()), 1);
  CHECK(both.width() == 48);
  CHECK(both.source().site == "resid_post.0+resid_pre.2+resid_post.2");
  plmscope::activation_batch<cpu> rows, one;
  both.rewind(0);
  CHECK(both.read(model.backend(), rows));
  for (std::size_t i = 0; i < sites.size(); ++i) {
    plmscope::model_reader single(model, sites[i], plmscope::sequences_of(proteins()), 1);
    single.rewind(0);
    CHECK(single.read(model.backend(), one));
    CHECK(one.rows.rows() == rows.rows.rows());
    for (std::size_t r = 0; r < one.rows.rows(); ++r) {
      CHECK(std::equal(one.rows.data() + r * 16, one.rows.data() + (r + 1) * 16,
                       rows.rows.data() + r * 48 + i * 16));
    }
  }
  using reader = plmscope::model_reader<esm2<cpu>>;
  CHECK_THROWS(reader(model, std::vector<site>{resid_post{0}, resid_post{0}}, {"ACD"}));
  CHECK_THROWS(reader(model, std::vector<site>{}, {"ACD"}));
  CHECK_THROWS(reader(model, {resid_post{0}, plmscope::mlp_act{1}}, {"ACD"}));
}

TEST_CASE("a transcoder learns the states of another layer, and what the layers between add") {
  auto model = small_model();
  for (const bool update : {false, true}) {
    plmscope::transcoded_rows<decltype(plmscope::read_activations(
                                  model, std::vector<site>{}, proteins())),
                              cpu>
        rows(plmscope::read_activations(model, {resid_post{0}, resid_post{2}}, proteins(), 2), 16,
             update ? plmscope::transcoding_target::update : plmscope::transcoding_target::states);
    CHECK(rows.target_width() == 16);
    plmscope::sae<plmscope::top_k, cpu> sae({.d_model = 16,
                                             .features = 128,
                                             .sparsifier = {.k = 12},
                                             .centring = plmscope::input_centring::none,
                                             .skip = update,
                                             .transcodes = true,
                                             .seed = 4});
    std::vector<double> fvu;
    plmscope::trainer fit{.steps = 300, .batch = 256, .optimizer = plmscope::adam{.lr = 3e-3},
                          .log_every = 100};
    const auto last = fit(sae, rows, [&](const auto& m) { fvu.push_back(m.fvu); });
    CHECK(last.fvu < 0.6 * fvu.front());
    CHECK(last.fvu < 0.8);
    // by hand: the same rows through encode and decode
    auto& be = sae.backend();
    const auto pair = rows.next(be, 200);
    plmscope::matrix<float, cpu> out(be, 200, 16);
    sae.reconstruct(pair.x, out.all());
    double error = 0;
    for (std::size_t r = 0; r < 200; ++r) {
      for (std::size_t j = 0; j < 16; ++j) error += std::pow(double(out(r, j) - pair.y(r, j)), 2);
    }
    CHECK(std::isfinite(error));
    CHECK_THROWS(sae.target(plmscope::const_view<cpu>(out.data(), 10, 16)));
  }
}

TEST_CASE("a crosscoder of two sites and a cross-layer transcoder train") {
  auto model = small_model();
  auto rows = plmscope::read_activations(model, {resid_post{0}, resid_post{1}}, proteins(), 2);
  plmscope::sae<plmscope::relu, cpu> cross({.d_model = 32,
                                            .features = 96,
                                            .centring = plmscope::input_centring::none,
                                            .blocks = 2,
                                            .seed = 1});
  plmscope::trainer fit{.steps = 200, .batch = 256, .optimizer = plmscope::adam{.lr = 3e-3},
                        .loss = plmscope::mean_error_length{},
                        .penalty = plmscope::l1_penalty{.weight = {.value = 1e-3}},
                        .dictionary = plmscope::free_norm{}, .log_every = 50};
  std::vector<double> fvu;
  const auto crossed = fit(cross, rows, [&](const auto& m) { fvu.push_back(m.fvu); });
  CHECK(crossed.fvu < 0.5 * fvu.front());

  // layers 0 and 1 in; layers 1 and 2 out
  auto all = plmscope::transcoded_rows<decltype(rows), cpu>(
      plmscope::read_activations(
          model, {resid_post{0}, resid_pre{1}, resid_post{1}, resid_post{2}}, proteins(), 2),
      32);
  plmscope::sae<plmscope::batch_top_k, cpu> clt({.d_model = 32,
                                                 .features = 120,
                                                 .sparsifier = {.k = 12.5, .first_step = 10},
                                                 .centring = plmscope::input_centring::none,
                                                 .transcodes = true,
                                                 .seed = 1});
  plmscope::trainer train{.steps = 200, .batch = 256, .optimizer = plmscope::adam{.lr = 3e-3},
                          .dictionary = plmscope::cross_layer{.layers = 2}, .log_every = 50};
  fvu.clear();
  const auto layered = train(clt, all, [&](const auto& m) { fvu.push_back(m.fvu); });
  CHECK(layered.fvu < 0.7 * fvu.front());
  const auto& p = clt.parameters();
  for (std::size_t f = 0; f < 120; ++f) {
    for (std::size_t j = 0; j < 32; ++j) {
      if (f / 60 != j / 16) CHECK(p.encoder(f, j) == 0);
      if (f / 60 > j / 16) CHECK(p.decoder(f, j) == 0);
    }
  }
  CHECK(p.decoder(0, 20) != 0);
  CHECK(clt.sparsifier().threshold > 0);
}

TEST_CASE("an end-to-end SAE lowers the divergence of the model's predictions") {
  auto model = small_model();
  plmscope::packed_batch batch;
  for (const auto& p : proteins()) batch.add(p.sequence);
  const site at = resid_post{1};
  plmscope::collect<float> keep({at, plmscope::logits{}});
  model.forward(batch, keep);
  const std::vector<float> states(keep.states(at).begin(), keep.states(at).end());
  const std::vector<float> clean(keep.states(plmscope::logits{}).begin(),
                                 keep.states(plmscope::logits{}).end());

  // KL(clean || spliced) per row of the whole batch
  const auto divergence = [&](std::span<const float> scores, const plmscope::batch_slice& rows,
                              std::span<float> gradient) {
    const std::size_t width = scores.size() / rows.rows();
    const std::size_t first = batch.first_row(rows.first_sequence);
    double sum = 0;
    for (std::size_t r = 0; r < rows.rows(); ++r) {
      const float* a = clean.data() + (first + r) * width;
      const float* b = scores.data() + r * width;
      const auto lse = [&](const float* v) {
        double total = 0;
        for (std::size_t j = 0; j < width; ++j) total += std::exp(double(v[j]));
        return std::log(total);
      };
      const double la = lse(a), lb = lse(b);
      for (std::size_t j = 0; j < width; ++j) {
        const double pa = std::exp(a[j] - la), pb = std::exp(b[j] - lb);
        sum += pa * ((a[j] - la) - (b[j] - lb));
        gradient[r * width + j] = static_cast<float>((pb - pa) / double(batch.rows()));
      }
    }
    return sum / static_cast<double>(batch.rows());
  };
  plmscope::loss_of_results<cpu> loss{[&](cpu& be, auto result, auto, auto g) {
    std::vector<float> spliced(result.size());
    be.download(result, std::span<float>(spliced));
    plmscope::edits<cpu> edit({plmscope::patch_states(at, spliced, batch.rows())});
    plmscope::logit_gradient<cpu, decltype(divergence)> back(model, at, divergence);
    model.forward(batch, plmscope::hooks{edit, back});
    be.upload(back.gradient(), g);
    return back.value();
  }};
  struct whole_batch {
    plmscope::matrix<float, cpu> rows;
    plmscope::const_view<cpu> next(cpu&, std::size_t) { return rows; }
  } reader;
  plmscope::sae<plmscope::top_k, cpu> sae(
      {.d_model = 16, .features = 64, .sparsifier = {.k = 6}, .seed = 2}, model.backend());
  reader.rows = plmscope::matrix<float, cpu>(sae.backend(), batch.rows(), 16);
  sae.backend().upload(std::span<const float>(states), reader.rows.all());
  plmscope::trainer fit{.steps = 60, .batch = batch.rows(), .optimizer = plmscope::adam{.lr = 3e-3},
                        .loss = loss, .log_every = 20};
  std::vector<double> kl;
  const auto last = fit(sae, reader, [&](const auto& m) { kl.push_back(m.loss); });
  CHECK(last.loss < 0.6 * kl.front());
  CHECK(last.fvu > 0);
}
