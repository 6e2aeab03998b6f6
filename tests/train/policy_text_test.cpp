// SPDX-License-Identifier: MIT
#include <plmscope/sae/sae.hpp>
#include <plmscope/sae/sparsifiers/batch_top_k.hpp>
#include <plmscope/sae/sparsifiers/gated.hpp>
#include <plmscope/sae/sparsifiers/jump_relu.hpp>
#include <plmscope/train/policy_text.hpp>
#include <plmscope/train/trainer.hpp>

#include <doctest/doctest.h>

#include <array>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

using namespace plmscope;

namespace {

enum class colour { red, blue };
struct three {
  int a = 1;
  double b = 0.1;
  std::vector<float> c = {1, 2.5f};
};
struct nested : no_penalty {
  three inner;
  colour tint = colour::blue;
  std::string name = "x";
  bool on = true;
};
struct hidden {
  explicit hidden(int n) : n_(n) {}
  template <class F>
  void settings(const F& f) const {
    f(n_);
  }

 private:
  int n_;
};

}  // namespace

TEST_CASE("plain structs tell their fields") {
  CHECK(policy_text(adam{.lr = 0.25}) == "plmscope::adam{0.25, 0.9, 0.999, 1e-08, 0}");
  CHECK(policy_text(aux_k{}).starts_with("plmscope::aux_k{0.03125, 0, 500000, 0, 0, true, true, "));
  CHECK(policy_text(no_penalty{}) == "plmscope::no_penalty");
  CHECK(policy_text(full_reconstruction{}) == "plmscope::full_reconstruction");
  CHECK(policy_text(warmup_cosine{.warmup = 5}) == "plmscope::warmup_cosine{5, 0}");
  const std::string text = policy_text(nested{});
  CHECK(text.find("nested{") != std::string::npos);
  CHECK(text.find("three{1, 0.1, [1, 2.5]}, 1, \"x\", true}") != std::string::npos);
  CHECK(policy_text(hidden(3)).ends_with("hidden{3}"));
  CHECK(policy_text(std::tuple(1, 2.5)) == "(1, 2.5)");
  CHECK(
      policy_text(multi_top_k{}).find("{[plmscope::multi_top_k::level{4, 0.125}], true, false}") !=
      std::string::npos);
  // Too long to print, but told apart.
  std::vector<double> many(100, 0.5);
  const std::string first = policy_text(many);
  many[99] = 0.25;
  CHECK(first.size() < 100);
  CHECK(first != policy_text(many));
}

TEST_CASE("numbers that differ in one bit have other texts") {
  CHECK(policy_text(0.1) != policy_text(0.1 + std::numeric_limits<double>::epsilon() / 8));
  CHECK(policy_text(adam{.lr = 0.1}) != policy_text(adam{.lr = 0.1f}));
  CHECK(policy_text(signum_schedule_free{}) != policy_text(adam{}));
  CHECK(policy_text(penalties(l1_penalty{})) != policy_text(penalties(log_penalty{})));
  CHECK(policy_text(0.0) != policy_text(-0.0));
}

TEST_CASE("every field of a policy counts") {
  const auto differ = [](auto change) {
    trainer a{}, b{};
    change(b);
    std::string x, y;
    a.settings([&](std::string_view, const auto& v) { x += policy_text(v) + '\n'; });
    b.settings([&](std::string_view, const auto& v) { y += policy_text(v) + '\n'; });
    return x != y;
  };
  CHECK_FALSE(differ([](auto&) {}));
  CHECK_FALSE(differ([](auto& t) { t.log_every = 5; }));
  CHECK(differ([](auto& t) { t.steps = 5; }));
  CHECK(differ([](auto& t) { t.batch = 5; }));
  CHECK(differ([](auto& t) { t.optimizer.weight_decay = 0.1; }));
  CHECK(differ([](auto& t) { t.schedule.counts_from_one = false; }));
  CHECK(differ([](auto& t) { t.dead.with_bias = true; }));
  CHECK(differ([](auto& t) { t.dictionary.projection_epsilon = 0; }));
  CHECK(differ([](auto& t) { t.clip = 0; }));
  CHECK(differ([](auto& t) { t.train_encoder_bias = false; }));
  CHECK(differ([](auto& t) { t.bias = start_bias::mean; }));
  using model = sae<jump_relu>;
  const auto base = policy_text(model::options{.d_model = 4, .features = 8});
  CHECK(base != policy_text(model::options{.d_model = 4, .features = 8, .seed = 1}));
  CHECK(base != policy_text(model::options{
                    .d_model = 4, .features = 8, .sparsifier = {.without_chain = true}}));
  CHECK(base != policy_text(model::options{.d_model = 4, .features = 8, .normalize = {.ddof = 1}}));
}
