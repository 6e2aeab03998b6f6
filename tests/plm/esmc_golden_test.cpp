// SPDX-License-Identifier: MIT
// The official implementation's numbers for ESM-C, see README_models.md of the reference data.
#include <tests/devices.hpp>
#include "tests/golden.hpp"

#include <plmscope/backend/cpu.hpp>
#include <plmscope/backend/reference.hpp>
#include <plmscope/plm/esmc.hpp>
#include <plmscope/plm/verify.hpp>
#if defined(PLMSCOPE_TEST_HAS_ONEDNN)
#include <plmscope/backend/cpu/gemm_onednn.hpp>
#endif
#if defined(PLMSCOPE_TEST_HAS_OPENBLAS)
#include <plmscope/backend/cpu/gemm_openblas.hpp>
#endif

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace {

namespace fs = std::filesystem;
using golden::model_of;
using golden::same_bits;
using plmscope::esmc;
using plmscope::esmc_batch;
using plmscope::safetensors_file;
using plmscope::site;
using cpu_double = plmscope::basic_cpu<double, plmscope::eigen_gemm>;

constexpr double limit = 3e-6;          // rounding of float; 1e-6 is usual
constexpr double limit_double = 1e-13;  // rounding of double

std::vector<site> all_sites(std::size_t layers) {
  std::vector<site> sites{plmscope::embeddings{}};
  for (std::size_t l = 0; l < layers; ++l) sites.push_back(plmscope::resid_post{l});
  sites.push_back(plmscope::final_norm{});
  sites.push_back(plmscope::logits{});
  return sites;
}

// Every state of every sequence, as one run of numbers per site.
template <class B>
std::vector<std::vector<typename B::real>> states(esmc<B>& model, const esmc_batch& batch) {
  plmscope::collect<typename B::real> keep(all_sites(model.layers()));
  model.forward(batch, keep);
  std::vector<std::vector<typename B::real>> out;
  for (const site& at : keep.sites()) {
    out.emplace_back(keep.states(at).begin(), keep.states(at).end());
  }
  return out;
}

template <class T>
bool same_bits(const std::vector<std::vector<T>>& a, const std::vector<std::vector<T>>& b) {
  return std::ranges::equal(a, b, [](const auto& x, const auto& y) {
    return same_bits(std::span<const T>(x), std::span<const T>(y));
  });
}

esmc_batch whole_batch(const std::vector<plmscope::expected_sequence>& sequences) {
  esmc_batch batch;
  for (const auto& s : sequences) batch.add(std::span<const std::int32_t>(s.tokens));
  return batch;
}

template <class B>
std::vector<plmscope::expected_sequence> expected_of(const fs::path& path, esmc<B>& model) {
  return plmscope::read_expected(safetensors_file::open(path), model.layers(), model.d_model(), 64);
}

template <class B>
void check_packing(const fs::path& expected) {
  auto model = esmc<B>::load(model_of(expected), {}, B(2));
  const auto sequences = expected_of(expected, model);
  const esmc_batch batch = whole_batch(sequences);
  const auto packed = states(model, batch);
  const auto sites = all_sites(model.layers());

  for (std::size_t s = 0; s < sequences.size(); ++s) {
    esmc_batch one;
    one.add(std::span<const std::int32_t>(sequences[s].tokens));
    const auto single = states(model, one);
    std::string different;
    for (std::size_t i = 0; i < packed.size(); ++i) {
      const std::size_t width = model.width(sites[i]);
      const auto part =
          std::span(packed[i]).subspan(batch.first_row(s) * width, batch.length(s) * width);
      if (!same_bits(std::span(single[i]), part)) different += " " + to_string(sites[i]);
    }
    INFO(expected.string(), ", sequence ", sequences[s].key, ", sites", different);
    CHECK(different.empty());
  }
  for (const std::size_t threads : {1u, 3u, 7u}) {
    for (const std::size_t tokens : {0u, 300u, 1u << 20}) {
      auto other = esmc<B>::load(model_of(expected),
                                 {.content_hash = false, .tokens_per_pass = tokens}, B(threads));
      INFO(expected.string(), ", ", threads, " threads, slices of ", tokens);
      CHECK(same_bits(states(other, batch), packed));
    }
  }
}

}  // namespace

TEST_CASE("ESM-C: hidden states and logits equal the official implementation") {
  for (const auto& path : golden::files("esmc_synthetic", ".expected.safetensors")) {
    double worst = 0;
    const auto run = [&](auto be) {
      auto model = esmc<decltype(be)>::load(model_of(path), {}, be);
      const auto result = plmscope::verify(model, path);
      CHECK(result.sequences.size() == 12);
      // Raw stream after the last block, and the final norm of it.
      REQUIRE(result.sites.size() == model.layers() + 2);
      CHECK(result.sites[model.layers()] == site(plmscope::resid_post{model.layers() - 1}));
      CHECK(result.sites.back() == site(plmscope::final_norm{}));
      worst = golden::worse(worst, result.worst());
    };
    run(plmscope::cpu(2));
#if defined(PLMSCOPE_TEST_HAS_ONEDNN)
    run(plmscope::basic_cpu<float, plmscope::onednn_gemm>(2));
#endif
#if defined(PLMSCOPE_TEST_HAS_OPENBLAS)
    run(plmscope::basic_cpu<float, plmscope::openblas_gemm>(2));
#endif
    golden::report(path, worst, limit);
  }
}

TEST_CASE("ESM-C: hidden states and logits on a device equal the official implementation") {
  for (const auto& path : golden::files("esmc_synthetic", ".expected.safetensors")) {
    auto model = esmc<devices::single>::load(model_of(path));
    const auto result = plmscope::verify(model, path);
    CHECK(result.sequences.size() == 12);
    golden::report(path / devices::name, result.worst(), limit);
  }
}

TEST_CASE(
    "ESM-C in double precision: the reference backend and cpu equal the official float64 run") {
  for (const auto& path : golden::files("esmc_synthetic", ".expected.safetensors")) {
    const auto file = safetensors_file::open(path);
    double worst = 0;
    std::size_t compared = 0;
    const auto run = [&](auto be) {
      auto model = esmc<decltype(be)>::load(model_of(path), {}, be);
      const auto sequences = expected_of(path, model);
      const esmc_batch batch = whole_batch(sequences);
      const auto sites = all_sites(model.layers());
      plmscope::collect<double> keep(sites);
      model.forward(batch, keep);
      for (std::size_t s = 0; s < sequences.size(); ++s) {
        const auto compare = [&](const site& at, std::span<const double> with) {
          worst = golden::worse(worst,
                                plmscope::verify_detail::relative_l2(
                                    keep.states(at), keep.width(at), batch.first_row(s),
                                    std::span<const std::int32_t>(sequences[s].positions), with));
          ++compared;
        };
        const std::string& key = sequences[s].key;
        const auto numbers = [&](const char* name) { return file.read_vector<double>(key + name); };
        compare(plmscope::final_norm{}, numbers(".embeddings64"));
        compare(plmscope::logits{}, numbers(".logits64"));
        if (!file.contains(key + ".hidden64")) continue;
        const auto hidden = numbers(".hidden64");
        const std::size_t each = sequences[s].positions.size() * model.d_model();
        for (std::size_t i = 0; i <= model.layers(); ++i) {
          compare(sites[i], std::span<const double>(hidden).subspan(i * each, each));
        }
      }
    };
    run(plmscope::reference());
    run(cpu_double(2));
    CHECK(compared >= 48);
    golden::report(path, worst, limit_double);
  }
}

TEST_CASE("ESM-C: the three sets of tensor names give the same bits") {
  std::size_t compared = 0;
  for (const auto& path : golden::files("esmc_synthetic", ".expected.safetensors")) {
    auto first = esmc<>::load(model_of(path));
    const auto sequences = expected_of(path, first);
    const esmc_batch batch = whole_batch(sequences);
    const auto expected = states(first, batch);
    std::string stem = model_of(path).stem().string();
    for (const char* const suffix : {"_te", "_hf"}) {
      const fs::path other = path.parent_path() / (stem + suffix + ".safetensors");
      if (!fs::exists(other)) continue;
      // The fused file has no config beside it.
      const bool stated =
          fs::exists(path.parent_path() / "c0.config_hf.json") && std::string_view(suffix) == "_hf";
      auto model = esmc<>::load(other, {.heads = stated ? 0 : first.config().heads});
      CHECK(model.config() == first.config());
      CHECK(model.identity().content_hash != first.identity().content_hash);
      CHECK(same_bits(states(model, batch), expected));
      ++compared;
    }
  }
  if (golden::skip_reason().empty()) CHECK(compared == 2);
}

TEST_CASE("ESM-C: packed equals single, any threads, any slices: bit for bit") {
  for (const auto& path : golden::files("esmc_synthetic", ".expected.safetensors")) {
    check_packing<plmscope::cpu>(path);
#if defined(PLMSCOPE_TEST_HAS_ONEDNN)
    check_packing<plmscope::basic_cpu<float, plmscope::onednn_gemm>>(path);
#endif
    // Not OpenBLAS: its AVX2 kernel ("Haswell") computes a row by its place in the tile.
  }
}

TEST_CASE("ESM-C: texts give the stored tokens, the frequencies are the stored ones") {
  for (const auto& path : golden::files("esmc_synthetic", ".expected.safetensors")) {
    const auto file = safetensors_file::open(path);
    std::size_t texts = 0;
    for (const auto& [key, text] : file.metadata()) {
      if (!file.contains(key + ".tokens")) continue;
      const auto stored = file.read_vector<std::int32_t>(key + ".tokens");
      INFO(key);
      const auto tokens = plmscope::tokenize<plmscope::esmc_alphabet>(text);
      // `_` was <mask> in the release that made these files; today's official tokenizer says <unk>.
      CHECK(plmscope::tokenize<plmscope::esmc_alphabet>(text, plmscope::underscore_is_mask{}) ==
            stored);
      CHECK((tokens == stored) == (key != "underscore"));
      ++texts;
    }
    CHECK(texts == 12);
    const auto frequencies = file.read_vector<float>("rotary.inv_freq");
    const auto model = esmc<>::load(model_of(path));
    CHECK(plmscope::esmc_inv_freq(model.config().head_dim()) == frequencies);
  }
}
