// SPDX-License-Identifier: MIT
#include <tests/plm/error_text.hpp>

#include <plmscope/plm/collect.hpp>
#include <plmscope/plm/edit.hpp>
#include <plmscope/plm/esm2.hpp>
#include <plmscope/plm/lm_scores.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace {

using plmscope::collect;
using plmscope::cpu;
using plmscope::esm2;
using plmscope::packed_batch;
using plmscope::site;
using plmscope::tokens;

const site at = plmscope::resid_post{0};

esm2<> small_model(std::size_t tokens_per_pass = 2048) {
  cpu be(2);
  return {be,
          plmscope::random_esm2_weights(
              be, {.layers = 2, .d_model = 8, .heads = 2, .feed_forward = 32}, 3),
          tokens_per_pass};
}

packed_batch three_proteins() {
  packed_batch batch;
  batch.add("MKT");      // rows 0 to 4
  batch.add("A<mask>");  // rows 5 to 8
  batch.add("W");        // rows 9 to 11
  return batch;
}

std::vector<float> states_after(esm2<>& model, std::vector<plmscope::edit> list) {
  const packed_batch batch = three_proteins();
  collect<float> keep({at});
  plmscope::edits<> change(std::move(list));
  model.forward(batch, plmscope::hooks{change, keep});
  const auto s = keep.states(at);
  return {s.begin(), s.end()};
}

}  // namespace

TEST_CASE("selections of tokens, in slices of any size") {
  const std::vector<double> row{1, 2, 3, 4, 5, 6, 7, 8};
  const auto touched = [&](const tokens& where) {
    std::vector<std::size_t> all;
    for (const std::size_t size : {1u, 6u, 2048u}) {
      auto model = small_model(size);
      const auto clean = states_after(model, {});
      const auto changed = states_after(model, {plmscope::set_state(at, row, where)});
      std::vector<std::size_t> rows;
      for (std::size_t r = 0; r < 12; ++r) {
        const bool set = changed[r * 8] == 1 && changed[r * 8 + 7] == 8;
        bool same = true;
        for (std::size_t j = 0; j < 8; ++j) same = same && changed[r * 8 + j] == clean[r * 8 + j];
        CHECK(set != same);
        if (set) rows.push_back(r);
      }
      if (!all.empty()) CHECK(all == rows);
      all = rows;
    }
    return all;
  };
  using rows = std::vector<std::size_t>;
  CHECK(touched(tokens::all()).size() == 12);
  CHECK(touched(tokens::residues()) == rows{1, 2, 3, 6, 7, 10});
  CHECK(touched(tokens::masked()) == rows{7});
  CHECK(touched(tokens::at({2, 0, 2})) == rows{0, 2, 5, 7, 9, 11});
  CHECK(touched(tokens::at({3}).in_sequence(1)) == rows{8});
  CHECK(touched(tokens::all().in_sequence(2)) == rows{9, 10, 11});
  CHECK(touched(tokens::residues().in_sequence(7)).empty());
}

TEST_CASE("patching takes one row after another, also across slices and in a second pass") {
  for (const std::size_t size : {1u, 2048u}) {
    auto model = small_model(size);
    std::vector<float> rows;
    for (std::size_t i = 0; i < 6 * 8; ++i) rows.push_back(static_cast<float>(i));
    const packed_batch batch = three_proteins();
    collect<float> keep({at});
    plmscope::edits<> change({plmscope::patch_states(at, rows, 6, tokens::residues())});
    for (int pass = 0; pass < 2; ++pass) {
      keep.clear();
      model.forward(batch, plmscope::hooks{change, keep});
      CHECK(keep.states(at)[1 * 8] == 0);
      CHECK(keep.states(at)[6 * 8 + 1] == 25);
      CHECK(keep.states(at)[10 * 8 + 7] == 47);
    }
  }
}

TEST_CASE("edits are carried out in order") {
  auto model = small_model();
  const auto out = states_after(
      model, {plmscope::zero_state(at, 8), plmscope::add_to_state(at, std::vector<double>(8, 2.0)),
              plmscope::add_to_state(at, std::vector<float>(8, 0.5f), tokens::at({1}))});
  CHECK(out[0] == 2);
  CHECK(out[8] == 2.5f);
}

TEST_CASE("edits that do not fit are refused") {
  auto model = small_model();
  const auto run = [&](plmscope::edit e) { states_after(model, {std::move(e)}); };
  const std::vector<double> eight(8, 1.0);
  CHECK(error_of([&] { run(plmscope::zero_state(at, 7)); }).starts_with("plm.132 "));
  CHECK(error_of([&] {
          run(plmscope::set_state(at, std::vector<double>()));
        }).starts_with("plm.132 "));
  CHECK(error_of([&] { plmscope::patch_states(at, eight, 3); }).starts_with("plm.132 "));
  CHECK(error_of([&] { plmscope::patch_states(at, eight, 0); }).starts_with("plm.132 "));
  CHECK(error_of([&] {
          run(plmscope::patch_states(at, std::vector<double>(32, 1.0), 4));
        }).starts_with("plm.132 "));
  CHECK(error_of([&] {
          run(plmscope::set_state(at, eight, tokens::at({3})));
        }).starts_with("plm.131 "));
  CHECK(error_of([&] {
          run(plmscope::set_state(plmscope::attn_map{0}, eight));
        }).starts_with("plm.132 "));
  CHECK(error_of([&] {
          run(plmscope::set_state(plmscope::resid_post{5}, eight));
        }).starts_with("plm.108 "));
}

TEST_CASE("scores of a row of logits") {
  const std::vector<double> even(33, 1e4);
  using row = std::span<const double>;
  CHECK(plmscope::cross_entropy(row(even), 5) == doctest::Approx(std::log(33.0)));
  CHECK(plmscope::entropy(row(even)) == doctest::Approx(std::log(33.0)));
  CHECK(plmscope::kl_divergence(row(even), row(even)) == 0);
  const double inf = std::numeric_limits<double>::infinity();
  const std::vector<double> sure{0, -inf, -inf};
  CHECK(plmscope::entropy(row(sure)) == 0);
  CHECK(plmscope::cross_entropy(row(sure), 0) == 0);
  CHECK(plmscope::cross_entropy(row(sure), 1) == inf);
  const std::vector<double> half{0, 0, -inf};
  CHECK(plmscope::kl_divergence(row(sure), row(half)) == doctest::Approx(std::log(2.0)));
  CHECK(plmscope::kl_divergence(row(half), row(sure)) == inf);
  const std::vector<double> broken{0, std::nan(""), 1};
  CHECK(std::isnan(plmscope::entropy(row(broken))));
  CHECK(error_of([&] { plmscope::cross_entropy(row(even), 33); }).starts_with("plm.104 "));
  CHECK(error_of([&] { plmscope::cross_entropy(row(even), -1); }).starts_with("plm.104 "));
  CHECK(plmscope::loss_recovered(1, 1, 3) == 1);
  CHECK(plmscope::loss_recovered(1, 3, 3) == 0);
}
