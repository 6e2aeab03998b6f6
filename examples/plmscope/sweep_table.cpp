// SPDX-License-Identifier: MIT
#include "sweep_figures.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <tuple>
#include <utility>

namespace {

/// A figure of a record, and how it is shown.
struct column {
  std::string title;
  std::function<std::optional<double>(const json_object&)> value;
  std::string format;
  std::string mean_format;
};

std::function<std::optional<double>(const json_object&)> at(const char* path, double times = 1) {
  return [pointer = json_object::json_pointer(path), times](const json_object& record) {
    const bool there = record.contains(pointer) && record[pointer].is_number();
    return there ? std::optional(times * record[pointer].get<double>()) : std::nullopt;
  };
}

std::string shown(const std::string& format, std::optional<double> value) {
  return value ? fmt::format(fmt::runtime("{:" + format + "}"), *value) : "n/a";
}

/// Mean and standard deviation (n - 1) of what there is.
std::string spread(const column& c, const std::vector<std::optional<double>>& values) {
  double n = 0, sum = 0, squares = 0;
  for (const auto& v : values) {
    if (v) n += 1, sum += *v;
  }
  if (n == 0) return "n/a";
  for (const auto& v : values) {
    if (v) squares += (*v - sum / n) * (*v - sum / n);
  }
  if (n < 2) return shown(c.mean_format, sum / n);
  return shown(c.mean_format, sum / n) + " +- " +
         shown(c.mean_format, std::sqrt(squares / (n - 1)));
}

using text_rows = std::vector<std::vector<std::string>>;

/// The first `left` columns begin at their left, all others end at their right.
std::string aligned(const text_rows& rows, std::size_t left) {
  std::vector<std::size_t> width(rows.front().size(), 0);
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) width[i] = std::max(width[i], row[i].size());
  }
  std::string out;
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      line += i < left ? fmt::format("{:<{}}", row[i], width[i] + 2)
                       : fmt::format("{:>{}}{}", row[i], width[i], i + 1 < row.size() ? "  " : "");
    }
    out += line + '\n';
  }
  return out;
}

}  // namespace

std::string comparison_table(const sweep_plan& plan,
                             const std::map<std::string, json_object>& records) {
  std::vector<column> columns{{"FVU", at("/rows/fvu"), ".4f", ".4f"},
                              {"L0", at("/rows/l0"), ".1f", ".1f"},
                              {"dead %", at("/rows/dead_share", 100), ".1f", ".1f"}};
  if (plan.fidelity) {
    columns.push_back({"loss recovered", at("/fidelity/recovered_zero/value"), ".4f", ".4f"});
  }
  if (plan.concepts) columns.push_back({"concepts", at("/concepts/found"), ".0f", ".1f"});

  std::vector<std::string> head{"model", "site", "policy"};
  text_rows runs{head};
  text_rows means{head};
  runs[0].emplace_back("seed");
  means[0].emplace_back("seeds");
  for (const auto& c : columns) {
    runs[0].push_back(c.title);
    means[0].push_back(c.title);
  }
  // Runs of one policy that differ in their seed stand one after another.
  for (std::size_t first = 0; first < plan.runs.size(); first += plan.seeds.size()) {
    std::vector<std::vector<std::optional<double>>> values(columns.size());
    for (std::size_t i = first; i < first + plan.seeds.size(); ++i) {
      const sweep_run& run = plan.runs[i];
      const auto record = records.find(run.name);
      if (record == records.end()) continue;
      runs.push_back({plan.models[run.model].name, run.site, plan.policies[run.policy].name,
                      fmt::format("{}", run.seed)});
      for (std::size_t c = 0; c < columns.size(); ++c) {
        values[c].push_back(columns[c].value(record->second));
        runs.back().push_back(shown(columns[c].format, values[c].back()));
      }
    }
    if (values[0].empty()) continue;
    const sweep_run& run = plan.runs[first];
    means.push_back({plan.models[run.model].name, run.site, plan.policies[run.policy].name,
                     fmt::format("{}", values[0].size())});
    for (std::size_t c = 0; c < columns.size(); ++c) {
      means.back().push_back(spread(columns[c], values[c]));
    }
  }
  std::string out = aligned(runs, 3);
  if (plan.seeds.size() > 1) {
    out += "\nMean +- standard deviation over seeds\n" + aligned(means, 3);
  }
  return out;
}
