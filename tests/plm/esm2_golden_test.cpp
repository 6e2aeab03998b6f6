// SPDX-License-Identifier: MIT
// The official implementation's numbers, see README.md of the reference data.
#include <tests/devices.hpp>
#include "tests/golden.hpp"

#include <plmscope/backend/cpu.hpp>
#include <plmscope/backend/reference.hpp>
#include <plmscope/plm/esm2.hpp>
#include <plmscope/plm/verify.hpp>
#if defined(PLMSCOPE_TEST_HAS_ONEDNN)
#include <plmscope/backend/cpu/gemm_onednn.hpp>
#endif
#if defined(PLMSCOPE_TEST_HAS_OPENBLAS)
#include <plmscope/backend/cpu/gemm_openblas.hpp>
#endif

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
using golden::model_of;
using golden::same_bits;
using plmscope::esm2;
using plmscope::packed_batch;
using plmscope::safetensors_file;
using plmscope::site;
using cpu_double = plmscope::basic_cpu<double, plmscope::eigen_gemm>;

constexpr double limit = 3e-6;          // rounding of float; 1e-6 is usual
constexpr double limit_double = 1e-12;  // rounding of double

std::vector<site> all_sites(std::size_t layers) {
  std::vector<site> sites;
  for (std::size_t i = 0; i <= layers; ++i) sites.push_back(plmscope::hidden_state_site(i, layers));
  sites.push_back(plmscope::resid_post{layers - 1});
  sites.push_back(plmscope::logits{});
  return sites;
}

// Every state of every sequence, as one run of numbers per site.
template <class B>
std::vector<std::vector<typename B::real>> states(esm2<B>& model, const packed_batch& batch) {
  plmscope::collect<typename B::real> keep(all_sites(model.layers()));
  model.forward(batch, keep);
  std::vector<std::vector<typename B::real>> out;
  for (const site& at : keep.sites()) {
    out.emplace_back(keep.states(at).begin(), keep.states(at).end());
  }
  return out;
}

template <class B>
void check_packing(const fs::path& expected) {
  auto model = esm2<B>::load(model_of(expected), {}, B(2));
  const auto sequences =
      plmscope::read_expected(safetensors_file::open(expected), model.layers(), model.d_model());
  packed_batch batch;
  for (const auto& s : sequences) batch.add(std::span<const std::int32_t>(s.tokens));
  const auto packed = states(model, batch);
  const auto sites = all_sites(model.layers());
  const auto width = [&](std::size_t i) { return packed[i].size() / batch.rows(); };

  for (std::size_t s = 0; s < sequences.size(); ++s) {
    packed_batch one;
    one.add(std::span<const std::int32_t>(sequences[s].tokens));
    const auto single = states(model, one);
    std::string different;
    for (std::size_t i = 0; i < packed.size(); ++i) {
      const auto part =
          std::span(packed[i]).subspan(batch.first_row(s) * width(i), batch.length(s) * width(i));
      if (!same_bits(std::span(single[i]), part)) different += " " + to_string(sites[i]);
    }
    INFO(expected.string(), ", sequence ", sequences[s].key, ", sites", different);
    CHECK(different.empty());
  }
  for (const std::size_t threads : {1u, 3u, 7u}) {
    for (const std::size_t tokens : {1u, 300u, 1u << 20}) {
      auto other = esm2<B>::load(model_of(expected),
                                 {.content_hash = false, .tokens_per_pass = tokens}, B(threads));
      const auto again = states(other, batch);
      INFO(expected.string(), ", ", threads, " threads, slices of ", tokens);
      bool same = true;
      for (std::size_t i = 0; i < packed.size(); ++i) {
        same = same && same_bits(std::span(again[i]), std::span(packed[i]));
      }
      CHECK(same);
    }
  }
}

}  // namespace

TEST_CASE("hidden states and logits equal the official implementation") {
  for (const auto& path : golden::files("esm2_synthetic", ".expected.safetensors")) {
    double worst = 0;
    const auto run = [&](auto be) {
      auto model = esm2<decltype(be)>::load(model_of(path), {}, be);
      const auto result = plmscope::verify(model, path);
      CHECK(result.sequences.size() > 0);
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
    // The texts of the sequences give the stored tokens.
    const auto file = safetensors_file::open(path);
    for (const auto& [key, text] : file.metadata()) {
      if (!file.contains(key + ".tokens")) continue;
      CHECK(plmscope::tokenize(text) == file.read_vector<std::int32_t>(key + ".tokens"));
    }
  }
}

TEST_CASE("hidden states and logits on a device equal the official implementation") {
  for (const auto& path : golden::files("esm2_synthetic", ".expected.safetensors")) {
    auto model = esm2<devices::single>::load(model_of(path));
    const auto result = plmscope::verify(model, path);
    CHECK(result.sequences.size() > 0);
    golden::report(path / devices::name, result.worst(), limit);
  }
}

TEST_CASE("bfloat16 on a device, attention too: states near the official implementation") {
  constexpr double limit_bf16 = 2e-2;
  using device = devices::with_tiles;
  const char* const which = device::id == "emulated" ? "tiny.expected.safetensors"  // 4 s, not 20
                                                     : ".expected.safetensors";
  for (const auto& path : golden::files("esm2_synthetic", which)) {
    const device be = device().with(plmscope::product_precision::bf16);
    auto model = esm2<device>::load(model_of(path), {}, be);
    const auto result = plmscope::verify(model, path);
    CHECK(result.sequences.size() > 0);
    CHECK(result.worst() > 1e-3);  // it was bfloat16
    golden::report(path / "bf16", result.worst(), limit_bf16);
  }
}

TEST_CASE("inv_freq is read: recomputed it fails the same limit, rounded to half it passes") {
  for (const auto& path : golden::files("esm2_synthetic", ".expected.safetensors")) {
    auto exact = esm2<>::load(model_of(path), {.rotary = plmscope::inv_freq::exact});
    auto half = esm2<>::load(model_of(path), {.rotary = plmscope::inv_freq::half_rounded});
    const auto recomputed = plmscope::verify(exact, path);
    CHECK(recomputed.worst() > 10 * limit);
    for (const auto& s : recomputed.sequences) {
      if (s.tokens >= 60) CHECK(s.worst() > limit);
    }
    CHECK(plmscope::verify(half, path).worst() <= limit);
  }
}

TEST_CASE("packed equals single, any threads, any slices: bit for bit") {
  for (const auto& path : golden::files("esm2_synthetic", ".expected.safetensors")) {
    check_packing<plmscope::cpu>(path);
#if defined(PLMSCOPE_TEST_HAS_ONEDNN)
    check_packing<plmscope::basic_cpu<float, plmscope::onednn_gemm>>(path);
#endif
    // Not OpenBLAS: its AVX2 kernel ("Haswell") computes a row by its place in the tile.
  }
}

TEST_CASE("in double precision: the reference backend and cpu equal the official float64 run") {
  for (const auto& path : golden::files("esm2_synthetic", ".edits.safetensors")) {
    const auto file = safetensors_file::open(path);
    if (!file.contains("clean.hidden_all64")) continue;
    packed_batch batch;
    batch.add(std::span<const std::int32_t>(file.read_vector<std::int32_t>("tokens")));
    const auto hidden = file.read_vector<double>("clean.hidden_all64");
    const auto logits = file.read_vector<double>("clean.logits64");
    double worst = 0;
    const auto run = [&](auto be) {
      auto model = esm2<decltype(be)>::load(model_of(path), {}, be);
      plmscope::collect<double> keep(all_sites(model.layers()));
      model.forward(batch, keep);
      const std::size_t each = batch.rows() * model.d_model();
      REQUIRE(hidden.size() == (model.layers() + 1) * each);
      for (std::size_t i = 0; i <= model.layers(); ++i) {
        const auto ours = keep.states(plmscope::hidden_state_site(i, model.layers()));
        const auto theirs = std::span<const double>(hidden).subspan(i * each, each);
        worst = golden::worse(worst, golden::relative_l2(ours, theirs));
      }
      worst = golden::worse(worst, golden::relative_l2(keep.states(plmscope::logits{}),
                                                       std::span<const double>(logits)));
    };
    run(plmscope::reference());
    run(cpu_double(2));
    golden::report(path, worst, limit_double);
  }
}

TEST_CASE("a sequence far beyond the training length") {
  for (const auto& path : golden::files("esm2_synthetic", ".long.safetensors")) {
    const auto file = safetensors_file::open(path);
    auto model = esm2<>::load(model_of(path));
    packed_batch batch;
    batch.add(std::span<const std::int32_t>(file.read_vector<std::int32_t>("tokens")));
    const auto positions = file.read_vector<std::int32_t>("positions");
    plmscope::collect<float> keep({plmscope::final_norm{}, plmscope::logits{}});
    model.forward(batch, keep);
    const auto error = [&](const site& at, const char* name) {
      return plmscope::verify_detail::relative_l2(
          keep.states(at), keep.width(at), 0, std::span<const std::int32_t>(positions),
          std::span<const double>(file.read_vector<double>(name)));
    };
    double worst = error(plmscope::final_norm{}, "hidden64");
    worst = golden::worse(worst, error(plmscope::logits{}, "logits64"));
    golden::report(path, worst, limit);
  }
}

TEST_CASE("a float16 model loads and computes") {
  for (const auto& path : golden::files("esm2_mini", "model.safetensors")) {
    auto model = esm2<>::load(path.parent_path());
    auto exact = esm2<cpu_double>::load(path);
    CHECK(model.identity() == exact.identity());
    CHECK(model.identity().name == path.parent_path().filename().string());
    CHECK(model.identity().content_hash.size() == 64);
    packed_batch batch;
    // Human ubiquitin (UniProt P62987, residues 1-76).
    batch.add("MQIFVKTLTGKTITLEVEPSDTIENVKAKIQDKEGIPPDQQRLIFAGKQLEDGRTLSDYNIQKESTLHLVLRLRGG");
    const auto ours = states(model, batch);
    const auto wide = states(exact, batch);
    double worst = 0;
    for (std::size_t i = 0; i < ours.size(); ++i) {
      worst = golden::worse(worst, golden::relative_l2(std::span<const float>(ours[i]),
                                                       std::span<const double>(wide[i])));
    }
    golden::report(path, worst, limit);
    // A masked language model gives back what it sees.
    std::size_t recovered = 0;
    for (std::size_t r = 1; r + 1 < batch.rows(); ++r) {
      const float* row = ours.back().data() + r * 33;
      const auto best = std::max_element(row, row + 33) - row;
      recovered += best == batch.tokens()[r] ? 1u : 0u;
    }
    CHECK(recovered * 10 >= 9 * (batch.rows() - 2));
  }
}
