// SPDX-License-Identifier: MIT
// Writes the activations of two layers to disk in one pass, then trains an SAE on one of them without
// the model. The store knows its model, layers and proteins, and refuses what does not belong to it.
#include <examples/backend.hpp>
#include <plmscope/acts/harvest.hpp>
#include <plmscope/acts/store_rows.hpp>

#include <cstdio>
#include <filesystem>
#include <vector>

int main() {
  auto esm = plmscope::esm2<backend>::load("examples/data/esm2_mini");
  std::vector<plmscope::protein_sequence> proteins;
  for (auto& p : plmscope::read_uniprot_tsv("examples/data/uniprot_demo.tsv")) {
    if (proteins.size() < 50) proteins.push_back({p.accession, p.name, p.sequence});
  }
  const auto folder = std::filesystem::temp_directory_path() / "plmscope_example_08";
  std::filesystem::remove_all(folder);

  // One pass, two layers, shards of about a megabyte. Killed and run again, it would go on.
  const auto manifest = plmscope::manifest_for(
      esm, {plmscope::resid_post{2}, plmscope::final_norm{}}, proteins, {.shard_bytes = 1'000'000});
  {
    plmscope::activation_store_writer writer(folder, manifest, proteins, {0, proteins.size()});
    const auto estimate = writer.estimate();
    std::printf("to write: %zu rows in %zu shards\n", estimate.rows, estimate.shards);
    plmscope::harvest(esm, proteins, writer);
    const bool exact = plmscope::activation_store::open(folder).bytes() == estimate.bytes;
    std::printf("the size was known to the byte: %s\n", exact ? "yes" : "no");
  }

  // Shuffled rows across all shards, every one checked against its checksum.
  const auto store = plmscope::activation_store::open(folder);
  plmscope::store_rows<backend> rows(store, "resid_post.2", 1);
  plmscope::sae<plmscope::top_k, backend> sae(
      {.d_model = rows.width(),
       .features = 768,
       .sparsifier = {.k = 16},
       .normalize = {.kind = plmscope::normalization::token_layer_norm}});
  sae.source = rows.source();
  plmscope::trainer fit{.steps = 300, .batch = 512, .optimizer = plmscope::adam{.lr = 1e-3}};
  const auto last = fit(sae, rows);
  std::printf("trained on %s: FVU %.2f, L0 %.1f\n", sae.source.site.c_str(), last.fvu, last.l0);

  try {
    plmscope::store_rows<backend> other(store, "resid_post.4");
  } catch (const plmscope::error& e) {
    std::printf("at another layer: %s, the store has %s\n", e.id().data(), e.details().found.c_str());
  }
  std::filesystem::remove_all(folder);
  return 0;
}
