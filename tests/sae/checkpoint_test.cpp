// SPDX-License-Identifier: MIT
#include <tests/golden.hpp>

#include <plmscope/backend/reference.hpp>
#include <plmscope/sae/checkpoint.hpp>

#include <doctest/doctest.h>

#include <fstream>
#include <limits>
#include <string>

using plmscope::activation_source;
using plmscope::cpu;
using plmscope::normalization;
using plmscope::sae;
using plmscope::top_k;

namespace {

const activation_source parent{"esm2_test", "0123abcd", "resid_post.4"};

sae<top_k> sample(plmscope::normalizer n = {}) {
  sae<top_k> s({.d_model = 8, .features = 24, .sparsifier = {.k = 5}, .normalize = n, .seed = 3},
               cpu(1));
  s.source = parent;
  s.training_record["steps"] = "12";
  return s;
}

template <class F>
std::string id_thrown(const F& f) {
  try {
    f();
  } catch (const plmscope::error& e) {
    return std::string(e.id());
  }
  return "nothing";
}

struct other_sparsifier {
  static constexpr std::string_view id = "other";
  template <class B>
  void select(B& be, plmscope::const_view<B> pre, plmscope::codes<B>& out) const {
    be.top_k_rows(pre, 1, plmscope::by_value{}, out);
  }
};

}  // namespace

TEST_CASE("an SAE file gives back every bit and every field") {
  const golden::scratch_folder folder;
  for (const auto kind : {normalization::none, normalization::scalar, normalization::per_dimension,
                          normalization::token_layer_norm}) {
    plmscope::normalizer n{.kind = kind, .scale = 0.1234567890123};
    if (kind != normalization::scalar) n.scale = 1;
    if (kind == normalization::per_dimension) {
      n.mean.assign(8, 0.3);
      n.deviation.assign(8, 1.7);
    }
    auto a = sample(n);
    plmscope::save_sae(a, folder / "a.safetensors");
    auto b = plmscope::load_sae<top_k>(folder / "a.safetensors", parent, &n, cpu(1));
    CHECK(b.sparsifier().k == 5);
    CHECK(b.normalization() == n);
    CHECK(b.source == parent);
    CHECK(b.training_record.at("steps") == "12");
    CHECK(std::equal(a.parameters().encoder.data(), a.parameters().encoder.data() + 24 * 8,
                     b.parameters().encoder.data()));
    CHECK(std::equal(a.parameters().decoder.data(), a.parameters().decoder.data() + 24 * 8,
                     b.parameters().decoder.data()));
  }
}

TEST_CASE("an SAE is refused for activations it was not made for") {
  const golden::scratch_folder folder;
  const auto file = folder / "a.safetensors";
  auto a = sample();
  plmscope::save_sae(a, file);
  const auto open = [&](activation_source use) {
    return id_thrown([&] { plmscope::load_sae<top_k>(file, use, nullptr, cpu(1)); });
  };
  CHECK(open(parent) == "nothing");
  CHECK(open({}) == "nothing");
  CHECK(open({"esm2_test", "0123abcd", "resid_post.3"}) == "sae.105");
  CHECK(open({"esm2_test", "ffff", "resid_post.4"}) == "sae.105");
  CHECK(open({"another", "", "resid_post.4"}) == "sae.105");
  CHECK(open({"renamed folder", "0123abcd", "resid_post.4"}) == "nothing");  // same weights
  const plmscope::normalizer scaled{.kind = normalization::scalar, .scale = 2};
  CHECK(id_thrown([&] { plmscope::load_sae<top_k>(file, parent, &scaled, cpu(1)); }) == "sae.105");
  CHECK(id_thrown([&] { plmscope::load_sae<other_sparsifier>(file, parent, nullptr, cpu(1)); }) ==
        "sae.104");
}

TEST_CASE("a file that is no SAE, or a damaged one, is refused by name") {
  const golden::scratch_folder folder;
  const auto file = folder / "a.safetensors";
  plmscope::safetensors_writer w;
  const std::vector<float> numbers(12, 1.0f);
  w.add<float>("encoder", {3, 4}, numbers);
  w.write(file);
  CHECK(id_thrown([&] { plmscope::load_sae<>(file); }) == "sae.103");

  auto a = sample();
  a.parameters().decoder(2, 3) = std::numeric_limits<float>::quiet_NaN();
  plmscope::save_sae(a, file);
  CHECK(id_thrown([&] { plmscope::load_sae<>(file, {}, nullptr, cpu(1)); }) == "sae.106");

  // every metadata field in turn changed to nonsense or removed
  auto good = sample({.kind = normalization::token_layer_norm});
  plmscope::save_sae(good, file);
  const auto original = plmscope::safetensors_file::read_whole(file);
  for (const auto& [key, value] : original.metadata()) {
    if (key.starts_with("training.") || key == "plmscope.version" || key == "normalizer.scale") continue;
    plmscope::safetensors_writer changed;
    changed.metadata = original.metadata();
    changed.metadata.erase(key);
    for (const auto& t : original.tensors()) {
      changed.add_owned<float>(t.name, t.shape, original.read_vector<float>(t));
    }
    changed.write(folder / "b.safetensors");
    INFO(key);
    CHECK(id_thrown([&] { plmscope::load_sae<>(folder / "b.safetensors", parent, nullptr, cpu(1)); }) !=
          "nothing");
  }
}

TEST_CASE("every truncation of an SAE file is refused") {
  const golden::scratch_folder folder;
  auto a = sample();
  plmscope::save_sae(a, folder / "a.safetensors");
  std::ifstream in(folder / "a.safetensors", std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  for (std::size_t n = 0; n < bytes.size(); n += 37) {
    std::ofstream(folder / "b.safetensors", std::ios::binary) << bytes.substr(0, n);
    CHECK_THROWS_AS(plmscope::load_sae<>(folder / "b.safetensors", {}, nullptr, cpu(1)),
                    plmscope::error);
  }
}
