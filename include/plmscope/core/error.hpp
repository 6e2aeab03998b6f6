// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace plmscope::inline PLMSCOPE_ABI {

/// What kind of failure an error is; the value is the exit code of the program.
enum class error_kind : int {
  usage = 2,       ///< wrong arguments or configuration
  malformed = 3,   ///< a file or a text does not follow its format
  mismatch = 4,    ///< valid, but belongs to another model, layer, shape or normalisation
  resource = 5,    ///< would need more memory or length than allowed
  io = 6,          ///< the operating system refused
  numeric = 7,     ///< NaN or infinity where a number is needed
  interrupted = 8  ///< stopped by the user, state saved
};

/// One row of the error table: a stable id, its kind and the rule that was broken.
/// Every layer declares its rows in its `rules.hpp`; `docs/errors.md` lists them all (a test
/// compares).
struct error_rule {
  std::string_view id;    ///< for example `io.103`; printed as `[plmscope.io.103]`
  error_kind kind;
  std::string_view rule;  ///< one short sentence: what must hold
};

/// What was wrong, where, and what to do about it. Empty fields are not printed.
struct error_details {
  std::string where = {};     ///< file with line, byte offset or tensor name; or the argument
  std::string expected = {};
  std::string found = {};
  std::string remedy = {};
};

/// The base of everything plmscope throws.
class error : public std::runtime_error {
 public:
  error(const error_rule& rule, error_details details)
      : std::runtime_error(text(rule, details)), rule_(rule), details_(std::move(details)) {}

  std::string_view id() const noexcept { return rule_.id; }
  error_kind kind() const noexcept { return rule_.kind; }
  const error_details& details() const noexcept { return details_; }
  int exit_code() const noexcept { return static_cast<int>(rule_.kind); }

 private:
  static std::string text(const error_rule& rule, const error_details& d) {
    std::string s = "[plmscope.";
    s.append(rule.id).append("] ").append(rule.rule);
    if (!d.where.empty()) s += "\n  at:       " + printable(d.where);
    if (!d.expected.empty()) s += "\n  expected: " + printable(d.expected);
    if (!d.found.empty()) s += "\n  found:    " + printable(d.found);
    if (!d.remedy.empty()) s += "\n  remedy:   " + printable(d.remedy);
    return s;
  }

  // Text from files reaches terminals: control bytes are shown, never sent.
  static std::string printable(std::string_view in) {
    static constexpr char hex[] = "0123456789abcdef";
    std::string out;
    const std::string_view shown = in.substr(0, 2000);
    for (std::size_t i = 0; i < shown.size(); ++i) {
      const auto u = static_cast<unsigned char>(shown[i]);
      const auto next = static_cast<unsigned char>(i + 1 < shown.size() ? shown[i + 1] : 'x');
      const bool c1 = u == 0xc2 && next >= 0x80 && next <= 0x9f;  // as UTF-8
      if ((u < 0x20 && u != '\n' && u != '\t') || u == 0x7f || c1) {
        out += {'\\', 'x', hex[u >> 4], hex[u & 15]};
        if (c1) out += {'\\', 'x', hex[next >> 4], hex[next & 15]}, ++i;
      } else {
        out += shown[i];
      }
    }
    if (in.size() > 2000) out += " ...";
    return out;
  }

  error_rule rule_;
  error_details details_;
};

}  // namespace plmscope
