// SPDX-License-Identifier: MIT
#include "scoring.hpp"

#include <plmscope/io/atomic_file.hpp>
#include <plmscope/io/safetensors.hpp>
#include <plmscope/report/html_page.hpp>
#include <plmscope/report/tables.hpp>

#include <fmt/format.h>

#include <map>
#include <string>
#include <algorithm>
#include <cmath>

namespace {

constexpr std::size_t proteins_per_feature = 6;

plmscope::report_scores scores_of(const plmscope::concept_quality& q,
                                  plmscope::concept_kind kind) {
  const bool domain = kind == plmscope::concept_kind::domain;
  return {q.score, q.precision, domain ? q.domain_recall : q.residue_recall};
}

plmscope::report_concept concept_row(const plmscope::concept_label& label,
                                     const protocol_scores& s, std::size_t c) {
  const auto& r = s.scores.best[c];
  plmscope::report_concept row;
  row.name = label.name;
  row.kind = label.kind == plmscope::concept_kind::domain ? plmscope::report_concept_kind::domain
                                                          : plmscope::report_concept_kind::residue;
  row.amino_acid_f1 = s.amino_acids[c].held_out.score;
  if (!s.neurons.empty()) row.best_neuron_f1 = s.neurons[c].result.held_out.score;
  row.held_out_positives = r.held_out.counts.positives;
  row.held_out_instances = r.held_out.counts.instances;
  if (!r.found()) return row;
  row.feature = r.feature;
  row.threshold = static_cast<double>(r.threshold);
  row.validation = scores_of(r.validation, label.kind);
  row.held_out = scores_of(r.held_out, label.kind);
  return row;
}

/// Where each feature is active: entries by feature, residues in order.
struct feature_index {
  struct entry {
    std::uint32_t protein;
    std::uint32_t position;
    float value;
  };
  std::vector<std::size_t> first;
  std::vector<entry> entries;

  explicit feature_index(const encoded_proteins& z) : first(z.features + 1, 0), entries(z.ids.size()) {
    for (const auto id : z.ids) ++first[id + 1];
    for (std::size_t f = 0; f < z.features; ++f) first[f + 1] += first[f];
    auto next = first;
    for (std::size_t p = 0; p + 1 < z.protein_offsets.size(); ++p) {
      for (std::size_t r = z.protein_offsets[p]; r < z.protein_offsets[p + 1]; ++r) {
        for (auto e = static_cast<std::size_t>(z.offsets[r]);
             e < static_cast<std::size_t>(z.offsets[r + 1]); ++e) {
          entries[next[z.ids[e]]++] = {static_cast<std::uint32_t>(p),
                                       static_cast<std::uint32_t>(r - z.protein_offsets[p]),
                                       z.values[e]};
        }
      }
    }
  }
};

plmscope::report_feature feature_card(const scored& s, const protocol_scores& by,
                                      const feature_index& index, std::size_t f,
                                      const std::vector<std::size_t>& pairs_of_feature,
                                      std::size_t name,
                                      const std::vector<plmscope::annotated_protein>& proteins,
                                      const std::vector<bool>& held_out) {
  plmscope::report_feature card;
  card.id = f;
  const auto begin = index.entries.begin() + static_cast<std::ptrdiff_t>(index.first[f]);
  const auto end = index.entries.begin() + static_cast<std::ptrdiff_t>(index.first[f + 1]);
  struct in_protein {
    float best;
    std::size_t first, last;
  };
  std::vector<in_protein> found;
  float maximum = 0;
  for (auto e = begin; e != end; ++e) {
    const auto at = static_cast<std::size_t>(e - index.entries.begin());
    if (e == begin || (e - 1)->protein != e->protein) found.push_back({e->value, at, at});
    found.back().best = std::max(found.back().best, e->value);
    found.back().last = at + 1;
    maximum = std::max(maximum, e->value);
  }
  card.max_activation = static_cast<double>(maximum);
  card.residue_share = static_cast<double>(end - begin) /
                       static_cast<double>(std::max<std::size_t>(s.codes.protein_offsets.back(), 1));
  card.protein_share =
      static_cast<double>(found.size()) / static_cast<double>(std::max<std::size_t>(proteins.size(), 1));
  const plmscope::concept_label* label = nullptr;
  if (name < by.scores.pairs.size()) {
    label = &s.concepts.concepts[by.scores.pairs[name].concept_id];
    card.name = label->name;
  }
  for (const std::size_t at : pairs_of_feature) {
    const auto& pair = by.scores.pairs[at];
    card.concepts.push_back({s.concepts.concepts[pair.concept_id].name, pair.held_out.score,
                             pair.validation.score});
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const in_protein& a, const in_protein& b) { return a.best > b.best; });
  if (found.size() > proteins_per_feature) found.resize(proteins_per_feature);
  for (const auto& in : found) {
    const std::uint32_t p = index.entries[in.first].protein;
    plmscope::report_protein shown{proteins[p].accession, proteins[p].name, proteins[p].organism,
                                   held_out[p] ? "held-out" : "validation", proteins[p].sequence,
                                   {}, {}};
    for (std::size_t i = in.first; i < in.last; ++i) {
      shown.activations.push_back({index.entries[i].position, index.entries[i].value});
    }
    if (label != nullptr) {
      for (const auto& i : label->instances) {
        if (i.protein != p) continue;
        if (label->kind == plmscope::concept_kind::pair) {
          shown.annotations.push_back({i.begin - 1, i.begin});
          shown.annotations.push_back({i.end - 1, i.end});
        } else {
          shown.annotations.push_back({i.begin - 1, i.end});
        }
      }
    }
    card.top_proteins.push_back(std::move(shown));
  }
  return card;
}

}  // namespace

std::string sparsifier_name(const std::string& id) {
  const std::map<std::string, std::string> names{
      {"top_k", "TopK"},         {"abs_top_k", "AbsTopK"}, {"batch_top_k", "BatchTopK"},
      {"jump_relu", "JumpReLU"}, {"relu", "ReLU"},         {"gated", "Gated"},
      {"group_max", "GroupMax"}, {"routed", "Switch"},     {"matching_pursuit", "matching pursuit"},
      {"orthogonal_pursuit", "orthogonal pursuit"}};
  const auto at = names.find(id);
  return at == names.end() ? id : at->second;
}

plmscope::feature_report make_report(const scored& s, const program_model& esm,
                                     const program_sae& model,
                                     const std::vector<plmscope::annotated_protein>& proteins,
                                     const scoring_options& o, const report_texts& texts) {
  plmscope::feature_report r;
  const plmscope::sae_description about = model.describe();
  r.title = texts.title;
  r.model = {esm.identity().name, texts.model_description, texts.bundled_model,
             about.source.site};
  const auto record = [&](const char* key) {
    const auto at = about.training_record.find(key);
    return at == about.training_record.end() ? std::nan("") : std::strtod(at->second.c_str(), nullptr);
  };
  const double rows = record("rows");
  std::vector<bool> alive(model.features(), false);
  for (const auto id : s.codes.ids) alive[id] = true;
  const auto dead = static_cast<double>(std::count(alive.begin(), alive.end(), false));
  const auto k = about.sparsifier_fields.find("k");
  r.sae = {sparsifier_name(about.sparsifier),
           k == about.sparsifier_fields.end()
               ? std::size_t{0}
               : static_cast<std::size_t>(std::lround(std::strtod(k->second.c_str(), nullptr))), model.features(), model.d_model(),
           std::isnan(rows) ? std::size_t{0} : static_cast<std::size_t>(rows), s.fvu,
           static_cast<double>(s.codes.ids.size()) /
               static_cast<double>(std::max<std::size_t>(s.codes.protein_offsets.back(), 1)),
           dead / static_cast<double>(model.features())};
  r.dataset = {texts.dataset,
               proteins.size(),
               s.codes.protein_offsets.back(),
               {{"validation", s.split.validation.size(), s.split.validation_residues},
                {"held-out", s.split.held_out.size(), s.split.held_out_residues}},
               true,
               fmt::format("{} clusters of proteins with at least 30 % identity over half of the "
                           "shorter one or the same UniProt family, dealt whole",
                           s.split.clusters)};
  const protocol_scores& by = chosen(s, o);
  for (std::size_t c = 0; c < s.concepts.size(); ++c) {
    r.concepts.push_back(concept_row(s.concepts.concepts[c], by, c));
  }
  std::stable_sort(r.concepts.begin(), r.concepts.end(), [](const auto& a, const auto& b) {
    const auto value = [](const auto& row) {
      return row.feature && !std::isnan(row.held_out.f1) ? row.held_out.f1 : -1.0;
    };
    return value(a) > value(b);
  });
  std::vector<bool> held_out(proteins.size(), false);
  for (const auto p : s.split.held_out) held_out[p] = true;
  std::vector<std::vector<std::size_t>> pairs(model.features());
  for (std::size_t i = 0; i < by.scores.pairs.size(); ++i) {
    pairs[by.scores.pairs[i].feature].push_back(i);
  }
  const auto names = feature_names(by, o);
  const feature_index index(s.codes);
  for (std::size_t f = 0; f < model.features(); ++f) {
    r.features.push_back(feature_card(s, by, index, f, pairs[f], names[f], proteins, held_out));
  }
  std::stable_sort(r.features.begin(), r.features.end(), [](const auto& a, const auto& b) {
    const auto value = [](const auto& card) {
      return card.name.empty() || card.concepts.empty() || std::isnan(card.concepts[0].held_out_f1)
                 ? -1.0
                 : card.concepts[0].held_out_f1;
    };
    return value(a) > value(b);
  });
  r.notes.push_back(fmt::format(
      "F1 takes precision per residue and recall per {}. Every feature and threshold was chosen on "
      "validation proteins; the held-out scores were computed once, afterwards.",
      o.protocol == "domain" ? "annotated domain for domain concepts" : "residue"));
  r.notes.push_back("UniProt annotation is incomplete: some false positives are places nobody has "
                    "annotated yet. UniProt data: CC BY 4.0.");
  r.made_by = fmt::format("plmscope {}.{}.{}", PLMSCOPE_VERSION_MAJOR, PLMSCOPE_VERSION_MINOR,
                          PLMSCOPE_VERSION_PATCH);
  return r;
}

void write_results(const std::filesystem::path& folder, const plmscope::feature_report& report,
                   const scored& s, const scoring_options& o,
                   const std::filesystem::path& sae_file) {
  std::filesystem::create_directories(folder);
  plmscope::write_concepts_tsv(folder / "concepts.tsv", report);
  plmscope::write_html(folder / "report.html", report);
  json_object out{{"format", "plmscope.features.1"},
                  {"sae_hash", plmscope::safetensors_file::read_whole(sae_file).content_hash()},
                  {"scores", "F1 per residue"}};
  out["features"] = json_object::array();
  // Names for single residues come from the per-residue scores, whatever the report shows.
  const protocol_scores& by = s.by_residue;
  const auto names = feature_names(by, o);
  for (std::size_t f = 0; f < names.size(); ++f) {
    json_object row{{"feature", f}, {"max", by.scores.feature_max[f]}};
    if (names[f] < by.scores.pairs.size()) {
      const auto& pair = by.scores.pairs[names[f]];
      row["concept"] = s.concepts.concepts[pair.concept_id].name;
      row["threshold"] = pair.threshold;
      row["validation_f1"] = number_or_null(pair.validation.score);
      row["held_out_f1"] = number_or_null(pair.held_out.score);
      row["amino_acid_f1"] = number_or_null(by.amino_acids[pair.concept_id].held_out.score);
    }
    out["features"].push_back(std::move(row));
  }
  plmscope::write_file_atomically(folder / "features.json", out.dump(1) + "\n");
}
