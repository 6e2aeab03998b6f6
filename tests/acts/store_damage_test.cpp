// SPDX-License-Identifier: MIT
#include <plmscope/acts/activation_store_reader.hpp>
#include <plmscope/acts/store_rows.hpp>

#include "tests/acts/sample_store.hpp"
#include "tests/golden.hpp"
#include "tests/io/error_id.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using namespace plmscope;
using sample::put;

namespace {

const std::string first_shard = "activations-0000000000-0000000004.safetensors";

// Opens the store and reads every row of every site and every block.
std::string read_everything(const std::filesystem::path& folder) {
  return error_id([&] {
    const auto store = activation_store::open(folder);
    cpu be(1);
    for (const auto& s : store.manifest().sites) {
      activation_store_reader<> reader(store, s.name);
      activation_batch<cpu> batch;
      while (reader.read(be, batch)) continue;
    }
    for (const auto& shard : store.shards()) shard.verify();
  });
}

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

}  // namespace

TEST_CASE("a flipped bit anywhere in a store is found, whatever it is in") {
  const golden::scratch_folder folder;
  sample::finish(folder / "s", sample::manifest(dtype::bf16));
  CHECK(read_everything(folder / "s") == "accepted");
  const rng random(3);
  std::size_t draws = 0, tried = 0, by_checksum = 0;
  for (const auto& [name, bytes] : sample::files(folder / "s")) {
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      auto bad = bytes;
      bad[i] = static_cast<char>(bad[i] ^ (1 << random.below(draws++, 8)));
      put(folder / "s" / name, bad);
      const auto id = read_everything(folder / "s");
      CAPTURE(name);
      CAPTURE(i);
      CHECK(id.starts_with("acts.1"));
      ++tried;
      by_checksum += id == "acts.115";
      put(folder / "s" / name, bytes);
    }
  }
  CHECK(tried > 4000);
  CHECK(by_checksum > 1000);
  CHECK(read_everything(folder / "s") == "accepted");
}

TEST_CASE("a file cut off or grown anywhere is refused at opening") {
  const golden::scratch_folder folder;
  sample::finish(folder / "s", sample::manifest(dtype::f32));
  for (const std::string& name : {first_shard, std::string("manifest.json")}) {
    const auto bytes = sample::content(folder / "s" / name);
    for (std::size_t n = 0; n < bytes.size(); n += n < 20 || n + 20 > bytes.size() ? 1u : 13u) {
      put(folder / "s" / name, std::string_view(bytes).substr(0, n));
      const auto id = error_id([&] { activation_store::open(folder / "s"); });
      CHECK(id == (name == first_shard ? "acts.114" : "acts.110"));
    }
    put(folder / "s" / name, bytes + "x");
    CHECK(error_id([&] { activation_store::open(folder / "s"); }) ==
          (name == first_shard ? "acts.114" : "acts.110"));
    put(folder / "s" / name, bytes);
  }
  CHECK(read_everything(folder / "s") == "accepted");
}

TEST_CASE("a header that lies is refused before anything is allocated by it") {
  const golden::scratch_folder folder;
  sample::finish(folder / "s", sample::manifest(dtype::f32));
  const auto path = folder / "s" / first_shard;
  const auto bytes = sample::content(path);
  for (const std::uint64_t length : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1} << 40,
                                     ~std::uint64_t{0}, ~std::uint64_t{7}}) {
    auto bad = bytes;
    std::memcpy(bad.data(), &length, 8);
    put(path, bad);
    CHECK(error_id([&] { activation_store::open(folder / "s"); }) == "acts.114");
  }
  const std::vector<std::pair<std::string, std::string>> lies{
      {"\"residues\":{\"dtype\":\"U8\",\"shape\":[22]",
       "\"residues\":{\"dtype\":\"U8\",\"shape\":[92]"},
      {"\"I64\"", "\"U64\""},
      {"\"F32\"", "\"I32\""},
      {"[22,6]", "[6,22]"},
      {"final_norm", "final_morn"},
      {"{\"__metadata__\"", "[\"__metadata__\""},
      {"\"residues\"", "\"residuez\""}};
  for (const auto& [from, to] : lies) {
    put(path, replaced(bytes, from, to));
    CAPTURE(from);
    CHECK(error_id([&] { activation_store::open(folder / "s"); }) == "acts.114");
  }
  put(path, replaced(bytes, "activations.1", "activations.2"));
  CHECK(error_id([&] { activation_store::open(folder / "s"); }) == "acts.111");
}

TEST_CASE("shards of another model, layer, number type, list or place are refused by name") {
  const golden::scratch_folder folder;
  const auto m = sample::manifest(dtype::bf16);
  sample::finish(folder / "s", m);
  std::vector<std::pair<std::string, std::function<void(store_manifest&)>>> changes{
      {"model_hash", [](auto& x) { x.model_hash = "0123abce"; }},
      {"model ", [](auto& x) { x.model = "another"; }},
      {"store", [](auto& x) { x.sites[0].name = "resid_post.2"; }},
      {"store", [](auto& x) { x.sites[0].width = 7; }},
      {"store", [](auto& x) { x.numbers = dtype::f16; }},
      {"store", [](auto& x) { x.proteins_hash = "another list"; }}};
  for (const auto& [field, change] : changes) {
    auto other = m;
    change(other);
    const golden::scratch_folder aside;
    sample::finish(aside / "s", other);
    std::filesystem::copy_file(aside / "s" / first_shard, folder / "s" / first_shard,
                               std::filesystem::copy_options::overwrite_existing);
    const auto text = error_text([&] { activation_store::open(folder / "s"); });
    CHECK(text.find("acts.112") != std::string::npos);
    CHECK(text.find("expected: " + field) != std::string::npos);
    // Nor does a writer go on in a folder that is another store's.
    CHECK(error_id([&] { sample::finish(aside / "s", m); }) == "acts.112");
  }
  sample::finish(folder / "again", m);
  for (const auto& [name, bytes] : sample::files(folder / "again")) put(folder / "s" / name, bytes);
  CHECK(read_everything(folder / "s") == "accepted");
  // A shard under the name of other proteins.
  std::filesystem::rename(folder / "s" / first_shard,
                          folder / "s/activations-0000000012-0000000016.safetensors");
  CHECK(error_id([&] { activation_store::open(folder / "s"); }) == "acts.114");
  std::filesystem::rename(folder / "s/activations-0000000012-0000000016.safetensors",
                          folder / "s/activations-0000000000-0000000003.safetensors");
  CHECK(error_id([&] { activation_store::open(folder / "s"); }) == "acts.114");
}

TEST_CASE("the reader asks for what belongs to it") {
  const golden::scratch_folder folder;
  sample::finish(folder / "s", sample::manifest());
  const auto store = activation_store::open(folder / "s");
  const auto text = error_text([&] { activation_store_reader<>(store, "resid_post.2"); });
  CHECK(text.find("acts.113") != std::string::npos);
  CHECK(text.find("resid_post.1, final_norm") != std::string::npos);
  CHECK(error_id([&] { store.require_model("0123abce"); }) == "acts.112");
  store.require_model("0123abcd");
  auto list = sample::proteins();
  store.require_proteins(list);
  std::swap(list[0], list[1]);
  CHECK(error_id([&] { store.require_proteins(list); }) == "acts.112");
  list = sample::proteins();
  list[8].sequence[20] = 'X';
  CHECK(error_id([&] { store.require_proteins(list); }) == "acts.112");
}

TEST_CASE("holes, overlaps, links and strange names") {
  const golden::scratch_folder folder;
  const auto m = sample::manifest();
  sample::finish(folder / "s", m);
  const auto bytes = sample::content(folder / "s" / first_shard);
  // Names that are not a shard's are nobody's business.
  for (const char* name :
       {"activations-0-4.safetensors", "activations-0000000000-0000000004.safetensors.old",
        "activations-0000000004-0000000004.safetensors", "notes.txt",
        "activations-+000000000-0000000004.safetensors",
        "activations-99999999999999999999-0000000004.safetensors"}) {
    put(folder / "s" / name, bytes);
  }
  CHECK(read_everything(folder / "s") == "accepted");
  put(folder / "s/activations-0000000003-0000000005.safetensors", bytes);
  CHECK(error_id([&] { activation_store::open(folder / "s"); }) == "acts.116");
  std::filesystem::remove(folder / "s/activations-0000000003-0000000005.safetensors");

  std::filesystem::rename(folder / "s" / first_shard, folder / "elsewhere");
  const auto text = error_text([&] { activation_store::open(folder / "s"); });
  CHECK(text.find("acts.117") != std::string::npos);
  CHECK(text.find("8, the first missing one is number 0") != std::string::npos);
  CHECK(activation_store::open(folder / "s", {.allow_partial = true}).proteins() == 8);

  std::filesystem::create_symlink("../elsewhere", folder / "s" / first_shard);
  CHECK(error_id([&] { activation_store::open(folder / "s"); }) == "acts.109");
  std::filesystem::remove(folder / "s" / first_shard);
  std::filesystem::create_directory(folder / "s" / first_shard);
  CHECK(error_id([&] { activation_store::open(folder / "s"); }) == "acts.109");
  std::filesystem::remove(folder / "s" / first_shard);
  std::filesystem::rename(folder / "elsewhere", folder / "s" / first_shard);

  std::filesystem::rename(folder / "s/manifest.json", folder / "elsewhere");
  CHECK(error_id([&] { activation_store::open(folder / "s"); }) == "acts.109");
  CHECK(error_id([&] { sample::finish(folder / "s", m); }) == "acts.109");
  std::filesystem::create_symlink("../elsewhere", folder / "s/manifest.json");
  CHECK(error_id([&] { activation_store::open(folder / "s"); }) == "acts.109");
  CHECK(error_id([&] { activation_store::open(folder / "nowhere"); }) == "acts.109");
  CHECK(error_id([&] { sample::finish(folder / "elsewhere", m); }) == "acts.109");
}

TEST_CASE("a store without a shard opens as partial and has nothing to read") {
  const golden::scratch_folder folder;
  const auto m = sample::manifest();
  const auto list = sample::proteins();
  activation_store_writer(folder / "s", m, list, {0, 12});
  CHECK(error_id([&] { activation_store::open(folder / "s"); }) == "acts.117");
  const auto store = activation_store::open(folder / "s", {.allow_partial = true});
  CHECK(store.rows() == 0);
  CHECK(error_id([&] { activation_store_reader<>(store, "final_norm"); }) == "acts.101");
  CHECK(error_id([&] { store_rows<>(store, "final_norm"); }) == "acts.101");
}

TEST_CASE("manifests that do not add up") {
  const auto m = sample::manifest();
  const auto text = m.to_json();
  CHECK(store_manifest::parse(text, "m") == m);
  const auto id = [](const std::string& json) {
    return error_id([&] { store_manifest::parse(json, "m"); });
  };
  CHECK(id("") == "acts.110");
  CHECK(id("{}") == "acts.110");
  CHECK(id("[1]") == "acts.110");
  CHECK(id(text + "{}") == "acts.110");
  CHECK(id("{\"a\":" + text + "}") == "acts.110");
  CHECK(id(text.substr(0, text.size() - 2) +
           "},\"x\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}") == "acts.110");
  CHECK(id(replaced(text, "activations.1", "activations.9")) == "acts.111");
  CHECK(id(replaced(text, "\"F32\"", "\"F16\"")) == "acts.110");
  CHECK(id(replaced(text, "\"12\"", "\"12.5\"")) == "acts.110");
  CHECK(id(replaced(text, "\"12\"", "12")) == "acts.110");
  CHECK(id(replaced(text, "\"6 5\"", "\"6\"")) == "acts.110");
  CHECK(id(replaced(text, "\"model\"", "\"modell\"")) == "acts.110");
  // Consistent, but nothing that could be a store.
  auto bad = m;
  bad.sites[0].width = std::size_t{1} << 40;
  CHECK(id(bad.to_json()) == "acts.105");
  bad = m;
  bad.proteins = std::size_t{1} << 33;
  CHECK(id(bad.to_json()) == "acts.105");
  bad = m;
  bad.residues = ~std::size_t{0};
  CHECK(id(bad.to_json()) == "acts.105");
}
