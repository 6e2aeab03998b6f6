// SPDX-License-Identifier: MIT
#include <tests/plm/error_text.hpp>

#include "tests/golden.hpp"

#include <plmscope/backend/cpu.hpp>
#include <plmscope/io/safetensors_writer.hpp>
#include <plmscope/plm/collect.hpp>
#include <plmscope/plm/esm2.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

namespace fs = std::filesystem;
using plmscope::esm2;
using plmscope::inv_freq;

struct tensor {
  std::vector<std::size_t> shape;
  std::vector<float> values;
};
using tensors = std::map<std::string, tensor>;

// A small model in the Hugging Face layout: width 12, 3 heads, 2 blocks.
tensors small_model() {
  tensors all;
  std::uint64_t stream = 0;
  const auto add = [&](const std::string& name, std::vector<std::size_t> shape) {
    const plmscope::rng random(3, ++stream);
    std::size_t n = 1;
    for (const std::size_t s : shape) n *= s;
    tensor t{std::move(shape), std::vector<float>(n)};
    // Multiples of 1/64 below 1: exact in half precision and in bfloat16.
    for (std::size_t i = 0; i < n; ++i) {
      t.values[i] = static_cast<float>(static_cast<int>(random.below(i, 127)) - 63) / 64.0f;
    }
    all.emplace(name, std::move(t));
  };
  const std::size_t d = 12;
  const std::size_t wide = 20;
  const auto linear = [&](const std::string& name, std::size_t out, std::size_t in) {
    add(name + ".weight", {out, in});
    add(name + ".bias", {out});
  };
  const auto norm = [&](const std::string& name) {
    add(name + ".weight", {d});
    add(name + ".bias", {d});
  };
  add("esm.embeddings.word_embeddings.weight", {33, d});
  add("esm.embeddings.position_embeddings.weight", {1026, d});
  for (int l = 0; l < 2; ++l) {
    const std::string at = "esm.encoder.layer." + std::to_string(l) + ".";
    norm(at + "attention.LayerNorm");
    for (const char* part : {"query", "key", "value"}) linear(at + "attention.self." + part, d, d);
    all[at + "attention.self.rotary_embeddings.inv_freq"] = {{2}, {1.0f, 0.01f}};
    linear(at + "attention.output.dense", d, d);
    norm(at + "LayerNorm");
    linear(at + "intermediate.dense", wide, d);
    linear(at + "output.dense", d, wide);
  }
  norm("esm.encoder.emb_layer_norm_after");
  linear("lm_head.dense", d, d);
  norm("lm_head.layer_norm");
  add("lm_head.bias", {33});
  return all;
}

void write(const tensors& all, const fs::path& path, plmscope::dtype type = plmscope::dtype::f32) {
  plmscope::safetensors_writer writer;
  for (const auto& [name, t] : all) {
    const bool frequencies = name.ends_with("inv_freq");
    writer.add(name, frequencies ? plmscope::dtype::f32 : type, t.shape,
               std::span<const float>(t.values));
  }
  writer.write(path);
}

void write_text(const fs::path& path, std::string_view text) { std::ofstream(path) << text; }

std::vector<float> outputs(esm2<>& model) {
  plmscope::packed_batch batch;
  batch.add("MKTAYI<mask>KQRQISFVK");
  plmscope::collect<float> keep({plmscope::resid_post{1}, plmscope::final_norm{}});
  model.forward(batch, keep);
  const auto last = keep.states(plmscope::final_norm{});
  return {last.begin(), last.end()};
}

// The error of loading small_model() after a change.
std::string error_after(const std::function<void(tensors&)>& change,
                        const plmscope::esm2_options& options = {}, std::string_view config = {}) {
  const golden::scratch_folder folder;
  tensors all = small_model();
  change(all);
  write(all, folder / "model.safetensors");
  if (!config.empty()) write_text(folder / "config.json", config);
  return error_of([&] { esm2<>::load(folder.path(), options); });
}

void drop(tensors& all, std::string_view ending) {
  std::erase_if(all, [&](const auto& entry) { return entry.first.ends_with(ending); });
}

}  // namespace

TEST_CASE("the shape is read off the tensors; file, folder and prefix do not matter") {
  const golden::scratch_folder folder;
  fs::create_directories(folder / "toy_model");
  write(small_model(), folder / "toy_model" / fs::path("model.safetensors"));
  tensors bare;
  for (auto& [name, t] : small_model()) {
    bare.emplace(name.starts_with("esm.") ? name.substr(4) : name, t);
  }
  write(bare, folder / "bare.safetensors");

  auto a = esm2<>::load(folder / "toy_model");
  auto b = esm2<>::load(folder / "toy_model" / fs::path("model.safetensors"));
  auto c = esm2<>::load(folder / "bare.safetensors");
  const plmscope::esm2_config expected{.layers = 2, .d_model = 12, .heads = 3, .feed_forward = 20};
  for (auto* model : {&a, &b, &c}) {
    CHECK(model->config() == expected);
    CHECK(model->has_head());
    CHECK(outputs(*model) == outputs(a));
  }
  CHECK(a.identity().name == "toy_model");
  CHECK(a.identity() == b.identity());
  CHECK(c.identity().name == "bare");
  CHECK(c.identity().content_hash != a.identity().content_hash);  // other names, other file
  CHECK(a.identity().layers == 2);
  CHECK(a.identity().d_model == 12);
  CHECK(a.source(plmscope::resid_post{1}).site == "resid_post.1");
  CHECK(esm2<>::load(folder / "bare.safetensors", {.content_hash = false})
            .identity()
            .content_hash.empty());
}

TEST_CASE("half precision and bfloat16 weights give what float gives") {
  const golden::scratch_folder folder;
  std::vector<std::vector<float>> all;
  for (const auto type :
       {plmscope::dtype::f32, plmscope::dtype::f16, plmscope::dtype::bf16, plmscope::dtype::f64}) {
    write(small_model(), folder / "model.safetensors", type);
    auto model = esm2<>::load(folder.path());
    all.push_back(outputs(model));
    CHECK(all.back() == all.front());
  }
  CHECK(std::isfinite(all[0][0]));
}

TEST_CASE("inv_freq: per block or once; a missing one needs a choice") {
  const golden::scratch_folder folder;
  const fs::path path = folder / "model.safetensors";
  tensors all = small_model();
  write(all, path);
  auto per_block = esm2<>::load(path);
  const auto stored = outputs(per_block);

  drop(all, "inv_freq");
  all["esm.rotary_embeddings.inv_freq"] = {{2}, {1.0f, 0.01f}};
  write(all, path);
  auto shared = esm2<>::load(path);
  CHECK(outputs(shared) == stored);

  // Blocks may differ; each uses its own.
  tensors different = small_model();
  different["esm.encoder.layer.1.attention.self.rotary_embeddings.inv_freq"].values[1] = 0.02f;
  write(different, path);
  auto own = esm2<>::load(path);
  CHECK(outputs(own) != stored);

  drop(all, "inv_freq");
  write(all, path);
  const std::string missing = error_of([&] { esm2<>::load(path); });
  CHECK(missing.starts_with("plm.112 "));
  CHECK(missing.find("half_rounded") != std::string::npos);
  // 10000^(-2/4) = 0.01, and its half-precision neighbour.
  auto exact = esm2<>::load(path, {.rotary = inv_freq::exact, .heads = 3});
  CHECK(outputs(exact) == stored);
  auto rounded = esm2<>::load(path, {.rotary = inv_freq::half_rounded, .heads = 3});
  CHECK(outputs(rounded) != stored);
  const auto checkpoint =
      plmscope::esm2_checkpoint::open(path, {.rotary = inv_freq::half_rounded, .heads = 3});
  CHECK(checkpoint.inv_freq(0) ==
        std::vector<float>{1.0f, plmscope::to_float(plmscope::to_float16(0.01f))});
  CHECK(error_after([](tensors& t) {
          drop(t, "layer.1.attention.self.rotary_embeddings.inv_freq");
        }).starts_with("plm.112 "));
  CHECK(error_after([](tensors& t) {
          t["esm.encoder.layer.1.attention.self.rotary_embeddings.inv_freq"] = {{1}, {1.0f}};
        }).starts_with("plm.112 "));
}

TEST_CASE("heads without inv_freq: option, config.json, published size") {
  const auto no_frequencies = [](tensors& t) { drop(t, "inv_freq"); };
  const plmscope::esm2_options chosen{.rotary = inv_freq::half_rounded};
  CHECK(error_after(no_frequencies, chosen).starts_with("plm.111 "));
  const auto with_heads = [&](const std::string& json) {
    return error_after(no_frequencies, chosen, "{\"num_attention_heads\": " + json + "}");
  };
  CHECK(with_heads("3") == "no error");
  CHECK(with_heads("5").starts_with("plm.111 "));
  CHECK(with_heads("\"x\"").starts_with("plm.118 "));
  CHECK(error_after(no_frequencies, {.rotary = inv_freq::exact, .heads = 12})
            .starts_with("plm.111 "));
  CHECK(error_after([](tensors& t) {
          for (int l = 0; l < 2; ++l) {
            t["esm.encoder.layer." + std::to_string(l) +
              ".attention.self.rotary_embeddings.inv_freq"] = {{5}, std::vector<float>(5, 0.5f)};
          }
        }).starts_with("plm.111 "));
}

TEST_CASE("config.json: token dropout and epsilon are used, another architecture is refused") {
  const auto same = [](tensors&) {};
  CHECK(
      error_after(same, {}, R"({"position_embedding_type": "absolute"})").starts_with("plm.110 "));
  CHECK(error_after(same, {}, R"({"hidden_act": "relu"})").starts_with("plm.110 "));
  CHECK(error_after(same, {}, R"({"emb_layer_norm_before": true})").starts_with("plm.110 "));
  CHECK(error_after(same, {}, R"({"layer_norm_eps": -1})").starts_with("plm.118 "));
  const golden::scratch_folder folder;
  write(small_model(), folder / "x.model.safetensors");
  write_text(folder / "x.config.json",
             "{\n \"layer_norm_eps\" : 1e-3,\n \"token_dropout\": false\n}");
  auto model = esm2<>::load(folder / "x.model.safetensors");
  CHECK(model.config().layer_norm_epsilon == 1e-3);
  CHECK_FALSE(model.config().token_dropout);
  plmscope::packed_batch batch;
  batch.add("M<mask>");
  plmscope::collect<float> keep({plmscope::embeddings{}});
  model.forward(batch, keep);
  const auto table = small_model().at("esm.embeddings.word_embeddings.weight").values;
  for (std::size_t j = 0; j < 12; ++j) {
    CHECK(keep.states(plmscope::embeddings{})[2 * 12 + j] == table[32 * 12 + j]);
  }
}

TEST_CASE("the LM head: tied decoder, absent head") {
  const std::string words = "esm.embeddings.word_embeddings.weight";
  CHECK(error_after([&](tensors& t) { t["lm_head.decoder.weight"] = t[words]; }) == "no error");
  CHECK(error_after([&](tensors& t) {
          t["lm_head.decoder.weight"] = t[words];
          t["lm_head.decoder.weight"].values[7] += 1;
        }).starts_with("plm.113 "));
  const golden::scratch_folder folder;
  tensors all = small_model();
  std::erase_if(all, [](const auto& entry) { return entry.first.starts_with("lm_head."); });
  write(all, folder / "model.safetensors");
  auto model = esm2<>::load(folder.path());
  CHECK_FALSE(model.has_head());
  CHECK(outputs(model).size() == 18 * 12);
  CHECK(error_of([&] { model.check(plmscope::logits{}); }).starts_with("plm.114 "));
}

TEST_CASE("what is no ESM-2 model is refused with its id") {
  const golden::scratch_folder folder;
  CHECK(error_of([&] { esm2<>::load(folder / "nowhere"); }).starts_with("plm.109 "));
  CHECK(error_of([&] { esm2<>::load(folder.path()); }).starts_with("plm.109 "));
  CHECK(error_after([](tensors& t) {
          t.clear();
          t["encoder.sentence_encoder.embed_tokens.weight"] = {{1}, {0.0f}};
        }).find("fair-esm's tensor names") != std::string::npos);
  CHECK(error_after([](tensors& t) { t.clear(); }).starts_with("plm.110 "));
  CHECK(error_after([](tensors& t) {
          t["esm.embeddings.word_embeddings.weight"] = {{34, 12}, std::vector<float>(34 * 12)};
        }).starts_with("plm.110 "));
  CHECK(error_after([](tensors& t) {
          t["esm.embeddings.layer_norm.weight"] = {{12}, std::vector<float>(12)};
        }).starts_with("plm.110 "));
  CHECK(error_after([](tensors& t) {
          t.erase("esm.encoder.layer.1.output.dense.bias");
        }).starts_with("io.123 "));
  CHECK(error_after([](tensors& t) {
          t["esm.encoder.layer.1.output.dense.weight"] = {{20, 12}, std::vector<float>(240)};
        }).starts_with("io.124 "));
  CHECK(error_after([](tensors& t) {
          t["esm.encoder.layer.0.LayerNorm.bias"].values[3] =
              std::numeric_limits<float>::quiet_NaN();
        }).starts_with("io.127 "));
}
