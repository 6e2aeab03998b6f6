// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/residues.hpp>
#include <plmscope/io/tsv.hpp>
#include <plmscope/io/uniprot_features.hpp>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <unordered_set>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// One row of a UniProt table. Columns that the table lacks leave their field empty.
struct annotated_protein {
  std::string accession;      ///< Entry
  std::string name;           ///< Entry Name
  std::string protein_names;  ///< Protein names
  std::string organism;
  std::string organism_id;  ///< Organism (ID): the NCBI taxon
  std::string lineage;      ///< Taxonomic lineage
  std::string family;       ///< Protein families
  std::string location;     ///< Subcellular location [CC]
  bool reviewed = false;    ///< Reviewed is `reviewed` (Swiss-Prot)
  std::vector<std::string> ec_numbers;
  std::vector<std::string> keywords;
  std::vector<std::string> go_ids;  ///< `GO:0005524`, as annotated, without ancestors
  std::vector<std::string> pfam_ids;
  std::vector<std::string> interpro_ids;
  std::string sequence;
  std::vector<feature_span> features;  ///< by column as in the table, then as in the cell
};

/// What was read, and what was left out on the way.
struct uniprot_report {
  std::size_t proteins = 0;
  std::size_t residues = 0;
  std::size_t features = 0;
  std::size_t fuzzy_excluded = 0;          ///< features such as `<1..5` or `?..12`
  std::size_t other_isoform_excluded = 0;  ///< features such as `P12345-2:10..20`
  residue_counts repaired;
  std::vector<std::string> feature_columns;  ///< that the table has
  std::vector<std::string> unused_columns;   ///< that no field was filled from
  bool trailing_garbage = false;             ///< bytes behind the last gzip member were ignored
};

struct uniprot_options {
  residue_policy residues = {};
};

/// Reads a table downloaded from UniProt as TSV (plain or gzip), row by row. `Entry` and `Sequence`
/// are required (io.302 lists the columns found); feature columns and the others are optional, and
/// what a table has beside them stands in the report. Accessions are unique (io.306), `Length`
/// agrees with the sequence (io.307), every feature lies inside it (io.310). Residues follow
/// `residue_builder`.
class uniprot_tsv_reader {
 public:
  explicit uniprot_tsv_reader(tsv_reader table, uniprot_options options = {})
      : table_(std::move(table)),
        builder_(options.residues),
        entry_(table_.require_column("Entry")),
        sequence_(table_.require_column("Sequence")) {
    std::vector<bool> used(table_.header().size());
    used[entry_] = used[sequence_] = true;
    const auto column = [&](std::string_view name) {
      const auto at = table_.column(name);
      if (at) used[*at] = true;
      return at;
    };
    length_ = column("Length");
    reviewed_ = column("Reviewed");
    for (const auto& [name, field] : text_fields) texts_.emplace_back(column(name), field);
    for (const auto& [name, field] : list_fields) lists_.emplace_back(column(name), field);
    go_terms_ = column("Gene Ontology (GO)");
    go_ids_present_ = column("Gene Ontology IDs").has_value();
    for (std::size_t i = 0; i < table_.header().size(); ++i) {
      for (const feature_column& f : uniprot_feature_columns) {
        if (table_.header()[i] != f.name) continue;
        features_.emplace_back(i, &f);
        report_.feature_columns.emplace_back(f.name);
        used[i] = true;
      }
      if (!used[i]) report_.unused_columns.push_back(table_.header()[i]);
    }
  }
  explicit uniprot_tsv_reader(const std::filesystem::path& path, uniprot_options options = {})
      : uniprot_tsv_reader(tsv_reader(path), options) {}

  /// Reads the next protein into `out`; false at the end.
  bool next(annotated_protein& out) {
    if (!table_.next()) return false;
    out = {};
    out.accession = table_.cell(entry_);
    if (out.accession.empty() || !seen_.insert(out.accession).second) {
      throw error(rules::uniprot_accession,
                  {.where = table_.position(),
                   .found = out.accession.empty() ? "an empty Entry" : out.accession + " again"});
    }
    const std::string where = table_.position() + ", accession " + out.accession;
    read_sequence(out, where);
    for (const auto& [at, field] : texts_) {
      if (at) out.*field = table_.cell(*at);
    }
    for (const auto& [at, field] : lists_) {
      if (at) split_list(table_.cell(*at), out.*field);
    }
    if (go_terms_ && !go_ids_present_) go_ids_from_terms(table_.cell(*go_terms_), out.go_ids);
    if (reviewed_) out.reviewed = table_.cell(*reviewed_) == "reviewed";
    for (const auto& [at, column] : features_) {
      features_parser_.parse(*column, table_.cell(at), out.sequence.size(), where, out.features);
    }
    ++report_.proteins;
    report_.residues += out.sequence.size();
    report_.features += out.features.size();
    return true;
  }

  /// Complete once `next` has returned false.
  const uniprot_report& report() {
    report_.fuzzy_excluded = features_parser_.fuzzy;
    report_.other_isoform_excluded = features_parser_.other_isoform;
    report_.repaired = builder_.counts();
    report_.trailing_garbage = table_.trailing_garbage();
    return report_;
  }
  const std::string& name() const noexcept { return table_.name(); }

 private:
  using text_field = std::string annotated_protein::*;
  using list_field = std::vector<std::string> annotated_protein::*;

  static constexpr std::pair<std::string_view, text_field> text_fields[] = {
      {"Entry Name", &annotated_protein::name},
      {"Protein names", &annotated_protein::protein_names},
      {"Organism", &annotated_protein::organism},
      {"Organism (ID)", &annotated_protein::organism_id},
      {"Taxonomic lineage", &annotated_protein::lineage},
      {"Protein families", &annotated_protein::family},
      {"Subcellular location [CC]", &annotated_protein::location}};
  static constexpr std::pair<std::string_view, list_field> list_fields[] = {
      {"EC number", &annotated_protein::ec_numbers},
      {"Keywords", &annotated_protein::keywords},
      {"Gene Ontology IDs", &annotated_protein::go_ids},
      {"Pfam", &annotated_protein::pfam_ids},
      {"InterPro", &annotated_protein::interpro_ids}};

  void read_sequence(annotated_protein& out, const std::string& where) {
    builder_.start();
    builder_.add(table_.cell(sequence_), [&](std::size_t i) {
      return where + ", column Sequence, residue " + std::to_string(i + 1);
    });
    out.sequence = builder_.sequence();
    const bool empty = out.sequence.empty();
    if (!length_ && !empty) return;
    std::uint64_t length = 0;
    const std::string_view cell = length_ ? table_.cell(*length_) : std::string_view();
    const auto [end, status] = std::from_chars(cell.data(), cell.data() + cell.size(), length);
    const bool bad = status != std::errc{} || end != cell.data() + cell.size();
    if (empty || bad || length != out.sequence.size()) {
      throw error(rules::uniprot_length,
                  {.where = where,
                   .expected = empty ? "at least one residue" : std::string(cell) + " residues",
                   .found = std::to_string(out.sequence.size()),
                   .remedy = "download the table again"});
    }
  }

  static void split_list(std::string_view cell, std::vector<std::string>& out) {
    while (!cell.empty()) {
      const std::size_t end = std::min(cell.find(';'), cell.size());
      std::string_view item = cell.substr(0, end);
      cell.remove_prefix(std::min(end + 1, cell.size()));
      while (!item.empty() && item.front() == ' ') item.remove_prefix(1);
      while (!item.empty() && item.back() == ' ') item.remove_suffix(1);
      if (!item.empty()) out.emplace_back(item);
    }
  }

  // `ATP binding [GO:0005524]; ...`
  static void go_ids_from_terms(std::string_view cell, std::vector<std::string>& out) {
    for (std::size_t at = cell.find("[GO:"); at != std::string_view::npos;
         at = cell.find("[GO:", at + 1)) {
      const std::size_t end = cell.find(']', at);
      if (end == std::string_view::npos) return;
      out.emplace_back(cell.substr(at + 1, end - at - 1));
    }
  }

  tsv_reader table_;
  residue_builder builder_;
  std::size_t entry_;
  std::size_t sequence_;
  std::optional<std::size_t> length_;
  std::optional<std::size_t> reviewed_;
  std::optional<std::size_t> go_terms_;
  bool go_ids_present_ = false;
  std::vector<std::pair<std::optional<std::size_t>, text_field>> texts_;
  std::vector<std::pair<std::optional<std::size_t>, list_field>> lists_;
  std::vector<std::pair<std::size_t, const feature_column*>> features_;
  feature_cell_parser features_parser_;
  std::unordered_set<std::string> seen_;
  uniprot_report report_;
};

/// All proteins of a UniProt table; none is io.305. See `uniprot_tsv_reader`.
inline std::vector<annotated_protein> read_uniprot_tsv(tsv_reader table,
                                                       uniprot_options options = {},
                                                       uniprot_report* report = nullptr) {
  uniprot_tsv_reader reader(std::move(table), options);
  std::vector<annotated_protein> out;
  for (annotated_protein protein; reader.next(protein);) out.push_back(std::move(protein));
  if (report != nullptr) *report = reader.report();
  if (out.empty()) {
    throw error(rules::uniprot_no_rows, {.where = reader.name(), .found = "only a header"});
  }
  return out;
}
inline std::vector<annotated_protein> read_uniprot_tsv(const std::filesystem::path& path,
                                                       uniprot_options options = {},
                                                       uniprot_report* report = nullptr) {
  return read_uniprot_tsv(tsv_reader(path), options, report);
}

}  // namespace plmscope::inline PLMSCOPE_ABI
