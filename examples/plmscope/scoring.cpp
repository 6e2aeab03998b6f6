// SPDX-License-Identifier: MIT
#include "scoring.hpp"

#include "unexplained.hpp"

#include <plmscope/acts/activation_memory_reader.hpp>
#include <plmscope/acts/model_reader.hpp>
#include <plmscope/acts/read_activations.hpp>
#include <plmscope/core/progress.hpp>
#include <plmscope/tensor/host_codes.hpp>
#include <plmscope/train/progress_bar.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <string_view>
#include <utility>

namespace {

using report_rows = std::function<void(std::size_t, std::size_t)>;

/// Reads the states of all proteins, in order, and keeps codes (and states) on the host.
template <class Reader>
encoded_proteins encode_proteins(program_backend& be, Reader reader, program_sae& model,
                                 const std::vector<std::string>& sequences, bool neurons,
                                 double& fvu, const report_rows& report) {
  encoded_proteins out;
  out.features = model.features();
  for (const auto& s : sequences) {
    out.protein_offsets.push_back(out.protein_offsets.back() + s.size());
  }
  plmscope::activation_batch<program_backend> batch;
  plmscope::codes<program_backend> z;
  plmscope::matrix<float, program_backend> rebuilt;
  std::vector<float> states;
  std::vector<float> back;
  const std::size_t d = model.d_model();
  unexplained_share unexplained(d);
  // A transcoder's results belong to a site that is not read here.
  const bool rebuilds = !model.describe().transcodes;
  for (std::size_t rows = 0; reader.read(be, batch);) {
    states.resize(batch.rows.size());
    be.download(batch.rows.all(), std::span(states));
    if (rebuilds) {
      rebuilt.reshape(be, batch.rows.rows(), d);
      model.reconstruct(batch.rows, rebuilt, &z);
      back.resize(rebuilt.size());
      be.download(rebuilt.all(), std::span(back));
      unexplained.add(states, back);
    } else {
      model.encode(batch.rows, z);
    }
    const auto codes = plmscope::to_host(be, z);
    for (std::size_t r = 0; r < codes.rows(); ++r) {
      out.offsets.push_back(out.offsets.back() + codes.offsets[r + 1] - codes.offsets[r]);
    }
    out.ids.insert(out.ids.end(), codes.ids.begin(), codes.ids.end());
    out.values.insert(out.values.end(), codes.values.begin(), codes.values.end());
    if (neurons) out.neurons.insert(out.neurons.end(), states.begin(), states.end());
    rows += codes.rows();
    report(rows, reader.total_rows());
  }
  fvu = rebuilds ? unexplained.value() : std::nan("");
  return out;
}

template <class Metric>
protocol_scores score_all(const scored& s, const std::vector<plmscope::annotated_protein>& proteins,
                          std::size_t d_model, bool neurons, const Metric& metric) {
  protocol_scores out;
  plmscope::score_options fine;
  fine.grid.fractions.clear();
  for (int percent = 0; percent < 90; percent += percent < 30 ? 2 : 5) {
    fine.grid.fractions.push_back(static_cast<float>(percent) / 100.0f);
  }
  out.scores = plmscope::score_concepts(s.codes.view(), s.concepts, s.split, fine, metric);
  std::vector<std::string_view> sequences;
  for (const auto& p : proteins) sequences.push_back(p.sequence);
  out.amino_acids = plmscope::amino_acid_baseline(sequences, s.concepts, s.split, metric);
  if (neurons) {
    out.neurons = plmscope::neuron_baseline(
        plmscope::dense_activations{d_model, s.codes.neurons, s.codes.protein_offsets}, s.concepts,
        s.split, {}, metric);
  }
  return out;
}

/// Concepts with a feature, best held-out score first.
std::vector<std::size_t> ranked(const scored& s) {
  std::vector<std::size_t> order(s.concepts.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto value = [&](std::size_t c) {
    const auto& r = s.by_domain.scores.best[c];
    return r.found() && r.held_out.defined() ? r.held_out.score : -1.0;
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return value(a) > value(b); });
  return order;
}

std::string shown(double v) { return std::isnan(v) ? "n/a" : fmt::format("{:.2f}", v); }

}  // namespace

void add_scoring_flags(CLI::App& c, scoring_options& o) {
  c.add_option("--held-out", o.held_out, "Share of residues in held-out proteins")
      ->check(CLI::Range(0.05, 0.95))
      ->capture_default_str();
  c.add_option("--min-instances", o.min_instances, "Instances a concept needs")
      ->capture_default_str();
  c.add_option("--min-name-score", o.min_name_score,
               "Validation F1 from which on a feature bears a concept's name")
      ->capture_default_str();
  c.add_option("--protocol", o.protocol,
               "F1 of precision per residue and recall per domain, or both per residue")
      ->check(CLI::IsMember({"domain", "residue"}))
      ->capture_default_str();
  c.add_option("--split", o.split,
               "homology: no held-out protein has a relative it was chosen on; alternate: every second "
               "protein, which leaks, to compare with published trials")
      ->check(CLI::IsMember({"homology", "alternate"}))
      ->capture_default_str();
  c.add_flag("!--no-neurons", o.neurons, "Leave out the baseline of single neurons");
}

scoring_input prepare_scoring(const std::vector<plmscope::annotated_protein>& proteins,
                              const scoring_options& o, const common_options& common) {
  scoring_input in;
  in.concepts = plmscope::make_concepts(proteins, {.min_instances = o.min_instances});
  in.split = o.split == "alternate"
                 ? plmscope::alternating_split(in.concepts)
                 : plmscope::homology_split(
                       proteins, in.concepts,
                       {.held_out = o.held_out, .seed = common.seed, .homology = {}});
  return in;
}

scored score_sae(program_model& esm, program_sae& model,
                 const std::vector<plmscope::annotated_protein>& proteins,
                 const scoring_options& o, const common_options& common) {
  plmscope::progress_line progress("encoding", plmscope::progress_bar::on_terminal());
  return score_sae(esm, model, proteins, prepare_scoring(proteins, o, common), o,
                   [&](std::size_t done, std::size_t all) { progress.update(done, all); });
}

scored score_sae(program_model& esm, program_sae& model,
                 const std::vector<plmscope::annotated_protein>& proteins,
                 const scoring_input& in, const scoring_options& o, const report_rows& report) {
  scored s;
  s.concepts = in.concepts;
  s.split = in.split;
  const auto sequences = plmscope::sequences_of(proteins);
  const std::string& site = model.source().site;
  const auto encode = [&](auto reader) {
    return encode_proteins(esm.backend(), std::move(reader), model, sequences, o.neurons, s.fvu,
                           report);
  };
  s.codes = in.states ? encode(plmscope::activation_memory_reader<program_backend>(in.states, site))
                      : encode(plmscope::model_reader(esm, plmscope::parse_site(site), sequences));
  s.by_domain = score_all(s, proteins, model.d_model(), o.neurons, plmscope::f1_by_domain{});
  s.by_residue = score_all(s, proteins, model.d_model(), o.neurons, plmscope::f1_by_residue{});
  return s;
}

const protocol_scores& chosen(const scored& s, const scoring_options& o) {
  return o.protocol == "residue" ? s.by_residue : s.by_domain;
}

std::vector<std::size_t> feature_names(const protocol_scores& s, const scoring_options& o) {
  auto names = s.scores.name_of_feature();
  for (auto& at : names) {
    if (at == s.scores.pairs.size()) continue;
    const auto& pair = s.scores.pairs[at];
    const auto& letters = s.amino_acids[pair.concept_id].validation;
    const bool better = !letters.defined() || pair.validation.score > letters.score;
    if (pair.validation.score < o.min_name_score || !better) at = s.scores.pairs.size();
  }
  return names;
}

std::string concept_table(const scored& s, std::size_t rows) {
  std::string text = fmt::format("{:<34}{:^38}|{:^38}\n", "", "F1, recall per domain",
                                 "F1 per residue");
  const std::string head = fmt::format("{:>8}{:>10}{:>12}{:>8}", "feature", "held-out", "amino acid",
                                       "neuron");
  text += fmt::format("{:<34}{:<38}|{:<38}\n", "concept", head, head);
  const auto side = [](const protocol_scores& p, std::size_t c) {
    const auto& r = p.scores.best[c];
    return fmt::format("{:>8}{:>10}{:>12}{:>8}", r.found() ? fmt::format("{}", r.feature) : "-",
                       r.found() ? shown(r.held_out.score) : "-",
                       shown(p.amino_acids[c].held_out.score),
                       p.neurons.empty() ? "-" : shown(p.neurons[c].result.held_out.score));
  };
  for (const std::size_t c : ranked(s)) {
    if (rows-- == 0 || !s.by_domain.scores.best[c].found()) break;
    text += fmt::format("{:<34}{:<38}|{:<38}\n", s.concepts.concepts[c].name.substr(0, 33),
                        side(s.by_domain, c), side(s.by_residue, c));
  }
  return text;
}

json_object concept_json(const scored& s) {
  const auto side = [](const protocol_scores& p, std::size_t c) {
    const auto& r = p.scores.best[c];
    json_object out{{"feature", r.found() ? json_object(r.feature) : json_object()},
                    {"threshold", r.threshold},
                    {"validation_f1", number_or_null(r.validation.score)},
                    {"held_out_f1", number_or_null(r.held_out.score)},
                    {"amino_acid_f1", number_or_null(p.amino_acids[c].held_out.score)}};
    if (!p.neurons.empty()) {
      out["neuron_f1"] = number_or_null(p.neurons[c].result.held_out.score);
    }
    return out;
  };
  json_object out = json_object::array();
  for (const std::size_t c : ranked(s)) {
    out.push_back({{"concept", s.concepts.concepts[c].name},
                   {"by_domain", side(s.by_domain, c)},
                   {"by_residue", side(s.by_residue, c)}});
  }
  return out;
}
