// SPDX-License-Identifier: MIT
// The smallest parts of a PTX text: words, lists, numbers, declarations.
#pragma once

#include "module.hpp"

#include <cctype>

namespace simulator {

inline bool is_space(char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; }
inline bool is_digit(char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; }

inline std::string trimmed(std::string_view x) {
  while (!x.empty() && is_space(x.front())) x.remove_prefix(1);
  while (!x.empty() && is_space(x.back())) x.remove_suffix(1);
  return std::string(x);
}
inline std::vector<std::string> split(std::string_view x) {
  std::vector<std::string> words;
  bool fresh = true;
  for (const char c : x) {
    if (!is_space(c)) {
      if (fresh) words.emplace_back();
      words.back() += c;
    }
    fresh = is_space(c);
  }
  return words;
}
/// At commas that are in no brackets.
inline std::vector<std::string> list(std::string_view x) {
  std::vector<std::string> parts(1);
  int depth = 0;
  for (const char c : x) {
    depth += c == '{' || c == '[' || c == '(' ? 1 : c == '}' || c == ']' || c == ')' ? -1 : 0;
    if (c == ',' && depth == 0) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  for (std::string& p : parts) p = trimmed(p);
  if (parts.back().empty()) parts.pop_back();
  return parts;
}
inline u32 up_to(u32 x, u32 multiple) { return (x + multiple - 1) / multiple * multiple; }

/// The bits of 12, -1, 0x1F, 0f3F800000 or 0d3FF0000000000000.
inline u64 number(std::string x) {
  if (x.size() > 2 && x[0] == '0' && (x[1] == 'f' || x[1] == 'd')) {
    return std::stoull(x.substr(2), nullptr, 16);
  }
  if (x[0] == '-') return static_cast<u64>(std::stoll(x, nullptr, 0));
  return std::stoull(x, nullptr, 0);
}

struct declaration : variable {
  type of = type::none;
};

/// `.shared .align 8 .b8 name[16]` and the like.
inline declaration declared(std::string_view text) {
  declaration d;
  u64 count = 1;
  const auto words = split(text);
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string& w = words[i];
    if (w == ".align") {
      d.align = static_cast<u32>(number(words.at(++i)));
    } else if (w == ".shared" || w == ".global" || w == ".const" || w == ".local" ||
               w == ".param") {
      d.space = w == ".const" ? 'g' : w[1];
    } else if (w[0] == '.') {
      if (const type t = type_of(std::string_view(w).substr(1)); t != type::none) d.of = t;
    } else {
      const auto bracket = w.find('[');
      d.name = w.substr(0, bracket);
      if (bracket != std::string::npos) {
        count = w[bracket + 1] == ']' ? 0 : number(w.substr(bracket + 1));
      }
    }
  }
  d.align = std::max(d.align, bytes_of(d.of));
  d.bytes = count * bytes_of(d.of);
  return d;
}

}  // namespace simulator
