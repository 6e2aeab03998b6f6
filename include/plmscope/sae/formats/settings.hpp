// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/byte_source.hpp>
#include <plmscope/io/json_reader.hpp>
#include <plmscope/sae/rules.hpp>

#include <charconv>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace plmscope::inline PLMSCOPE_ABI {

/// The settings that a library writes beside an SAE, flat: `metadata.model_name` is the member
/// `model_name` of the object `metadata`. A member that is absent or null is nothing; one of
/// another kind than asked for is an error (`sae_settings`) with its name.
class sae_settings {
 public:
  static constexpr std::size_t max_bytes = std::size_t{1} << 20;
  static constexpr std::size_t max_depth = 16;

  sae_settings() = default;

  /// Errors: io.140, io.141 for what is not JSON; `sae_settings` above 1 MiB or 16 objects deep.
  static sae_settings json(std::string_view text, std::string where) {
    sae_settings out;
    out.where_ = std::move(where);
    out.check_size(text.size());
    json_reader in(text, out.where_);
    in.check_encoding();
    out.read_object(in, text, "", 0);
    in.finish();
    return out;
  }

  /// As much of YAML as is needed: `section:` and, indented, `key: value` of one line each. Other
  /// lines, tags and lists are passed over.
  static sae_settings yaml(std::string_view text, std::string where) {
    sae_settings out;
    out.where_ = std::move(where);
    out.check_size(text.size());
    std::string section;
    while (!text.empty()) {
      std::string_view line = text.substr(0, text.find('\n'));
      text.remove_prefix(std::min(text.size(), line.size() + 1));
      const std::size_t indent = std::min(line.find_first_not_of(' '), line.size());
      line = trimmed(line.substr(indent));
      const std::size_t colon = line.find(':');
      if (line.empty() || line[0] == '#' || line[0] == '-' || colon == std::string_view::npos)
        continue;
      const std::string key(line.substr(0, colon));
      std::string_view value = trimmed(line.substr(colon + 1));
      if (value.empty() || value[0] == '!') {
        if (indent == 0) section = key + ".";
        continue;
      }
      out.values_[(indent == 0 ? "" : section) + key] = scalar(value);
    }
    return out;
  }

  /// The file, or no settings where there is none. The kind goes by the ending of its name.
  static sae_settings beside(const std::filesystem::path& path) {
    std::error_code absent;
    if (!std::filesystem::is_regular_file(path, absent)) return {};
    const auto bytes = read_file(path, max_bytes);
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return path.extension() == ".json" ? json(text, path.string()) : yaml(text, path.string());
  }

  bool empty() const noexcept { return values_.empty(); }
  const std::string& where() const noexcept { return where_; }
  bool has(const std::string& key) const {
    const auto at = values_.find(key);
    return at != values_.end() && at->second.kind != kind::null;
  }

  std::optional<std::string> text(const std::string& key) const {
    const value* v = find(key, kind::text, "a text");
    return v == nullptr ? std::optional<std::string>() : v->raw;
  }
  std::optional<bool> truth(const std::string& key) const {
    const value* v = find(key, kind::truth, "true or false");
    return v == nullptr ? std::optional<bool>() : v->raw == "true";
  }
  std::optional<double> number(const std::string& key) const {
    const value* v = find(key, kind::number, "a number");
    if (v == nullptr) return {};
    double out = 0;
    const auto [end, failure] = std::from_chars(v->raw.data(), v->raw.data() + v->raw.size(), out);
    if (failure != std::errc() || end != v->raw.data() + v->raw.size() || !std::isfinite(out)) {
      refuse(key, "a finite number", v->raw);
    }
    return out;
  }
  /// A count: a whole number below 2^32.
  std::optional<std::size_t> count(const std::string& key) const {
    const auto v = number(key);
    if (!v) return {};
    if (*v < 0 || *v >= 4294967296.0 || *v != std::floor(*v)) {
      refuse(key, "a whole number below 2^32", values_.find(key)->second.raw);
    }
    return static_cast<std::size_t>(*v);
  }
  /// Whatever it is, as it was written; for records.
  std::string written(const std::string& key) const {
    const auto at = values_.find(key);
    return at == values_.end() ? std::string() : at->second.raw.substr(0, 4096);
  }

  [[noreturn]] void refuse(const std::string& key, std::string expected, std::string found) const {
    throw error(rules::sae_settings, {.where = where_ + ", \"" + key + "\"",
                                      .expected = std::move(expected),
                                      .found = std::move(found)});
  }

 private:
  enum class kind { null, truth, number, text, list };
  struct value {
    sae_settings::kind kind = sae_settings::kind::null;
    std::string raw;
  };

  void check_size(std::size_t bytes) const {
    if (bytes <= max_bytes) return;
    throw error(
        rules::sae_settings,
        {.where = where_, .expected = "at most 1 MiB", .found = std::to_string(bytes) + " bytes"});
  }

  const value* find(const std::string& key, kind wanted, const char* expected) const {
    const auto at = values_.find(key);
    if (at == values_.end() || at->second.kind == kind::null) return nullptr;
    if (at->second.kind != wanted) refuse(key, expected, at->second.raw.substr(0, 200));
    return &at->second;
  }

  void read_object(json_reader& in, std::string_view text, const std::string& prefix,
                   std::size_t depth) {
    if (depth == max_depth) {
      throw error(rules::sae_settings, {.where = where_,
                                        .expected = "at most 16 objects deep",
                                        .found = "more, in \"" + prefix + "\""});
    }
    in.object([&](const std::string& key) {
      const char first = in.next();
      if (first == '{') return read_object(in, text, prefix + key + ".", depth + 1);
      value& v = values_[prefix + key];
      if (first == '"') {
        v = {kind::text, in.text()};
        return;
      }
      const std::size_t from = in.position();
      in.skip_value();
      const std::string_view raw = text.substr(from, in.position() - from);
      v = first == '[' ? value{kind::list, std::string(raw)} : scalar(raw);
      if (first != '[' && v.kind == kind::text) {
        in.fail(rules::json_syntax, "", v.raw, "a number, true, false or null");
      }
    });
  }

  static value scalar(std::string_view raw) {
    if (raw == "null" || raw == "~") return {};
    if (raw == "true" || raw == "false") return {kind::truth, std::string(raw)};
    double out = 0;
    const auto [end, failure] = std::from_chars(raw.data(), raw.data() + raw.size(), out);
    const bool number = failure != std::errc::invalid_argument && end == raw.data() + raw.size();
    return {number ? kind::number : kind::text, std::string(raw)};
  }
  static std::string_view trimmed(std::string_view s) {
    while (!s.empty() && (s.back() == ' ' || s.back() == '\r')) s.remove_suffix(1);
    while (!s.empty() && s.front() == ' ') s.remove_prefix(1);
    return s;
  }

  std::string where_;
  std::map<std::string, value> values_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
