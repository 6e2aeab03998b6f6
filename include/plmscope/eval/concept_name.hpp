// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <string>
#include <string_view>

namespace plmscope::inline PLMSCOPE_ABI {

/// Column name as concepts carry it: "Domain [FT]" becomes "Domain".
inline std::string_view concept_column(std::string_view column) noexcept {
  constexpr std::string_view suffix = " [FT]";
  if (column.ends_with(suffix)) column.remove_suffix(suffix.size());
  return column;
}

namespace concept_name_detail {

inline std::string_view trim(std::string_view s) noexcept {
  while (!s.empty() && s.front() == ' ') s.remove_prefix(1);
  while (!s.empty() && s.back() == ' ') s.remove_suffix(1);
  return s;
}

inline bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

}  // namespace concept_name_detail

/// Removes the number that UniProt gives to one of several equal parts of a protein: "EF-hand 1"
/// becomes "EF-hand", "WD 12" becomes "WD", and a repeat that is only called "3" becomes "". A
/// number that belongs to the name ("Kazal-like", "Peptidase S8", "SH3") stays, because no blank
/// stands before it.
inline std::string_view fold_ordinal(std::string_view name) noexcept {
  using namespace concept_name_detail;
  std::string_view rest = name;
  while (!rest.empty() && is_digit(rest.back())) rest.remove_suffix(1);
  if (rest.size() == name.size()) return name;
  if (rest.empty()) return rest;
  return rest.back() == ' ' ? trim(rest) : name;
}

/// The part of a note or ligand that names a kind of thing: the text before the first ';'
/// ("Helical; Name=1" is "Helical"), folded on request. Empty when nothing is named.
inline std::string_view concept_text(std::string_view note, bool fold) noexcept {
  std::string_view text = concept_name_detail::trim(note.substr(0, note.find(';')));
  return fold ? fold_ordinal(text) : text;
}

}  // namespace plmscope::inline PLMSCOPE_ABI
