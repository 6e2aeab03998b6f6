// SPDX-License-Identifier: MIT
// What a checkpoint refuses, what it forgives, and that it holds nothing in vain.
#include <tests/acts/sample_store.hpp>
#include <tests/golden.hpp>
#include <tests/io/error_id.hpp>
#include <tests/train/interrupted.hpp>
#include <tests/train/planted.hpp>

#include <plmscope/backend/cpu.hpp>
#include <plmscope/sae/sae.hpp>
#include <plmscope/sae/sparsifiers/batch_top_k.hpp>
#include <plmscope/train/trainer.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace plmscope;
using interrupted::outcome;

namespace {

constexpr std::size_t d = 8;
using model_type = sae<batch_top_k>;
const planted::options data{.d = d, .directions = 12, .offset = 1};

model_type::options shape() {
  return {.d_model = d,
          .features = 20,
          .sparsifier = {.k = 2, .smoothing = 0.9, .first_step = 3},
          .seed = 5};
}

auto training() {
  entry_penalty<linear_shape, seeking_weight> seeking;
  seeking.weight = {.start = 0.01, .target = 1, .rate = 0.1, .warmup = 3};
  return trainer{.steps = 20,
                 .batch = 9,
                 .optimizer = adam{.lr = 1e-2},
                 .schedule = warmup_decay{.warmup = 4},
                 .penalty = penalties(seeking),
                 .dead = aux_k{.dead_after = 30},
                 .log_every = 3};
}

struct warnings {
  std::vector<std::string> said;
};

auto every(const std::filesystem::path& folder, std::size_t steps, warnings* w = nullptr) {
  return checkpoint_every{
      .folder = folder, .steps = steps, .resume = true, .warn = [w](std::string_view text) {
        if (w != nullptr) w->said.emplace_back(text);
      }};
}

// Runs until the reader has given `left` batches; the outcome where that is the end.
template <class Fit>
outcome run(const Fit& fit, std::size_t left = 1000, model_type::options o = shape(),
            planted::options rows = data) {
  model_type model(o, cpu(1));
  planted::reader<cpu> reader(rows);
  interrupted::mortal<planted::reader<cpu>> source{reader, left};
  try {
    const auto last = fit(model, source);
    return interrupted::of(model, last);
  } catch (const interrupted::killed&) {
    return {};
  }
}

std::vector<std::string> names(const std::filesystem::path& folder) {
  std::vector<std::string> out;
  for (const auto& [name, bytes] : sample::files(folder)) out.push_back(name);
  return out;
}

std::string step(std::size_t n) { return checkpoint_folder<>::file_name(n); }

}  // namespace

TEST_CASE("the newest are kept, the last step needs none, and what lies beside them stays") {
  const golden::scratch_folder folder;
  const auto fit = interrupted::with(training(), every(folder / "c", 4));
  run(fit, 3);
  CHECK(names(folder / "c").empty());
  sample::put(folder / "c" / "notes.txt", "mine");
  sample::put(folder / "c" / "step-7.safetensors", "no name of ours");
  run(fit, 13);
  const std::vector<std::string> others{"notes.txt", "step-7.safetensors"};
  CHECK(names(folder / "c") == std::vector<std::string>{others[0], step(8), step(12), others[1]});
  run(fit);
  CHECK(names(folder / "c") == std::vector<std::string>{others[0], step(12), step(16), others[1]});
  CHECK(step(12) == "step-000000000012.safetensors");
}

TEST_CASE("what differs is refused by its name") {
  const golden::scratch_folder folder;
  run(interrupted::with(training(), every(folder / "c", 4)), 10);
  const auto before = sample::files(folder / "c");
  const auto refused = [&](const std::string& what, const auto& fit, model_type::options o,
                           planted::options rows) {
    CAPTURE(what);
    const auto saving = interrupted::with(fit, every(folder / "c", 4));
    const auto text = error_text([&] { run(saving, 1000, o, rows); });
    CHECK(text.find("train.125") != std::string::npos);
    CAPTURE(text);
    CHECK(text.find(", " + what + "\n") != std::string::npos);
    CHECK(sample::files(folder / "c") == before);
  };
  const auto changed = [&](const std::string& what, const auto& change) {
    auto fit = training();
    change(fit);
    refused(what, fit, shape(), data);
  };
  changed("steps", [](auto& t) { t.steps = 21; });
  changed("batch", [](auto& t) { t.batch = 10; });
  changed("optimizer", [](auto& t) { t.optimizer.lr = 2e-2; });
  changed("schedule", [](auto& t) { t.schedule.warmup = 5; });
  changed("penalty", [](auto& t) { std::get<0>(t.penalty.each).weight.target = 2; });
  changed("dead", [](auto& t) { t.dead.alpha = 1; });
  changed("clip", [](auto& t) { t.clip = 2; });
  changed("bias", [](auto& t) { t.bias = start_bias::mean; });
  auto o = shape();
  o.features = 21;
  refused("model", training(), o, data);
  o = shape();
  o.normalize = {.kind = normalization::scalar, .scale = 2};
  refused("model", training(), o, data);
  auto rows = data;
  rows.seed = 2;
  refused("rows", training(), shape(), rows);
  // Another optimizer altogether.
  refused("optimizer",
          trainer{.steps = 20,
                  .batch = 9,
                  .optimizer = signum_schedule_free{},
                  .schedule = warmup_decay{.warmup = 4},
                  .penalty = training().penalty,
                  .dead = aux_k{.dead_after = 30}},
          shape(), data);
  // And what was refused can still be resumed.
  CHECK(interrupted::same(run(interrupted::with(training(), every(folder / "c", 4))),
                          run(training())));
}

TEST_CASE("numbers of another width are refused") {
  const golden::scratch_folder folder;
  using wide = basic_cpu<double, eigen_gemm>;
  const auto fit = interrupted::with(training(), every(folder / "c", 4));
  run(fit, 10);
  sae<batch_top_k, wide> model(
      {.d_model = d, .features = 20, .sparsifier = shape().sparsifier, .seed = 5}, wide(1));
  CHECK(error_id([&] { fit(model, planted::reader<wide>(data)); }) == "train.125");
}

TEST_CASE("without `resume` a folder with checkpoints is refused, and stays as it is") {
  const golden::scratch_folder folder;
  auto options = every(folder / "c", 4);
  options.resume = false;
  run(interrupted::with(training(), options), 10);
  const auto before = sample::files(folder / "c");
  CHECK(error_id([&] { run(interrupted::with(training(), options)); }) == "train.122");
  CHECK(sample::files(folder / "c") == before);
}

TEST_CASE("wrong options") {
  const golden::scratch_folder folder;
  const auto id = [&](const auto& change) {
    auto options = every(folder / "c", 4);
    change(options);
    return error_id([&] { run(interrupted::with(training(), options)); });
  };
  CHECK(id([](auto& o) { o.folder.clear(); }) == "train.120");
  CHECK(id([](auto& o) { o.steps = 0; }) == "train.120");
  CHECK(id([](auto& o) { o.keep = 0; }) == "train.120");
  CHECK(id([](auto& o) { o.folder = o.folder / "deeper"; }) == "train.121");
  sample::put(folder / "file", "x");
  CHECK(id([&](auto& o) { o.folder = folder / "file"; }) == "train.121");
  CHECK_FALSE(std::filesystem::exists(folder / "c"));
}

TEST_CASE("a damaged checkpoint is passed over with a warning, and the result is the same") {
  const auto want = run(training());
  for (const bool cut : {false, true}) {
    const golden::scratch_folder folder;
    warnings w;
    const auto fit = interrupted::with(training(), every(folder / "c", 4, &w));
    run(fit, 10);
    std::string bytes = sample::content(folder / "c" / step(8));
    if (cut)
      bytes.resize(bytes.size() / 2);
    else
      bytes[bytes.size() / 2] ^= 1;
    sample::put(folder / "c" / step(8), bytes);
    CHECK(interrupted::same(run(fit), want));
    REQUIRE(w.said.size() == 1);
    CHECK(w.said[0].find(step(8)) != std::string::npos);
    // The damaged one has been written anew, or has gone.
    CHECK(names(folder / "c") == std::vector<std::string>{step(12), step(16)});
  }
  // All of them.
  const golden::scratch_folder folder;
  const auto fit = interrupted::with(training(), every(folder / "c", 4));
  run(fit, 10);
  for (const auto& name : names(folder / "c")) {
    std::string bytes = sample::content(folder / "c" / name);
    bytes[bytes.size() - 1] ^= 4;
    sample::put(folder / "c" / name, bytes);
  }
  const auto before = sample::files(folder / "c");
  CHECK(error_id([&] { run(fit); }) == "train.124");
  CHECK(sample::files(folder / "c") == before);
}

TEST_CASE("every flipped bit is found, or changes nothing") {
  const golden::scratch_folder folder;
  run(interrupted::with(training(), every(folder / "c", 4)), 6);
  const std::string good = sample::content(folder / "c" / step(4));
  std::size_t found = 0, tried = 0;
  for (std::size_t at = 0; at < good.size(); at += at < 9000 ? 1 : 7) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ (1 << (at % 8)));
    sample::put(folder / "x", bad);
    ++tried;
    found += error_id([&] { state_file{folder / "x"}; }) != "accepted";
  }
  CHECK(tried > 5000);
  CHECK(found == tried);
  for (std::size_t size = 0; size < good.size(); size += 97) {
    sample::put(folder / "x", good.substr(0, size));
    CHECK(error_id([&] { state_file{folder / "x"}; }) != "accepted");
  }
}

namespace {

// The checkpoint with one tensor changed by `change(name, bytes)` or left out (false), sealed
// again.
template <class Change>
std::string forged(const std::filesystem::path& path, const Change& change) {
  const auto file = safetensors_file::read_whole(path);
  safetensors_writer out;
  state_detail::text_map tensors;
  for (const auto& [key, value] : file.metadata()) {
    if (!key.starts_with("crc32c.")) out.metadata[key] = value;
  }
  for (const auto& t : file.tensors()) {
    std::vector<std::byte> bytes(file.bytes(t).begin(), file.bytes(t).end());
    if (!change(t.name, bytes)) continue;
    out.metadata["crc32c." + t.name] = std::to_string(crc32c(bytes));
    tensors[t.name] = state_detail::type_and_shape(t.type, t.shape);
    const auto add = [&]<class T>(T) {
      std::vector<T> numbers(bytes.size() / sizeof(T));
      std::memcpy(numbers.data(), bytes.data(), bytes.size());
      out.add_owned(t.name, t.type, t.shape, std::move(numbers));
    };
    if (t.type == dtype::f32)
      add(float{});
    else if (t.type == dtype::f64)
      add(double{});
    else if (t.type == dtype::i64)
      add(std::int64_t{});
    else if (t.type == dtype::u64)
      add(std::uint64_t{});
    else
      FAIL("a type that the test does not know");
  }
  out.metadata["checksum"] = state_detail::checksum(out.metadata, tensors);
  const auto bytes = out.to_bytes();
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

TEST_CASE(
    "everything that is saved is needed: left out it is refused, changed it changes the result") {
  const golden::scratch_folder folder;
  const auto fit = interrupted::with(training(), every(folder / "c", 7));
  const auto want = run(training());
  run(fit, 9);
  const std::string good = sample::content(folder / "c" / step(7));
  const auto names = safetensors_file::open(folder / "c" / step(7)).names();
  CHECK(names.size() > 20);
  const auto with = [&](const auto& change) {
    const auto bytes = forged(folder / "c" / step(7), change);
    std::filesystem::remove_all(folder / "c");
    std::filesystem::create_directory(folder / "c");
    sample::put(folder / "c" / step(7), bytes);
    outcome got;
    const auto id = error_id([&] { got = run(fit); });
    std::filesystem::remove_all(folder / "c");
    std::filesystem::create_directory(folder / "c");
    sample::put(folder / "c" / step(7), good);
    return std::pair(id, interrupted::same(got, want));
  };
  // The forging itself changes nothing.
  CHECK(with([](const auto&, auto&) { return true; }) == std::pair(std::string("accepted"), true));
  for (const auto& name : names) {
    CAPTURE(name);
    CHECK(with([&](const auto& n, auto&) { return n != name; }).first == "train.126");
    const auto [id, same] = with([&](const auto& n, auto& bytes) {
      if (n != name) return true;
      // Counts begin anew, the moment of the next check moves, of other numbers one bit changes.
      const bool count = bytes.size() % 8 == 0 && n != "dead.next_check" &&
                         (n.starts_with("dead") || n.find('.') == n.npos || n.ends_with("step") ||
                          n.ends_with("averaged"));
      if (count)
        std::fill(bytes.begin(), bytes.end(), std::byte{0});
      else
        bytes[1] ^= std::byte{2};
      return true;
    });
    CHECK((id != "accepted" || !same));
  }
}

TEST_CASE("a request to stop saves the step and ends with an error of its own") {
  const golden::scratch_folder folder;
  auto options = every(folder / "c", 1000);
  std::size_t asked = 0;
  options.stop = [&] { return ++asked == 6; };
  CHECK(error_id([&] { run(interrupted::with(training(), options)); }) == "train.127");
  CHECK(static_cast<int>(rules::training_stopped.kind) == 8);
  CHECK(names(folder / "c") == std::vector<std::string>{step(6)});
  options.stop = {};
  CHECK(interrupted::same(run(interrupted::with(training(), options)), run(training())));
}

TEST_CASE("one training at a time") {
  const golden::scratch_folder folder;
  const checkpoint_folder<> mine(folder / "c");
  // Another process, for a lock belongs to the process where the system has no better ones.
  const ::pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const auto id = error_id([&] { checkpoint_folder<>{folder / "c"}; });
    ::_exit(id == "train.123" ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}
