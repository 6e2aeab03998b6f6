// SPDX-License-Identifier: MIT
#include "command.hpp"
#include "model.hpp"
#include "rules.hpp"

#include <plmscope/core/progress.hpp>
#include <plmscope/io/atomic_file.hpp>
#include <plmscope/io/fasta.hpp>
#include <plmscope/plm/categorical_jacobian.hpp>
#include <plmscope/plm/contact_head.hpp>
#include <plmscope/report/heat_map.hpp>
#include <plmscope/train/progress_bar.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>

namespace {

struct contacts_options {
  common_options common;
  std::string model;
  std::string sequences;
  std::string method = "auto";
  std::string out;
  std::string picture;
  std::size_t separation = 6;
  double top = 1;
};

bool uses_head(const contacts_options& o, program_model& model) {
  if (o.method == "head") return true;
  if (o.method == "jacobian") return false;
  return model.visit([](const auto& m) {
    if constexpr (requires { m.weights().contacts; }) {
      return !m.weights().contacts.weight.empty();
    } else {
      return false;
    }
  });
}

plmscope::contact_map contacts_by_head(program_model& model, const std::string& sequence) {
  return model.visit([&](auto& m) -> plmscope::contact_map {
    if constexpr (requires { m.weights().contacts; }) {
      plmscope::packed_batch batch;
      batch.add(sequence);
      return std::move(plmscope::predict_contacts(m, batch).at(0));
    } else {
      throw plmscope::error(plmscope::rules::contact_head_missing,
                            {.where = m.identity().name, .remedy = "use --method jacobian"});
    }
  });
}

struct pair {
  std::size_t i, j;
  float score;
};

// The top pairs at least `separation` apart, best first; equal scores in the order of residues.
std::vector<pair> top_pairs(const plmscope::contact_map& map, const contacts_options& o) {
  std::vector<pair> out;
  for (std::size_t i = 0; i < map.residues(); ++i) {
    for (std::size_t j = i + std::max<std::size_t>(o.separation, 1); j < map.residues(); ++j) {
      out.push_back({i, j, map(i, j)});
    }
  }
  std::ranges::stable_sort(out, std::greater<>(), &pair::score);
  const double wanted = std::ceil(o.top * static_cast<double>(map.residues()));
  out.resize(std::min(out.size(), static_cast<std::size_t>(wanted)));
  return out;
}

std::string contact_picture(const plmscope::contact_map& map, const std::string& id, bool head) {
  float high = 1;
  if (!head) {  // scores without a scale: up to the 99.5th percentile
    std::vector<float> sorted = map.scores();
    std::ranges::sort(sorted);
    if (!sorted.empty()) high = std::max(sorted[sorted.size() * 995 / 1000], 1e-6f);
  }
  return svg_of(plmscope::heat_map{.title = "Contacts of " + id,
                                   .row_axis = "residue",
                                   .column_axis = "residue",
                                   .columns = map.residues(),
                                   .values = map.scores(),
                                   .low = 0,
                                   .high = high,
                                   .row_names = {},
                                   .low_name = head ? "probability 0" : "no coupling",
                                   .high_name = head ? "1" : "strong"});
}

void contacts(const contacts_options& o) {
  const auto proteins = plmscope::read_fasta(std::filesystem::path(o.sequences));
  if (!o.picture.empty() && proteins.size() != 1) {
    throw plmscope::error(plmscope::rules::cli_picture,
                          {.where = o.picture,
                           .found = std::to_string(proteins.size()) + " sequences",
                           .remedy = "give one sequence, or leave --picture out"});
  }
  auto model = open_model(o.model, o.common);
  const bool head = uses_head(o, model);
  const char* const method = head ? "contact head" : "categorical Jacobian";
  if (!head) model.check(plmscope::logits{});
  json_object result{{"model", model.identity().name}, {"method", head ? "head" : "jacobian"}};
  if (o.common.dry_run) {
    return print_result(
        o.common, result,
        fmt::format("would predict contacts of {} sequences by {}\n", proteins.size(), method));
  }
  plmscope::progress_line progress("contacts", plmscope::progress_bar::on_terminal());
  std::string table = "id\ti\tj\tscore\n";
  std::string text = fmt::format("{} by the {}: pairs at least {} residues apart\n",
                                 model.identity().name, method, o.separation);
  for (std::size_t p = 0; p < proteins.size(); ++p) {
    const auto& protein = proteins[p];
    plmscope::contact_map map;
    if (head) {
      map = contacts_by_head(model, protein.sequence);
      progress.update(p + 1, proteins.size());
    } else {
      const auto tokens = plmscope::tokenize(protein.sequence);
      map = plmscope::contacts_of(plmscope::compute_categorical_jacobian(
          model, tokens, 8192, [&](std::size_t done, std::size_t all) {
            progress.update(p * all + done, proteins.size() * all, protein.id);
          }));
    }
    const auto pairs = top_pairs(map, o);
    json_object list = json_object::array();
    for (const pair& c : pairs) {
      list.push_back({{"i", c.i + 1}, {"j", c.j + 1}, {"score", number_or_null(c.score)}});
      table += fmt::format("{}\t{}\t{}\t{:.6g}\n", protein.id, c.i + 1, c.j + 1, c.score);
    }
    text += fmt::format("\n{}, {} residues\n", protein.id, map.residues());
    for (std::size_t k = 0; k < std::min<std::size_t>(pairs.size(), 10); ++k) {
      const pair& c = pairs[k];
      text += fmt::format("  {}{:<5} {}{:<5} {:.3f}\n", protein.sequence[c.i], c.i + 1,
                          protein.sequence[c.j], c.j + 1, c.score);
    }
    if (pairs.size() > 10) text += fmt::format("  and {} more\n", pairs.size() - 10);
    result["proteins"].push_back(
        {{"id", protein.id}, {"residues", map.residues()}, {"contacts", list}});
    if (!o.picture.empty()) {
      plmscope::write_file_atomically(o.picture, contact_picture(map, protein.id, head));
      text += fmt::format("picture: {}\n", o.picture);
    }
  }
  if (!o.out.empty()) {
    plmscope::write_file_atomically(o.out, table);
    text += fmt::format("\nall of them: {}\n", o.out);
  }
  print_result(o.common, result, text);
}

}  // namespace

void add_contacts(CLI::App& app) {
  auto o = std::make_shared<contacts_options>();
  CLI::App* c =
      app.add_subcommand("contacts", "Predict which residues touch in the folded protein");
  c->add_option("model", o->model,
                "Folder, file or name (facebook/esm2_t6_8M_UR50D) of an ESM-2 or ESM-C model")
      ->required();
  c->add_option("sequences", o->sequences, "FASTA or FASTA.gz, - for standard input")->required();
  c->add_option(
       "--method", o->method,
       "head: the model's contact head; jacobian: what 20 mutants of every residue change; "
       "auto: the head where there is one")
      ->check(CLI::IsMember({"auto", "head", "jacobian"}))
      ->capture_default_str();
  c->add_option("--separation", o->separation, "Least distance of a pair along the sequence")
      ->capture_default_str();
  c->add_option("--top", o->top, "How many pairs, per residue of the protein")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  c->add_option("--out", o->out, "TSV to write: id, i, j (counted from 1), score");
  c->add_option("--picture", o->picture, "SVG to write: the whole map of one sequence");
  add_common(*c, o->common,
             "plmscope contacts facebook/esm2_t33_650M_UR50D protein.fasta --picture map.svg");
  c->callback([o] { contacts(*o); });
}
