// SPDX-License-Identifier: MIT
#include "tests/golden.hpp"

#include <plmscope/plm/model_path.hpp>

#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;
using plmscope::model_caches;
using plmscope::model_path;

void touch(const fs::path& path, const std::string& text = "x") {
  fs::create_directories(path.parent_path());
  std::ofstream(path) << text;
}

// The caches of a user who has fetched two revisions of a model and one of fair-esm's.
struct fetched {
  golden::scratch_folder folder;
  model_caches caches{.hub = folder / "hub", .torch = folder / "torch"};
  fs::path model = folder / "hub/models--facebook--esm2_t6_8M_UR50D";
  std::string first = std::string(40, 'a');
  std::string second = std::string(40, 'b');

  fetched() {
    touch(model / "blobs/123");
    for (const auto& commit : {first, second}) {
      fs::create_directories(model / "snapshots" / commit);
      fs::create_symlink("../../blobs/123", model / "snapshots" / commit / "model.safetensors");
      touch(model / "snapshots" / commit / "config.json", "{}");
    }
    touch(model / "refs/main", first + "\n");
    touch(model / "refs/refs/pr/3", second);
    touch(folder / "torch/esm2_t12_35M_UR50D.pt");
    touch(folder / "torch/esm2_t12_35M_UR50D-contact-regression.pt");
  }
  plmscope::model_files find(const fs::path& typed) const {
    return model_path::find(typed, caches);
  }
  std::string error_of(const fs::path& typed) const {
    try {
      find(typed);
    } catch (const plmscope::error& e) {
      return e.what();
    }
    return "no error";
  }
};

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a folder: what is taken first, and what belongs to it") {
  const fetched f;
  const fs::path folder = f.folder / "my_model";
  touch(folder / "some.pt");
  touch(folder / "some-contact-regression.pt");
  CHECK(f.find(folder).weights == folder / "some.pt");
  CHECK(f.find(folder).contacts == folder / "some-contact-regression.pt");
  CHECK(f.find(folder).name == "some");
  touch(folder / "config.json", "{}");
  for (const char* name : {"pytorch_model.bin.index.json", "pytorch_model.bin",
                           "model.safetensors.index.json", "model.safetensors"}) {
    touch(folder / name);
    const auto files = f.find(folder);
    CHECK(files.weights == folder / name);
    CHECK(files.config == folder / "config.json");
    CHECK(files.contacts.empty());
    CHECK(files.name == "my_model");
    CHECK(f.find(folder / name).name == "my_model");
  }
  touch(f.folder / "two/a.pt");
  touch(f.folder / "two/b.pt");
  CHECK(has(f.error_of(f.folder / "two"), "plm.109"));
  CHECK(has(f.error_of(f.folder / "hub"), "none of these in the folder"));
}

TEST_CASE("a file keeps its own name and configuration") {
  const fetched f;
  touch(f.folder / "tiny.model.safetensors");
  touch(f.folder / "tiny.config.json", "{}");
  const auto files = f.find(f.folder / "tiny.model.safetensors");
  CHECK(files.name == "tiny.model");
  CHECK(files.config == f.folder / "tiny.config.json");
  touch(f.folder / "config.json", "{}");
  touch(f.folder / "other.bin");
  CHECK(f.find(f.folder / "other.bin").config.empty());  // it may belong to another file
  CHECK(has(f.error_of(f.folder / "missing.safetensors"), "plm.109"));
  CHECK(has(f.error_of("facebook/model.safetensors"), "plm.109"));
  CHECK(has(f.error_of(""), "plm.109"));
}

TEST_CASE("a name of the hub: main, branches, commits, and the cache folder itself") {
  const fetched f;
  const auto main = f.find("facebook/esm2_t6_8M_UR50D");
  CHECK(main.weights == f.model / "snapshots" / f.first / "model.safetensors");
  CHECK(main.config == f.model / "snapshots" / f.first / "config.json");
  CHECK(main.name == "esm2_t6_8M_UR50D");
  CHECK(f.find("esm2_t6_8M_UR50D").weights == main.weights);
  CHECK(f.find("facebook/esm2_t6_8M_UR50D@main").weights == main.weights);
  const fs::path other = f.model / "snapshots" / f.second / "model.safetensors";
  CHECK(f.find("facebook/esm2_t6_8M_UR50D@" + f.second).weights == other);
  CHECK(f.find("facebook/esm2_t6_8M_UR50D@refs/pr/3").weights == other);
  CHECK(f.find(f.model).weights == main.weights);
  for (const fs::path& typed : {f.model, f.model / "snapshots" / f.second, other}) {
    CHECK(f.find(typed).name == "esm2_t6_8M_UR50D");
  }
  // fair-esm keeps its own cache.
  const auto fair = f.find("facebook/esm2_t12_35M_UR50D");
  CHECK(fair.weights == f.caches.torch / "esm2_t12_35M_UR50D.pt");
  CHECK(fair.contacts == f.caches.torch / "esm2_t12_35M_UR50D-contact-regression.pt");
  CHECK(fair.name == "esm2_t12_35M_UR50D");
}

TEST_CASE("what was not fetched: the places and the command") {
  const fetched f;
  const std::string missing = f.error_of("facebook/esm2_t33_650M_UR50D");
  CHECK(has(missing, "plm.119"));
  CHECK(has(missing, "hf download facebook/esm2_t33_650M_UR50D;"));
  CHECK(has(missing, (f.caches.hub / "models--facebook--esm2_t33_650M_UR50D").string()));
  CHECK(has(missing, (f.caches.torch / "esm2_t33_650M_UR50D.pt").string()));
  CHECK(has(f.error_of("esm2_t33_650M_UR50D"), "hf download facebook/esm2_t33_650M_UR50D;"));
  const std::string revision = f.error_of("facebook/esm2_t6_8M_UR50D@v2");
  CHECK(has(revision, "hf download facebook/esm2_t6_8M_UR50D --revision v2"));
  CHECK(has(revision, "only the revisions main refs/pr/3 " + f.first));
  CHECK(has(f.error_of("facebook/esm2_t12_35M_UR50D@v2"), "plm.119"));
  // A download that stopped half-way, or a branch whose commit is gone.
  fs::remove(f.model / "snapshots" / f.first / "model.safetensors");
  CHECK(has(f.error_of("esm2_t6_8M_UR50D"), "no complete weights in"));
  touch(f.model / "refs/main", std::string(40, 'c'));
  CHECK(has(f.error_of("esm2_t6_8M_UR50D"), "only the revisions"));
  fs::remove(f.model / "refs/main");
  CHECK(has(f.error_of("esm2_t6_8M_UR50D"), "only the revisions"));
}

TEST_CASE("names that would leave the cache are no names") {
  const fetched f;
  touch(f.folder / "secret/model.safetensors");
  for (const char* typed : {"../secret", "facebook/..", "a/../../secret", "a/b@../../x", "a/b@/etc",
                            "a/b@", "/a/b", "a/b/c", "a\\b/c", "a/b c", ".a/b", "a/.b", "a/-b"}) {
    INFO(typed);
    CHECK_FALSE(plmscope::hub_id::parse(typed));
    CHECK(has(f.error_of(typed), "plm.109"));
  }
  // A reference that is no commit.
  touch(f.model / "refs/evil", "../../../../secret");
  CHECK(has(f.error_of("facebook/esm2_t6_8M_UR50D@evil"), "plm.119"));
  touch(f.model / "refs/main", std::string(1000, 'a'));
  CHECK(has(f.error_of("esm2_t6_8M_UR50D"), "io.504"));
  CHECK(plmscope::hub_id::parse("a/b@refs/pr/3")->revision == "refs/pr/3");
  CHECK(plmscope::hub_id::parse("a/b")->fetch_command() == "hf download a/b");
}

TEST_CASE("where the caches lie follows the environment as in the libraries that fill them") {
  const std::vector<std::string> names{
      "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME", "TORCH_HOME"};
  std::map<std::string, std::optional<std::string>> before;
  for (const auto& name : names) {
    const char* value = std::getenv(name.c_str());
    before[name] = value == nullptr ? std::nullopt : std::optional<std::string>(value);
    ::unsetenv(name.c_str());
  }
  const auto hub_with = [](const char* name, const char* value) {
    ::setenv(name, value, 1);
    return model_caches::of_environment();
  };
  CHECK(hub_with("HOME", "/home/u").hub == "/home/u/.cache/huggingface/hub");
  CHECK(model_caches::of_environment().torch == "/home/u/.cache/torch/hub/checkpoints");
  CHECK(hub_with("XDG_CACHE_HOME", "/x").hub == "/x/huggingface/hub");
  CHECK(model_caches::of_environment().torch == "/x/torch/hub/checkpoints");
  CHECK(hub_with("HF_HOME", "/hf").hub == "/hf/hub");
  CHECK(hub_with("HF_HUB_CACHE", "/cache").hub == "/cache");
  CHECK(hub_with("TORCH_HOME", "/t").torch == "/t/hub/checkpoints");
  for (const auto& [name, value] : before) {
    if (value) {
      ::setenv(name.c_str(), value->c_str(), 1);
    } else {
      ::unsetenv(name.c_str());
    }
  }
}
