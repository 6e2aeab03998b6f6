// SPDX-License-Identifier: MIT
#include <plmscope/acts/merge_stores.hpp>

#include "tests/acts/sample_store.hpp"
#include "tests/golden.hpp"
#include "tests/io/error_id.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

using namespace plmscope;
using paths = std::vector<std::filesystem::path>;

namespace {

std::map<std::string, std::string> undisturbed(const store_manifest& m) {
  const golden::scratch_folder folder;
  sample::finish(folder / "s", m);
  return sample::files(folder / "s");
}

}  // namespace

TEST_CASE("parts written apart, at ends of shards, merge into the bytes of one writer") {
  const auto m = sample::manifest(dtype::bf16, 16);
  const auto list = sample::proteins();
  const store_plan plan(m, list);
  for (const std::size_t parts : {1u, 2u, 3u, 4u}) {
    const golden::scratch_folder folder;
    paths from;
    std::size_t next = 0;
    for (std::size_t i = 0; i < parts; ++i) {
      const auto range = plan.part(i, parts);
      CHECK(range.first == next);
      next = range.end;
      from.push_back(folder / ("part" + std::to_string(i)));
      sample::finish(from.back(), m, range);
    }
    CHECK(next == list.size());
    std::reverse(from.begin(), from.end());
    std::size_t reports = 0;
    CHECK(merge_stores(folder / "all", from, [&](std::size_t, std::size_t) { ++reports; }) == 4);
    CHECK(reports == 4);
    CHECK(sample::files(folder / "all") == undisturbed(m));
    // Once more is nothing to do; a shard that got lost comes back.
    CHECK(merge_stores(folder / "all", from) == 0);
    std::filesystem::remove(folder / "all/activations-0000000004-0000000008.safetensors");
    CHECK(merge_stores(folder / "all", from) == 1);
    CHECK(sample::files(folder / "all") == undisturbed(m));
    // Into one of the parts.
    merge_stores(from[0], from);
    CHECK(sample::files(from[0]) == undisturbed(m));
  }
  CHECK(error_id([&] { plan.part(4, 4); }) == "acts.106");
  CHECK(error_id([&] { plan.part(0, 5); }) == "acts.106");
  CHECK(error_id([&] { plan.part(0, 0); }) == "acts.106");
}

TEST_CASE("ranges cut anywhere merge too, and read the same") {
  const auto m = sample::manifest(dtype::f32, 16);
  const golden::scratch_folder folder;
  sample::finish(folder / "a", m, {0, 5});
  sample::finish(folder / "b", m, {5, 6});
  sample::finish(folder / "c", m, {6, 12});
  merge_stores(folder / "all", paths{folder / "c", folder / "a", folder / "b"});
  const auto store = activation_store::open(folder / "all");
  CHECK(store.shards().size() > 4);
  std::vector<float> rows(78 * 5);
  store.read(1, 0, rows);
  CHECK(rows == sample::rows(m, sample::proteins(), {0, 12}, 1));
}

TEST_CASE("a writer fills the holes between shards that others wrote") {
  const auto m = sample::manifest(dtype::f32, 16);
  const golden::scratch_folder folder;
  sample::finish(folder / "s", m, {5, 6});
  sample::finish(folder / "s", m, {9, 11});
  sample::finish(folder / "s", m);
  const auto store = activation_store::open(folder / "s");
  CHECK(store.complete());
  std::vector<float> rows(78 * 6);
  store.read(0, 0, rows);
  CHECK(rows == sample::rows(m, sample::proteins(), {0, 12}, 0));
}

TEST_CASE("what does not fit together is refused before anything is copied") {
  const auto m = sample::manifest(dtype::f32, 16);
  const golden::scratch_folder folder;
  sample::finish(folder / "a", m, {0, 5});
  sample::finish(folder / "b", m, {4, 12});
  sample::finish(folder / "c", m, {5, 12});
  auto other = m;
  other.model_hash = "0123abce";
  sample::finish(folder / "foreign", other, {5, 12});
  other = m;
  other.proteins_hash = "another list";
  sample::finish(folder / "list", other, {5, 12});
  const auto merge = [&](const paths& from) {
    return error_id([&] { merge_stores(folder / "all", from); });
  };
  CHECK(merge({folder / "a", folder / "b"}) == "acts.116");
  CHECK(merge({folder / "a", folder / "a"}) == "acts.116");
  CHECK(merge({folder / "a", folder / "foreign"}) == "acts.112");
  CHECK(merge({folder / "a", folder / "list"}) == "acts.112");
  CHECK(merge({}) == "acts.105");
  CHECK(merge({folder / "nowhere"}) == "acts.109");
  CHECK(!std::filesystem::exists(folder / "all"));
  // Damage is found on the way: a whole shard is copied or none.
  const auto path = folder / "c/activations-0000000005-0000000008.safetensors";
  auto bytes = sample::content(path);
  const auto good = bytes;
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 4);
  sample::put(path, bytes);
  CHECK(merge({folder / "a", folder / "c"}) == "acts.115");
  sample::put(path, good);
  CHECK(merge({folder / "a", folder / "c"}) == "accepted");
  CHECK(activation_store::open(folder / "all").complete());
  // A target that holds some of the proteins otherwise.
  sample::finish(folder / "t", m, {3, 6});
  CHECK(error_id([&] { merge_stores(folder / "t", paths{folder / "c"}); }) == "acts.116");
  CHECK(error_id([&] { merge_stores(folder / "foreign", paths{folder / "c"}); }) == "acts.112");
}

TEST_CASE("two processes write one folder at once, but not one range") {
  const auto m = sample::manifest(dtype::bf16, 4);
  const auto want = undisturbed(m);
  const auto list = sample::proteins();
  const store_plan plan(m, list);
  for (int round = 0; round < 5; ++round) {
    const golden::scratch_folder folder;
    std::vector<::pid_t> children;
    for (std::size_t i = 0; i < 3; ++i) {
      const ::pid_t child = ::fork();
      REQUIRE(child >= 0);
      if (child == 0) {
        const auto id = error_id([&] { sample::finish(folder / "s", m, plan.part(i, 3)); });
        ::_exit(id == "accepted" ? 0 : 1);
      }
      children.push_back(child);
    }
    for (const ::pid_t child : children) {
      int status = -1;
      ::waitpid(child, &status, 0);
      CHECK(status == 0);
    }
    CHECK(sample::files(folder / "s") == want);
  }
  const golden::scratch_folder folder;
  {
    const activation_store_writer store(folder / "s", m, list, {0, 5});
    const auto open = [&](protein_range range) {
      return error_id([&] { activation_store_writer(folder / "s", m, list, range); });
    };
    CHECK(open({4, 6}) == "acts.118");
    CHECK(open({0, 12}) == "acts.118");
    CHECK(open({5, 12}) == "accepted");
  }
  CHECK(error_id([&] { activation_store_writer(folder / "s", m, list, {0, 12}); }) == "accepted");
}
