// SPDX-License-Identifier: MIT
#include <tests/golden.hpp>

#include <plmscope/backend/reference.hpp>
#include <plmscope/core/rng.hpp>
#include <plmscope/io/byte_source.hpp>
#include <plmscope/io/safetensors_writer.hpp>
#include <plmscope/sae/any_sae.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using plmscope::any_sae;
using plmscope::cpu;
using plmscope::stated_sae;

namespace {

struct thrown {
  std::string id = "nothing";
  std::string text;
};

template <class F>
thrown caught(const F& f) {
  try {
    f();
  } catch (const plmscope::error& e) {
    return {std::string(e.id()), e.what()};
  }
  return {};
}

struct tensor {
  std::vector<std::size_t> shape;
  std::vector<float> numbers;
};
using tensors = std::map<std::string, tensor>;

constexpr std::size_t d = 6, features = 10;

tensor filled(std::vector<std::size_t> shape, std::uint64_t stream) {
  std::size_t n = 1;
  for (const std::size_t s : shape) n *= s;
  const plmscope::rng random(11, stream);
  tensor t{std::move(shape), {}};
  for (std::size_t i = 0; i < n; ++i) t.numbers.push_back(static_cast<float>(random.normal(i)));
  return t;
}

// An SAE as InterProt and SAELens write it.
tensors interprot() {
  return {{"w_enc", filled({d, features}, 1)},
          {"w_dec", filled({features, d}, 2)},
          {"b_enc", filled({features}, 3)},
          {"b_pre", filled({d}, 4)}};
}
tensors saelens() {
  return {{"W_enc", filled({d, features}, 1)},
          {"W_dec", filled({features, d}, 2)},
          {"b_enc", filled({features}, 3)},
          {"b_dec", filled({d}, 4)}};
}
const std::string saelens_settings =
    R"({"d_in": 6, "d_sae": 10, "architecture": "topk", "k": 3, "metadata": {"model_name": "m"}})";

void write(const std::filesystem::path& path, const tensors& of) {
  plmscope::safetensors_writer w;
  for (const auto& [name, t] : of) w.add<float>(name, t.shape, t.numbers);
  w.write(path);
}
void write_text(const std::filesystem::path& path, std::string_view text) {
  std::ofstream(path, std::ios::binary) << text;
}

std::string id_of(const std::filesystem::path& path, const stated_sae& stated = {}) {
  return caught([&] { plmscope::read_published_sae(path, stated); }).id;
}

}  // namespace

TEST_CASE("what a file does not say must be stated, and is remembered") {
  const golden::scratch_folder folder;
  const auto file = folder / "any_name.safetensors";
  write(file, interprot());
  const thrown missing = caught([&] { plmscope::read_published_sae(file); });
  CHECK(missing.id == "sae.112");
  CHECK(missing.text.find("--k 64") != std::string::npos);
  CHECK(id_of(file, {.k = 0}) == "sae.115");
  CHECK(id_of(file, {.k = features + 1}) == "sae.115");
  CHECK(id_of(file, {.library = "saelens", .k = 3}) == "sae.113");
  CHECK(id_of(file, {.sparsifier = "relu", .k = 3}) == "sae.113");
  CHECK(id_of(file, {.k = 3, .normalized = true}) == "sae.113");
  CHECK(id_of(file, {.k = 3, .transcoder = true}) == "sae.113");
  CHECK(id_of(file, {.k = 3, .transcoder = false}) == "nothing");
  CHECK(id_of(file, {.k = 3, .norm_factor = 1.0}) == "sae.113");
  CHECK(id_of(file, {.k = 3, .relative_variance = true}) == "sae.113");

  auto model = any_sae<>::open(
      file, {.library = "interprot", .k = 3, .model = "esm2_x", .site = "resid_post.4"});
  model.save(folder / "ours.safetensors");
  const auto again = any_sae<>::open(folder / "ours.safetensors").describe();
  CHECK(again.training_record.at("stated.k") == "3");
  CHECK(again.training_record.at("stated.library") == "interprot");
  CHECK(again.training_record.at("published.library") == "interprot");
  CHECK(again.source.model == "esm2_x");
  CHECK(again.source.site == "resid_post.4");
  CHECK(again.sparsifier_fields.at("k") == "3");
  // the site that was stated is held against activations as any other
  CHECK(caught([&] {
          any_sae<>::open(folder / "ours.safetensors", {}, {"esm2_x", "", "resid_post.5"});
        }).id == "sae.105");
  CHECK(caught([&] {
          any_sae<>::open(file, {.k = 3, .site = "resid_post.4"}, {"", "", "resid_post.5"});
        }).id == "sae.105");
  // a file of ours leaves nothing to state
  CHECK(caught([&] { any_sae<>::open(folder / "ours.safetensors", {.k = 3}); }).id == "sae.113");
}

TEST_CASE("an SAE of a type known at run time is used without its type, or with it") {
  const golden::scratch_folder folder;
  write(folder / "a.safetensors", interprot());
  auto model = any_sae<plmscope::reference>::open(folder / "a.safetensors", {.k = 3});
  CHECK(model.d_model() == d);
  CHECK(model.d_out() == d);
  CHECK(model.features() == features);
  CHECK(model.describe().sparsifier == "top_k");
  CHECK(model.get_if<plmscope::relu>() == nullptr);
  REQUIRE(model.get_if<plmscope::top_k>() != nullptr);
  CHECK(model.get_if<plmscope::top_k>()->sparsifier().k == 3);
  CHECK(model.visit([](const auto& typed) { return typed.settings().normalize.ddof; }) == 1);
  CHECK_FALSE(any_sae<>::is_native(folder / "a.safetensors"));
  CHECK_FALSE(any_sae<>::is_native(folder / "nowhere"));

  plmscope::reference be;
  plmscope::matrix<double, plmscope::reference> x(be, 4, d), y(be, 4, d), both(be, 4, d);
  for (std::size_t i = 0; i < x.size(); ++i) x.data()[i] = std::sin(static_cast<double>(3 * i));
  plmscope::codes<plmscope::reference> z;
  model.encode(x, z);
  CHECK(z.rows() == 4);
  CHECK(z.entries() <= 12);
  model.decode(z, y);
  model.reconstruct(x, both);
  CHECK(std::equal(y.data(), y.data() + y.size(), both.data()));
  plmscope::matrix<double, plmscope::reference> wide(be, 4, d + 1);
  CHECK(caught([&] { model.encode(wide, z); }).id == "sae.102");
  CHECK(caught([&] { model.decode(z, wide); }).id == "sae.110");
  // in double, so that saved and opened nothing is lost; a float SAE opens it, too
  plmscope::save_sae(model, folder / "ours.safetensors");
  auto single = any_sae<cpu>::open(folder / "ours.safetensors", {}, {}, cpu(1));
  CHECK(single.describe().normalizer == model.describe().normalizer);
  // a sparsifier that is not among the known ones
  auto read = plmscope::read_published_sae(folder / "a.safetensors", {.k = 3});
  read.description.sparsifier = "unheard_of";
  const thrown t = caught([&] { any_sae<>{read}; });
  CHECK(t.id == "sae.104");
  CHECK(t.text.find("jump_relu") != std::string::npos);
  read.description.sparsifier = "jump_relu";  // whose thresholds it lacks
  read.description.sparsifier_fields.clear();
  CHECK(caught([&] { any_sae<>{read}; }).id == "sae.115");
}

TEST_CASE("the layout is told by tensors and settings, not by names of files") {
  const golden::scratch_folder folder;
  std::filesystem::create_directories(folder / "interprot");
  write(folder / "interprot" / "ae.safetensors", saelens());
  CHECK(id_of(folder / "interprot" / "ae.safetensors") == "sae.111");
  write_text(folder / "interprot" / "cfg.json", saelens_settings);
  CHECK(plmscope::read_published_sae(folder / "interprot" / "ae.safetensors").library == "saelens");
  // the folder stands for the one file of weights in it
  CHECK(plmscope::read_published_sae(folder / "interprot").library == "saelens");
  write(folder / "interprot" / "sparsity.safetensors", {{"sparsity", filled({features}, 1)}});
  CHECK(id_of(folder / "interprot") == "nothing");
  write(folder / "interprot" / "other.safetensors", interprot());
  CHECK(id_of(folder / "interprot") == "sae.117");
  CHECK(id_of(folder / "interprot" / "other.safetensors", {.k = 2}) == "nothing");
  CHECK(id_of(folder.path()) == "sae.117");

  // four tensors that three libraries write alike
  auto four = tensors{{"bias", filled({d}, 1)},
                      {"encoder.weight", filled({features, d}, 2)},
                      {"encoder.bias", filled({features}, 3)},
                      {"decoder.weight", filled({d, features}, 4)}};
  const auto file = folder / "four.safetensors";
  write(file, four);
  const thrown which = caught([&] { plmscope::read_published_sae(file); });
  CHECK(which.id == "sae.112");
  for (const char* library : {"interplm", "dictionary_learning", "reticular"}) {
    CHECK(which.text.find(library) != std::string::npos);
  }
  const auto plain = plmscope::read_published_sae(file, {.library = "interplm"});
  const auto folded = plmscope::read_published_sae(file, {.library = "dictionary_learning"});
  CHECK(plain.decoder[0] == four["decoder.weight"].numbers[0]);
  CHECK(plain.decoder[1] == four["decoder.weight"].numbers[features]);
  double squares = 0;
  for (std::size_t j = 0; j < d; ++j)
    squares += std::pow(static_cast<double>(folded.decoder[j]), 2);
  CHECK(squares == doctest::Approx(1));
  CHECK(id_of(file, {.library = "reticular"}) == "sae.112");
  CHECK(id_of(file, {.library = "reticular", .norm_factor = -1.0}) == "sae.114");
}

TEST_CASE("settings that are broken or contradict the tensors are refused") {
  const golden::scratch_folder folder;
  const auto file = folder / "sae_weights.safetensors";
  write(file, saelens());
  const auto with = [&](std::string_view settings, const stated_sae& stated = {}) {
    write_text(folder / "cfg.json", settings);
    return id_of(file, stated);
  };
  CHECK(with(saelens_settings) == "nothing");
  CHECK(with(saelens_settings, {.k = 3}) == "nothing");
  CHECK(with(saelens_settings, {.k = 4}) == "sae.113");
  const std::vector<std::pair<std::string, std::string>> cases{
      {R"({"d_in": 7, "d_sae": 10, "architecture": "topk", "k": 3})", "sae.115"},
      {R"({"d_in": 6, "d_sae": 11, "architecture": "topk", "k": 3})", "sae.115"},
      {R"({"d_in": 6.5, "d_sae": 10, "architecture": "topk", "k": 3})", "sae.115"},
      {R"({"d_in": -6, "d_sae": 10, "architecture": "topk", "k": 3})", "sae.115"},
      {R"({"d_in": 6e999, "d_sae": 10, "architecture": "topk", "k": 3})", "sae.115"},
      {R"({"d_in": "6", "d_sae": 10, "architecture": "topk", "k": 3})", "sae.115"},
      {R"({"d_in": 6, "d_sae": 10, "architecture": ["topk"], "k": 3})", "sae.115"},
      {R"({"d_in": 6, "d_sae": 10, "architecture": "topk", "k": 1e10})", "sae.115"},
      {R"({"d_in": 6, "d_sae": 10, "architecture": "topk", "k": null})", "sae.112"},
      {R"({"d_in": 6, "d_sae": 10, "architecture": "topk"})", "sae.112"},
      {R"({"d_in": 6, "d_sae": 10, "architecture": "temporal"})", "sae.114"},
      {R"({"d_in": 6, "d_sae": 10, "architecture": "standard", "reshape_activations": "hook_z"})",
       "sae.114"},
      {R"({"d_in": 6, "d_sae": 10, "architecture": "standard",
           "normalize_activations": "covariance_whitening"})",
       "sae.114"},
      {R"({"d_in": 6, "d_sae": 10, "architecture": "standard",
           "normalize_activations": "expected_average_only_in"})",
       "sae.112"},
      {R"({"d_in": 6, "d_sae": 10, "architecture": "standard",
           "apply_b_dec_to_input": "no"})",
       "sae.115"},
      {R"({"d_in": 6, "d_sae": 10, "architecture": "jumprelu"})", "io.123"},
      {R"({"d_in": 6, "d_sae": 10, "architecture": "topk", "k": 3)", "io.140"},
      {R"({"d_in": 6, "d_sae": 10, "x": abc})", "io.140"},
      {"", "io.140"},
      {"\xff", "io.141"},
      {"[]", "io.140"},
      {"{}", "sae.111"}};
  for (const auto& [settings, id] : cases) {
    INFO(settings);
    CHECK(with(settings) == id);
  }
  CHECK(with(R"({"d_in": 6, "d_sae": 10, "architecture": "standard",
                 "normalize_activations": "expected_average_only_in"})",
             {.norm_factor = 2.0}) == "nothing");
  std::string deep = R"({"d_in": 6, "d_sae": 10, "architecture": "standard", "x": )";
  for (int i = 0; i < 100000; ++i) deep += "{\"a\":";
  CHECK(with(deep) == "sae.115");
  CHECK(with(std::string(2 << 20, ' ')) != "nothing");
}

TEST_CASE("tensors that are missing, misshapen or not finite are refused") {
  const golden::scratch_folder folder;
  const auto file = folder / "a.safetensors";
  const auto good = interprot();
  for (const auto& [name, t] : good) {
    INFO(name);
    auto bad = good;
    bad.erase(name);
    write(file, bad);
    CHECK(id_of(file, {.k = 3}) == "sae.111");
    for (const float v : {std::nanf(""), INFINITY}) {
      bad = good;
      bad[name].numbers[1] = v;
      write(file, bad);
      CHECK(id_of(file, {.k = 3}) == "sae.106");
    }
    bad = good;
    bad[name] = filled({3}, 9);
    write(file, bad);
    CHECK(id_of(file, {.k = 3}) != "nothing");
    bad[name] = {{0}, {}};
    write(file, bad);
    CHECK(id_of(file, {.k = 3}) != "nothing");
    bad[name] = {{0, d}, {}};
    write(file, bad);
    CHECK(id_of(file, {.k = 3}) != "nothing");
  }
}

TEST_CASE("damage anywhere in published files is an error or harmless, never worse") {
  const auto folders = golden::folders("sae_formats", "about.json");
  const golden::scratch_folder scratch;
  std::size_t tried = 0;
  for (const auto& from : folders) {
    const std::string name = from.filename().string();
    // One of each way of storing and of each reader with settings.
    if (name != "interplm_topk" && name != "openai_topk" && name != "saelens_gated" &&
        name != "interprot_lightning" && name != "crosscoder_fork_l1_hub" && name != "esmc_sae") {
      continue;
    }
    const auto to = scratch / name;
    std::filesystem::copy(from, to);
    std::filesystem::remove(to / "expected.safetensors");
    for (const auto& entry : std::filesystem::directory_iterator(to)) {
      const auto victim = entry.path();
      if (victim.filename() == "about.json") continue;
      const std::string ending = victim.extension().string();
      const bool weights = ending != ".json" && ending != ".yaml";
      const auto read = plmscope::read_file(victim);
      const std::string bytes(reinterpret_cast<const char*>(read.data()), read.size());
      std::vector<std::filesystem::path> files;
      for (const auto& e : std::filesystem::directory_iterator(to)) {
        const auto x = e.path().extension();
        if (x != ".json" && x != ".yaml" && (!weights || e.path() == victim))
          files.push_back(e.path());
      }
      const plmscope::rng random(5, tried);
      for (std::size_t i = 0; i < 60; ++i) {
        std::string bad = bytes;
        const std::size_t where = random.bits(2 * i) % std::min<std::size_t>(bytes.size(), 2048);
        if (i % 3 == 0) {
          bad.resize(random.bits(2 * i) % bytes.size());
        } else if (i % 3 == 1) {
          bad[where] = static_cast<char>(random.bits(2 * i + 1));
        } else {
          bad[bytes.size() - 1 - where] = static_cast<char>(random.bits(2 * i + 1));
        }
        write_text(victim, bad);
        for (const auto& file : files) {
          const thrown t = caught([&] { any_sae<>::open(file, {}, {}, cpu(1)); });
          CHECK((t.id == "nothing" || t.id.starts_with("sae.") || t.id.starts_with("io.")));
          ++tried;
        }
      }
      write_text(victim, bytes);
    }
  }
  if (!folders.empty()) CHECK(tried > 500);
}

TEST_CASE("a mixture of experts asks for what its file does not say") {
  const golden::scratch_folder folder;
  const auto file = folder / "checkpoint_final.safetensors";
  const std::string in = "model_state_dict/";
  tensors all{{in + "router.weight", filled({2, d}, 1)}};
  for (const std::string e : {"0", "1"}) {
    all[in + "expert_encoders." + e + ".weight"] = filled({5, d}, 2);
    all[in + "expert_decoders." + e + ".weight"] = filled({d, 5}, 3);
    all[in + "expert_latent_biases." + e] = filled({5}, 4);
    all[in + "expert_pre_biases." + e] = filled({d}, 5);
  }
  write(file, all);
  CHECK(id_of(file) == "sae.112");
  CHECK(id_of(file, {.k = 3}) == "sae.112");
  CHECK(id_of(file, {.k = 3, .chosen = 1}) == "sae.112");
  CHECK(id_of(file, {.k = 3, .chosen = 0, .normalized = true}) == "sae.115");
  CHECK(id_of(file, {.k = 3, .chosen = 3, .normalized = true}) == "sae.115");
  CHECK(id_of(file, {.k = 11, .chosen = 1, .normalized = true}) == "sae.115");
  const auto read = plmscope::read_published_sae(file, {.k = 3, .chosen = 1, .normalized = false});
  CHECK(read.description.training_record.at("stated.chosen") == "1");
  CHECK(read.description.features == features);
  CHECK(read.encoder.size() == features * d);
  CHECK(read.decoder[1] == all[in + "expert_decoders.0.weight"].numbers[5]);
  auto fewer = all;
  fewer.erase(in + "expert_pre_biases.1");
  write(file, fewer);
  CHECK(id_of(file, {.k = 3, .chosen = 1, .normalized = false}) == "io.123");
  auto uneven = all;
  uneven[in + "expert_encoders.1.weight"] = filled({4, d}, 2);
  write(file, uneven);
  CHECK(id_of(file, {.k = 3, .chosen = 1, .normalized = false}) == "io.124");
  all[in + "shared_encoder.weight"] = filled({5, d}, 2);
  write(file, all);
  CHECK(id_of(file, {.k = 3, .chosen = 1, .normalized = false}) == "sae.114");
  write(folder / "plain.safetensors", interprot());
  CHECK(id_of(folder / "plain.safetensors", {.k = 3, .chosen = 1}) == "sae.113");
}
