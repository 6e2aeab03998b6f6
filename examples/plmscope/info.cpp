// SPDX-License-Identifier: MIT
#include "command.hpp"
#include "sae_check.hpp"
#include "sae_file.hpp"
#include "store.hpp"

#include <plmscope/io/safetensors.hpp>
#include <plmscope/io/weights_file.hpp>
#include <plmscope/plm/esm2_checkpoint.hpp>
#include <plmscope/plm/esmc_checkpoint.hpp>
#include <plmscope/sae/checkpoint.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <memory>

namespace {

struct info_options {
  common_options common;
  std::string file;
  std::string model;
  plmscope::stated_sae stated;
};

std::string shape_of(const plmscope::stored_tensor& t) {
  return fmt::format("{} [{}]", plmscope::dtype_name(t.type), fmt::join(t.shape, ", "));
}

void describe_tensors(const plmscope::weights_file& file, json_object& out, std::string& text) {
  std::size_t bytes = 0;
  for (const auto& t : file.tensors()) {
    bytes += t.elements * plmscope::dtype_bits(t.type) / 8;
    out["tensors"][t.name] = {{"dtype", plmscope::dtype_name(t.type)}, {"shape", t.shape}};
  }
  text += fmt::format("tensors       {} ({:.1f} MB)\n", file.tensors().size(),
                      static_cast<double>(bytes) / 1e6);
  const std::size_t shown = std::min<std::size_t>(file.tensors().size(), 12);
  for (const auto& t : file.tensors().first(shown)) {
    text += fmt::format("  {:<52} {}\n", t.name, shape_of(t));
  }
  if (file.tensors().size() > shown) {
    text += fmt::format("  ... and {} more (--json lists all)\n", file.tensors().size() - shown);
  }
}

template <class Checkpoint>
void describe_model(const Checkpoint& c, const char* kind, const char* name, json_object& out,
                    std::string& text) {
  const std::string weights = c.file().where();
  out["weights"] = weights;
  const auto& shape = c.config();
  out["kind"] = kind;
  out["layers"] = shape.layers;
  out["d_model"] = shape.d_model;
  out["heads"] = shape.heads;
  out["lm_head"] = c.has_head();
  out["model_hash"] = c.identity().content_hash;
  text += fmt::format(
      "kind          {}\nweights       {}\nlayers        {}\nwidth         {}\nheads         "
      "{}\nLM head       {}\nweights hash  {}\n",
      name, weights, shape.layers, shape.d_model, shape.heads, c.has_head() ? "yes" : "no",
      c.identity().content_hash);
}

void describe_esm2(const std::filesystem::path& path, json_object& out, std::string& text) {
  const auto c = plmscope::esm2_checkpoint::open(path);
  describe_model(c, "esm2", "ESM-2", out, text);
  out["contact_head"] = c.has_contact_head();
  text += fmt::format("contact head  {}\n", c.has_contact_head() ? "yes" : "no");
}

void describe_esmc(const std::filesystem::path& path, json_object& out, std::string& text) {
  const auto c = plmscope::esmc_checkpoint::open(path);
  describe_model(c, "esmc", "ESM-C", out, text);
  out["heads_assumed"] = c.heads_assumed();
  if (c.heads_assumed()) text += "note          heads are assumed: no config.json states them\n";
}

void info(const info_options& o) {
  const std::filesystem::path path(o.file);
  if (is_store(path)) return info_of_store(path, o.common);
  json_object out{{"file", o.file}};
  std::string text = fmt::format("file          {}\n", o.file);
  if (!std::filesystem::is_regular_file(path)) {  // a folder, or a name of the hub
    if (describe_published(path, o.stated, out, text)) {
      if (!o.model.empty()) check_sae(path, o.stated, o.model, o.common, out, text);
      return print_result(o.common, out, text);
    }
    plmscope::holds_esmc(path) ? describe_esmc(path, out, text) : describe_esm2(path, out, text);
    return print_result(o.common, out, text);
  }
  const auto file = plmscope::weights_file::open(path);
  if (!file.metadata().empty() && plmscope::is_sae(plmscope::safetensors_file::open(path))) {
    describe_sae_text(plmscope::describe_sae(plmscope::safetensors_file::open(path)), out, text);
    if (!o.model.empty()) check_sae(path, o.stated, o.model, o.common, out, text);
  } else if (describe_published(path, o.stated, out, text)) {
    if (!o.model.empty()) check_sae(path, o.stated, o.model, o.common, out, text);
  } else if (plmscope::is_esmc(file)) {
    describe_esmc(path, out, text);
  } else if (plmscope::esm2_names::of(file).kind() != plmscope::esm2_names::layout::none) {
    describe_esm2(path, out, text);
  } else {
    const bool torch = !file.root().is(plmscope::pickle_kind::none);
    out["kind"] = torch ? "torch" : "safetensors";
    text += fmt::format("kind          {}\n", torch ? "torch file" : "safetensors");
    for (const auto& [key, value] : file.metadata()) {
      out["metadata"][key] = value;
      text += fmt::format("metadata      {} = {}\n", key, value.substr(0, 120));
    }
  }
  describe_tensors(file, out, text);
  print_result(o.common, out, text);
}

}  // namespace

void add_info(CLI::App& app) {
  auto o = std::make_shared<info_options>();
  CLI::App* c =
      app.add_subcommand("info", "Say what a model, an SAE, a store or a file of weights is");
  c->add_option("--model", o->model,
                "For an SAE: a model to measure it on, at its site and beside it");
  add_stated_flags(*c, o->stated);
  c->add_option("file", o->file, "File, folder or name of a model, a store, or any file of weights")
      ->required();
  add_common(*c, o->common, "plmscope info sae.safetensors");
  c->callback([o] { info(*o); });
}
