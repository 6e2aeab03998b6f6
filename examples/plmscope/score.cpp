// SPDX-License-Identifier: MIT
#include "command.hpp"
#include "model.hpp"
#include "rules.hpp"

#include <plmscope/core/progress.hpp>
#include <plmscope/io/atomic_file.hpp>
#include <plmscope/io/fasta.hpp>
#include <plmscope/io/line_reader.hpp>
#include <plmscope/plm/residue_scores.hpp>
#include <plmscope/plm/variant.hpp>
#include <plmscope/report/heat_map.hpp>
#include <plmscope/train/progress_bar.hpp>

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <memory>

namespace {

using plmscope::residue_context;
using plmscope::residue_scores;

struct score_options {
  common_options common;
  std::string model;
  std::string sequences;
  std::string method = "masked";
  std::vector<std::string> variants;
  std::string variants_file;
  std::string residues;
  std::string picture;
};

std::vector<std::string> read_variants(const score_options& o) {
  std::vector<std::string> out = o.variants;
  if (o.variants_file.empty()) return out;
  plmscope::line_reader lines{std::filesystem::path(o.variants_file)};
  for (std::string_view line; lines.next(line);) {
    const auto end = line.find_first_of(" \t");
    if (!line.empty() && line.front() != '#' && end != 0) out.emplace_back(line.substr(0, end));
  }
  return out;
}

// One line per residue: what stands there, how sure the model is, what it would rather have.
std::string residue_table(const residue_scores& s, const std::string& id) {
  std::string out;
  for (std::size_t i = 0; i < s.residues(); ++i) {
    std::int32_t best = plmscope::alphabet::first_standard;
    for (auto t = best; t <= plmscope::alphabet::last_standard; ++t) {
      if (s.at(i, t) > s.at(i, best)) best = t;
    }
    const auto name = [](std::int32_t t) {
      return plmscope::alphabet::tokens[static_cast<std::size_t>(t)];
    };
    out += fmt::format("{}\t{}\t{}\t{:.6f}\t{:.6f}\t{}\t{:.6f}\n", id, i + 1, name(s.tokens[i]),
                       s.own(i), s.entropy_at(i), name(best), s.at(i, best));
  }
  return out;
}

// All 19 substitutions of every residue; the residue itself is 0.
std::string substitution_picture(const residue_scores& s, const std::string& id) {
  constexpr std::string_view order = "GAVLIMFWYPSTCNQHKRDE";  // alike amino acids together
  std::vector<float> effects;
  std::vector<std::string> names;
  for (const char letter : order) {
    names.emplace_back(1, letter);
    for (std::size_t i = 0; i < s.residues(); ++i) {
      effects.push_back(
          static_cast<float>(s.substitution(i, plmscope::alphabet::token_of(letter))));
    }
  }
  return svg_of(plmscope::heat_map{.title = "Effect of every substitution, " + id,
                                   .row_axis = "becomes",
                                   .column_axis = "residue",
                                   .columns = s.residues(),
                                   .values = effects,
                                   .low = -8,
                                   .high = 8,
                                   .two_sided = true,
                                   .row_names = names,
                                   .low_name = "less likely",
                                   .high_name = "more likely"});
}

void score(const score_options& o) {
  const auto proteins = plmscope::read_fasta(std::filesystem::path(o.sequences));
  const auto texts = read_variants(o);
  std::vector<plmscope::variant> variants;
  for (const auto& t : texts) variants.push_back(plmscope::parse_variant(t));
  const bool one_only = !o.picture.empty() || !variants.empty();
  if (one_only && proteins.size() != 1) {
    throw plmscope::error(plmscope::rules::cli_picture,
                          {.where = o.picture.empty() ? "variants" : o.picture,
                           .found = std::to_string(proteins.size()) + " sequences",
                           .remedy = "give the one sequence that they belong to"});
  }
  auto model = open_model(o.model, o.common);
  model.check(plmscope::logits{});
  const auto context = o.method == "masked" ? residue_context::masked : residue_context::visible;
  json_object result{{"model", model.identity().name}, {"method", o.method}};
  if (o.common.dry_run) {
    return print_result(o.common, result,
                        fmt::format("would score {} sequences and {} variants\n", proteins.size(),
                                    variants.size()));
  }
  plmscope::progress_line progress("scoring", plmscope::progress_bar::on_terminal());
  std::string text = fmt::format("{}, {}\n{:<24} {:>8} {:>18} {:>14}\n", model.identity().name,
                                 context == residue_context::masked
                                     ? "every residue masked in turn"
                                     : "one pass, residues visible (perplexity too low)",
                                 "sequence", "residues", "pseudo-perplexity", "mean entropy");
  std::string table = "id\tresidue\tamino_acid\tln_p\tentropy\tlikeliest\tln_p_likeliest\n";
  for (std::size_t p = 0; p < proteins.size(); ++p) {
    const auto& protein = proteins[p];
    const auto tokens = plmscope::tokenize(protein.sequence);
    const auto scores = plmscope::score_residues(
        model, tokens, context, 8192, [&](std::size_t done, std::size_t all) {
          progress.update(p * all + done, proteins.size() * all, protein.id);
        });
    double entropy = 0;
    for (std::size_t i = 0; i < scores.residues(); ++i) entropy += scores.entropy_at(i);
    entropy /= static_cast<double>(scores.residues());
    json_object one{{"id", protein.id},
                    {"residues", scores.residues()},
                    {"pseudo_perplexity", number_or_null(scores.perplexity())},
                    {"mean_entropy", number_or_null(entropy)}};
    text += fmt::format("{:<24} {:>8} {:>18.4f} {:>14.4f}\n", protein.id.substr(0, 24),
                        scores.residues(), scores.perplexity(), entropy);
    if (!o.residues.empty()) table += residue_table(scores, protein.id);
    if (!variants.empty()) {
      std::vector<double> effects;
      if (context == residue_context::masked) {
        effects = plmscope::score_masked(model, tokens, variants);
      } else {
        for (const auto& v : variants) effects.push_back(plmscope::score_variant(scores, v));
      }
      text +=
          fmt::format("\n{:<24} {:>10}   ln p(variant) - ln p(wild type)\n", "variant", "effect");
      for (std::size_t i = 0; i < variants.size(); ++i) {
        one["variants"].push_back({{"variant", texts[i]}, {"effect", number_or_null(effects[i])}});
        text += fmt::format("{:<24} {:>10.4f}\n", texts[i], effects[i]);
      }
    }
    if (!o.picture.empty()) {
      plmscope::write_file_atomically(o.picture, substitution_picture(scores, protein.id));
      text += fmt::format("picture: {}\n", o.picture);
    }
    result["proteins"].push_back(one);
  }
  if (!o.residues.empty()) {
    plmscope::write_file_atomically(o.residues, table);
    text += fmt::format("every residue: {}\n", o.residues);
  }
  print_result(o.common, result, text);
}

}  // namespace

void add_score(CLI::App& app) {
  auto o = std::make_shared<score_options>();
  CLI::App* c = app.add_subcommand(
      "score", "Pseudo-perplexity of sequences, effects of substitutions, entropy per residue");
  c->add_option("model", o->model,
                "Folder, file or name (facebook/esm2_t6_8M_UR50D) of an ESM-2 or ESM-C model")
      ->required();
  c->add_option("sequences", o->sequences, "FASTA or FASTA.gz, - for standard input")->required();
  c->add_option(
       "--method", o->method,
       "masked: each residue hidden in turn, a pass for each (masked marginals); wild-type: "
       "one pass, the model sees what it scores (wild-type marginals)")
      ->check(CLI::IsMember({"masked", "wild-type"}))
      ->capture_default_str();
  c->add_option("--variant", o->variants,
                "Substitution like A24G, several that occur together joined by ':'; repeatable");
  c->add_option("--variants", o->variants_file,
                "File with a variant at the beginning of each line");
  c->add_option("--residues", o->residues, "TSV to write: every residue with ln p and entropy");
  c->add_option("--picture", o->picture, "SVG to write: every substitution of one sequence");
  add_common(
      *c, o->common,
      "plmscope score facebook/esm2_t6_8M_UR50D protein.fasta --variant A24G --picture map.svg");
  c->callback([o] { score(*o); });
}
