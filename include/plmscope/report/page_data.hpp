// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>
#include <plmscope/core/error.hpp>
#include <plmscope/report/feature_report.hpp>
#include <plmscope/report/json_text.hpp>
#include <plmscope/report/rules.hpp>
#include <plmscope/report/sparse_track.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Writes a report as the JSON that the page reads. Proteins and concept names are stored once and
/// referred to by index; rows are arrays. The order of the fields is the contract with
/// page_script.hpp:
///   concept  [name, kind, feature, threshold, validation f1 precision recall, held-out f1
///             precision recall, positives, instances, amino acids f1, best neuron f1]
///   protein  [accession, name, organism, split, sequence]
///   feature  [id, name or -1, max, residue share, protein share, scale of the tracks,
///             [[name, held-out f1, validation f1]...], [[protein, track, [begin, end...]]...]]
class page_data {
 public:
  /// Throws report.101 to report.103 when a protein's positions or values make no sense.
  static std::string json(const feature_report& report) { return page_data{}.write(report); }

 private:
  using protein_key = std::tuple<std::string_view, std::string_view, std::string_view,
                                 std::string_view, std::string_view>;

  std::string write(const feature_report& report) {
    std::string concepts = list(report.concepts, [&](const report_concept& c) { row(c); });
    std::string features = list(report.features, [&](const report_feature& f) { row(f); });

    out_ = "{";
    text("title", report.title);
    object("model", [&] {
      text("name", report.model.name);
      text("description", report.model.description);
      flag("bundled", report.model.bundled);
      text("site", report.model.site);
    });
    object("sae", [&] {
      text("sparsifier", report.sae.sparsifier);
      count("k", report.sae.k);
      count("features", report.sae.features);
      count("d_model", report.sae.d_model);
      count("training_rows", report.sae.training_rows);
      number("fvu", report.sae.fvu);
      number("l0", report.sae.l0);
      number("dead_share", report.sae.dead_share);
    });
    object("dataset", [&] {
      text("name", report.dataset.name);
      count("proteins", report.dataset.proteins);
      count("residues", report.dataset.residues);
      flag("split_by_homology", report.dataset.split_by_homology);
      text("split_method", report.dataset.split_method);
      field("splits", list(report.dataset.splits, [&](const report_split& s) {
        string(s.name), comma(), integer(s.proteins), comma(), integer(s.residues);
      }));
    });
    field("notes", strings(report.notes));
    text("made_by", report.made_by);
    field("names", strings(names_in_order_));
    field("proteins", list(proteins_in_order_, [&](const report_protein* p) {
      string(p->accession), comma(), string(p->name), comma(), string(p->organism), comma();
      string(p->split), comma(), string(residues(p->sequence));
    }));
    field("concepts", concepts);
    field("features", features);
    out_ += '}';
    return std::move(out_);
  }

  void row(const report_concept& c) {
    integer(name_index(c.name)), comma();
    out_ += c.kind == report_concept_kind::domain ? '1' : '0';
    comma();
    c.feature ? integer(*c.feature) : void(out_ += "null");
    for (const double value : {c.threshold, c.validation.f1, c.validation.precision,
                               c.validation.recall, c.held_out.f1, c.held_out.precision,
                               c.held_out.recall}) {
      comma(), real(value);
    }
    comma(), integer(c.held_out_positives), comma(), integer(c.held_out_instances);
    comma(), real(c.amino_acid_f1), comma(), real(c.best_neuron_f1);
  }

  void row(const report_feature& f) {
    double scale = json_text::finite(f.max_activation) ? std::fabs(f.max_activation) : 0.0;
    for (const report_protein& p : f.top_proteins) {
      check(p, f.id);
      for (const report_activation& a : p.activations) {
        scale = std::max(scale, static_cast<double>(std::fabs(a.value)));
      }
    }
    integer(f.id), comma();
    f.name.empty() ? void(out_ += "-1") : integer(name_index(f.name));
    comma(), real(f.max_activation), comma(), real(f.residue_share), comma(), real(f.protein_share);
    comma(), json_text::append_number(out_, scale, 9), comma();
    out_ += list(f.concepts, [&](const report_association& a) {
      integer(name_index(a.name)), comma(), real(a.held_out_f1), comma(), real(a.validation_f1);
    });
    comma();
    out_ += list(f.top_proteins, [&](const report_protein& p) {
      integer(protein_index(p)), comma(), string(sparse_track::encode(p.activations, scale));
      out_ += ",[";
      for (const report_span& s : p.annotations) {
        if (out_.back() != '[') comma();
        integer(s.begin), comma(), integer(s.end);
      }
      out_ += ']';
    });
  }

  static void check(const report_protein& p, std::size_t feature) {
    const auto where = [&] {
      return "feature " + std::to_string(feature) + ", protein " + p.accession;
    };
    const std::string length = std::to_string(p.sequence.size());
    std::size_t next = 0;
    for (const report_activation& a : p.activations) {
      if (a.position < next || a.position >= p.sequence.size()) {
        throw error(rules::report_residue_outside,
                    {.where = where(),
                     .expected = "a position from " + std::to_string(next) + " to below " + length,
                     .found = std::to_string(a.position),
                     .remedy = "sort the activations and give each residue once"});
      }
      if (!json_text::finite(static_cast<double>(a.value))) {
        throw error(rules::report_not_finite,
                    {.where = where() + ", residue " + std::to_string(a.position + 1),
                     .expected = "a finite activation",
                     .found = "NaN or infinity",
                     .remedy = "check the activations with plmscope verify"});
      }
      next = a.position + 1;
    }
    for (const report_span& s : p.annotations) {
      if (s.begin > s.end || s.end > p.sequence.size()) {
        throw error(rules::report_span_outside,
                    {.where = where(),
                     .expected = "begin <= end <= " + length,
                     .found = "[" + std::to_string(s.begin) + ", " + std::to_string(s.end) + ")",
                     .remedy = "take sequence and annotation from the same UniProt release"});
      }
    }
  }

  /// One byte is one residue, so that positions mean the same in the page.
  static std::string residues(std::string_view sequence) {
    std::string out(sequence);
    for (char& c : out) {
      if (c <= 0x20 || c >= 0x7f) c = '?';
    }
    return out;
  }

  std::size_t name_index(const std::string& name) {
    const auto [it, added] = names_.try_emplace(name, names_in_order_.size());
    if (added) names_in_order_.push_back(name);
    return it->second;
  }

  std::size_t protein_index(const report_protein& p) {
    const protein_key key{p.accession, p.name, p.organism, p.split, p.sequence};
    const auto [it, added] = proteins_.try_emplace(key, proteins_in_order_.size());
    if (added) proteins_in_order_.push_back(&p);
    return it->second;
  }

  // Writes `[[...],[...]]`: `one` appends the inside of a row to out_. Nests.
  template <class Range, class Row>
  std::string list(const Range& range, Row one) {
    const std::string outer = std::exchange(out_, "[");
    for (const auto& item : range) {
      if (out_.size() > 1) comma();
      out_ += '[';
      one(item);
      out_ += ']';
    }
    out_ += ']';
    return std::exchange(out_, outer);
  }

  std::string strings(const std::vector<std::string>& texts) {
    const std::string outer = std::exchange(out_, "[");
    for (const std::string& s : texts) {
      if (out_.size() > 1) comma();
      string(s);
    }
    out_ += ']';
    return std::exchange(out_, outer);
  }

  template <class Inside>
  void object(std::string_view name, Inside inside) {
    key(name);
    out_ += '{';
    inside();
    out_ += '}';
  }

  void key(std::string_view name) {
    if (out_.back() != '{') comma();
    string(name);
    out_ += ':';
  }
  void field(std::string_view name, std::string_view json) { key(name), out_ += json; }
  void text(std::string_view name, std::string_view value) { key(name), string(value); }
  void count(std::string_view name, std::size_t value) { key(name), integer(value); }
  void number(std::string_view name, double value) { key(name), real(value); }
  void flag(std::string_view name, bool value) { field(name, value ? "true" : "false"); }
  void string(std::string_view value) { json_text::append_string(out_, value); }
  void integer(std::size_t value) { json_text::append_count(out_, value); }
  void real(double value) { json_text::append_number(out_, value); }
  void comma() { out_ += ','; }

  std::string out_;
  std::map<std::string, std::size_t> names_;
  std::vector<std::string> names_in_order_;
  std::map<protein_key, std::size_t> proteins_;
  std::vector<const report_protein*> proteins_in_order_;
};

}  // namespace plmscope
