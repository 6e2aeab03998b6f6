// SPDX-License-Identifier: MIT
// Each mistake that one can make in ESM-C, made on purpose: the reference data see it, and by as
// much as the official code says it costs. A mistake in the weights is made in a copy of the file.
#include "tests/golden.hpp"

#include <plmscope/backend/cpu.hpp>
#include <plmscope/io/half.hpp>
#include <plmscope/io/safetensors_writer.hpp>
#include <plmscope/plm/esmc.hpp>
#include <plmscope/plm/verify.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace {

namespace fs = std::filesystem;
using plmscope::esmc;
using plmscope::safetensors_file;
using cpu_double = plmscope::basic_cpu<double, plmscope::eigen_gemm>;
using numbers = std::vector<float>;

constexpr double limit = 3e-6;  // of the golden tests

constexpr std::size_t d = 64;  // c1: width, blocks, heads of 16
constexpr std::size_t layers = 3;
constexpr std::size_t head_dim = 16;

fs::path folder() { return golden::root() / "esmc_synthetic"; }

bool data_there() {
  if (fs::exists(folder() / "c1.expected.safetensors")) return true;
  golden::skip("no reference data at " + folder().string());
  return false;
}

// Relative error after the final norm of the sequence of 67 tokens.
template <class B>
double cost(esmc<B>& model, std::string_view key = "peptide") {
  const auto result = plmscope::verify(model, folder() / "c1.expected.safetensors");
  const auto s = std::ranges::find(result.sequences, key, &plmscope::verified_sequence::key);
  REQUIRE(s != result.sequences.end());
  return s->states.back();
}

// The cost of a change to the tensors of the file: change(name, numbers).
double cost_of_change(const std::function<void(const std::string&, numbers&)>& change) {
  const golden::scratch_folder scratch;
  const auto file = safetensors_file::open(folder() / "c1.model.safetensors");
  plmscope::safetensors_writer writer;
  std::vector<numbers> values;
  values.reserve(file.tensors().size());
  for (const auto& t : file.tensors()) {
    change(t.name, values.emplace_back(file.read_vector<float>(t)));
    writer.add(t.name, t.shape, std::span<const float>(values.back()));
  }
  writer.write(scratch / "changed.safetensors");
  auto model = esmc<cpu_double>::load(scratch / "changed.safetensors", {.heads = d / head_dim});
  return cost(model);
}

void check_cost(double found, double stated) {
  MESSAGE("costs ", found, ", stated ", stated);
  CHECK(found > 3 * limit);
  CHECK(found > 0.8 * stated);
  CHECK(found < 1.25 * stated);
}

void multiply(numbers& x, double by) {
  for (float& v : x) v = static_cast<float>(static_cast<double>(v) * by);
}

bool closes_a_branch(const std::string& name) {
  return name.ends_with("attn.out_proj.weight") || name.ends_with("ffn.3.weight");
}

// A model in double with a change to what no file holds.
double cost_of(const std::function<void(plmscope::esmc_weights<cpu_double>&)>& change,
               std::string_view key = "peptide") {
  cpu_double be(2);
  auto weights =
      load_esmc_weights(be, plmscope::esmc_checkpoint::open(folder() / "c1.model.safetensors"));
  change(weights);
  esmc<cpu_double> model(be, std::move(weights));
  return cost(model, key);
}

}  // namespace

TEST_CASE("trap: nothing changed costs nothing, so that what follows is the change's cost") {
  if (!data_there()) return;
  CHECK(cost_of_change([](const std::string&, numbers&) {}) < limit);
  CHECK(cost_of([](auto&) {}) < limit);
}

TEST_CASE("trap: branches are divided by sqrt(layers / 36)") {
  if (!data_there()) return;
  const double divisor = std::sqrt(static_cast<double>(layers) / 36.0);
  const auto scaled = [](double by) {
    return cost_of_change([by](const std::string& name, numbers& x) {
      if (closes_a_branch(name)) multiply(x, by);
    });
  };
  check_cost(scaled(divisor), 0.91);           // not at all
  check_cost(scaled(divisor * divisor), 1.1);  // multiplied instead
}

TEST_CASE("trap: the first half of the gate goes through SiLU") {
  if (!data_there()) return;
  check_cost(cost_of_change([](const std::string& name, numbers& x) {
               if (!name.ends_with("ffn.1.weight")) return;
               std::ranges::rotate(x, x.begin() + static_cast<std::ptrdiff_t>(x.size() / 2));
             }),
             0.77);
}

TEST_CASE("trap: the layer norms before attention and feed-forward have a bias") {
  if (!data_there()) return;
  check_cost(cost_of_change([](const std::string& name, numbers& x) {
               const bool norm =
                   name.ends_with("layernorm_qkv.0.bias") || name.ends_with("ffn.0.bias");
               if (norm) multiply(x, 0);
             }),
             0.30);
}

TEST_CASE("trap: rotary pairs are (j, j + 8) in a head of 16, not neighbours") {
  if (!data_there()) return;
  // Queries and keys with the entries of each head in another order, so that what stands at
  // (j, j + 8) are neighbours of before; scores do not depend on the order otherwise.
  const auto reorder = [](numbers& x, std::size_t row) {
    const numbers before = x;
    for (std::size_t i = 0; i < d; ++i) {
      const std::size_t in_head = i % head_dim;
      const std::size_t half = head_dim / 2;
      const std::size_t from =
          i - in_head + (in_head < half ? 2 * in_head : 2 * (in_head - half) + 1);
      std::copy_n(before.begin() + static_cast<std::ptrdiff_t>(from * row), row,
                  x.begin() + static_cast<std::ptrdiff_t>(i * row));
    }
  };
  check_cost(cost_of_change([&](const std::string& name, numbers& x) {
               if (name.ends_with("q_ln.weight") || name.ends_with("k_ln.weight")) reorder(x, 1);
               if (!name.ends_with("layernorm_qkv.1.weight")) return;
               const auto rows = [&](std::size_t part) {
                 const auto begin = x.begin() + static_cast<std::ptrdiff_t>(part * d * d);
                 numbers own(begin, begin + static_cast<std::ptrdiff_t>(d * d));
                 reorder(own, d);
                 std::ranges::copy(own, begin);
               };
               rows(0);
               rows(1);
             }),
             0.41);
}

TEST_CASE("trap: no token dropout, the embedding is not multiplied by 0.88") {
  if (!data_there()) return;
  check_cost(cost_of_change([](const std::string& name, numbers& x) {
               if (name == "embed.weight") multiply(x, 0.88);
             }),
             0.11);
}

TEST_CASE("trap: the epsilon of the layer norms is 1e-5") {
  if (!data_there()) return;
  check_cost(cost_of([](auto& w) { w.config.layer_norm_epsilon = 1e-6; }), 1.1e-5);
}

TEST_CASE("trap: frequencies are floats, not rounded to half as in ESM-2 or to bfloat16") {
  if (!data_there()) return;
  const auto half = [](auto& w) {
    for (float& f : w.inv_freq) f = plmscope::to_float(plmscope::to_float16(f));
  };
  check_cost(cost_of(half), 1.8e-4);
  check_cost(cost_of(half, "full"), 1.2e-3);
  // The compatibility switch does what the 2024 package did on a GPU.
  auto rounded = esmc<>::load(folder() / "c1.model.safetensors",
                              {.rotary = plmscope::esmc_rotary::bfloat16_rounded});
  const double short_cost = cost(rounded);
  const double long_cost = cost(rounded, "full");
  MESSAGE("bfloat16: ", short_cost, " at 67 tokens, ", long_cost, " at 1,024");
  CHECK(short_cost > 0.9e-3);
  CHECK(short_cost < 1.7e-3);
  CHECK(long_cost > 3.5e-3);
  CHECK(long_cost < 7.5e-3);
  const auto table = plmscope::esmc_inv_freq(64, plmscope::esmc_rotary::bfloat16_rounded);
  CHECK(numbers(table.begin(), table.begin() + 4) == numbers{1, 0.75f, 0.5625f, 0.421875f});
}

TEST_CASE("trap: frequencies one unit in the last place off show in double") {
  if (!data_there()) return;
  // As does an angle that is not rounded to float: the tests in double stand at 1e-13.
  const double moved = cost_of([](auto& w) {
    for (float& f : w.inv_freq) f = std::nextafter(f, 2.0f);
  });
  MESSAGE("one unit in the last place costs ", moved);
  CHECK(moved > 1e-9);
  CHECK(moved < limit);
}
