// SPDX-License-Identifier: MIT
// Checkpoints on a disk that crashes: whatever a power cut leaves, no acknowledged step is lost and
// the resumed training ends with the same bits.
#include <tests/acts/crashing_disk.hpp>
#include <tests/acts/sample_store.hpp>
#include <tests/golden.hpp>
#include <tests/io/error_id.hpp>
#include <tests/train/interrupted.hpp>
#include <tests/train/planted.hpp>

#include <plmscope/backend/cpu.hpp>
#include <plmscope/sae/sae.hpp>
#include <plmscope/train/trainer.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

using namespace plmscope;
using interrupted::outcome;

namespace {

auto training() {
  return trainer{.steps = 10,
                 .batch = 6,
                 .optimizer = adam{.lr = 1e-2},
                 .dead = aux_k{.dead_after = 20},
                 .log_every = 0};
}

struct trace {
  crashing::record log;
  std::vector<std::pair<std::size_t, std::size_t>>
      acknowledged;  // after so many operations: a step
};

// Trains in `folder` and notes, at every step, what has been acknowledged before it.
template <class System>
outcome train(const std::filesystem::path& folder, System system, trace* t = nullptr) {
  std::size_t step = 0;
  std::vector<std::string> ignored;
  basic_checkpoint_every<System> every{.folder = folder,
                                       .steps = 2,
                                       .keep = 2,
                                       .resume = true,
                                       .stop = {},
                                       .warn = [&](std::string_view w) { ignored.emplace_back(w); },
                                       .system = system};
  struct counting : planted::reader<cpu> {
    using planted::reader<cpu>::reader;
    std::size_t rows() const { return position(); }
  };
  counting reader(planted::options{.d = 6, .directions = 9, .offset = 1});
  if (t != nullptr) {
    every.stop = [&] {
      step = reader.rows() / 6;
      if (step > 2) t->acknowledged.emplace_back(t->log.operations.size(), (step - 1) / 2 * 2);
      return false;
    };
  }
  sae<> model({.d_model = 6, .features = 12, .sparsifier = {.k = 2}, .seed = 5}, cpu(1));
  const auto last = interrupted::with(training(), every)(model, reader);
  return interrupted::of(model, last);
}

// The newest step that can be resumed; 0 without any.
std::size_t newest(const std::filesystem::path& folder) {
  std::size_t best = 0;
  for (std::size_t step = 2; step < 10; step += 2) {
    const auto path = folder / checkpoint_folder<>::file_name(step);
    if (!std::filesystem::exists(path)) continue;
    if (error_id([&] { state_file{path}; }) == "accepted") best = step;
  }
  return best;
}

struct verdict {
  std::size_t states = 0;
  std::size_t lost = 0;        // states without the step that was acknowledged last
  std::size_t unfinished = 0;  // states from which the training does not get to the same bits
};

verdict every_power_cut(bool forget_syncs, const outcome& want) {
  const golden::scratch_folder folder;
  trace t;
  t.log.forget_syncs = forget_syncs;
  CHECK(interrupted::same(train(folder / "c", crashing::disk{&t.log}, &t), want));
  verdict v;
  for (std::size_t cut = 0; cut <= t.log.operations.size(); ++cut) {
    for (std::uint64_t fate = 0; fate < 16; ++fate) {
      const golden::scratch_folder after;
      crashing::image(t.log, cut, fate, folder / "c", after / "c");
      ++v.states;
      std::size_t acknowledged = 0;
      for (const auto& [when, step] : t.acknowledged) {
        if (when <= cut) acknowledged = step;
      }
      v.lost += newest(after / "c") < acknowledged;
      outcome got;
      const auto id = error_id([&] { got = train(after / "c", sample::fast_system{}); });
      v.unfinished += id != "accepted" || !interrupted::same(got, want);
    }
  }
  return v;
}

}  // namespace

TEST_CASE("a power cut at any moment loses no acknowledged step, and the end is the same") {
  const golden::scratch_folder folder;
  const auto want = train(folder / "c", sample::fast_system{});
  const verdict v = every_power_cut(false, want);
  MESSAGE(v.states << " states after power cuts");
  CHECK(v.states > 500);
  CHECK(v.lost == 0);
  CHECK(v.unfinished == 0);
  // The simulated disk does catch a writer that syncs nothing.
  CHECK(every_power_cut(true, want).lost > 0);
}

TEST_CASE("a failing call is an error, loses nothing and leaves nothing") {
  const golden::scratch_folder whole;
  trace undisturbed;
  const auto want = train(whole / "c", crashing::disk{&undisturbed.log}, &undisturbed);
  const std::size_t calls = undisturbed.log.calls;
  std::size_t refused = 0;
  for (const bool persistent : {false, true}) {
    for (const int reason : {ENOSPC, EIO, EINTR}) {
      if (persistent && reason == EINTR) continue;
      for (std::size_t at = 0; at < calls; ++at) {
        CAPTURE(at);
        const golden::scratch_folder folder;
        trace t;
        t.log.fault = {.at = at, .reason = reason, .persistent = persistent};
        const auto id = error_id([&] { train(folder / "c", crashing::disk{&t.log}, &t); });
        CHECK((id == "accepted" || id == "io.505" || id == "train.121"));
        refused += id != "accepted";
        if (std::filesystem::exists(folder / "c")) {
          CHECK(newest(folder / "c") >=
                (t.acknowledged.empty() ? 0 : t.acknowledged.back().second));
        }
        CHECK(interrupted::same(train(folder / "c", sample::fast_system{}), want));
        for (const auto& [name, bytes] : sample::files(folder / "c")) CHECK(!name.starts_with('.'));
      }
    }
  }
  CHECK(refused > calls);
}

TEST_CASE("a second crash while resuming from the first changes nothing") {
  const golden::scratch_folder folder;
  trace first;
  const auto want = train(folder / "c", crashing::disk{&first.log}, &first);
  std::size_t states = 0;
  for (std::size_t cut = 1; cut < first.log.operations.size(); cut += 3) {
    for (std::size_t at = 1; at < 30; at += 4) {
      const golden::scratch_folder after;
      crashing::image(first.log, cut, 3 + at, folder / "c", after / "c");
      trace second;
      second.log.fault = {.at = at, .reason = EIO, .persistent = true};
      const auto id = error_id([&] { train(after / "c", crashing::disk{&second.log}, &second); });
      CHECK((id == "accepted" || id == "io.505" || id == "train.121"));
      CHECK(interrupted::same(train(after / "c", sample::fast_system{}), want));
      ++states;
    }
  }
  CHECK(states > 50);
}
