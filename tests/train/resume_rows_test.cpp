// SPDX-License-Identifier: MIT
// Resuming on the rows of a store and of a model that runs on the fly.
#include <plmscope/acts/activation_store_reader.hpp>
#include <plmscope/acts/harvest.hpp>
#include <plmscope/acts/read_activations.hpp>
#include <plmscope/acts/store_rows.hpp>
#include <plmscope/core/rng.hpp>
#include <plmscope/plm/esm2.hpp>
#include <plmscope/sae/checkpoint.hpp>
#include <plmscope/sae/sae.hpp>
#include <plmscope/train/trainer.hpp>

#include <tests/acts/sample_store.hpp>
#include <tests/golden.hpp>
#include <tests/train/interrupted.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <string>
#include <vector>

using namespace plmscope;

namespace {

std::vector<protein_sequence> proteins() {
  const rng random(3, 1);
  std::vector<protein_sequence> out;
  for (std::size_t p = 0; p < 30; ++p) {
    std::string s;
    for (std::size_t i = 0; i < 3 + 2 * p; ++i) {
      s += "ACDEFGHIKLMNPQRSTVWY"[random.below(100 * p + i, 20)];
    }
    out.push_back({"P" + std::to_string(p), "", s});
  }
  return out;
}

esm2<> small_model() {
  return esm2<>::random({.layers = 1, .d_model = 16, .heads = 2, .feed_forward = 32}, 7, cpu(2));
}

// Killed at moments that chance decides, until it gets to its end.
template <class MakeReader>
void check(const MakeReader& reader, std::size_t rounds) {
  const trainer fit{.steps = 60,
                    .batch = 50,
                    .optimizer = adam{.lr = 1e-3},
                    .dead = aux_k{.dead_after = 400},
                    .log_every = 7};
  const auto model = [](std::size_t threads) {
    return sae<>({.d_model = 16, .features = 64, .sparsifier = {.k = 3}, .seed = 2}, cpu(threads));
  };
  const auto want = interrupted::whole(model(2), reader(), fit);
  for (std::size_t round = 0; round < rounds; ++round) {
    CAPTURE(round);
    const golden::scratch_folder folder;
    const rng random(11, round);
    std::vector<std::size_t> breaks;
    for (std::size_t i = 0; i < 6; ++i)
      breaks.push_back(static_cast<std::size_t>(random.below(i, 30)));
    const auto got = interrupted::broken(model, reader, fit, folder / "c", 1 + round % 5, breaks);
    CHECK(interrupted::same(want, got));
  }
}

}  // namespace

TEST_CASE("rows of a model, computed on the fly") {
  auto esm = small_model();
  const auto list = proteins();  // 960 residues
  check([&] { return read_activations(esm, resid_post{0}, list, 4); }, 4);
  check([&] { return read_activations(esm, resid_post{0}, list, 4, 333); }, 8);
}

TEST_CASE("rows of a store") {
  auto esm = small_model();
  const auto list = proteins();
  const golden::scratch_folder folder;
  const auto manifest =
      manifest_for(esm, {resid_post{0}}, list, {.numbers = dtype::bf16, .shard_bytes = 9000});
  activation_store_writer writer(folder / "s", manifest, list, {0, list.size()});
  harvest(esm, std::span<const protein_sequence>(list), writer);
  const auto store = activation_store::open(folder / "s");
  CHECK(store.shards().size() > 2);
  check(
      [&] { return store_rows<>(store, "resid_post.0", 4, {.buffer_rows = 300, .run_rows = 20}); },
      8);
  check(
      [&] {
        using reader = activation_store_reader<>;
        return shuffled_rows<reader, cpu>(reader(store, "resid_post.0", 4, 100), 4, 333);
      },
      8);
}
