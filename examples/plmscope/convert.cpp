// SPDX-License-Identifier: MIT
#include "command.hpp"
#include "model.hpp"
#include "program_sae.hpp"
#include "sae_check.hpp"
#include "sae_file.hpp"

#include <plmscope/plm/site.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string_view>

namespace {

struct convert_options {
  common_options common;
  std::string in;
  std::string out;
  std::string to = "native";
  std::string check;
  plmscope::stated_sae stated;
};

// Refuses names of sites that no model has; a crosscoder has several, with commas.
void check_sites(std::string_view names) {
  while (!names.empty()) {
    const auto one = names.substr(0, names.find(','));
    plmscope::parse_site(one);
    names.remove_prefix(std::min(names.size(), one.size() + 1));
  }
}

void convert(const convert_options& o) {
  check_sites(o.stated.site);
  check_sites(o.stated.target_site);
  const std::filesystem::path in(o.in), out(o.out);
  const bool native = program_sae::is_native(in);
  plmscope::stated_sae stated = o.stated;
  if (!o.check.empty() && !native) {
    const auto source = model_source(o.check, o.common);
    stated.model = source.model;
    stated.model_hash = source.model_hash;
  }
  auto sae = program_sae::open(in, stated, {}, open_backend(o.common));
  const auto d = sae.describe();
  json_object object{{"in", o.in}, {"out", o.out}, {"to", o.to}};
  std::string text = fmt::format("{} -> {} ({})\n", o.in, o.out, o.to);
  describe_sae_text(d, object, text);
  if (o.common.dry_run) return print_result(o.common, object, "would write " + text);
  if (o.to == "saelens") {
    sae.save_saelens(out);
  } else {
    sae.save(out);
  }
  if (d.source.model.empty() || d.source.site.empty()) {
    fmt::print(
        stderr,
        "note: {} not stated (--model, --site): nothing keeps the SAE from being used on other "
        "activations\n",
        d.source.model.empty() && d.source.site.empty() ? "model and site are"
        : d.source.model.empty()                        ? "the model is"
                                                        : "the site is");
  }
  if (!o.check.empty() && !check_sae(in, stated, o.check, o.common, object, text)) {
    fmt::print(stderr,
               "warning: the SAE does not explain this model's states at the stated site\n");
  }
  print_result(o.common, object, text);
}

}  // namespace

void add_convert(CLI::App& app) {
  auto o = std::make_shared<convert_options>();
  CLI::App* c = app.add_subcommand("convert",
                                   "Turn an SAE of another library into one of ours, or "
                                   "one of ours into SAELens' layout");
  c->add_option("in", o->in, "File of an SAE, or the folder it lies in with its settings")
      ->required();
  c->add_option("out", o->out, "File to write; with --to saelens, a folder")->required();
  c->add_option("--to", o->to, "native, or saelens (cfg.json and sae_weights.safetensors)")
      ->check(CLI::IsMember({"native", "saelens"}))
      ->capture_default_str();
  c->add_option("--model", o->stated.model, "Name of the model that its rows come from");
  c->add_option(
       "--check", o->check,
       "A model: measures on 24 bundled proteins what the SAE leaves unexplained at its site "
       "and beside it, and writes the model's hash into the file")
      ->type_name("MODEL");
  add_stated_flags(*c, o->stated);
  add_common(*c, o->common,
             "plmscope convert ae_normalized.pt sae.safetensors --library interplm "
             "--model esm2_t6_8M_UR50D --site resid_post.3");
  c->callback([o] { convert(*o); });
}
