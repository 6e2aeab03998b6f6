// SPDX-License-Identifier: MIT
// Attention maps, contacts, gradients and the categorical Jacobian against the official
// implementation: see README.md and README_models.md of the reference data.
#include <tests/devices.hpp>
#include <tests/golden.hpp>

#include <plmscope/backend/cpu.hpp>
#include <plmscope/backend/reference.hpp>
#include <plmscope/io/safetensors.hpp>
#include <plmscope/plm/attribution.hpp>
#include <plmscope/plm/categorical_jacobian.hpp>
#include <plmscope/plm/contact_head.hpp>
#include <plmscope/plm/esm2.hpp>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;
using golden::model_of;
using json = nlohmann::json;
using plmscope::esm2;
using plmscope::packed_batch;
using plmscope::safetensors_file;
using plmscope::site;
using cpu_double = plmscope::basic_cpu<double, plmscope::eigen_gemm>;

// The KEYs of a file that have KEY.part.
std::vector<std::string> keys_with(const safetensors_file& file, const std::string& part) {
  std::vector<std::string> keys;
  for (const auto& t : file.tensors()) {
    if (t.name.ends_with(part)) keys.push_back(t.name.substr(0, t.name.size() - part.size()));
  }
  return keys;
}

packed_batch batch_of(const safetensors_file& file, const std::vector<std::string>& keys) {
  packed_batch batch;
  for (const auto& key : keys) {
    batch.add(std::span<const std::int32_t>(file.read_vector<std::int32_t>(key + ".tokens")));
  }
  return batch;
}

template <class A, class B>
double largest_difference(std::span<const A> ours, const std::vector<B>& theirs) {
  REQUIRE(ours.size() == theirs.size());
  double most = 0;
  for (std::size_t i = 0; i < ours.size(); ++i) {
    most = golden::worse(most,
                         std::abs(static_cast<double>(ours[i]) - static_cast<double>(theirs[i])));
  }
  return most;
}

}  // namespace

TEST_CASE("attention maps equal the official implementation") {
  for (const auto& path : golden::files("esm2_synthetic", ".expected.safetensors")) {
    const auto file = safetensors_file::open(path);
    const auto keys = keys_with(file, ".attentions");
    const auto run = [&](auto be, const char* name) {
      auto model = esm2<decltype(be)>::load(model_of(path), {}, be);
      double worst = 0;
      for (const auto& key : keys) {
        std::vector<site> sites;
        for (std::size_t l = 0; l < model.layers(); ++l) sites.push_back(plmscope::attn_map{l});
        plmscope::collect<double> keep(sites);
        model.forward(batch_of(file, {key}), keep);
        std::vector<double> ours;
        for (const site& at : sites) {
          ours.insert(ours.end(), keep.states(at).begin(), keep.states(at).end());
        }
        const auto theirs = file.read_vector<double>(key + ".attentions");
        worst = golden::worse(worst, largest_difference(std::span<const double>(ours), theirs));
      }
      CHECK(keys.size() > 0);
      golden::report(path / "attentions" / name, worst, 2e-6);
    };
    run(plmscope::cpu(2), "");
    run(devices::single(), devices::name);
  }
}

TEST_CASE("contacts equal the official implementation, packed or alone") {
  for (const auto& path : golden::files("esm2_synthetic", ".expected.safetensors")) {
    const auto file = safetensors_file::open(path);
    const auto keys = keys_with(file, ".contacts");
    CHECK(keys.size() > 0);
    const auto run = [&](auto be, const char* name) {
      auto model = esm2<decltype(be)>::load(model_of(path), {.tokens_per_pass = 150}, be);
      const auto maps = plmscope::predict_contacts(model, batch_of(file, keys));
      REQUIRE(maps.size() == keys.size());
      double worst = 0;
      for (std::size_t i = 0; i < keys.size(); ++i) {
        const auto theirs = file.read_vector<double>(keys[i] + ".contacts");
        worst = golden::worse(worst,
                              largest_difference(std::span<const float>(maps[i].scores()), theirs));
        const auto alone = plmscope::predict_contacts(model, batch_of(file, {keys[i]}));
        CHECK(alone.at(0).scores() == maps[i].scores());
      }
      golden::report(path / "contacts" / name, worst, 2e-6);
    };
    run(plmscope::cpu(2), "");
    run(cpu_double(2), "double");
    run(devices::single(), devices::name);
  }
}

TEST_CASE("contacts of nearly empty sequences, and of a model without the head") {
  for (const auto& path : golden::files("esm2_synthetic", "tiny.model.safetensors")) {
    auto model = esm2<>::load(path);
    packed_batch batch;
    batch.add("");
    batch.add("M");
    batch.add(std::vector<std::int32_t>{5});
    const auto maps = plmscope::predict_contacts(model, batch);
    REQUIRE(maps.size() == 3);
    CHECK(maps[0].residues() == 0);
    CHECK(maps[1].residues() == 1);
    CHECK(std::isfinite(maps[1](0, 0)));
    CHECK(maps[2].residues() == 0);
  }
  auto without = esm2<>::random({.layers = 1, .d_model = 8, .heads = 2, .feed_forward = 32});
  packed_batch batch;
  batch.add("MKT");
  CHECK_THROWS_WITH_AS(plmscope::predict_contacts(without, batch),
                       doctest::Contains("contact head"), plmscope::error);
}

TEST_CASE("gradients and integrated gradients equal the official implementation's") {
  for (const auto& path : golden::files("esm2_synthetic", ".edits.json")) {
    const json about = json::parse(std::ifstream(path));
    const auto file = safetensors_file::open(fs::path(path).replace_extension(".safetensors"));
    const auto run = [&](auto be, const char* name, double limit) {
      auto model = esm2<decltype(be)>::load(
          path.parent_path() / about.at("model").get<std::string>(), {}, be);
      packed_batch batch;
      batch.add(std::span<const std::int32_t>(file.read_vector<std::int32_t>("tokens")));
      double worst = 0;
      for (const json& g : about.at("gradients")) {
        const std::string key = g.at("name");
        const site at = plmscope::parse_site(g.at("site").get<std::string>() + "." +
                                             std::to_string(g.at("layer").get<int>()));
        const plmscope::one_logit objective{.position = g.at("logit_position"),
                                            .token = g.at("logit_token")};
        const auto ours = plmscope::gradient_at(model, batch, at, objective);
        const auto relative = [&](auto part, const char* what) {
          const auto theirs = file.read_vector<double>(key + what);
          const double e = golden::relative_l2(part, std::span<const double>(theirs));
          CAPTURE(key + what);
          CHECK(e <= limit);
          worst = golden::worse(worst, e);
        };
        using real = typename decltype(be)::real;
        relative(std::span<const real>(ours.states), ".state64");
        relative(std::span<const real>(ours.gradient), ".gradient64");
        CHECK(ours.value == doctest::Approx(g.at("logit").get<double>()).epsilon(limit));

        const auto baseline = file.read_vector<double>(key + ".baseline64");
        double first_order = 0;
        for (std::size_t i = 0; i < baseline.size(); ++i) {
          first_order += (static_cast<double>(ours.states[i]) - baseline[i]) *
                         static_cast<double>(ours.gradient[i]);
        }
        CHECK(first_order ==
              doctest::Approx(g.at("attribution_sum").get<double>()).epsilon(100 * limit));
        const auto integrated = plmscope::integrated_gradients(
            model, batch, at, objective, baseline, g.at("ig_steps").get<std::size_t>());
        relative(std::span<const double>(integrated), ".integrated_gradients64");
        double sum = 0;
        for (const double v : integrated) sum += v;
        CHECK(sum == doctest::Approx(g.at("ig_sum").get<double>()).epsilon(100 * limit));
      }
      golden::report(path / "gradients" / name, worst, limit);
    };
    run(cpu_double(2), "double", 1e-11);
    run(plmscope::cpu(2), "", 1e-5);
    run(devices::twice(), devices::name, 1e-11);
  }
}

TEST_CASE("a gradient in a packed batch, in slices, is that of the sequence alone") {
  for (const auto& path : golden::files("esm2_synthetic", "tiny.model.safetensors")) {
    const plmscope::one_logit objective{.sequence = 1, .position = 4, .token = 7};
    packed_batch batch;
    batch.add("MKTAYIA");
    batch.add("GGSWC<mask>LE");
    batch.add("W");
    packed_batch alone;
    alone.add("GGSWC<mask>LE");
    for (const site at : {site(plmscope::embeddings{}), site(plmscope::resid_pre{0}),
                          site(plmscope::resid_post{1})}) {
      for (const std::size_t slice : {1u, 2048u}) {
        auto model = esm2<>::load(path, {.tokens_per_pass = slice});
        const auto whole = plmscope::gradient_at(model, batch, at, objective);
        const auto one =
            plmscope::gradient_at(model, alone, at, plmscope::one_logit{.position = 4, .token = 7});
        const std::size_t d = model.d_model();
        REQUIRE(whole.gradient.size() == batch.rows() * d);
        CHECK(whole.value == one.value);
        bool same = true;
        for (std::size_t r = 0; r < batch.rows(); ++r) {
          for (std::size_t j = 0; j < d; ++j) {
            const bool inside = r >= batch.first_row(1) && r < batch.first_row(2);
            const float expected = inside ? one.gradient[(r - batch.first_row(1)) * d + j] : 0.0f;
            same = same && whole.gradient[r * d + j] == expected;
          }
        }
        CHECK(same);
      }
    }
    auto model = esm2<>::load(path);
    CHECK_THROWS_WITH_AS(plmscope::gradient_at(model, batch, plmscope::mlp_out{0}, objective),
                         doctest::Contains("plm.133"), plmscope::error);
    CHECK_THROWS_WITH_AS(plmscope::gradient_at(model, batch, plmscope::embeddings{},
                                               plmscope::one_logit{.position = 9, .token = 7}),
                         doctest::Contains("plm.131"), plmscope::error);
  }
}

TEST_CASE("the categorical Jacobian and its contacts") {
  for (const auto& path : golden::files("esm2_synthetic", ".edits.safetensors")) {
    const auto file = safetensors_file::open(path);
    if (!file.contains("jacobian.tokens")) continue;
    const auto tokens = file.read_vector<std::int32_t>("jacobian.tokens");
    const auto theirs = file.read_vector<double>("jacobian.tensor");
    const auto contacts = file.read_vector<double>("jacobian.contacts64");
    const auto run = [&](auto be, const char* name, double limit) {
      auto model = esm2<decltype(be)>::load(model_of(path), {}, be);
      std::size_t done = 0;
      const auto jacobian = plmscope::compute_categorical_jacobian(
          model, tokens, 999, [&](std::size_t n, std::size_t all) {
            CHECK(n > done);
            CHECK(n <= all);
            done = n;
          });
      CHECK(done == 20 * jacobian.residues);
      double worst = golden::relative_l2(std::span<const float>(jacobian.changes),
                                         std::span<const double>(theirs));
      const auto map = plmscope::contacts_of(jacobian);
      worst = golden::worse(worst, golden::relative_l2(std::span<const float>(map.scores()),
                                                       std::span<const double>(contacts)));
      golden::report(path / "jacobian" / name, worst, limit);
    };
    run(plmscope::cpu(2), "", 1e-5);
    run(cpu_double(2), "double", 1e-6);  // stored as float
  }
}
