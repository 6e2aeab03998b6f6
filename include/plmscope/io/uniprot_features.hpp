// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/rules.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// A feature column of UniProt: its official TSV name and its key in the flat file.
struct feature_column {
  std::string_view name;
  std::string_view key;
  bool linked_ends;  ///< `10..20` means the residues 10 and 20, not what lies between
};

/// All of them (www.uniprot.org/help/return_fields and the retired ones of older downloads).
inline constexpr std::array<feature_column, 39> uniprot_feature_columns{
    {{"Active site", "ACT_SITE", false},
     {"Alternative sequence", "VAR_SEQ", false},
     {"Beta strand", "STRAND", false},
     {"Binding site", "BINDING", false},
     {"Calcium binding", "CA_BIND", false},
     {"Chain", "CHAIN", false},
     {"Coiled coil", "COILED", false},
     {"Compositional bias", "COMPBIAS", false},
     {"Cross-link", "CROSSLNK", true},
     {"DNA binding", "DNA_BIND", false},
     {"Disulfide bond", "DISULFID", true},
     {"Domain [FT]", "DOMAIN", false},
     {"Glycosylation", "CARBOHYD", false},
     {"Helix", "HELIX", false},
     {"Initiator methionine", "INIT_MET", false},
     {"Intramembrane", "INTRAMEM", false},
     {"Lipidation", "LIPID", false},
     {"Metal binding", "METAL", false},
     {"Modified residue", "MOD_RES", false},
     {"Motif", "MOTIF", false},
     {"Mutagenesis", "MUTAGEN", false},
     {"Natural variant", "VARIANT", false},
     {"Non-adjacent residues", "NON_CONS", false},
     {"Non-standard residue", "NON_STD", false},
     {"Non-terminal residue", "NON_TER", false},
     {"Nucleotide binding", "NP_BIND", false},
     {"Peptide", "PEPTIDE", false},
     {"Propeptide", "PROPEP", false},
     {"Region", "REGION", false},
     {"Repeat", "REPEAT", false},
     {"Sequence conflict", "CONFLICT", false},
     {"Sequence uncertainty", "UNSURE", false},
     {"Signal peptide", "SIGNAL", false},
     {"Site", "SITE", false},
     {"Topological domain", "TOPO_DOM", false},
     {"Transit peptide", "TRANSIT", false},
     {"Transmembrane", "TRANSMEM", false},
     {"Turn", "TURN", false},
     {"Zinc finger", "ZN_FING", false}}};

/// One annotated feature. Positions count residues from 1, both ends included.
struct feature_span {
  std::string_view column;  ///< official column name, for example `Binding site`; lives for ever
  std::size_t begin = 0;
  std::size_t end = 0;
  bool linked_ends = false;  ///< disulfide bonds and cross-links: only `begin` and `end` belong
  std::string note;          ///< `/note`; often empty (SIGNAL 1..22 has none)
  std::string ligand;        ///< `/ligand` of binding sites
  std::string ligand_id;     ///< `/ligand_id`, for example ChEBI:CHEBI:29105
  std::string evidence;      ///< `/evidence`, for example ECO:0000255

  /// Whether residue `position` (from 1) carries the feature.
  bool covers(std::size_t position) const noexcept {
    if (linked_ends) return position == begin || position == end;
    return begin <= position && position <= end;
  }
};

/// Reads one cell of a feature column:
/// `BINDING 91; /ligand="Mg(2+)"; /evidence="ECO:0000250"; BINDING 96; ...`, with or without
/// qualifiers. A value ends at a quote behind which the cell ends, or `;` and another qualifier or
/// feature follow; other quotes belong to it, doubled ones count once. So notes may hold `;` and
/// quotes. Positions that are not known exactly (`<1..5`, `?..12`, `12..>20`) and positions on
/// another isoform (`P12345-2:10..20`) are left out and counted.
class feature_cell_parser {
 public:
  std::size_t fuzzy = 0;
  std::size_t other_isoform = 0;

  /// Appends the features of `cell` to `out`. `length` is that of the sequence; `where` names the
  /// place for errors: grammar io.308, another column's key io.309, positions io.310.
  void parse(const feature_column& column, std::string_view cell, std::size_t length,
             const std::string& where, std::vector<feature_span>& out) {
    column_ = &column;
    cell_ = cell;
    at_ = 0;
    where_ = &where;
    for (skip_separators(); at_ < cell_.size(); skip_separators()) {
      feature_span feature;
      const bool wanted = read_location(feature, length);
      for (skip_separators(); at_ < cell_.size() && cell_[at_] == '/'; skip_separators()) {
        read_qualifier(feature);
      }
      if (wanted) out.push_back(std::move(feature));
    }
  }

 private:
  [[noreturn]] void fail(const error_rule& rule, std::string expected) const {
    throw error(rule, {.where = *where_ + ", column " + std::string(column_->name) +
                                ", character " + std::to_string(at_ + 1),
                       .expected = std::move(expected),
                       .found = std::string(cell_.substr(at_, 60))});
  }

  void skip_separators() noexcept {
    while (at_ < cell_.size() && (cell_[at_] == ' ' || cell_[at_] == ';')) ++at_;
  }

  bool at_key(std::size_t at) const noexcept {
    const std::size_t n = column_->key.size();
    return cell_.substr(at, n) == column_->key && cell_.substr(at + n, 1) == " ";
  }

  // KEY and position; false when the feature is to be left out.
  bool read_location(feature_span& feature, std::size_t length) {
    if (!at_key(at_)) fail(rules::uniprot_key, std::string(column_->key) + " position");
    at_ += column_->key.size() + 1;
    const std::size_t from = at_;
    const std::size_t to = std::min(cell_.find(';', from), cell_.size());
    std::string_view location = cell_.substr(from, to - from);
    while (!location.empty() && location.back() == ' ') location.remove_suffix(1);
    bool isoform = false;
    if (const std::size_t colon = location.rfind(':'); colon != std::string_view::npos) {
      isoform = true;
      location.remove_prefix(colon + 1);
    }
    const std::size_t dots = location.find("..");
    bool exact = true;
    feature.column = column_->name;
    feature.begin = position(location.substr(0, dots), exact);
    feature.end =
        dots == std::string_view::npos ? feature.begin : position(location.substr(dots + 2), exact);
    feature.linked_ends = column_->linked_ends && feature.begin != feature.end;
    if (!isoform && exact &&
        (feature.begin == 0 || feature.begin > feature.end || feature.end > length)) {
      fail(rules::uniprot_range, "positions inside 1.." + std::to_string(length));
    }
    at_ = to;
    other_isoform += isoform;
    fuzzy += !isoform && !exact;
    return !isoform && exact;
  }

  // `12`, or the inexact `<12`, `>12`, `?12`, `?`, whose value does not matter.
  std::size_t position(std::string_view text, bool& exact) const {
    if (!text.empty() && (text.front() == '<' || text.front() == '>' || text.front() == '?')) {
      exact = false;
      const bool bare = text == "?";
      text.remove_prefix(1);
      if (bare) return 0;
    }
    std::uint64_t value = 0;
    const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool negative = !text.empty() && text.front() == '-';
    if (status == std::errc::result_out_of_range || negative) {
      fail(rules::uniprot_range, "a position from 1 to the length");
    }
    if (status != std::errc{} || end != text.data() + text.size()) {
      fail(rules::uniprot_feature, "a position such as 12, 12..20, <1..5 or ?..12");
    }
    return value;
  }

  // Whether a quoted value may end right before `at`.
  bool ends_value(std::size_t at) const noexcept {
    while (at < cell_.size() && cell_[at] == ' ') ++at;
    if (at >= cell_.size()) return true;
    if (cell_[at] != ';') return false;
    while (at < cell_.size() && (cell_[at] == ' ' || cell_[at] == ';')) ++at;
    return at >= cell_.size() || at_key(at) ||
           (cell_[at] == '/' && at + 1 < cell_.size() && cell_[at + 1] >= 'a' &&
            cell_[at + 1] <= 'z');
  }

  void read_qualifier(feature_span& feature) {
    const std::size_t from = ++at_;
    while (at_ < cell_.size() && ((cell_[at_] >= 'a' && cell_[at_] <= 'z') || cell_[at_] == '_'))
      ++at_;
    const std::string_view name = cell_.substr(from, at_ - from);
    if (name.empty() || cell_.substr(at_, 2) != "=\"") {
      fail(rules::uniprot_feature, "/qualifier=\"value\"");
    }
    at_ += 2;
    std::string value = read_value();
    std::string* const field = name == "note"        ? &feature.note
                               : name == "ligand"    ? &feature.ligand
                               : name == "ligand_id" ? &feature.ligand_id
                               : name == "evidence"  ? &feature.evidence
                                                     : nullptr;
    if (field != nullptr) *field = std::move(value);
  }

  std::string read_value() {
    const std::size_t start = at_;
    std::string value;
    for (;;) {
      const std::size_t quote = cell_.find('"', at_);
      if (quote == std::string_view::npos) {
        at_ = start;
        fail(rules::uniprot_feature, "a closing quote");
      }
      value.append(cell_.substr(at_, quote - at_));
      at_ = quote;
      while (at_ < cell_.size() && cell_[at_] == '"') ++at_;
      const std::size_t run = at_ - quote;
      if (ends_value(at_)) {
        // All but the last belong to the value; pairs of them are doubled quotes.
        value.append(run % 2 == 1 ? (run - 1) / 2 : run - 1, '"');
        return value;
      }
      value.append((run + 1) / 2, '"');
    }
  }

  const feature_column* column_ = nullptr;
  std::string_view cell_;
  std::size_t at_ = 0;
  const std::string* where_ = nullptr;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
