// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/report/feature_report.hpp>

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

// Reports for tests: one small and complete, one with a text in every field that holds text, and
// one of the size of the demo.

namespace sample_report {

inline plmscope::feature_report with_text(const std::string& text) {
  plmscope::feature_report r;
  r.title = r.made_by = text;
  r.model = {.name = text, .description = text, .bundled = true, .site = text};
  r.sae.sparsifier = text;
  r.dataset.name = r.dataset.split_method = text;
  r.dataset.splits = {{.name = text, .proteins = 2, .residues = 9}};
  r.notes = {text, "a plain note"};
  plmscope::report_concept c;
  c.name = text;
  c.feature = 7;
  r.concepts = {c};
  plmscope::report_protein p;
  p.accession = p.name = p.organism = p.split = p.sequence = text;
  plmscope::report_feature f;
  f.id = 7;
  f.name = text;
  f.concepts = {{.name = text, .held_out_f1 = 0.5, .validation_f1 = 0.25}};
  f.top_proteins = {p};
  r.features = {f};
  return r;
}

inline plmscope::feature_report small() {
  plmscope::feature_report r = with_text("plain");
  plmscope::report_concept& c = r.concepts[0];
  c.name = "Signal peptide";
  c.kind = plmscope::report_concept_kind::domain;
  c.threshold = 1.5;
  c.validation = {.f1 = 0.75, .precision = 0.8, .recall = 0.7};
  c.held_out = {.f1 = 0.5, .precision = 0.625, .recall = 0.4};
  c.held_out_positives = 1234;
  c.held_out_instances = 56;
  c.amino_acid_f1 = 0.125;
  c.best_neuron_f1 = 0.25;
  plmscope::report_feature& f = r.features[0];
  f.name = "Signal peptide";
  f.max_activation = 4.0;
  f.residue_share = 0.01;
  f.protein_share = 0.5;
  plmscope::report_protein& p = f.top_proteins[0];
  p.accession = "P12345";
  p.sequence = "MKTAYIAKQR";
  p.activations = {{.position = 0, .value = 4.0f}, {.position = 9, .value = 1.0f}};
  p.annotations = {{.begin = 0, .end = 4}, {.begin = 6, .end = 10}};
  return r;
}

/// `features` features with six proteins each out of 469, `active` active residues a protein.
inline plmscope::feature_report large(std::size_t features, std::size_t active) {
  plmscope::feature_report r = small();
  std::vector<plmscope::report_protein> proteins(469);
  for (std::size_t i = 0; i < proteins.size(); ++i) {
    proteins[i].accession = "P" + std::to_string(10000 + i);
    proteins[i].name = "A protein with a name of the usual length " + std::to_string(i);
    proteins[i].organism = "Escherichia coli (strain K12)";
    proteins[i].sequence = std::string(350, "ACDEFGHIKLMNPQRSTVWY"[i % 20]);
  }
  r.features.clear();
  for (std::size_t id = 0; id < features; ++id) {
    plmscope::report_feature f;
    f.id = id;
    f.max_activation = 10.0;
    f.concepts = {{.name = "Transmembrane", .held_out_f1 = 0.1234, .validation_f1 = 0.2345}};
    for (std::size_t t = 0; t < 6; ++t) {
      plmscope::report_protein p = proteins[(id * 31 + t * 77) % proteins.size()];
      for (std::size_t a = 0; a < active; ++a) {
        const std::size_t position = a * (349 / active);
        const float value = 0.01f * static_cast<float>(a + t + 1);
        p.activations.push_back({.position = position, .value = value});
      }
      f.top_proteins.push_back(std::move(p));
    }
    r.features.push_back(std::move(f));
  }
  return r;
}

}  // namespace sample_report
