// SPDX-License-Identifier: MIT
// The same model in every layout that people have; tests/plm/golden/weights_layouts.py wrote them.
#include "tests/golden.hpp"

#include <plmscope/backend/cpu.hpp>
#include <plmscope/io/safetensors_writer.hpp>
#include <plmscope/plm/collect.hpp>
#include <plmscope/plm/esm2.hpp>
#include <plmscope/plm/verify.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;
using plmscope::esm2;
using plmscope::esm2_checkpoint;

fs::path layouts() { return golden::repository() / "tests/plm/golden/weights_layouts"; }

// Every state and the logits, as bits.
std::vector<float> outputs(const fs::path& path) {
  auto model = esm2<>::load(path);
  plmscope::packed_batch batch;
  batch.add("MKTAYI<mask>KQRQISFVKSHFSRQJXU");
  std::vector<plmscope::site> sites;
  for (std::size_t i = 0; i <= model.layers(); ++i) {
    sites.push_back(plmscope::hidden_state_site(i, model.layers()));
  }
  sites.push_back(plmscope::logits{});
  plmscope::collect<float> keep(sites);
  model.forward(batch, keep);
  std::vector<float> all;
  for (const auto& at : sites) {
    const auto part = keep.states(at);
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

std::string error_of(const fs::path& path) {
  try {
    static_cast<void>(esm2_checkpoint::open(path).contact_head());
  } catch (const plmscope::error& e) {
    return std::string(e.id()) + " " + e.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("every layout gives the bits of the safetensors file, and fair-esm's numbers") {
  const auto expected = outputs(layouts() / "single");
  const auto contacts = esm2_checkpoint::open(layouts() / "single").contact_head();
  CHECK(contacts.weight.size() == 2 * 3);
  for (const char* name :
       {"single", "single/model.safetensors", "single_bin", "legacy_bin",
        "legacy_bin/pytorch_model.bin", "sharded", "sharded/model.safetensors.index.json",
        "sharded_bin", "fair", "fair/esm2_t2_tiny.pt", "fair_state"}) {
    INFO(name);
    const fs::path path = layouts() / name;
    CHECK(outputs(path) == expected);
    const auto checkpoint = esm2_checkpoint::open(path);
    CHECK(checkpoint.config() ==
          plmscope::esm2_config{.layers = 2, .d_model = 12, .heads = 3, .feed_forward = 48});
    CHECK(checkpoint.has_head());
    REQUIRE(checkpoint.has_contact_head());
    CHECK(checkpoint.contact_head().weight == contacts.weight);
    CHECK(checkpoint.contact_head().bias == contacts.bias);
    auto model = esm2<>::load(path);
    const double worst = plmscope::verify(model, layouts() / "expected.safetensors").worst();
    golden::report(path, worst, 3e-6);
  }
  CHECK(esm2_checkpoint::open(layouts() / "fair").identity().name == "esm2_t2_tiny");
  CHECK(esm2_checkpoint::open(layouts() / "sharded").identity().content_hash ==
        esm2_checkpoint::open(layouts() / "single").identity().content_hash);
}

TEST_CASE("a model is opened by its name when it lies in the cache") {
  const golden::scratch_folder folder;
  const fs::path model = folder / "hub/models--someone--esm2_tiny";
  const std::string commit(40, 'd');
  fs::create_directories(model / "refs");
  fs::create_directories(model / "snapshots" / commit);
  fs::copy(layouts() / "sharded", model / "blobs");
  for (const auto& entry : fs::directory_iterator(model / "blobs")) {
    const fs::path name = entry.path().filename();
    fs::create_symlink(fs::path("../../blobs") / name, model / "snapshots" / commit / name);
  }
  std::ofstream(model / "refs/main") << commit;
  const char* const before = std::getenv("HF_HUB_CACHE");
  const std::string saved = before == nullptr ? "" : before;
  ::setenv("HF_HUB_CACHE", (folder / "hub").c_str(), 1);
  const auto found = outputs("someone/esm2_tiny");
  const auto named = esm2<>::load("someone/esm2_tiny@main").identity().name;
  if (before == nullptr) {
    ::unsetenv("HF_HUB_CACHE");
  } else {
    ::setenv("HF_HUB_CACHE", saved.c_str(), 1);
  }
  CHECK(found == outputs(layouts() / "single"));
  CHECK(named == "esm2_tiny");
}

TEST_CASE("settings in a checkpoint of fair-esm, and what it lacks") {
  const auto fair = esm2_checkpoint::open(layouts() / "fair");
  CHECK(fair.file().root().at("cfg").at("model").at("encoder_layers").integer() == 2);
  CHECK(fair.config().token_dropout);
  const golden::scratch_folder folder;
  fs::copy_file(layouts() / "fair/esm2_t2_tiny.pt", folder / "alone.pt");
  CHECK_FALSE(esm2_checkpoint::open(folder / "alone.pt").has_contact_head());
  CHECK(error_of(folder / "alone.pt").starts_with("plm.120 "));
  CHECK(error_of(folder / "alone.pt").find("-contact-regression.pt") != std::string::npos);
  // The regression of another model.
  plmscope::safetensors_writer writer;
  const std::vector<float> weight(5, 0.5f);
  const std::vector<float> bias(1, 0.25f);
  writer.add("contact_head.regression.weight", plmscope::dtype::f32, {1, 5},
             std::span<const float>(weight));
  writer.add("contact_head.regression.bias", plmscope::dtype::f32, {1},
             std::span<const float>(bias));
  writer.write(folder / "alone-contact-regression.pt");
  CHECK(error_of(folder / "alone.pt").starts_with("io.124 "));
}
