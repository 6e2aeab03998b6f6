// SPDX-License-Identifier: MIT
#include "ask.hpp"
#include "rules.hpp"
#include "sae_file.hpp"

#include <plmscope/acts/model_reader.hpp>
#include <plmscope/io/byte_source.hpp>
#include <plmscope/io/residues.hpp>
#include <plmscope/sae/checkpoint.hpp>
#include <plmscope/tensor/host_codes.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>

namespace {

struct ask_command {
  common_options common;
  std::string sequence;
  std::string model;
  std::string folder = "out/demo";
  double min_score = 0.3;
};

struct feature_name {
  std::string name;
  double threshold = 0;
  double maximum = 1;
  double validation_f1 = 0;
  double held_out_f1 = 0;
  double amino_acid_f1 = 0;
};

std::map<std::size_t, feature_name> read_names(const std::filesystem::path& file,
                                               const std::string& sae_hash) {
  const auto bytes = plmscope::read_file(file);
  const auto j = nlohmann::json::parse(reinterpret_cast<const char*>(bytes.data()),
                                       reinterpret_cast<const char*>(bytes.data()) + bytes.size(),
                                       nullptr, false);
  const auto bad = [&](const std::string& found) {
    throw plmscope::error(plmscope::rules::cli_names,
                          {.where = file.string(),
                           .found = found,
                           .remedy = "score the SAE with `plmscope concepts` again"});
  };
  if (!j.is_object() || j.value("format", "") != "plmscope.features.1" || !j.contains("features") ||
      !j["features"].is_array()) {
    bad("not a features.json of plmscope");
  }
  if (j.value("sae_hash", "") != sae_hash) bad("names of another SAE");
  std::map<std::size_t, feature_name> out;
  for (const auto& row : j["features"]) {
    if (!row.is_object() || !row.contains("concept")) continue;
    const auto number = [&](const char* key) {
      return row.contains(key) && row[key].is_number() ? row[key].get<double>() : 0.0;
    };
    out[row.value("feature", std::size_t{0})] = {
        row.value("concept", ""), number("threshold"),   std::max(number("max"), 1e-30),
        number("validation_f1"),  number("held_out_f1"), number("amino_acid_f1")};
  }
  return out;
}

/// "5-27, 31": 1-based, both ends included.
std::string ranges(const std::vector<std::size_t>& positions) {
  std::string out;
  for (std::size_t i = 0; i < positions.size();) {
    std::size_t end = i + 1;
    while (end < positions.size() && positions[end] == positions[end - 1] + 1) ++end;
    if (!out.empty()) out += ", ";
    out += end - i == 1 ? fmt::format("{}", positions[i])
                        : fmt::format("{}-{}", positions[i], positions[end - 1]);
    i = end;
  }
  return out;
}

/// A feature above its threshold, with its values as shares of its maximum in the scored proteins.
struct firing {
  std::size_t feature = 0;
  const feature_name* name = nullptr;
  double strength = 0;
  std::vector<std::size_t> positions;
  std::vector<double> values;
};

/// The features of one concept, best scored first, and the strongest value among them.
struct concept_firing {
  std::vector<const firing*> features;
  double strength = 0;
};

void describe_overall(const std::map<std::size_t, firing>& found, double min_score, answer& out) {
  std::map<std::string, concept_firing> by_concept;
  for (const auto& [f, hit] : found) {
    concept_firing& c = by_concept[hit.name->name];
    c.features.push_back(&hit);
    c.strength = std::max(c.strength, hit.strength);
  }
  std::vector<const std::pair<const std::string, concept_firing>*> order;
  for (auto& entry : by_concept) {
    std::stable_sort(entry.second.features.begin(), entry.second.features.end(),
                     [](const firing* a, const firing* b) {
                       return a->name->validation_f1 > b->name->validation_f1;
                     });
    order.push_back(&entry);
  }
  std::stable_sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return a->second.strength > b->second.strength;
  });
  out.object["concepts"] = json_object::array();
  if (order.empty()) {
    out.text +=
        fmt::format("No named feature with a held-out F1 of at least {:.2f} fires.\n", min_score);
    return;
  }
  out.text += fmt::format("{:<32}{:>9}{:>6}{:>12}  {:<16}residues of the best feature\n", "concept",
                          "strength", "F1", "amino acid", "best feature");
  for (const auto* entry : order) {
    const auto& [name, c] = *entry;
    json_object row{{"concept", name}, {"strength", c.strength}};
    row["features"] = json_object::array();
    for (const firing* hit : c.features) {
      row["features"].push_back({{"feature", hit->feature},
                                 {"strength", hit->strength},
                                 {"held_out_f1", hit->name->held_out_f1},
                                 {"amino_acid_f1", hit->name->amino_acid_f1},
                                 {"positions", hit->positions},
                                 {"values", hit->values}});
    }
    out.object["concepts"].push_back(std::move(row));
    const firing& best = *c.features.front();
    const std::string others =
        c.features.size() == 1 ? "" : fmt::format(" (+{})", c.features.size() - 1);
    out.text += fmt::format("{:<32}{:>9.2f}{:>6.2f}{:>12.2f}  {:<16}{}\n", name.substr(0, 31),
                            c.strength, best.name->held_out_f1, best.name->amino_acid_f1,
                            fmt::format("{}{}", best.feature, others), ranges(best.positions));
  }
}

void describe_residues(const std::string& sequence,
                       const std::map<std::size_t, feature_name>& names,
                       std::vector<std::vector<std::pair<double, std::size_t>>>& per_residue,
                       answer& out) {
  out.object["per_residue"] = json_object::array();
  bool first = true;
  for (std::size_t r = 0; r < sequence.size(); ++r) {
    auto& here = per_residue[r];
    if (here.empty()) continue;
    if (first) out.text += "\nper residue, strongest first: concept strength (feature)\n";
    first = false;
    std::stable_sort(here.begin(), here.end(),
                     [](const auto& a, const auto& b) { return a.first > b.first; });
    json_object row{{"position", r + 1}, {"residue", std::string(1, sequence[r])}};
    out.text += fmt::format("{:>6} {} ", r + 1, sequence[r]);
    std::vector<std::string_view> said;
    for (const auto& [value, f] : here) {
      const std::string& name = names.at(f).name;
      row["features"].push_back({{"feature", f}, {"concept", name}, {"strength", value}});
      if (std::find(said.begin(), said.end(), name) != said.end()) continue;
      said.push_back(name);
      out.text += fmt::format(" {} {:.2f} ({})", name, value, f);
    }
    out.object["per_residue"].push_back(std::move(row));
    out.text += "\n";
  }
}

void run_ask(const ask_command& o) {
  const std::filesystem::path folder(o.folder);
  const auto sae_file = folder / "sae.safetensors";
  if (!std::filesystem::exists(sae_file)) {
    throw plmscope::error(plmscope::rules::file_open,
                          {.where = sae_file.string(),
                           .remedy = "run `./run demo` first, or name a folder with --from"});
  }
  program_model esm =
      open_model(o.model.empty() ? bundled("esm2_mini") : std::filesystem::path(o.model), o.common);
  const auto site = site_read_by(
      plmscope::describe_sae(plmscope::safetensors_file::open(sae_file)), sae_file);
  esm.check(site);
  program_sae model = program_sae::open(sae_file, {}, esm.source(site), esm.backend());
  if (o.common.dry_run) {
    const std::string sequence = plmscope::parse_sequence(o.sequence, "the sequence");
    return print_result(o.common, {{"residues", sequence.size()}, {"from", o.folder}},
                        fmt::format("would ask {} about {} residues\n", o.folder, sequence.size()));
  }
  const answer a = ask_sequence(esm, model, sae_file, folder, o.sequence, o.min_score);
  print_result(o.common, a.object, a.text);
}

}  // namespace

answer ask_sequence(program_model& esm, program_sae& model, const std::filesystem::path& sae_file,
                    const std::filesystem::path& folder, const std::string& typed,
                    double min_score) {
  const std::string sequence = plmscope::parse_sequence(typed, "the sequence");
  const auto names = read_names(folder / "features.json",
                                plmscope::safetensors_file::read_whole(sae_file).content_hash());
  auto& be = esm.backend();
  plmscope::model_reader reader(esm, plmscope::parse_site(model.source().site),
                                std::vector<std::string>{sequence});
  plmscope::activation_batch<program_backend> batch;
  plmscope::codes<program_backend> device_codes;
  reader.read(be, batch);
  model.encode(batch.rows, device_codes);
  const auto z = plmscope::to_host(be, device_codes);

  std::map<std::size_t, firing> found;
  std::vector<std::vector<std::pair<double, std::size_t>>> per_residue(sequence.size());
  for (std::size_t r = 0; r < z.rows(); ++r) {
    for (auto e = static_cast<std::size_t>(z.offsets[r]);
         e < static_cast<std::size_t>(z.offsets[r + 1]); ++e) {
      const std::size_t f = z.ids[e];
      const double raw = static_cast<double>(z.values[e]);
      const auto at = names.find(f);
      if (at == names.end() || at->second.held_out_f1 < min_score ||
          !(raw > at->second.threshold)) {
        continue;
      }
      const double value = raw / at->second.maximum;
      firing& hit = found[f];
      hit.feature = f;
      hit.name = &at->second;
      hit.positions.push_back(r + 1);
      hit.values.push_back(value);
      hit.strength = std::max(hit.strength, value);
      per_residue[r].emplace_back(value, f);
    }
  }
  answer out;
  out.object = {
      {"residues", sequence.size()}, {"model", esm.identity().name}, {"site", model.source().site}};
  out.text = fmt::format("{} residues, {} at {}\n\n", sequence.size(), esm.identity().name,
                         model.source().site);
  describe_overall(found, min_score, out);
  describe_residues(sequence, names, per_residue, out);
  return out;
}

void add_ask(CLI::App& app) {
  auto o = std::make_shared<ask_command>();
  CLI::App* c = app.add_subcommand(
      "ask", "Which named features fire in a sequence: per residue and overall, strongest first");
  c->add_option("sequence", o->sequence, "Residues in one-letter code")->required();
  c->add_option("--from", o->folder, "Folder with sae.safetensors and features.json")
      ->capture_default_str();
  c->add_option("--model", o->model,
                "The model that the SAE was trained on; default: the bundled model");
  c->add_option("--min-score", o->min_score, "Held-out F1 a feature needs to be named here")
      ->capture_default_str();
  add_common(*c, o->common, "plmscope ask MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEK");
  c->callback([o] { run_ask(*o); });
}
