// SPDX-License-Identifier: MIT
#include "command.hpp"

#include <plmscope/io/safetensors.hpp>
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
};

std::string shape_of(const plmscope::tensor_info& t) {
  return fmt::format("{} [{}]", plmscope::dtype_name(t.type), fmt::join(t.shape, ", "));
}

void describe_tensors(const plmscope::safetensors_file& file, json_object& out, std::string& text) {
  std::size_t bytes = 0;
  for (const auto& t : file.tensors()) {
    bytes += t.end - t.begin;
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

void describe_sae_file(const plmscope::safetensors_file& file, json_object& out, std::string& text) {
  const auto d = plmscope::describe_sae(file);
  out["kind"] = "sae";
  out["d_model"] = d.d_model;
  out["features"] = d.features;
  out["sparsifier"] = d.sparsifier;
  for (const auto& [key, value] : d.sparsifier_fields) out["sparsifier_fields"][key] = value;
  out["normalizer"] = plmscope::normalizer::name(d.normalizer.kind);
  out["model"] = d.source.model;
  out["model_hash"] = d.source.model_hash;
  out["site"] = d.source.site;
  for (const auto& [key, value] : d.training_record) out["training"][key] = value;
  text += fmt::format("kind          sparse autoencoder\nwidth         {} -> {} features\n",
                      d.d_model, d.features);
  text += "sparsifier    " + d.sparsifier;
  for (const auto& [key, value] : d.sparsifier_fields) text += fmt::format(" {} {}", key, value);
  text += fmt::format("\nnormaliser    {}\nmodel         {}\nweights hash  {}\nsite          {}\n",
                      plmscope::normalizer::name(d.normalizer.kind), d.source.model,
                      d.source.model_hash, d.source.site);
  for (const auto& [key, value] : d.training_record) {
    text += fmt::format("training      {} = {}\n", key, value);
  }
}

template <class Checkpoint>
void describe_model(const Checkpoint& c, const char* kind, const char* name, json_object& out,
                    std::string& text) {
  const auto& shape = c.config();
  out["kind"] = kind;
  out["layers"] = shape.layers;
  out["d_model"] = shape.d_model;
  out["heads"] = shape.heads;
  out["lm_head"] = c.has_head();
  out["model_hash"] = c.identity().content_hash;
  text += fmt::format(
      "kind          {}\nlayers        {}\nwidth         {}\nheads         {}\nLM head       "
      "{}\nweights hash  {}\n",
      name, shape.layers, shape.d_model, shape.heads, c.has_head() ? "yes" : "no",
      c.identity().content_hash);
}

void describe_esmc(const std::filesystem::path& path, json_object& out, std::string& text) {
  const auto c = plmscope::esmc_checkpoint::open(path);
  describe_model(c, "esmc", "ESM-C", out, text);
  out["heads_assumed"] = c.heads_assumed();
  if (c.heads_assumed()) text += "note          heads are assumed: no config.json states them\n";
}

void info(const info_options& o) {
  const std::filesystem::path path(o.file);
  json_object out{{"file", o.file}};
  std::string text = fmt::format("file          {}\n", o.file);
  const bool folder = std::filesystem::is_directory(path);
  const auto inside = path / "model.safetensors";
  if (folder && !std::filesystem::is_regular_file(inside)) {
    describe_model(plmscope::esm2_checkpoint::open(path), "esm2", "ESM-2", out, text);
    return print_result(o.common, out, text);
  }
  const auto file = plmscope::safetensors_file::open(folder ? inside : path);
  const auto names = file.names();
  const bool esm2 = std::ranges::any_of(names, [](const std::string& n) {
    return n.ends_with("embeddings.word_embeddings.weight");
  });
  if (plmscope::is_sae(file)) {
    describe_sae_file(file, out, text);
  } else if (plmscope::is_esmc(file)) {
    describe_esmc(path, out, text);
  } else if (esm2 || folder) {
    describe_model(plmscope::esm2_checkpoint::open(path), "esm2", "ESM-2", out, text);
  } else {
    out["kind"] = "safetensors";
    text += "kind          safetensors\n";
    for (const auto& [key, value] : file.metadata()) {
      out["metadata"][key] = value;
      text += fmt::format("metadata      {} = {}\n", key, value.substr(0, 120));
    }
  }
  if (!folder) describe_tensors(file, out, text);
  print_result(o.common, out, text);
}

}  // namespace

void add_info(CLI::App& app) {
  auto o = std::make_shared<info_options>();
  CLI::App* c = app.add_subcommand("info", "Say what a model, an SAE or a safetensors file is");
  c->add_option("file", o->file, "Safetensors file, or folder of a model")->required();
  add_common(*c, o->common, "plmscope info sae.safetensors");
  c->callback([o] { info(*o); });
}
