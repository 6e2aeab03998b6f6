// SPDX-License-Identifier: MIT
#include <plmscope/acts/activation_store.hpp>

#include "tests/acts/crashing_disk.hpp"
#include "tests/acts/sample_store.hpp"
#include "tests/golden.hpp"
#include "tests/io/error_id.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace plmscope;
using sample::fast_system;

namespace {

std::map<std::string, std::string> undisturbed(const store_manifest& m) {
  const golden::scratch_folder folder;
  sample::finish(folder / "s", m);
  return sample::files(folder / "s");
}

struct run {
  crashing::record log;
  std::vector<std::pair<std::size_t, protein_range>> acknowledged;  // after so many operations
};

void write_on(const std::filesystem::path& folder, const store_manifest& m, run& r) {
  sample::finish(folder, m, {0, 12}, crashing::disk{&r.log}, [&](protein_range range) {
    r.acknowledged.emplace_back(r.log.operations.size(), range);
  });
}

struct verdict {
  std::size_t states = 0;
  std::size_t lost = 0;        // acknowledged shards that are gone or damaged
  std::size_t unfinished = 0;  // states that a second run does not bring to the same bytes
};

// Every power cut during a run of a writer, under several fates of what was not synced.
verdict every_power_cut(const store_manifest& m, bool forget_syncs,
                        const std::map<std::string, std::string>& want) {
  const golden::scratch_folder folder;
  run first;
  first.log.forget_syncs = forget_syncs;
  write_on(folder / "s", m, first);
  CHECK(sample::files(folder / "s") == want);
  verdict v;
  for (std::size_t cut = 0; cut <= first.log.operations.size(); ++cut) {
    for (std::uint64_t fate = 0; fate < 24; ++fate) {
      const golden::scratch_folder after;
      crashing::image(first.log, cut, fate, folder / "s", after / "s");
      ++v.states;
      bool lost = false;
      for (const auto& [when, range] : first.acknowledged) {
        const auto name = shard_layout::file_name(range);
        if (when <= cut) {
          lost = lost || !std::filesystem::exists(after / "s" / name) ||
                 sample::content(after / "s" / name) != want.at(name);
        }
      }
      v.lost += lost;
      const auto id = error_id([&] { sample::finish(after / "s", m); });
      v.unfinished += id != "accepted" || sample::files(after / "s") != want;
    }
  }
  return v;
}

}  // namespace

TEST_CASE("a power cut at any moment loses no acknowledged shard, and the end is the same bytes") {
  for (const std::size_t shard_rows : {std::size_t{16}, std::size_t{1000}}) {
    const auto m = sample::manifest(dtype::bf16, shard_rows);
    const auto want = undisturbed(m);
    const verdict v = every_power_cut(m, false, want);
    MESSAGE(v.states << " states after power cuts");
    CHECK(v.states > 300);
    CHECK(v.lost == 0);
    CHECK(v.unfinished == 0);
    // The simulated disk does catch a writer that syncs nothing.
    const verdict careless = every_power_cut(m, true, want);
    CHECK(careless.lost > 0);
    CHECK(careless.unfinished > 0);
  }
}

TEST_CASE("a second crash while recovering from the first changes nothing") {
  const auto m = sample::manifest(dtype::f16, 16);
  const auto want = undisturbed(m);
  const golden::scratch_folder folder;
  run first;
  write_on(folder / "s", m, first);
  const std::size_t end = first.log.operations.size();
  std::size_t states = 0;
  for (std::size_t cut = 1; cut < end; cut += 3) {
    for (std::size_t calls = 1; calls < 30; calls += 4) {
      const golden::scratch_folder after;
      crashing::image(first.log, cut, 3 + calls, folder / "s", after / "s");
      run second;
      second.log.fault = {.at = calls, .reason = EIO, .persistent = true};
      const auto id = error_id([&] { write_on(after / "s", m, second); });
      CHECK((id == "accepted" || id == "io.505" || id == "acts.109"));
      sample::finish(after / "s", m);
      CHECK(sample::files(after / "s") == want);
      ++states;
    }
  }
  CHECK(states > 50);
}

TEST_CASE("a failing call is an error, keeps every acknowledged shard and leaves nothing else") {
  const auto m = sample::manifest(dtype::bf16, 16);
  const auto want = undisturbed(m);
  std::size_t calls = 0;
  {
    const golden::scratch_folder folder;
    run whole;
    write_on(folder / "s", m, whole);
    calls = whole.log.calls;
  }
  std::size_t refused = 0;
  for (const bool persistent : {false, true}) {
    for (const int reason : {ENOSPC, EIO, EINTR}) {
      if (persistent && reason == EINTR) continue;
      for (std::size_t at = 0; at < calls; ++at) {
        const golden::scratch_folder folder;
        run r;
        r.log.fault = {.at = at, .reason = reason, .persistent = persistent};
        CAPTURE(at);
        std::string id, text;
        try {
          write_on(folder / "s", m, r);
          id = "accepted";
        } catch (const error& e) {
          id = e.id();
          text = e.what();
        }
        CHECK((id == "accepted" || id == "io.505" || id == "acts.109"));
        refused += id != "accepted";
        if (id == "io.505" && reason == ENOSPC)
          CHECK(text.find("free some space") != std::string::npos);
        if (std::filesystem::exists(folder / "s")) {
          const auto left = sample::files(folder / "s");
          for (const auto& [name, bytes] : left) {
            // A removal may itself be what failed; else only whole files of the store are there.
            if (name.starts_with('.')) continue;
            CHECK(bytes == want.at(name));
          }
          for (const auto& [when, range] : r.acknowledged) {
            CHECK(left.contains(shard_layout::file_name(range)));
          }
        }
        sample::finish(folder / "s", m);
        CHECK(sample::files(folder / "s") == want);
      }
    }
  }
  CHECK(refused > calls);
}

TEST_CASE("a killed process leaves nothing that hinders the next one") {
  const auto m = sample::manifest(dtype::f32, 4);
  const auto want = undisturbed(m);
  const golden::scratch_folder folder;
  // Every round a child dies one system call later than the last.
  struct mortal : store_system {
    std::size_t* left = nullptr;
    void tick() {
      if ((*left)-- == 0) ::kill(::getpid(), SIGKILL);
    }
    ssize_t write(int fd, const void* data, std::size_t n) {
      tick();
      return store_system::write(fd, data, n / 2 + 1);
    }
    int fsync(int) {
      tick();
      return 0;
    }
    int rename(const char* a, const char* b) {
      tick();
      return store_system::rename(a, b);
    }
  };
  std::size_t killed = 0;
  for (std::size_t round = 0;; ++round) {
    REQUIRE(round < 1000);
    const ::pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      std::size_t left = round % 23;
      mortal system;
      system.left = &left;
      sample::finish(folder / "s", m, {0, 12}, system, [](const auto&) {});
      ::_exit(0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) break;
    CHECK(WIFSIGNALED(status));
    ++killed;
  }
  CHECK(killed > 10);
  CHECK(sample::files(folder / "s") == want);
}
