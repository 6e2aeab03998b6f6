// SPDX-License-Identifier: MIT
// Which latents of a small SAE stand for something that UniProt annotates? Latent and threshold are
// chosen on one half of the proteins and judged on the other; no protein has a relative there.
#include <examples/backend.hpp>
#include <plmscope/eval/amino_acid_baseline.hpp>
#include <plmscope/eval/score_concepts.hpp>
#include <plmscope/tensor/host_codes.hpp>

#include <cstdio>
#include <span>
#include <string_view>
#include <vector>

int main() {
  auto esm = plmscope::esm2<backend>::load("examples/data/esm2_mini");
  auto proteins = plmscope::read_uniprot_tsv("examples/data/uniprot_demo.tsv");
  std::erase_if(proteins, [](const auto& p) { return p.sequence.size() > 300; });
  const auto some = std::span(proteins).first(150);

  plmscope::sae<plmscope::top_k, backend> sae({.d_model = esm.d_model(), .features = 768, .sparsifier = {.k = 16}});
  auto rows = plmscope::read_activations(esm, plmscope::resid_post{2}, some);
  plmscope::trainer fit{.steps = 400, .batch = 512, .optimizer = plmscope::adam{.lr = 2e-3}};
  fit.dead.dead_after = 20'000;
  fit(sae, rows);

  // All proteins in list order in one batch, and their sparse codes.
  auto& be = sae.backend();
  const auto sequences = plmscope::sequences_of(proteins);
  plmscope::model_reader all(esm, plmscope::resid_post{2}, sequences, 0, std::size_t{1} << 20);
  plmscope::activation_batch<backend> batch;
  all.read(be, batch);
  plmscope::codes<backend> codes;
  sae.encode(batch.rows, codes);
  const auto z = plmscope::to_host(be, codes);
  std::vector<std::size_t> offsets{0};
  for (const auto& s : sequences) offsets.push_back(offsets.back() + s.size());
  const plmscope::sparse_activations acts{.features = z.features,
                                          .offsets = z.offsets,
                                          .ids = z.ids,
                                          .values = z.values,
                                          .protein_offsets = offsets};

  // Concepts that cover at least a thousand residues.
  const auto concepts = plmscope::make_concepts(
      proteins, {.min_instances = 10'000, .min_residues = 1'000, .sub_concepts = false});
  const auto split = plmscope::homology_split(proteins, concepts);
  const auto scores = plmscope::score_concepts(acts, concepts, split);
  const std::vector<std::string_view> letters(sequences.begin(), sequences.end());
  const auto baseline = plmscope::amino_acid_baseline(letters, concepts, split);
  std::printf("%zu proteins in %zu clusters: %zu to choose on, %zu held out\n", proteins.size(),
              split.clusters, split.validation.size(), split.held_out.size());
  std::printf("F1 on held-out proteins   best latent   amino acids alone\n");
  for (std::size_t c = 0; c < concepts.size(); ++c) {
    std::printf("%-25s %11.2f %19.2f\n", concepts.concepts[c].name.c_str(),
                scores.best[c].held_out.score, baseline[c].held_out.score);
  }
  return 0;
}
