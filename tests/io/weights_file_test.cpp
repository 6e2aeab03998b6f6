// SPDX-License-Identifier: MIT
#include "tests/golden.hpp"
#include "tests/io/error_id.hpp"

#include <plmscope/io/safetensors_writer.hpp>
#include <plmscope/io/weights_file.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;
using plmscope::weights_file;

fs::path layouts() { return golden::repository() / "tests/plm/golden/weights_layouts"; }

void write(const fs::path& path, const std::map<std::string, std::vector<float>>& tensors) {
  plmscope::safetensors_writer writer;
  for (const auto& [name, values] : tensors) {
    writer.add(name, plmscope::dtype::f32, {values.size()}, std::span<const float>(values));
  }
  writer.write(path);
}
void write_text(const fs::path& path, const std::string& text) { std::ofstream(path) << text; }

// Two shards and an index of this text.
struct sharded {
  golden::scratch_folder folder;
  fs::path index = folder / "model.safetensors.index.json";

  explicit sharded(const std::string& weight_map) {
    write(folder / "a.safetensors", {{"x", {1, 2}}, {"y", {3}}});
    write(folder / "b.safetensors", {{"z", {4}}});
    write_text(index, R"({"metadata": {"total_size": 16.0, "note": [null, -1e9, {"k": "}"}]}, )"
                      R"("weight_map": )" +
                          weight_map + "}\n");
  }
  std::string id() const {
    return error_id([&] { weights_file::open(index); });
  }
};

std::string id_of(const std::string& weight_map) { return sharded(weight_map).id(); }

constexpr const char* right =
    R"({"x": "a.safetensors", "y": "a.safetensors", "z": "b.safetensors"})";

}  // namespace

TEST_CASE("a safetensors file through weights_file is the same file") {
  const fs::path path = layouts() / "single/model.safetensors";
  const auto plain = plmscope::safetensors_file::open(path);
  const auto file = weights_file::open(path);
  CHECK(file.where() == path.string());
  CHECK(file.content_hash() == plain.content_hash());
  CHECK(file.metadata() == plain.metadata());
  CHECK(file.root().is(plmscope::pickle_kind::none));
  REQUIRE(file.tensors().size() == plain.tensors().size());
  for (const auto& t : plain.tensors()) {
    const auto& ours = file.require(t.name);
    CHECK(ours.contiguous());
    CHECK(ours.bytes.data() != nullptr);
    CHECK(file.read_vector<float>(ours) == plain.read_vector<float>(t));
  }
  const std::string missing = error_text([&] { file.require("nothing"); });
  CHECK(missing == error_text([&] { plain.require("nothing"); }));
  CHECK(error_text([&] { file.require("lm_head.bias", {7}); }) ==
        error_text([&] { plain.require("lm_head.bias", {7}); }));
  std::vector<float> small(2);
  const auto& bias = file.require("lm_head.bias");
  CHECK(error_id([&] { file.read(bias, std::span<float>(small)); }) == "io.128");
  std::vector<int> whole(33);
  CHECK(error_id([&] { file.read(bias, std::span<int>(whole)); }) == "io.125");
}

TEST_CASE("shards of either kind are one model with one hash") {
  const auto single = weights_file::open(layouts() / "single/model.safetensors");
  const auto tensors = weights_file::open(layouts() / "sharded/model.safetensors.index.json");
  const auto pickles = weights_file::open(layouts() / "sharded_bin/pytorch_model.bin.index.json");
  CHECK(tensors.content_hash() == single.content_hash());
  CHECK(pickles.content_hash() == single.content_hash());
  CHECK(tensors.tensors().size() == single.tensors().size());
  // Bytes of a shard stay valid when everything else is gone.
  std::vector<float> kept;
  {
    const weights_file copy = weights_file(tensors);
    kept = copy.read_vector<float>("lm_head.bias");
  }
  CHECK(kept == single.read_vector<float>("lm_head.bias"));
  CHECK(id_of(right) == "accepted");
}

TEST_CASE("numbers stay in the file: every kind is mapped read-only, nothing is copied") {
  // Lines of /proc/self/maps: FROM-TO PERMISSIONS OFFSET DEVICE INODE PATH.
  for (const char* name : {"single/model.safetensors", "single_bin/pytorch_model.bin",
                           "legacy_bin/pytorch_model.bin", "fair/esm2_t2_tiny.pt"}) {
    const fs::path path = fs::canonical(layouts() / name);
    const auto file = weights_file::open(path);
    std::ifstream maps("/proc/self/maps");
    if (!maps) return golden::skip("no /proc/self/maps here");
    std::size_t inside = 0;
    for (std::string line; std::getline(maps, line);) {
      if (!line.ends_with(path.string()) || line.find(" r--p ") == std::string::npos) continue;
      const std::size_t dash = line.find('-');
      const std::size_t from = std::stoull(line.substr(0, dash), nullptr, 16);
      const std::size_t to = std::stoull(line.substr(dash + 1), nullptr, 16);
      for (const auto& t : file.tensors()) {
        const auto at = reinterpret_cast<std::size_t>(t.bytes.data());
        inside += at >= from && at + t.bytes.size() <= to ? 1u : 0u;
      }
    }
    INFO(name);
    CHECK(inside == file.tensors().size());
  }
}

TEST_CASE("an index that does not fit its shards is refused") {
  CHECK(id_of(R"({"x": "a.safetensors", "z": "b.safetensors"})") == "io.145");  // y unnamed
  CHECK(id_of(R"({"x": "b.safetensors", "y": "a.safetensors", "z": "b.safetensors"})") == "io.145");
  CHECK(id_of(R"({"x": "a.safetensors", "y": "a.safetensors", "z": "b.safetensors",
                  "w": "b.safetensors"})") == "io.145");
  CHECK(id_of(R"({"x": "a.safetensors", "y": "a.safetensors", "z": "c.safetensors"})") == "io.144");
  CHECK(id_of("{}") == "io.143");
  CHECK(id_of(R"({"x": 3})") == "io.143");
  CHECK(id_of(R"({"x": "a.safetensors", "x": "a.safetensors"})") == "io.143");
  CHECK(id_of(std::string(right) + R"(, "weight_map": {})") == "io.143");
  for (const char* name : {"../a.safetensors", "/etc/passwd", "", ".hidden", "sub/a.safetensors",
                           "a\\\\b", "https://x/y", "a\\u0000b", "a b", "x.index.json"}) {
    INFO(name);
    CHECK(id_of(std::string(R"({"x": ")") + name + "\"}") == "io.143");
  }
  CHECK(error_text([] {
          weights_file::open(sharded(R"({"x": "c.bin", "y": "d.bin"})").index);
        }).find("c.bin, d.bin") != std::string::npos);
  // The same tensor in two shards.
  const sharded twice(right);
  write(twice.folder / "b.safetensors", {{"z", {4}}, {"x", {1, 2}}});
  CHECK(twice.id() == "io.145");
  // A damaged shard says which one.
  write_text(twice.folder / "b.safetensors", "short");
  CHECK(twice.id() == "io.101");
}

TEST_CASE("an index that is no JSON is refused with its place") {
  const auto read = [](const std::string& text) {
    const golden::scratch_folder folder;
    write_text(folder / "model.safetensors.index.json", text);
    return error_id([&] { weights_file::open(folder / "model.safetensors.index.json"); });
  };
  CHECK(read("") == "io.140");
  CHECK(read("[]") == "io.140");
  CHECK(read("{\"a\": }") == "io.140");
  CHECK(read("{\"a\": nonsense!}") == "io.140");
  CHECK(read("{\"a\": [1, 2}") == "io.140");
  CHECK(read("{\"a\": \"open") == "io.140");
  CHECK(read("{\"a\": " + std::string(100, '[') + std::string(100, ']') + "}") == "io.140");
  CHECK(read("{} more") == "io.140");
  CHECK(read("{\"\xff\": 1}") == "io.141");
  CHECK(read("{\"a\": \"\\ud800\"}") == "io.141");
  CHECK(read("{\"a\": 1}") == "io.143");
  const std::string whole = "{\"a\": [1, {\"b\": \"c\"}], \"weight_map\": {\"x\": \"a.bin\"}}";
  for (std::size_t n = 0; n < whole.size(); ++n) {
    const std::string id = read(whole.substr(0, n));
    CHECK((id == "io.140" || id == "io.143"));
  }
}

TEST_CASE("NaN is found in a transposed view, and named") {
  // 6,000 x 2 numbers stored as 2 x 6,000, so that the walk goes through several blocks.
  std::vector<float> numbers(12'000, 1.0f);
  numbers[6'000 + 4'321] = std::numeric_limits<float>::infinity();
  plmscope::stored_tensor t{.name = "w",
                            .shape = {6'000, 2},
                            .strides = {1, 6'000},
                            .bytes = std::as_bytes(std::span<const float>(numbers)),
                            .elements = 12'000};
  CHECK(plmscope::first_not_finite(t) == std::size_t{2 * 4'321 + 1});
  std::vector<float> read(12'000);
  plmscope::read_tensor(t, std::span<float>(read), "memory");
  CHECK(read[2 * 4'321 + 1] == numbers[6'000 + 4'321]);
  CHECK(read[2 * 4'321] == 1.0f);
  t.strides = {};
  CHECK(plmscope::first_not_finite(t) == std::size_t{6'000 + 4'321});
}
