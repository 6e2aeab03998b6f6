// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/line_reader.hpp>
#include <plmscope/io/residues.hpp>
#include <plmscope/io/rules.hpp>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// One protein: `>id description` and its residues, one character a position.
struct protein_sequence {
  std::string id;           ///< the first word of the header, whole (`sp|P12345|NAME`)
  std::string description;  ///< the rest of the header
  std::string sequence;
};

/// The accession in a UniProt id: `sp|P12345|NAME` gives `P12345`; any other id is returned whole.
inline std::string_view accession(std::string_view id) noexcept {
  if (id.substr(0, 3) != "sp|" && id.substr(0, 3) != "tr|") return id;
  const std::string_view rest = id.substr(3);
  const std::string_view middle = rest.substr(0, rest.find('|'));
  return middle.empty() ? id : middle;
}

enum class duplicate_policy {
  refuse,      ///< a second record of an id is an error
  keep_first,  ///< later records are skipped and counted
  keep_all     ///< ids are not compared
};

struct fasta_options {
  duplicate_policy duplicates = duplicate_policy::refuse;
  gap_policy gaps = gap_policy::refuse;
  bool allow_mask = false;         ///< `<mask>` becomes `mask_letter`
  bool skip_empty = false;         ///< records without residues are skipped and counted
  bool skip_leading_text = false;  ///< lines before the first '>' are skipped and counted
  std::size_t max_residues = 1'000'000;
};

/// What was read and what was repaired on the way.
struct fasta_report {
  std::size_t records = 0;
  std::size_t residues = 0;
  residue_counts repaired;
  std::size_t duplicates_skipped = 0;
  std::size_t empty_skipped = 0;
  std::size_t leading_lines_skipped = 0;
  bool trailing_garbage = false;  ///< bytes behind the last gzip member were ignored
};

/// Reads FASTA record by record; plain or gzip by content, `-` is standard input. Beside the table
/// of `residue_builder`:
///
/// | input | result |
/// | --- | --- |
/// | no record at all | io.201 |
/// | text before the first '>' | io.202, or skipped and counted |
/// | '>' without an id right behind it | io.203 |
/// | a record without residues (also one with only `*`) | io.204, or skipped and counted |
/// | an id for the second time | io.205, or skipped and counted, or kept |
/// | a header above 64 KiB | io.210 |
/// | CRLF, lone CR, byte order mark, blank lines, no final newline | read as if plain LF |
/// | NUL bytes, UTF-16 | io.509 |
/// | `;` comment lines of the oldest FASTA dialect | io.208 (or io.202) |
///
/// Memory: the current record, and about 60 bytes an id while ids are compared.
class fasta_reader {
 public:
  explicit fasta_reader(line_reader lines, fasta_options options = {})
      : lines_(std::move(lines)),
        options_(options),
        builder_({options.gaps, options.allow_mask, options.max_residues}) {
    std::string_view line;
    while (!pending_ && lines_.next(line)) {
      if (line.substr(0, 1) == ">") {
        keep_header(line);
      } else if (line.find_first_not_of(" \t") != std::string_view::npos) {
        if (!options_.skip_leading_text) {
          throw error(rules::fasta_leading_text, {.where = lines_.position(1),
                                                  .expected = "'>'",
                                                  .found = std::string(line.substr(0, 40)),
                                                  .remedy = "is this a FASTA file?"});
        }
        ++report_.leading_lines_skipped;
      }
    }
    if (!pending_) {
      throw error(
          rules::fasta_no_records,
          {.where = lines_.name(), .expected = "a line that begins with '>'", .found = "none"});
    }
  }
  explicit fasta_reader(const std::filesystem::path& path, fasta_options options = {})
      : fasta_reader(line_reader(path), options) {}

  /// Reads the next record into `out`; false at the end.
  bool next(protein_sequence& out) {
    while (pending_) {
      parse_header(out);
      const std::string place = lines_.position();
      read_residues();
      if (builder_.sequence().empty()) {
        if (!options_.skip_empty) {
          throw error(rules::fasta_empty_sequence,
                      {.where = place + ", id " + out.id, .found = "no residues"});
        }
        ++report_.empty_skipped;
        continue;
      }
      if (options_.duplicates != duplicate_policy::keep_all &&
          !seen_.insert(fingerprint(out.id)).second) {
        if (options_.duplicates == duplicate_policy::refuse) {
          throw error(rules::fasta_duplicate_id,
                      {.where = place,
                       .found = "a second record " + out.id,
                       .remedy = "rename it, or keep the first by option"});
        }
        ++report_.duplicates_skipped;
        continue;
      }
      out.sequence = builder_.sequence();
      ++report_.records;
      report_.residues += out.sequence.size();
      return true;
    }
    return false;
  }

  /// Complete once `next` has returned false.
  const fasta_report& report() {
    report_.repaired = builder_.counts();
    report_.trailing_garbage = lines_.trailing_garbage();
    return report_;
  }
  /// The file and line reached, for errors of the caller.
  std::string position() const { return lines_.position(); }

 private:
  using fingerprint_type = std::pair<std::uint64_t, std::uint64_t>;
  struct fingerprint_hash {
    std::size_t operator()(const fingerprint_type& f) const noexcept { return f.first; }
  };

  // 128 bits stand for an id: two of 10^9 ids agree with probability below 10^-20.
  static fingerprint_type fingerprint(std::string_view id) noexcept {
    std::uint64_t fnv = 0xcbf29ce484222325u;
    for (const char c : id) fnv = (fnv ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
    return {std::hash<std::string_view>{}(id), fnv};
  }

  void keep_header(std::string_view line) {
    if (line.size() > 65'536) {
      throw error(rules::fasta_header_length,
                  {.where = lines_.position(), .found = std::to_string(line.size()) + " bytes"});
    }
    header_.assign(line.substr(1));
    pending_ = true;
  }

  void parse_header(protein_sequence& out) const {
    const std::size_t end = header_.find_first_of(" \t");
    out.id = header_.substr(0, end);
    if (out.id.empty()) {
      throw error(rules::fasta_empty_id, {.where = lines_.position(2),
                                          .expected = ">id description",
                                          .found = ">" + header_.substr(0, 40)});
    }
    const std::size_t text = end == std::string::npos ? end : header_.find_first_not_of(" \t", end);
    out.description = text == std::string::npos ? std::string() : header_.substr(text);
  }

  void read_residues() {
    builder_.start();
    pending_ = false;
    std::string_view line;
    while (lines_.next(line)) {
      if (line.substr(0, 1) == ">") {
        keep_header(line);
        return;
      }
      builder_.add(line, [&](std::size_t i) { return lines_.position(i + 1); });
    }
  }

  line_reader lines_;
  fasta_options options_;
  residue_builder builder_;
  fasta_report report_;
  std::string header_;  // of the record to come, without '>'
  bool pending_ = false;
  std::unordered_set<fingerprint_type, fingerprint_hash> seen_;
};

/// All records of a file; see `fasta_reader` for what is accepted.
inline std::vector<protein_sequence> read_fasta(line_reader lines, fasta_options options = {},
                                                fasta_report* report = nullptr) {
  fasta_reader reader(std::move(lines), options);
  std::vector<protein_sequence> out;
  for (protein_sequence record; reader.next(record);) out.push_back(std::move(record));
  if (report != nullptr) *report = reader.report();
  if (out.empty()) {
    throw error(rules::fasta_no_records,
                {.where = reader.position(), .found = "only skipped records"});
  }
  return out;
}
inline std::vector<protein_sequence> read_fasta(const std::filesystem::path& path,
                                                fasta_options options = {},
                                                fasta_report* report = nullptr) {
  return read_fasta(line_reader(path), options, report);
}

}  // namespace plmscope::inline PLMSCOPE_ABI
