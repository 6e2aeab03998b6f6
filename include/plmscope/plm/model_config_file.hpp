// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/byte_source.hpp>
#include <plmscope/plm/rules.hpp>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace plmscope::inline PLMSCOPE_ABI {

/// The `config.json` of a model: what its tensors cannot tell. Values at the top level only;
/// objects and lists inside are passed over.
class model_config_file {
 public:
  model_config_file() = default;
  /// Errors: plm.151 for what is no object from its first to its last bracket.
  model_config_file(std::string_view json, std::string where) : where_(std::move(where)) {
    read(json);
  }

  /// The file beside a model file, called like it with `config` for `model` and `json` for the
  /// ending: config.json beside model.safetensors, a.config_hf.json beside a.model_hf.safetensors.
  /// Empty without one. At most 1 MiB.
  static model_config_file beside(const std::filesystem::path& model) {
    std::string name = model.stem().string();
    const std::size_t at = name.rfind("model");
    if (at == std::string::npos) return {};
    name.replace(at, 5, "config").append(".json");
    const std::filesystem::path json = model.parent_path() / name;
    std::error_code ignored;
    if (!std::filesystem::is_regular_file(json, ignored)) return {};
    const auto bytes = read_file(json, std::size_t{1} << 20);
    return {{reinterpret_cast<const char*>(bytes.data()), bytes.size()}, json.string()};
  }

  /// The path; empty without a file.
  const std::string& where() const noexcept { return where_; }

  /// The whole number under the first of these keys that is there. Errors: plm.118 for anything
  /// else than a whole number from 1 to 1,000,000.
  std::optional<std::size_t> count(std::initializer_list<std::string_view> keys) const {
    for (const std::string_view key : keys) {
      const auto found = values_.find(key);
      if (found == values_.end()) continue;
      const std::string& text = found->second;
      std::size_t value = 0;
      const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
      if (failure != std::errc() || end != text.data() + text.size() || value == 0 ||
          value > 1'000'000) {
        throw error(rules::config_number, {.where = where_ + ", " + std::string(key),
                                           .expected = "a whole number from 1 to 1,000,000",
                                           .found = text.substr(0, 40)});
      }
      return value;
    }
    return {};
  }

 private:
  // One pass: `key` is the last text before a colon at the top level.
  void read(std::string_view json) {
    constexpr std::string_view blank = " \t\r\n";
    constexpr std::string_view ends = ",]} \t\r\n";
    std::string key;
    std::size_t depth = 0;
    bool closed = false;
    for (std::size_t i = 0; i < json.size(); ++i) {
      const char c = json[i];
      if (blank.find(c) != std::string_view::npos) continue;
      if (closed || (depth == 0 && c != '{')) refuse();
      if (c == '{' || c == '[') {
        ++depth;
      } else if (c == '}' || c == ']') {
        closed = --depth == 0;
      } else if (c == ',') {
        if (depth == 1) key.clear();
      } else if (c == '"') {
        const std::size_t begin = i + 1;
        for (++i; i < json.size() && json[i] != '"'; ++i) {
          if (json[i] == '\\') ++i;
        }
        if (i >= json.size()) refuse();
        const std::size_t next = json.find_first_not_of(blank, i + 1);
        const bool names = next != std::string_view::npos && json[next] == ':';
        if (depth == 1 && names) {
          key = json.substr(begin, i - begin);
        } else if (depth == 1) {
          values_.emplace(key, json.substr(begin - 1, i + 2 - begin));
        }
      } else if (c != ':') {
        const std::size_t end = std::min(json.find_first_of(ends, i), json.size());
        if (depth == 1) values_.emplace(key, json.substr(i, end - i));
        i = end - 1;
      }
    }
    if (!closed) refuse();
  }

  [[noreturn]] void refuse() const {
    throw error(rules::config_text,
                {.where = where_, .remedy = "fetch the file again, or remove it"});
  }

  std::string where_;
  std::map<std::string, std::string, std::less<>> values_;  // texts with their quotes
};

}  // namespace plmscope::inline PLMSCOPE_ABI
