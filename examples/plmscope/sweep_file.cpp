// SPDX-License-Identifier: MIT
#include "sweep_file.hpp"

#include "flag_table.hpp"
#include "rules.hpp"

#include <plmscope/io/byte_source.hpp>
#include <plmscope/plm/site.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string_view>

namespace {

constexpr std::size_t max_file_bytes = std::size_t{1} << 20;

/// Names become names of files.
bool plain_name(std::string_view name) {
  return !name.empty() && name.size() <= 64 && name.front() != '.' && name.front() != '-' &&
         std::ranges::all_of(name, [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '_' || c == '.' || c == '-' || c == '+';
         });
}

void require_name(const std::string& name, const std::string& where, const std::string& remedy) {
  if (plain_name(name)) return;
  throw plmscope::error(plmscope::rules::sweep_name,
                        {.where = where,
                         .expected = "1 to 64 of A-Z a-z 0-9 _ . + -, no . or - in front",
                         .found = '"' + name.substr(0, 80) + '"',
                         .remedy = remedy});
}

template <class Values>
void require_different(const Values& values, const std::string& where) {
  std::set<typename Values::value_type> seen;
  for (const auto& v : values) {
    if (seen.insert(v).second) continue;
    throw plmscope::error(plmscope::rules::sweep_name,
                          {.where = where, .found = fmt::format("{} twice", v)});
  }
}

/// The last part of a path, without the ending of a file of weights.
std::string name_of_path(const std::string& path) {
  std::string_view rest = path;
  while (rest.size() > 1 && rest.ends_with('/')) rest.remove_suffix(1);
  const std::filesystem::path last = std::filesystem::path(rest).filename();
  const auto ending = last.extension();
  return (ending == ".safetensors" || ending == ".pt" ? last.stem() : last).string();
}

/// A table comes sorted; the user's order is that of the file.
template <class Named>
void in_order_of(const toml::table& table, std::vector<Named>& entries) {
  std::ranges::stable_sort(entries, {}, [&](const Named& entry) {
    const auto at = table.get(entry.name)->source().begin;
    return std::pair(at.line, at.column);
  });
}

class sweep_reader {
 public:
  explicit sweep_reader(const std::filesystem::path& file) : file_(file.string()) {
    const auto bytes = plmscope::read_file(file, max_file_bytes);
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    try {
      root_ = toml::parse(text, file_);
    } catch (const toml::parse_error& e) {
      throw plmscope::error(plmscope::rules::sweep_text,
                            {.where = place_in(file_, e.source()),
                             .found = std::string(e.description()),
                             .remedy = "see `plmscope sweep --help` and https://toml.io"});
    }
  }

  sweep_plan plan() {
    sweep_plan out;
    top_level(out);
    models(out);
    policies(out);
    fidelity(out);
    concepts(out);
    product(out);
    return out;
  }

 private:
  std::string place(const toml::node& node) const { return place_in(file_, node.source()); }

  const toml::node& need(std::string_view key, std::string_view what) const {
    if (const toml::node* node = root_.get(key)) return *node;
    throw plmscope::error(plmscope::rules::sweep_key, {.where = file_,
                                                       .expected = fmt::format("{}: {}", key, what),
                                                       .found = fmt::format("no {}", key)});
  }
  const toml::table& table_of(const toml::node& node, std::string_view key,
                              std::string_view what) const {
    if (node.is_table()) return *node.as_table();
    throw plmscope::error(plmscope::rules::sweep_value,
                          {.where = place(node),
                           .expected = std::string(what),
                           .found = fmt::format("{} is {}", key, type_of(node))});
  }

  void top_level(sweep_plan& out) {
    CLI::App flags;
    flags.add_option("--proteins", out.proteins);
    flags.add_option("--sites", out.sites);
    flags.add_option("--seeds", out.seeds);
    flags.add_option("--checkpoint-every", out.checkpoint_every)->check(CLI::PositiveNumber);
    flag_table(flags, {"models", "training", "policies", "fidelity", "concepts"})
        .read(root_, file_);
    static_cast<void>(need("proteins", "a FASTA file or a UniProt table"));
    static_cast<void>(need("sites", "a list such as [\"resid_post.3\"]"));
    for (const auto& site : out.sites) static_cast<void>(plmscope::parse_site(site));
    require_different(out.sites, file_ + ", sites");
    require_different(out.seeds, file_ + ", seeds");
  }

  void models(sweep_plan& out) {
    const toml::node& node = need("models", "a list of models, or a table NAME = \"MODEL\"");
    if (const toml::table* table = node.as_table()) {
      for (const auto& [name, value] : *table) {
        require_name(std::string(name.str()), place_in(file_, name.source()), "");
        out.models.push_back({std::string(name.str()), model_path(value)});
      }
      in_order_of(*table, out.models);
      return;
    }
    const toml::array* list = node.as_array();
    if (list == nullptr) {
      throw plmscope::error(plmscope::rules::sweep_value,
                            {.where = place(node),
                             .expected = "a list or a table of models",
                             .found = type_of(node)});
    }
    std::vector<std::string> names;
    const std::string remedy = "give it a name: [models], then NAME = \"MODEL\"";
    for (const toml::node& value : *list) {
      const std::string path = model_path(value);
      names.push_back(name_of_path(path));
      require_name(names.back(), place(value), remedy);
      if (std::ranges::count(names, names.back()) > 1) {
        throw plmscope::error(plmscope::rules::sweep_name,
                              {.where = place(value),
                               .found = "two models called " + names.back(),
                               .remedy = remedy});
      }
      out.models.push_back({names.back(), path});
    }
  }
  std::string model_path(const toml::node& node) const {
    const auto text = node.value_exact<std::string>();
    if (text && !text->empty()) return *text;
    throw plmscope::error(plmscope::rules::sweep_value,
                          {.where = place(node),
                           .expected = "a model, as `plmscope train` takes it",
                           .found = text ? "an empty text" : type_of(node)});
  }

  void policies(sweep_plan& out) {
    const toml::table* shared = nullptr;
    if (const toml::node* node = root_.get("training")) {
      shared = &table_of(*node, "training", "a table of flags of `plmscope train`");
    }
    const auto& all = table_of(need("policies", "tables [policies.NAME]"), "policies",
                               "tables [policies.NAME] of flags of `plmscope train`");
    for (const auto& [key, node] : all) {
      sweep_policy p;
      p.name = std::string(key.str());
      require_name(p.name, place_in(file_, key.source()), "");
      CLI::App flags;
      add_training_flags(flags, p.training);
      flag_table as(flags, {}, {"site", "metrics"});
      if (shared != nullptr) as.read(*shared, file_);
      as.read(table_of(node, p.name, "a table of flags"), file_);
      p.settings = as.settings();
      try {
        check_training(p.training);
      } catch (const plmscope::error& e) {
        auto details = e.details();
        details.where = fmt::format("{}, policy {}, {}", place(node), p.name, details.where);
        throw plmscope::error(plmscope::rules::cli_option, details);
      }
      out.policies.push_back(std::move(p));
    }
    in_order_of(all, out.policies);
  }

  void fidelity(sweep_plan& out) {
    const toml::node* node = root_.get("fidelity");
    if (node == nullptr) return;
    sweep_fidelity f;
    CLI::App flags;
    flags.add_option("--proteins", f.proteins);
    flags.add_option("--first", f.first)->check(CLI::PositiveNumber)->capture_default_str();
    flag_table as(flags);
    as.read(table_of(*node, "fidelity", "a table"), file_);
    f.settings = as.settings();
    out.fidelity = std::move(f);
  }

  void concepts(sweep_plan& out) {
    const toml::node* node = root_.get("concepts");
    if (node == nullptr) return;
    sweep_concepts c;
    c.scoring.neurons = false;
    CLI::App flags;
    flags.add_option("--proteins", c.proteins);
    add_scoring_flags(flags, c.scoring);
    flag_table as(flags, {}, {"no-neurons"});
    const auto& table = table_of(*node, "concepts", "a table");
    as.read(table, file_);
    c.settings = as.settings();
    if (c.proteins.empty()) {
      throw plmscope::error(plmscope::rules::sweep_key,
                            {.where = place(*node),
                             .expected = "proteins: an annotated UniProt table",
                             .found = "no proteins in [concepts]"});
    }
    out.concepts = std::move(c);
  }

  void product(sweep_plan& out) {
    std::size_t runs = 1;
    for (const auto& [what, count] :
         {std::pair{"models", out.models.size()}, std::pair{"sites", out.sites.size()},
          std::pair{"policies", out.policies.size()}, std::pair{"seeds", out.seeds.size()}}) {
      // The factor before was at most max_runs: no overflow.
      runs = std::min(count, sweep_plan::max_runs + 1) * runs;
      if (count == 0 || runs > sweep_plan::max_runs) {
        throw plmscope::error(
            plmscope::rules::sweep_size,
            {.where = file_,
             .expected = fmt::format("1 to {} runs", sweep_plan::max_runs),
             .found = count == 0 ? fmt::format("no {}", what)
                                 : fmt::format("{} models, {} sites, {} policies, {} seeds",
                                               out.models.size(), out.sites.size(),
                                               out.policies.size(), out.seeds.size())});
      }
    }
    for (std::size_t m = 0; m < out.models.size(); ++m) {
      for (const auto& site : out.sites) {
        for (std::size_t p = 0; p < out.policies.size(); ++p) {
          for (const std::uint64_t seed : out.seeds) {
            out.runs.push_back({m, site, p, seed,
                                fmt::format("{}-{}-{}-seed{}", out.models[m].name, site,
                                            out.policies[p].name, seed)});
          }
        }
      }
    }
    std::vector<std::string> names;
    for (const auto& run : out.runs) names.push_back(run.name);
    require_different(names, file_ + ", runs");
  }

  std::string file_;
  toml::table root_;
};

}  // namespace

sweep_plan read_sweep(const std::filesystem::path& file) { return sweep_reader(file).plan(); }
