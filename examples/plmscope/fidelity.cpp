// SPDX-License-Identifier: MIT
#include "command.hpp"
#include "sae_file.hpp"
#include "training.hpp"

#include <plmscope/core/progress.hpp>
#include <plmscope/eval/compare_fidelity.hpp>
#include <plmscope/eval/fidelity.hpp>
#include <plmscope/io/atomic_file.hpp>
#include <plmscope/sae/checkpoint.hpp>
#include <plmscope/train/progress_bar.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <optional>

namespace {

using plmscope::fidelity_figure_names;

struct fidelity_command {
  common_options common;
  std::vector<std::string> saes;
  std::string model;
  std::string proteins;
  std::string definition = "standard";
  std::string masking = "definition";
  std::string table;
  std::size_t first = 0;  // 0: all
  std::size_t resamples = 1000;
  bool zero = true;
  bool mean = true;
};

/// What --masking says: none, each, a share, or nothing for the definition's own.
std::optional<double> share_in(const std::string& text) {
  double share = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), share);
  if (failure != std::errc() || end != text.data() + text.size() || !(share > 0 && share <= 1)) {
    return {};
  }
  return share;
}

std::optional<plmscope::fidelity_masking> masking_of(const fidelity_command& o) {
  if (o.masking == "none") return plmscope::fidelity_masking::none();
  if (o.masking == "each") return plmscope::fidelity_masking::each();
  if (const auto share = share_in(o.masking)) {
    return plmscope::fidelity_masking::share_of(*share, o.common.seed);
  }
  return {};
}

std::vector<std::string> definition_names() {
  std::vector<std::string> out;
  std::apply([&](const auto&... all) { (out.emplace_back(all.id), ...); },
             plmscope::fidelity_by::every{});
  return out;
}

using estimates = std::array<plmscope::estimate, plmscope::fidelity_figure_count>;

std::string figure_lines(const estimates& figures) {
  std::string out = fmt::format("  {:<20} {:>12}   {}\n", "", "value", "95 % of resampled corpora");
  for (std::size_t f = 0; f < figures.size(); ++f) {
    const auto& e = figures[f];
    if (!e.defined()) {
      if (e.why != "this ablation was not asked for") {
        out += fmt::format("  {:<20} {:>12}   {}\n", fidelity_figure_names[f], "n/a", e.why);
      }
      continue;
    }
    out += fmt::format("  {:<20} {:>12.5f}", fidelity_figure_names[f], e.value);
    out += std::isnan(e.low) ? "\n" : fmt::format("   {:.5f} .. {:.5f}\n", e.low, e.high);
  }
  return out;
}

json_object figures_json(const estimates& figures) {
  json_object out;
  for (std::size_t f = 0; f < figures.size(); ++f) {
    const auto& e = figures[f];
    json_object one{{"value", number_or_null(e.value)},
                    {"low", number_or_null(e.low)},
                    {"high", number_or_null(e.high)}};
    if (!e.why.empty()) one["why"] = std::string(e.why);
    out[std::string(fidelity_figure_names[f])] = one;
  }
  return out;
}

/// One line per protein and SAE.
std::string protein_lines(const std::string& sae, const plmscope::fidelity& f,
                          const std::vector<plmscope::protein_sequence>& proteins) {
  using enum plmscope::fidelity_condition;
  std::string out;
  for (std::size_t p = 0; p < proteins.size(); ++p) {
    const auto& of = f.of_protein[p];
    const auto shown = [](double v) {
      return std::isfinite(v) ? fmt::format("{:.6g}", v) : std::string("n/a");
    };
    out +=
        fmt::format("{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\n", sae, proteins[p].id, of.residues,
                    of.scored, shown(of.loss(clean)), shown(of.loss(spliced)), shown(of.loss(zero)),
                    shown(of.loss(mean)), shown(of.divergence(spliced)), shown(of.rebuilt.fvu()));
  }
  return out;
}

template <class Definition>
void measure(const fidelity_command& o, const Definition& definition) {
  auto proteins =
      read_proteins(o.proteins.empty() ? bundled("uniprot_demo.tsv").string() : o.proteins);
  if (o.first > 0 && proteins.size() > o.first) proteins.resize(o.first);
  std::vector<std::string> sequences;
  for (const auto& p : proteins) sequences.push_back(p.sequence);
  auto esm = open_model(o.model, o.common);
  json_object result{{"model", esm.identity().name},
                     {"definition", Definition::id},
                     {"defect", Definition::defect},
                     {"masking", o.masking}};
  if (o.common.dry_run) {
    return print_result(o.common, result,
                        fmt::format("would measure {} SAEs on {} proteins by {}\n", o.saes.size(),
                                    proteins.size(), Definition::id));
  }
  plmscope::fidelity_options options{.masking = masking_of(o),
                                     .zero_ablation = o.zero,
                                     .mean_ablation = o.mean,
                                     .resamples = o.resamples,
                                     .seed = o.common.seed};
  std::string text;
  if (!Definition::defect.empty()) {
    text += fmt::format("{}: {}\n\n", Definition::id, Definition::defect);
  }
  std::string table =
      "sae\tid\tresidues\tpredictions\tloss_clean\tloss_spliced\tloss_zero\tloss_mean\tkl_"
      "spliced\tfvu\n";
  plmscope::progress_line progress("fidelity", plmscope::progress_bar::on_terminal());
  std::optional<plmscope::fidelity> reference;
  for (std::size_t i = 0; i < o.saes.size(); ++i) {
    const auto description = plmscope::describe_sae(plmscope::safetensors_file::open(o.saes[i]));
    const auto site = site_rebuilt_by(description, o.saes[i]);
    esm.check(site);
    auto sae = program_sae::open(o.saes[i], {}, esm.source(site),
                                                        esm.backend());
    const auto f = plmscope::measure_fidelity(
        esm, site, sae, std::span<const std::string>(sequences), definition, options,
        [&](std::size_t done, std::size_t all) {
          progress.update(i * all + done, o.saes.size() * all, o.saes[i]);
        });
    json_object one{{"sae", o.saes[i]},       {"site", to_string(f.at)},
                    {"proteins", f.proteins}, {"without_residues", f.skipped},
                    {"residues", f.residues}, {"predictions", f.predictions},
                    {"masked", f.masked},     {"figures", figures_json(f.figures)}};
    text += fmt::format("{} at {} of {}, {}: {} proteins, {} residues, {} predictions{}\n",
                        o.saes[i], to_string(f.at), esm.identity().name, f.definition, f.proteins,
                        f.residues, f.predictions, f.masked ? " of masked residues" : "");
    text += figure_lines(f.figures) + "\n";
    table += protein_lines(o.saes[i], f, proteins);
    if (i > 0) {
      const auto differences =
          plmscope::compare_fidelity(f, *reference, definition, o.resamples, o.common.seed);
      one["less_the_first"] = figures_json(differences);
      text += fmt::format("{} less {}, on the same proteins\n{}\n", o.saes[i], o.saes[0],
                          figure_lines(differences));
    } else {
      reference = f;
    }
    result["saes"].push_back(one);
  }
  if (!o.table.empty()) {
    plmscope::write_file_atomically(o.table, table);
    text += fmt::format("every protein: {}\n", o.table);
  }
  print_result(o.common, result, text);
}

}  // namespace

void add_fidelity(CLI::App& app) {
  auto o = std::make_shared<fidelity_command>();
  CLI::App* c = app.add_subcommand(
      "fidelity",
      "Measure what is left of the model when an SAE's reconstruction replaces its states");
  c->add_option("sae", o->saes, "SAE file; several are compared with the first")->required();
  c->add_option("--model", o->model,
                "Folder, file or name (facebook/esm2_t6_8M_UR50D) of the model it belongs to")
      ->required();
  c->add_option("--proteins", o->proteins,
                "FASTA or UniProt TSV, plain or gzip; else the bundled proteins");
  c->add_option("--first", o->first, "Only so many of the proteins")->check(CLI::Range(1, 1 << 30));
  c->add_option("--definition", o->definition,
                "Whose numbers: standard, or those of published code, defects included")
      ->check(CLI::IsMember(definition_names()))
      ->capture_default_str();
  c->add_option(
       "--masking", o->masking,
       "Residues hidden from the model: none; a share like 0.15, all at once; each: every "
       "residue once, a pass for each; definition: 0.15 for standard, none for published ones")
      ->check(CLI::Validator(
          [](const std::string& text) -> std::string {
            if (text == "none" || text == "each" || text == "definition" || share_in(text)) {
              return {};
            }
            return "none, each, definition, or a share above 0 and up to 1, not '" + text + "'";
          },
          "", "masking"))
      ->capture_default_str();
  c->add_flag("!--no-zero", o->zero, "Leave out zero ablation");
  c->add_flag("!--no-mean", o->mean, "Leave out mean ablation");
  c->add_option("--resamples", o->resamples, "Of the bootstrap over proteins; 0: no intervals")
      ->check(CLI::Range(0, 1'000'000))
      ->capture_default_str();
  c->add_option("--table", o->table, "TSV to write: losses, KL and FVU of every protein");
  add_common(
      *c, o->common,
      "plmscope fidelity out/demo/sae.safetensors --model examples/data/esm2_mini --first 50");
  c->callback([o] {
    plmscope::with_fidelity_definition(o->definition,
                                       [&](const auto& definition) { measure(*o, definition); });
  });
}
