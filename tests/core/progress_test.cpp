// SPDX-License-Identifier: MIT
#include <plmscope/core/progress.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <thread>
#include <unistd.h>

namespace {

using plmscope::duration_text;
using plmscope::progress_line;

// What f writes to stderr.
template <class F>
std::string said(const F& f) {
  std::fflush(stderr);
  std::FILE* file = std::tmpfile();
  REQUIRE(file != nullptr);
  const int before = dup(2);
  dup2(fileno(file), 2);
  f();
  std::fflush(stderr);
  dup2(before, 2);
  close(before);
  std::string text;
  std::rewind(file);
  for (int c; (c = std::fgetc(file)) != EOF;) text += static_cast<char>(c);
  std::fclose(file);
  return text;
}

TEST_CASE("durations in words") {
  CHECK(duration_text(0) == "0 s");
  CHECK(duration_text(-5) == "0 s");
  CHECK(duration_text(0.4) == "0 s");
  CHECK(duration_text(12) == "12 s");
  CHECK(duration_text(59.4) == "59 s");
  CHECK(duration_text(59.6) == "1:00");
  CHECK(duration_text(245) == "4:05");
  CHECK(duration_text(3599.4) == "59:59");
  CHECK(duration_text(3599.7) == "1:00:00");
  CHECK(duration_text(3723) == "1:02:03");
  CHECK(duration_text(360000) == "100:00:00");
}

TEST_CASE("the last update always says how long all took") {
  for (const bool terminal : {false, true}) {
    const std::string text = said([&] {
      progress_line line("reading", terminal);
      line.update(5, 5, "3 files");
    });
    CHECK(text.find(" s in all  3 files\n") != std::string::npos);
    CHECK(text.starts_with(terminal ? "\r\x1b[Kreading 100 %  " : "reading 100 %  "));
  }
  const std::string nothing = said([] { progress_line("x", false).update(0, 0); });
  CHECK(nothing.starts_with("x 100 %  "));
}

TEST_CASE("a terminal sees at most ten lines a second, a file none before 30 seconds") {
  const auto start = std::chrono::steady_clock::now();
  const auto run = [](bool terminal) {
    return said([&] {
      progress_line line("x", terminal);
      for (std::size_t i = 0; i < 1000; ++i) line.update(i, 1000);
    });
  };
  const std::string file = run(false);
  const std::string terminal = run(true);
  const auto lines = std::count(terminal.begin(), terminal.end(), '\r');
  const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
  if (spent.count() < 30) CHECK(file.empty());
  CHECK(static_cast<double>(lines) <= 10 * spent.count());

  const std::string one = said([] {
    progress_line line("x", true);
    std::this_thread::sleep_for(std::chrono::milliseconds(120));
    line.update(1, 4, "detail");
  });
  CHECK(one.starts_with("\r\x1b[Kx  25 %  "));
  CHECK(one.ends_with(" s left  detail"));
}

TEST_CASE("no_progress takes everything") {
  const plmscope::no_progress nothing;
  CHECK(said([&] { nothing(1, "two", 3.0), nothing(); }).empty());
}

}  // namespace
