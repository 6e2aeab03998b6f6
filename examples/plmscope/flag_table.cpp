// SPDX-License-Identifier: MIT
#include "flag_table.hpp"

#include "rules.hpp"

#include <plmscope/plm/site.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>

namespace {

enum class flag_kind { text, whole, number, yes };

flag_kind kind_of(const CLI::Option& flag) {
  if (flag.get_items_expected_max() == 0) return flag_kind::yes;
  const std::string name = flag.get_type_name();
  if (name.starts_with("UINT") || name.starts_with("INT")) return flag_kind::whole;
  return name.starts_with("FLOAT") ? flag_kind::number : flag_kind::text;
}

[[noreturn]] void refuse(const std::string& where, const std::string& key,
                         const std::string& expected, const std::string& found) {
  throw plmscope::error(plmscope::rules::sweep_value,
                        {.where = where, .expected = key + ": " + expected, .found = found});
}

/// As a user would type it after the flag.
std::string text_of(const CLI::Option& flag, const std::string& key, const toml::node& node,
                    const std::string& file) {
  const std::string where = place_in(file, node.source());
  switch (kind_of(flag)) {
    case flag_kind::yes:
      if (const auto yes = node.value_exact<bool>()) return *yes ? "true" : "false";
      refuse(where, key, "true or false", type_of(node));
    case flag_kind::text:
      if (const auto text = node.value_exact<std::string>()) {
        if (!text->empty() && text->find('\0') == std::string::npos) return *text;
        refuse(where, key, "a text", text->empty() ? "an empty one" : "one with a zero byte");
      }
      refuse(where, key, "a text", type_of(node));
    case flag_kind::number:
      if (const auto number = node.value_exact<double>()) {
        if (std::isfinite(*number)) return fmt::format("{}", *number);
        refuse(where, key, "a finite number", fmt::format("{}", *number));
      }
      [[fallthrough]];
    case flag_kind::whole:
      if (const auto number = node.value_exact<std::int64_t>()) {
        // CLI11 would take -1 for 2^64 - 1.
        if (*number < 0 && flag.get_type_name().starts_with("UINT")) {
          refuse(where, key, "a whole number from 0", fmt::format("{}", *number));
        }
        return fmt::format("{}", *number);
      }
      break;
  }
  refuse(where, key, kind_of(flag) == flag_kind::whole ? "a whole number" : "a number",
         type_of(node));
}

}  // namespace

std::string place_in(const std::string& file, const toml::source_region& at) {
  if (!at.begin) return file;
  return fmt::format("{}:{}:{}", file, at.begin.line, at.begin.column);
}

std::string type_of(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "a list";
    case toml::node_type::string:
      return "a text";
    case toml::node_type::integer:
      return "a whole number";
    case toml::node_type::floating_point:
      return "a number with a point";
    case toml::node_type::boolean:
      return "true or false";
    default:
      return "a date or a time";
  }
}

flag_table::flag_table(CLI::App& flags, std::vector<std::string> elsewhere,
                       std::vector<std::string> left_out)
    : flags_(flags), elsewhere_(std::move(elsewhere)), left_out_(std::move(left_out)) {
  flags_.set_help_flag();
}

CLI::Option& flag_table::find(const toml::key& key, const std::string& file) {
  std::vector<std::string> names = elsewhere_;
  const std::string asked(key.str());
  for (CLI::Option* flag : flags_.get_options()) {
    const std::string& name = flag->get_lnames().front();
    if (std::ranges::count(left_out_, name) > 0) continue;
    if (name == asked) return *flag;
    names.push_back(name);
  }
  const std::string shown = asked.substr(0, 64);
  const auto far = [&](const std::string& name) {
    return plmscope::site_detail::edit_distance(shown, name);
  };
  const std::string nearest = *std::ranges::min_element(names, {}, far);
  std::ranges::sort(names);
  throw plmscope::error(
      plmscope::rules::sweep_key,
      {.where = place_in(file, key.source()),
       .expected = fmt::format("one of {}", fmt::join(names, ", ")),
       .found = '"' + shown + '"',
       .remedy = far(nearest) <= 1 + nearest.size() / 3 ? "did you mean " + nearest + "?" : ""});
}

void flag_table::read(const toml::table& table, const std::string& file) {
  for (const auto& [key, node] : table) {
    if (std::ranges::count(elsewhere_, key.str()) > 0) continue;
    CLI::Option& flag = find(key, file);
    const std::string name(key.str());
    std::vector<std::string> values;
    const toml::array* list = node.as_array();
    if (list != nullptr && flag.get_items_expected_max() > 1) {
      if (list->empty()) refuse(place_in(file, node.source()), name, "a list", "an empty one");
      for (const toml::node& one : *list) values.push_back(text_of(flag, name, one, file));
    } else {
      values.push_back(text_of(flag, name, node, file));
    }
    try {
      flag.clear();
      flag.add_result(values);
      flag.run_callback();
    } catch (const CLI::ParseError& e) {
      refuse(place_in(file, node.source()), name, "a value that the flag takes", e.what());
    }
  }
}

json_object flag_table::settings() const {
  json_object out = json_object::object();
  for (const CLI::Option* flag : std::as_const(flags_).get_options()) {
    const std::string& name = flag->get_lnames().front();
    if (std::ranges::count(left_out_, name) > 0) continue;
    const auto shown = [&](const std::string& text) {
      return kind_of(*flag) == flag_kind::text ? json_object(text) : json_object::parse(text);
    };
    if (flag->count() == 0) {
      if (!flag->get_default_str().empty()) out[name] = shown(flag->get_default_str());
    } else if (flag->get_items_expected_max() > 1) {
      for (const auto& value : flag->results()) out[name].push_back(shown(value));
    } else {
      out[name] = shown(flag->results().front());
    }
  }
  return out;
}
