// SPDX-License-Identifier: MIT
// An SAE on a model of another kind: nothing above the model knows which it is.
#include <plmscope/acts/mean_pooled.hpp>
#include <plmscope/acts/read_activations.hpp>
#include <plmscope/plm/any_model.hpp>
#include <plmscope/plm/collect.hpp>
#include <plmscope/sae/sae.hpp>
#include <plmscope/train/trainer.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

namespace {

using plmscope::activation_batch;
using plmscope::cpu;
using plmscope::esmc;
using plmscope::resid_post;

struct protein {
  std::string sequence;
};

const std::vector<protein> proteins{
    {"MKTAYIAKQRQISFVKSHFSRQ|LEERLG"}, {"ACDE"}, {""}, {"WYVTSRQPNMLKIHGFEDCA"}, {"GG VJJ"}};
constexpr std::size_t residues = 29 + 4 + 0 + 20 + 6;

esmc<> small_model() {
  return esmc<>::random({.layers = 2, .d_model = 16, .heads = 2, .feed_forward = 40}, 7, cpu(2));
}

}  // namespace

TEST_CASE("a reader of ESM-C: every residue is one row, the chain break and blanks too") {
  auto model = small_model();
  plmscope::model_reader reader(model, resid_post{1}, plmscope::sequences_of(proteins), 3, 40);
  CHECK(reader.total_rows() == residues);
  CHECK(reader.source() == model.source(resid_post{1}));
  for (const std::size_t epoch : {std::size_t{0}, std::size_t{1}}) {
    reader.rewind(epoch);
    activation_batch<cpu> batch;
    std::size_t seen = 0;
    while (reader.read(model.backend(), batch)) {
      for (std::size_t r = 0; r < batch.origins.size(); ++r, ++seen) {
        plmscope::esmc_batch one;
        one.add(proteins[batch.origins[r].protein].sequence);
        plmscope::collect<float> keep({resid_post{1}});
        model.forward(one, keep);
        const float* const row = batch.rows.data() + r * 16;
        CHECK(
            std::equal(row, row + 16,
                       keep.states(resid_post{1}).begin() + (batch.origins[r].position + 1) * 16));
      }
    }
    CHECK(seen == residues);
  }
  plmscope::mean_pooled<plmscope::model_reader<esmc<>>> pooled(reader);
  CHECK(pooled.source().site == "resid_post.1.mean");
}

TEST_CASE("an SAE trains on ESM-C as on any model, and the same through any_model") {
  const auto train = [](auto model) {
    auto rows = plmscope::read_activations(model, resid_post{1}, proteins, 1);
    plmscope::sae<> sae(
        {.d_model = rows.width(), .features = 48, .sparsifier = {.k = 6}, .seed = 2},
        model.backend());
    sae.source = rows.source();
    plmscope::trainer fit{.steps = 150, .batch = 24, .optimizer = plmscope::adam{.lr = 3e-3}};
    std::vector<double> fvu;
    fit.log_every = 149;
    fit(sae, rows, [&](const plmscope::training_metrics& m) { fvu.push_back(m.fvu); });
    CHECK(fvu.back() < 0.5 * fvu.front());
    CHECK(sae.source.site == "resid_post.1");
    return fvu;
  };
  CHECK(train(small_model()) == train(plmscope::any_model<>(small_model())));
}
