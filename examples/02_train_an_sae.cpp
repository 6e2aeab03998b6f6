// SPDX-License-Identifier: MIT
// Trains a small TopK SAE on one layer of ESM-2, saves it, and shows that its file knows what it
// belongs to.
#include <examples/backend.hpp>

#include <cstdio>
#include <filesystem>

int main() {
  auto esm = plmscope::esm2<backend>::load("examples/data/esm2_mini");
  auto proteins = plmscope::read_uniprot_tsv("examples/data/uniprot_demo.tsv");
  proteins.resize(50);
  auto rows = plmscope::read_activations(esm, plmscope::resid_post{2}, proteins);
  std::printf("%zu proteins, %zu residues at %s\n", proteins.size(), rows.reader().total_rows(),
              rows.source().site.c_str());

  plmscope::sae<plmscope::top_k, backend> sae(
      {.d_model = esm.d_model(),
       .features = 768,
       .sparsifier = {.k = 16},
       .normalize = {.kind = plmscope::normalization::token_layer_norm}});
  sae.source = rows.source();
  plmscope::trainer fit{.steps = 300, .batch = 512, .optimizer = plmscope::adam{.lr = 1e-3}};
  fit.dead.dead_after = 20'000;  // residues; latents silent for longer are revived by AuxK
  fit.log_every = 100;
  fit(sae, rows, [](const plmscope::training_metrics& m) {
    std::printf("step %3zu: FVU %.2f, cosine %.2f, L0 %.1f, dead %.0f %%\n", m.step, m.fvu,
                m.cosine, m.l0, 100 * m.dead_share);
  });

  const auto file = std::filesystem::temp_directory_path() / "plmscope_example_02.safetensors";
  plmscope::save_sae(sae, file);
  const auto again = plmscope::load_sae<plmscope::top_k, backend>(file, esm.source(plmscope::resid_post{2}));
  std::printf("read back: %zu features, k %zu, %s\n", again.features(), again.sparsifier().k,
              again.source.site.c_str());
  try {
    plmscope::load_sae<plmscope::top_k, backend>(file, esm.source(plmscope::resid_post{4}));
  } catch (const plmscope::error& e) {
    std::printf("at another layer: %s, expected %s, found %s\n", e.id().data(),
                e.details().expected.c_str(), e.details().found.c_str());
  }
  std::filesystem::remove(file);
  return 0;
}
