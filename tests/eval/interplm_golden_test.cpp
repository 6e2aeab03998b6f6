// SPDX-License-Identifier: MIT
// InterPLM's own counts, tables and choices: their labels and thresholds through our counting core.
#include "tests/golden.hpp"

#include <plmscope/eval/concept_counts.hpp>
#include <plmscope/eval/score_concepts.hpp>
#include <plmscope/io/byte_source.hpp>
#include <plmscope/io/safetensors.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <limits>
#include <map>
#include <regex>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

using namespace plmscope;

namespace {

std::string text_of(const std::filesystem::path& path) {
  const auto bytes = read_file(path);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// The text of the JSON list called `key`, brackets included.
std::string_view list_of(std::string_view json, std::string_view key) {
  const auto at = json.find("\"" + std::string(key) + "\"");
  REQUIRE(at != std::string_view::npos);
  const auto begin = json.find('[', at);
  int depth = 0;
  bool quoted = false;
  for (auto i = begin; i < json.size(); ++i) {
    if (json[i] == '"' && json[i - 1] != '\\') quoted = !quoted;
    if (quoted) continue;
    depth += json[i] == '[' ? 1 : json[i] == ']' ? -1 : 0;
    if (depth == 0) return json.substr(begin, i + 1 - begin);
  }
  FAIL("unclosed list");
  return {};
}

std::vector<double> numbers_of(std::string_view json, std::string_view key) {
  std::vector<double> out;
  std::string_view list = list_of(json, key);
  list.remove_prefix(1);
  while (!list.empty()) {
    double value = 0.0;
    const auto [end, status] = std::from_chars(list.data(), list.data() + list.size(), value);
    if (status == std::errc{}) out.push_back(value);
    list.remove_prefix(std::max<std::size_t>(1, static_cast<std::size_t>(end - list.data())));
  }
  return out;
}

std::vector<std::string> words_of(std::string_view json, std::string_view key) {
  std::vector<std::string> out;
  const std::string list(list_of(json, key));
  const std::regex word(R"re("((?:[^"\\]|\\.)*)"|\b(true|false)\b)re");
  for (auto i = std::sregex_iterator(list.begin(), list.end(), word); i != std::sregex_iterator();
       ++i) {
    out.push_back((*i)[1].matched ? (*i)[1].str() : (*i)[2].str());
  }
  return out;
}

struct golden_set {
  std::filesystem::path folder;
  std::vector<std::string> names;
  std::vector<bool> residue_level;
  std::vector<std::size_t> column;  // of every kept concept
  std::vector<float> thresholds;
  std::vector<std::uint32_t> scored;
  std::vector<std::uint32_t> shard;  // of every scored protein
  std::size_t shards = 0;
  std::map<std::string, std::pair<std::size_t, std::size_t>> sides;  // first and last shard
  std::vector<std::int64_t> offsets;
  std::vector<std::uint32_t> ids;
  std::vector<float> values;
  std::vector<std::size_t> protein_offsets;
  std::size_t features = 0;

  sparse_activations acts() const { return {features, offsets, ids, values, protein_offsets}; }
  std::vector<std::uint32_t> proteins(std::size_t first, std::size_t last) const {
    std::vector<std::uint32_t> out;
    for (std::size_t i = 0; i < scored.size(); ++i) {
      if (shard[i] >= first && shard[i] <= last) out.push_back(scored[i]);
    }
    std::ranges::sort(out);
    return out;
  }
};

golden_set load(const std::filesystem::path& folder) {
  golden_set g;
  g.folder = folder;
  const std::string config = text_of(folder / "config.json");
  const std::string concepts = text_of(folder / "concepts.json");
  g.names = words_of(concepts, "kept_names");
  for (const auto& word : words_of(concepts, "is_aa_level")) {
    g.residue_level.push_back(word == "true");
  }
  for (const double c : numbers_of(concepts, "kept_columns")) {
    g.column.push_back(static_cast<std::size_t>(c));
  }
  for (const double t : numbers_of(config, "thresholds")) {
    g.thresholds.push_back(static_cast<float>(t));
  }
  for (const std::string side : {"valid", "test"}) {
    const auto range = numbers_of(config, side + "_shards");
    REQUIRE(range.size() == 2);
    g.sides[side] = {static_cast<std::size_t>(range[0]), static_cast<std::size_t>(range[1])};
  }
  const auto labels = safetensors_file::open(folder / "labels.safetensors");
  g.scored = labels.read_vector<std::uint32_t>("scored_protein");
  g.shard = labels.read_vector<std::uint32_t>("shard_of_scored_protein");
  for (const auto s : g.shard) g.shards = std::max<std::size_t>(g.shards, s + 1);
  const auto file = safetensors_file::open(folder / "features.safetensors");
  g.offsets = file.read_vector<std::int64_t>("row_ptr");
  g.ids = file.read_vector<std::uint32_t>("col");
  g.values = file.read_vector<float>("val");
  for (const auto o : file.read_vector<std::uint64_t>("protein_offset")) {
    g.protein_offsets.push_back(static_cast<std::size_t>(o));
  }
  g.features = safetensors_file::open(folder / "feature_max.safetensors").require("max").elements;
  return g;
}

// Their label matrix, which has one instance number per residue and column, counted anew in every
// shard. A number whose residues were all overwritten still counts: an instance without rows.
label_index index_of(const golden_set& g) {
  const auto labels = safetensors_file::open(g.folder / "labels.safetensors");
  const auto residue = labels.read_vector<std::uint32_t>("residue");
  const auto column = labels.read_vector<std::uint32_t>("concept");
  const auto number = labels.read_vector<std::uint32_t>("instance");
  std::map<std::uint32_t, std::uint32_t> kept;
  for (std::uint32_t c = 0; c < g.column.size(); ++c) {
    kept[static_cast<std::uint32_t>(g.column[c])] = c;
  }
  std::map<std::uint32_t, std::uint32_t> shard_of;
  std::map<std::uint32_t, std::uint32_t> some_protein;  // of a shard
  for (std::size_t i = 0; i < g.scored.size(); ++i) {
    shard_of[g.scored[i]] = g.shard[i];
    some_protein[g.shard[i]] = g.scored[i];
  }
  std::vector<std::vector<std::uint32_t>> at_row(g.offsets.size() - 1);
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint32_t> largest;  // shard, concept
  std::map<std::tuple<std::uint32_t, std::uint32_t, std::uint32_t>, std::vector<std::uint32_t>>
      rows;
  for (std::size_t i = 0; i < residue.size(); ++i) {
    if (!kept.contains(column[i])) continue;
    const std::uint32_t c = kept[column[i]];
    const auto next = std::ranges::upper_bound(g.protein_offsets, residue[i]);
    const auto protein = static_cast<std::uint32_t>(next - g.protein_offsets.begin() - 1);
    const std::uint32_t shard = shard_of.at(protein);
    at_row[residue[i]].push_back(c);
    rows[{shard, c, number[i]}].push_back(residue[i]);
    std::uint32_t& most = largest[{shard, c}];
    most = std::max(most, number[i]);
  }
  for (const auto& [key, most] : largest) {
    for (std::uint32_t n = 1; n <= most; ++n) rows[{key.first, key.second, n}];
  }
  label_index out;
  out.concepts = g.column.size();
  for (const bool residue_level : g.residue_level) {
    out.kinds.push_back(residue_level ? concept_kind::residue : concept_kind::domain);
  }
  out.row_offsets = {0};
  for (auto& concepts : at_row) {
    std::ranges::sort(concepts);
    out.row_concepts.insert(out.row_concepts.end(), concepts.begin(), concepts.end());
    out.row_offsets.push_back(static_cast<std::uint32_t>(out.row_concepts.size()));
  }
  using instance = std::pair<std::uint32_t, std::vector<std::uint32_t>>;
  std::vector<std::vector<instance>> by_protein(g.protein_offsets.size() - 1);
  for (auto& [key, at] : rows) {
    const auto& [shard, c, n] = key;
    std::uint32_t protein = some_protein.at(shard);
    // Residue-level numbers may run over several proteins; only how many there are is used.
    if (!at.empty() && !g.residue_level[c]) {
      const auto next = std::ranges::upper_bound(g.protein_offsets, at.front());
      protein = static_cast<std::uint32_t>(next - g.protein_offsets.begin() - 1);
      CHECK(at.back() < g.protein_offsets[protein + 1]);
    }
    if (g.residue_level[c]) at.clear();
    by_protein[protein].emplace_back(c, at);
  }
  out.protein_offsets = out.instance_offsets = {0};
  for (const auto& instances : by_protein) {
    for (const auto& [c, at] : instances) {
      out.instance_concepts.push_back(c);
      out.instance_rows.insert(out.instance_rows.end(), at.begin(), at.end());
      out.instance_offsets.push_back(static_cast<std::uint32_t>(out.instance_rows.size()));
    }
    out.protein_offsets.push_back(static_cast<std::uint32_t>(out.instance_concepts.size()));
  }
  return out;
}

struct stored_counts {
  std::vector<std::uint32_t> tp, fp, hits, positives, instances;
};

// Cells where ours differ from the stored ones.
std::size_t differences(const concept_counts& ours, const stored_counts& stored) {
  std::size_t wrong = 0;
  std::size_t cell = 0;
  for (std::size_t c = 0; c < ours.concepts(); ++c) {
    for (std::size_t f = 0; f < ours.features(); ++f) {
      for (std::size_t t = 0; t < ours.thresholds(); ++t, ++cell) {
        const tally have = ours.at(c, f, t);
        bool same = have.tp == stored.tp[cell] && have.fp == stored.fp[cell] &&
                    have.hits == stored.hits[cell];
        if (!stored.positives.empty()) {
          same = same && have.positives == stored.positives[c] &&
                 have.instances == stored.instances[c];
        }
        wrong += same ? 0u : 1u;
      }
    }
  }
  return wrong;
}

}  // namespace

TEST_CASE("counts of InterPLM, cell by cell") {
  for (const auto& folder : golden::folders("interplm_goldens", "counts.safetensors")) {
    const golden_set g = load(folder);
    const label_index labels = index_of(g);
    const auto stored = safetensors_file::open(folder / "counts.safetensors");
    const auto acts = g.acts();
    acts.check();
    const feature_thresholds thresholds(g.features, g.thresholds);
    const auto read = [&](const std::string& set) {
      stored_counts out;
      out.tp = stored.read_vector<std::uint32_t>(set + ".tp");
      out.fp = stored.read_vector<std::uint32_t>(set + ".fp");
      out.hits = stored.read_vector<std::uint32_t>(set + ".tp_per_domain");
      if (stored.contains(set + ".positives")) {
        out.positives = stored.read_vector<std::uint32_t>(set + ".positives");
        out.instances = stored.read_vector<std::uint32_t>(set + ".positive_domains");
      }
      return out;
    };
    const auto count = [&](std::size_t first, std::size_t last) {
      return count_concepts(acts, labels, thresholds, g.proteins(first, last));
    };
    std::size_t wrong = 0;
    for (std::size_t s = 0; s < g.shards; ++s) {
      wrong += differences(count(s, s), read("shard_" + std::to_string(s)));
    }
    const auto start = std::chrono::steady_clock::now();
    for (const auto& [side, range] : g.sides) {
      wrong += differences(count(range.first, range.second), read(side));
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    std::cout << "counts of both sides: " << seconds.count() << " s\n";
    golden::report(folder / "counts.safetensors", static_cast<double>(wrong), 0.0);
  }
}

TEST_CASE("tables and choices of InterPLM") {
  for (const auto& folder : golden::folders("interplm_goldens", "tables.safetensors")) {
    const golden_set g = load(folder);
    const label_index labels = index_of(g);
    const auto stored = safetensors_file::open(folder / "tables.safetensors");
    const feature_thresholds thresholds(g.features, g.thresholds);
    double worst = 0.0;
    for (const auto& [side, range] : g.sides) {
      const auto counts =
          count_concepts(g.acts(), labels, thresholds, g.proteins(range.first, range.second));
      const auto present = stored.read_vector<std::uint32_t>(side + ".present");
      const auto table = [&](const char* name) {
        return stored.read_vector<double>(side + "." + name);
      };
      const auto p = table("precision"), r = table("recall"), d = table("recall_per_domain"),
                 f = table("f1"), fd = table("f1_per_domain");
      std::size_t cell = 0;
      for (std::size_t c = 0; c < counts.concepts(); ++c) {
        for (std::size_t feature = 0; feature < counts.features(); ++feature) {
          for (std::size_t t = 0; t < counts.thresholds(); ++t, ++cell) {
            const tally have = counts.at(c, feature, t);
            const auto q = quality_of(have, counts.kind(c), f1_by_domain{});
            CHECK((have.tp > 0) == (present[cell] != 0));
            if (present[cell] == 0) continue;
            for (const double off :
                 {q.precision - p[cell], q.residue_recall - r[cell], q.domain_recall - d[cell],
                  q.f1_by_residue - f[cell], q.f1_by_domain - fd[cell]}) {
              worst = golden::worse(worst, std::abs(off));
            }
          }
        }
      }
    }
    golden::report(folder / "tables.safetensors", worst, 1e-15);

    // The best feature of every concept on their validation shards.
    const auto valid = g.sides.at("valid");
    const auto test = g.sides.at("test");
    const auto on_valid =
        count_concepts(g.acts(), labels, thresholds, g.proteins(valid.first, valid.second));
    const auto on_test =
        count_concepts(g.acts(), labels, thresholds, g.proteins(test.first, test.second));
    std::vector<concept_result> best;
    std::vector<concept_result> pairs;
    score_concepts_detail::choose(on_valid, on_test, thresholds, 0, 0.5, f1_by_domain{}, best,
                                  pairs);
    const std::string json = text_of(folder / "pairs.json");
    const std::string list(list_of(json, "valid_top_feature_per_concept"));
    const std::regex entry(R"re(\[\s*"([^"]*)",\s*(\d+)\s*\])re");
    std::map<std::string, std::uint32_t> theirs;
    for (auto i = std::sregex_iterator(list.begin(), list.end(), entry);
         i != std::sregex_iterator(); ++i) {
      theirs[(*i)[1]] = static_cast<std::uint32_t>(std::stoul((*i)[2]));
    }
    CHECK(theirs.size() > 5);
    std::size_t wrong = 0;
    std::size_t seen = 0;
    for (const concept_result& b : best) {
      const std::string& name = g.names[b.concept_id];
      if (name.find("amino_acid") != std::string::npos || !b.found()) continue;
      ++seen;
      wrong += theirs.contains(name) && theirs[name] == b.feature ? 0u : 1u;
    }
    CHECK(seen == theirs.size());
    golden::report(folder / "pairs.json", static_cast<double>(wrong), 0.0);
  }
}
