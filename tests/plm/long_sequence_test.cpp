// SPDX-License-Identifier: MIT
// Proteins far beyond the training length: titin has 34,350 residues.
#include <plmscope/core/rng.hpp>
#include <plmscope/plm/collect.hpp>
#include <plmscope/plm/esm2.hpp>
#include <plmscope/plm/windows.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <fstream>
#include <span>
#include <string>
#include <vector>

namespace {

using plmscope::collect;
using plmscope::cpu;
using plmscope::cut_windows;
using plmscope::esm2;
using plmscope::window;

std::string protein(std::size_t length) {
  const plmscope::rng random(11, 1);
  std::string s;
  for (std::size_t i = 0; i < length; ++i) s += "LAGVSERTIDPKQNFYMHWC"[random.below(i, 20)];
  return s;
}

double peak_mebibytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::strtod(line.c_str() + 6, nullptr) / 1024;
  }
  return 0;
}

}  // namespace

TEST_CASE("34,350 residues run in memory linear in the length, and attention is exact") {
  constexpr std::size_t residues = 34'350;
  // Heads of two numbers: rotation is by the position itself.
  auto model =
      esm2<>::random({.layers = 1, .d_model = 4, .heads = 2, .feed_forward = 16}, 5, cpu(2));
  plmscope::packed_batch batch;
  batch.add(protein(residues));
  const std::size_t n = residues + 2;
  collect<float> keep({plmscope::attn_query{0}, plmscope::attn_key{0}, plmscope::attn_value{0},
                       plmscope::attn_ctx{0}, plmscope::logits{}});
  const double before = peak_mebibytes();
  model.forward(batch, keep);
  // Attention maps would take 2 x 34,352^2 x 4 bytes = 9,003 MiB.
  CHECK(peak_mebibytes() - before < 400);

  const auto q = keep.states(plmscope::attn_query{0});
  const auto k = keep.states(plmscope::attn_key{0});
  const auto v = keep.states(plmscope::attn_value{0});
  const auto rotated = [](std::span<const float> x, std::size_t row, std::size_t column) {
    const auto angle = static_cast<double>(row);  // inv_freq is 1
    const double a = static_cast<double>(x[row * 4 + column]);
    const double b = static_cast<double>(x[row * 4 + column + 1]);
    return std::pair{a * std::cos(angle) - b * std::sin(angle),
                     b * std::cos(angle) + a * std::sin(angle)};
  };
  for (const std::size_t row : {std::size_t{0}, std::size_t{1}, std::size_t{17'000}, n - 1}) {
    for (const std::size_t column : {0u, 2u}) {
      const auto [qa, qb] = rotated(q, row, column);
      double total = 0;
      double mixed[2] = {0, 0};
      for (std::size_t j = 0; j < n; ++j) {
        const auto [ka, kb] = rotated(k, j, column);
        const double weight = std::exp((qa * ka + qb * kb) / std::sqrt(2.0));
        total += weight;
        for (std::size_t c = 0; c < 2; ++c) {
          mixed[c] += weight * static_cast<double>(v[j * 4 + column + c]);
        }
      }
      for (std::size_t c = 0; c < 2; ++c) {
        const double ours = keep.states(plmscope::attn_ctx{0})[row * 4 + column + c];
        CAPTURE(row);
        CHECK(std::abs(ours - mixed[c] / total) < 2e-6);
      }
    }
  }
  for (const float x : keep.states(plmscope::logits{})) REQUIRE(std::isfinite(x));
}

TEST_CASE("what does not fit into memory is refused with the number of bytes, before it is tried") {
  auto model =
      esm2<>::random({.layers = 1, .d_model = 512, .heads = 256, .feed_forward = 16}, 5, cpu(1));
  plmscope::packed_batch batch;
  batch.add(protein(34'350));
  collect<float> keep({plmscope::attn_map{0}});
  // 256 heads x 34,352^2 x 4 bytes
  CHECK_THROWS_WITH_AS(model.forward(batch, keep), doctest::Contains("1208381341696 bytes"),
                       plmscope::error);
}

TEST_CASE("windows cover every residue once, away from their edges") {
  for (const std::size_t residues : {0u, 1u, 99u, 100u, 101u, 163u, 164u, 165u, 1000u, 34'350u}) {
    for (const std::size_t overlap : {0u, 1u, 36u, 37u, 99u}) {
      CAPTURE(residues);
      CAPTURE(overlap);
      const auto all = cut_windows(residues, {.length = 100, .overlap = overlap});
      std::size_t next = 0;
      for (std::size_t i = 0; i < all.size(); ++i) {
        const window& w = all[i];
        CHECK(w.length == std::min<std::size_t>(residues, 100));
        CHECK(w.first + w.length <= residues);
        CHECK(w.keep_first == next);
        CHECK(w.keep_first >= w.first);
        CHECK(w.keep_first + w.keep <= w.first + w.length);
        if (i > 0) CHECK(w.keep_first - w.first >= overlap / 2);
        if (i + 1 < all.size()) CHECK(w.first + w.length - w.keep_first - w.keep >= overlap / 2);
        next += w.keep;
      }
      CHECK(next == residues);
    }
  }
  CHECK(cut_windows(1022) == std::vector<window>{{0, 1022, 0, 1022}});
  CHECK(cut_windows(1023) == std::vector<window>{{0, 1022, 0, 511}, {1, 1022, 511, 512}});
  CHECK_THROWS_WITH_AS(cut_windows(10, {.length = 5, .overlap = 5}), doctest::Contains("plm.137"),
                       plmscope::error);
  CHECK_THROWS_AS(cut_windows(10, {.length = 0, .overlap = 0}), plmscope::error);
}
