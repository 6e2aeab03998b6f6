// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>
#include <plmscope/io/atomic_file.hpp>
#include <plmscope/report/feature_report.hpp>
#include <plmscope/report/json_text.hpp>

#include <filesystem>
#include <string>
#include <string_view>

namespace plmscope::inline PLMSCOPE_ABI {

namespace report_tables {

inline constexpr std::string_view concepts_header =
    "concept\tkind\tfeature\tthreshold\tvalidation_f1\tvalidation_precision\tvalidation_recall\t"
    "held_out_f1\theld_out_precision\theld_out_recall\theld_out_residues\theld_out_instances\t"
    "amino_acid_f1\tbest_neuron_f1\n";

/// Text for one cell: control bytes (tabs and line ends among them) become spaces, and text that a
/// spreadsheet would run as a formula gets a leading apostrophe.
inline std::string cell(std::string_view text) {
  std::string out;
  if (!text.empty() && std::string_view("=+-@\t\r").find(text.front()) != std::string_view::npos) {
    out += '\'';
  }
  for (const char c : text) {
    const auto u = static_cast<unsigned char>(c);
    out += u < 0x20 || u == 0x7f ? ' ' : c;
  }
  return out;
}

inline void append_real(std::string& out, double value) {
  out += '\t';
  if (json_text::finite(value)) {
    json_text::append_number(out, value, 6);
  } else {
    out += "NA";
  }
}

inline std::string concepts_tsv(const feature_report& report) {
  std::string out(concepts_header);
  for (const report_concept& c : report.concepts) {
    out += cell(c.name);
    out += c.kind == report_concept_kind::domain ? "\tdomain\t" : "\tresidue\t";
    out += c.feature ? std::to_string(*c.feature) : "NA";
    for (const double value : {c.threshold, c.validation.f1, c.validation.precision,
                               c.validation.recall, c.held_out.f1, c.held_out.precision,
                               c.held_out.recall}) {
      append_real(out, value);
    }
    out += '\t' + std::to_string(c.held_out_positives);
    out += '\t' + std::to_string(c.held_out_instances);
    append_real(out, c.amino_acid_f1);
    append_real(out, c.best_neuron_f1);
    out += '\n';
  }
  return out;
}

}  // namespace report_tables

/// Writes the table of concepts as tab-separated text, one row a concept in the report's order,
/// with six significant digits. A missing number or feature is `NA` (as R and pandas read it).
inline void write_concepts_tsv(const std::filesystem::path& path, const feature_report& report) {
  write_file_atomically(path, report_tables::concepts_tsv(report));
}

}  // namespace plmscope
