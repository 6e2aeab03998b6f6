// SPDX-License-Identifier: MIT
// Real weights, where the environment's PLMSCOPE_ESM2 names a folder that is a model or holds model
// folders (as downloaded from Hugging Face, facebook/esm2_*).
#include "tests/golden.hpp"

#include <plmscope/io/half.hpp>
#include <plmscope/plm/collect.hpp>
#include <plmscope/plm/esm2.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;
using ids = std::vector<std::int32_t>;
using plmscope::esm2;

std::vector<fs::path> real_models() {
  std::vector<fs::path> found;
  const char* set = std::getenv("PLMSCOPE_ESM2");
  if (set == nullptr || *set == '\0' || !fs::is_directory(set)) {
    golden::skip("no real ESM-2 weights (PLMSCOPE_ESM2 names their folder)");
    return found;
  }
  if (fs::is_regular_file(fs::path(set) / "model.safetensors")) found.emplace_back(set);
  for (const auto& entry : fs::directory_iterator(set)) {
    if (fs::is_regular_file(entry.path() / "model.safetensors")) found.push_back(entry.path());
  }
  INFO("no folder with model.safetensors in ", std::string(set));
  CHECK_FALSE(found.empty());
  return found;
}

plmscope::collect<float> run(esm2<>& model, const ids& tokens) {
  plmscope::packed_batch batch;
  batch.add(std::span<const std::int32_t>(tokens));
  plmscope::collect<float> keep({plmscope::final_norm{}, plmscope::logits{}});
  model.forward(batch, keep);
  return keep;
}

// Largest deviation of the 3 x 3 corner from printed values, relative to 1e-4 + 1e-4 |value|.
double corner_error(std::span<const float> states, std::size_t width,
                    const std::vector<double>& expected) {
  double worst = 0;
  for (std::size_t i = 0; i < 9; ++i) {
    const double ours = static_cast<double>(states[i / 3 * width + i % 3]);
    const double allowed = 1e-4 + 1e-4 * std::abs(expected[i]);
    worst = golden::worse(worst, std::abs(ours - expected[i]) / allowed);
  }
  return worst;
}

}  // namespace

TEST_CASE("published 8M values of transformers' own tests") {
  for (const auto& folder : real_models()) {
    auto model = esm2<>::load(folder, {.content_hash = false});
    if (model.layers() != 6 || model.d_model() != 320) continue;
    const auto a = run(model, {0, 1, 2, 3, 4, 5});
    double worst = corner_error(
        a.states(plmscope::logits{}), 33,
        {8.9215, -10.5898, -6.4671, -6.3967, -13.9114, -1.1212, -7.7812, -13.9516, -3.7406});
    const auto b = run(model, {0, 6, 4, 13, 5, 4, 16, 12, 11, 7, 2});
    worst = golden::worse(
        worst,
        corner_error(b.states(plmscope::final_norm{}), 320,
                     {0.1444, 0.5413, 0.3248, 0.3034, 0.0053, 0.3108, 0.3228, -0.2499, 0.3415}));
    golden::report(folder, worst, 1.0);
  }
}

TEST_CASE("real inv_freq is rounded to half precision") {
  for (const auto& folder : real_models()) {
    const auto checkpoint = plmscope::esm2_checkpoint::open(folder, {.content_hash = false});
    for (const float f : checkpoint.inv_freq(0)) {
      CHECK(f == plmscope::to_float(plmscope::to_float16(f)));
    }
  }
}

TEST_CASE("real outputs in bf16: the class of tolerance of that precision") {
  for (const auto& folder : real_models()) {
    auto model = esm2<>::load(folder, {.content_hash = false});
    for (const auto& path : golden::files("esm2_reference", ".safetensors")) {
      const auto file = plmscope::safetensors_file::open(path);
      const auto* states = file.find("output__last_hidden_state");
      if (states == nullptr || states->shape.size() != 3 || states->shape[2] != model.d_model()) {
        continue;
      }
      const std::size_t length = states->shape[1];
      const std::size_t d = model.d_model();
      const auto tokens = file.read_vector<std::int64_t>("input__input_ids");
      const auto mask = file.read_vector<std::int64_t>("input__attention_mask");
      const auto expected = file.read_vector<float>(*states);
      double worst = 0;
      for (std::size_t s = 0; s < states->shape[0]; ++s) {
        ids sequence;
        for (std::size_t i = 0; i < length; ++i) {
          if (mask[s * length + i] != 0) {
            sequence.push_back(static_cast<std::int32_t>(tokens[s * length + i]));
          }
        }
        const auto keep = run(model, sequence);
        worst = golden::worse(
            worst, golden::relative_l2(keep.states(plmscope::final_norm{}),
                                       std::span<const float>(expected)
                                           .subspan(s * length * d, sequence.size() * d)));
      }
      golden::report(path, worst, 3e-2);
    }
  }
}
