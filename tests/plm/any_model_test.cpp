// SPDX-License-Identifier: MIT
#include "tests/golden.hpp"

#include <plmscope/backend/cpu.hpp>
#include <plmscope/plm/any_model.hpp>
#include <plmscope/plm/collect.hpp>
#include <plmscope/plm/verify.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <string_view>
#include <type_traits>

namespace {

using plmscope::any_model;
using plmscope::esm2;
using plmscope::esmc;

static_assert(plmscope::language_model<any_model<>>);

any_model<> small_esm2() {
  return esm2<>::random({.layers = 2, .d_model = 8, .heads = 2, .feed_forward = 32}, 9);
}
any_model<> small_esmc() {
  return esmc<>::random({.layers = 3, .d_model = 8, .heads = 2, .feed_forward = 20}, 9);
}

template <class Model>
std::vector<float> states(Model& model, std::string_view sequence, const plmscope::site& at) {
  auto batch = plmscope::make_batch(model);
  batch.add(sequence);
  plmscope::collect<float> keep({at});
  model.forward(batch, keep);
  return {keep.states(at).begin(), keep.states(at).end()};
}

std::string error_of(const auto& f) {
  try {
    f();
  } catch (const plmscope::error& e) {
    return std::string(e.id());
  }
  return "no error";
}

}  // namespace

TEST_CASE("a model of any kind computes what the model of its kind computes") {
  auto two = small_esm2();
  auto c = small_esmc();
  CHECK(two.layers() == 2);
  CHECK(c.layers() == 3);
  CHECK(c.d_model() == 8);
  CHECK(two.width(plmscope::logits{}) == 33);
  CHECK(c.width(plmscope::logits{}) == 64);
  CHECK(c.source(plmscope::resid_post{1}).site == "resid_post.1");
  CHECK(error_of([&] { c.check(plmscope::resid_post{2}); }) == "no error");
  CHECK(error_of([&] { two.check(plmscope::resid_post{2}); }) == "plm.108");
  for (any_model<>* const any : {&two, &c}) {
    const auto ours = states(*any, "MK|A <mask>Y", plmscope::logits{});
    any->visit([&](auto& own) { CHECK(states(own, "MK|A <mask>Y", plmscope::logits{}) == ours); });
  }
}

TEST_CASE("a batch knows the tokens of its model and is not run by another kind") {
  auto two = small_esm2();
  auto c = small_esmc();
  auto batch = plmscope::make_batch(c);
  CHECK(batch.empty());
  batch.add(std::string_view("M|K A"));
  batch.add(std::string_view("C"));
  CHECK(batch.sequences() == 2);
  CHECK(batch.rows() == 10);
  CHECK(batch.first_row(1) == 7);
  CHECK(batch.length(0) == 7);
  CHECK(std::ranges::equal(batch.tokens(), std::vector<int>{0, 20, 31, 15, 3, 5, 2, 0, 23, 2}));
  CHECK(error_of([&] { two.forward(batch); }) == "plm.154");
  CHECK(error_of([&] { c.forward(batch); }) == "no error");
  batch.clear();
  CHECK(batch.empty());
  auto other = plmscope::make_batch(two);
  other.add(std::string_view("M|K A"));
  CHECK(other.rows() == 6);  // ESM-2 skips blanks
  CHECK(error_of([&] { c.forward(other); }) == "plm.154");
}

TEST_CASE("the kind of a file is found by its tensors") {
  CHECK(error_of([] { any_model<>::load("no/such/path"); }) == "plm.109");
  for (const char* const folder : {"esm2_synthetic", "esmc_synthetic"}) {
    for (const auto& path : golden::files(folder, ".expected.safetensors")) {
      std::string name = path.filename().string();
      name = name.substr(0, name.find('.'));
      auto model = any_model<>::load(path.parent_path() / (name + ".model.safetensors"));
      const bool is_esmc = model.visit(
          [](const auto& m) { return std::is_same_v<std::remove_cvref_t<decltype(m)>, esmc<>>; });
      CHECK(is_esmc == (std::string_view(folder) == "esmc_synthetic"));
      golden::report(path, plmscope::verify(model, path).worst(), 3e-6);
    }
  }
}
