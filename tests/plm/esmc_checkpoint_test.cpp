// SPDX-License-Identifier: MIT
#include "tests/golden.hpp"

#include <plmscope/backend/cpu.hpp>
#include <plmscope/core/rng.hpp>
#include <plmscope/io/safetensors_writer.hpp>
#include <plmscope/plm/collect.hpp>
#include <plmscope/plm/esmc.hpp>

#include <doctest/doctest.h>

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
using plmscope::esmc;
using plmscope::esmc_layout;
using plmscope::esmc_names;
using plmscope::model_config_file;

struct tensor {
  std::vector<std::size_t> shape;
  std::vector<float> values;
};
using tensors = std::map<std::string, tensor>;

constexpr std::size_t d = 12;  // 3 heads of 4, 2 blocks
constexpr std::size_t wide = 10;

// A small model under the names of a layout; the numbers belong to the order of the calls, so that
// fused tensors are the split ones under each other.
tensors small_model(esmc_layout layout = esmc_layout::release_2024, std::string prefix = "") {
  const esmc_names names{layout, std::move(prefix)};
  tensors all;
  std::uint64_t at = 0;
  const auto add = [&](const std::string& name, std::vector<std::size_t> shape) {
    std::size_t n = 1;
    for (const std::size_t s : shape) n *= s;
    tensor t{std::move(shape), std::vector<float>(n)};
    // Multiples of 1/64 below 1: exact in half precision and in bfloat16.
    for (float& v : t.values) {
      v = static_cast<float>(static_cast<int>(plmscope::rng(3, 1).below(at++, 127)) - 63) / 64.0f;
    }
    CHECK(all.emplace(name, std::move(t)).second);
  };
  const auto stacked = [&](const std::vector<std::string>& parts, std::size_t rows) {
    for (const auto& name : parts) add(name, {rows / parts.size(), d});
  };
  add(names.embedding(), {64, d});
  for (std::size_t l = 0; l < 2; ++l) {
    const auto b = names.block(l);
    stacked(b.qkv, 3 * d);
    stacked(b.gate_up, 2 * wide);
    add(b.output, {d, d});
    add(b.down, {d, wide});
    for (const auto& name : {b.attention_gain, b.attention_bias, b.query_gain, b.key_gain,
                             b.feed_forward_gain, b.feed_forward_bias}) {
      add(name, {d});
    }
  }
  add(names.final_gain(), {d});
  add(names.head_dense() + ".weight", {d, d});
  add(names.head_dense() + ".bias", {d});
  add(names.head_norm() + ".weight", {d});
  add(names.head_norm() + ".bias", {d});
  add(names.head_decoder() + ".weight", {64, d});
  add(names.head_decoder() + ".bias", {64});
  return all;
}

void write(const tensors& all, const fs::path& path, plmscope::dtype type = plmscope::dtype::f32) {
  plmscope::safetensors_writer writer;
  for (const auto& [name, t] : all) {
    writer.add(name, type, t.shape, std::span<const float>(t.values));
  }
  writer.write(path);
}

std::vector<float> outputs(esmc<>& model, const plmscope::site& at = plmscope::logits{}) {
  plmscope::esmc_batch batch;
  batch.add("MKTAYI<mask>KQRQ|ISFVK");
  plmscope::collect<float> keep({at});
  model.forward(batch, keep);
  return {keep.states(at).begin(), keep.states(at).end()};
}

std::string error_of(const auto& f) {
  try {
    f();
  } catch (const plmscope::error& e) {
    return std::string(e.id()).append(" ").append(e.what());
  }
  return "no error";
}

// The error of loading small_model() after a change.
std::string error_after(const std::function<void(tensors&)>& change,
                        const plmscope::esmc_options& options = {.heads = 3},
                        std::string_view config = {}) {
  const golden::scratch_folder folder;
  tensors all = small_model();
  change(all);
  write(all, folder / "model.safetensors");
  if (!config.empty()) std::ofstream(folder / "config.json") << config;
  return error_of([&] { esmc<>::load(folder.path(), options); });
}

}  // namespace

TEST_CASE("ESM-C: names, prefix, number type and foreign tensors do not matter") {
  const golden::scratch_folder folder;
  const auto path = folder / "m.safetensors";
  const plmscope::esmc_config expected{
      .layers = 2, .d_model = d, .heads = 3, .feed_forward = wide, .vocabulary = 64};
  std::vector<float> first;
  for (const auto layout : {esmc_layout::release_2024, esmc_layout::fused, esmc_layout::split}) {
    for (const char* const prefix : {"", "esmc."}) {
      tensors all = small_model(layout, prefix);
      all["esmc.transformer.blocks.0.attn.layernorm_qkv._extra_state"] = {{3}, {1, 2, 3}};
      for (const auto type : {plmscope::dtype::f32, plmscope::dtype::f16, plmscope::dtype::bf16,
                              plmscope::dtype::f64}) {
        write(all, path, type);
        auto model = esmc<>::load(path, {.heads = 3});
        CHECK(model.config() == expected);
        CHECK(model.identity().name == "m");
        CHECK(plmscope::is_esmc(plmscope::safetensors_file::open(path)));
        if (first.empty()) first = outputs(model);
        CHECK(outputs(model) == first);
      }
    }
  }
}

TEST_CASE("ESM-C: the number of heads comes from options, config.json, or is assumed") {
  const golden::scratch_folder folder;
  const fs::path file = folder / "model.safetensors";
  write(small_model(), file);
  const auto heads = [&](const char* json, std::size_t option = 0) {
    if (json != nullptr) std::ofstream(folder / "config.json") << json;
    const auto c = plmscope::esmc_checkpoint::open(folder.path(), {.heads = option});
    CHECK_FALSE(c.heads_assumed());
    return c.config().heads;
  };
  CHECK(heads(nullptr, 2) == 2);
  CHECK(heads(R"({"n_heads": 3, "n_layers": 2, "d_model": 12})") == 3);
  CHECK(heads(R"({"hidden_size":12,"num_hidden_layers":2,"num_attention_heads":6})") == 6);
  CHECK(heads(R"({"n_heads": 3})", 6) == 6);

  // Published heads are 64 wide.
  const golden::scratch_folder other;
  plmscope::esmc_config config{.layers = 1, .d_model = 128, .heads = 2, .feed_forward = 8};
  tensors all;
  plmscope::cpu be(1);
  const auto remember = [&](std::string_view name, std::initializer_list<std::size_t> shape,
                            std::span<float> out) {
    plmscope::random_tensors(1)(name, shape, out);
    all[std::string(name)] = {shape, {out.begin(), out.end()}};
  };
  plmscope::esmc_detail::fill_weights(be, config, esmc_names{}, false, remember);
  write(all, other / "m.safetensors");
  const auto c = plmscope::esmc_checkpoint::open(other / "m.safetensors");
  CHECK(c.heads_assumed());
  CHECK(c.config() == config);
  CHECK_FALSE(c.has_head());
  auto model = esmc<>::load(other / "m.safetensors");
  CHECK(outputs(model, plmscope::final_norm{}).size() == 19 * 128);
  CHECK(error_of([&] { outputs(model); }).starts_with("plm.114 "));
}

TEST_CASE("ESM-C: what is no whole model is refused with its reason") {
  const auto nothing = [](tensors&) {};
  CHECK(error_after(nothing) == "no error");
  CHECK(error_after(nothing, {}).starts_with("plm.111 "));
  CHECK(error_after(nothing, {.heads = 5}).starts_with("plm.111 "));
  CHECK(error_after(nothing, {.heads = 12}).starts_with("plm.111 "));
  CHECK(error_after([](tensors& all) { all.erase("embed.weight"); }).starts_with("plm.150 "));
  CHECK(error_after([](tensors& all) { all.clear(); }).starts_with("plm.150 "));
  CHECK(error_after([](tensors& all) {
          all["embed.weight"] = {{20, d}, std::vector<float>(20 * d)};
        }).starts_with("plm.150 "));
  // A block in the middle is lost: no smaller model.
  const std::string gap = error_after([](tensors& all) {
    std::erase_if(all, [](const auto& t) { return t.first.starts_with("transformer.blocks.0."); });
  });
  CHECK(gap.starts_with("plm.150 "));
  CHECK(error_after([](tensors& all) {
          for (const auto& [name, t] : small_model()) {
            const std::string block = "transformer.blocks.1.";
            if (name.starts_with(block))
              all["transformer.blocks.3." + name.substr(block.size())] = t;
          }
        }).find("\"transformer.blocks.2.attn.q_ln.weight\"") != std::string::npos);
  CHECK(error_after([](tensors& all) {
          all.erase("transformer.blocks.1.ffn.3.weight");
        }).starts_with("io.123 "));
  CHECK(error_after([](tensors& all) {
          all["transformer.blocks.1.ffn.1.weight"] = {{wide, d}, std::vector<float>(wide * d)};
        }).starts_with("io.124 "));
  CHECK(error_after([](tensors& all) {
          all["transformer.norm.weight"].values[3] = std::numeric_limits<float>::quiet_NaN();
        }).starts_with("io.127 "));
  const golden::scratch_folder empty;
  CHECK(error_of([&] { esmc<>::load(empty.path()); }).starts_with("plm.109 "));
  CHECK(error_of([&] { esmc<>::load(empty / "none.safetensors"); }).starts_with("plm.109 "));
}

TEST_CASE("ESM-C: a config.json that lies or is broken is refused") {
  const auto after = [](std::string_view json) {
    return error_after([](tensors&) {}, {.heads = 3}, json);
  };
  CHECK(after(R"({"n_layers": 3})").starts_with("plm.152 "));
  CHECK(after(R"({"hidden_size": 960})").starts_with("plm.152 "));
  CHECK(after(R"({"n_heads": "three"})").starts_with("plm.118 "));
  CHECK(after(R"({"n_heads": 2.5})").starts_with("plm.118 "));
  CHECK(after(R"({"n_heads": -3})").starts_with("plm.118 "));
  CHECK(after(R"({"n_heads": 0})").starts_with("plm.118 "));
  CHECK(after(R"({"n_heads": 99999999999999999999})").starts_with("plm.118 "));
  CHECK(after(R"({"n_heads": 3)").starts_with("plm.151 "));
  CHECK(after(R"({"n_heads)").starts_with("plm.151 "));
  CHECK(after(R"({"n_heads": 3} x)").starts_with("plm.151 "));
  CHECK(after(R"(})").starts_with("plm.151 "));
  CHECK(after(R"(["n_heads", 3])").starts_with("plm.151 "));
  CHECK(after("null").starts_with("plm.151 "));
}

TEST_CASE("a config file: top level only, texts with anything in them, the name beside a model") {
  const model_config_file json(
      R"({ "text": "a \" } , \\", "inside": {"n": 7, "list": [1, {"n": 8}]}, "list": ["n", 9],
          "null": null, "n" : 4, "last":5})",
      "here");
  CHECK(json.count({"n"}) == 4);
  CHECK(json.count({"missing", "last", "n"}) == 5);
  CHECK_FALSE(json.count({"list"}).has_value());
  CHECK_FALSE(json.count({"missing"}).has_value());
  CHECK(error_of([&] { static_cast<void>(json.count({"null"})); }).starts_with("plm.118 "));
  CHECK(error_of([&] { static_cast<void>(json.count({"text"})); }).starts_with("plm.118 "));
  CHECK_FALSE(model_config_file("{}", "here").count({"n"}).has_value());

  const golden::scratch_folder folder;
  std::ofstream(folder / "a.config_hf.json") << R"({"n": 11})";
  CHECK(model_config_file::beside(folder / "a.model_hf.safetensors").count({"n"}) == 11);
  CHECK(model_config_file::beside(folder / "a.model.safetensors").where().empty());
  CHECK(model_config_file::beside(folder / "weights.safetensors").where().empty());
}
