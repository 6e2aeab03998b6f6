// SPDX-License-Identifier: MIT
#include <plmscope/core/thread_pool.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <cstddef>
#include <mutex>
#include <numeric>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

using plmscope::thread_pool;
const std::vector<std::size_t> thread_counts{1, 2, 3, 7};

TEST_CASE("at least one thread") {
  CHECK(plmscope::available_threads() >= 1);
  CHECK(thread_pool(0).threads() == 1);
  CHECK(thread_pool(1).threads() == 1);
  CHECK(thread_pool(5).threads() == 5);
  CHECK(thread_pool().threads() == plmscope::available_threads());
}

TEST_CASE("every tile runs once") {
  for (const std::size_t threads : thread_counts) {
    thread_pool pool(threads);
    for (const std::size_t tiles : std::vector<std::size_t>{0, 1, 2, 6, 7, 8, 1000}) {
      std::vector<std::atomic<int>> runs(tiles);
      pool.run(tiles, [&](std::size_t i) { ++runs[i]; });
      std::size_t wrong = 0;
      for (const auto& r : runs) wrong += r != 1 ? 1U : 0U;
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("many small runs: results of one are seen by the next") {
  for (const std::size_t threads : thread_counts) {
    thread_pool pool(threads);
    std::vector<std::size_t> values(8, 0);
    for (std::size_t round = 0; round < 5000; ++round) {
      pool.run(values.size(), [&](std::size_t i) {
        if (values[i] != round) throw std::logic_error("a tile of an earlier round is missing");
        ++values[i];
      });
    }
    CHECK(values == std::vector<std::size_t>(8, 5000));
  }
}

TEST_CASE("the exception of the lowest throwing tile comes out; the other tiles still run") {
  for (const std::size_t threads : thread_counts) {
    INFO(threads, " threads");
    thread_pool pool(threads);
    for (int repeat = 0; repeat < 20; ++repeat) {
      std::atomic<std::size_t> ran = 0;
      std::string what;
      try {
        pool.run(100, [&](std::size_t i) {
          if (i == 7 || i == 8 || i == 93) throw std::runtime_error("tile " + std::to_string(i));
          ++ran;
        });
      } catch (const std::runtime_error& e) {
        what = e.what();
      }
      CHECK(what == "tile 7");
      CHECK(ran == 97);
    }
    // And the pool works on.
    std::atomic<std::size_t> sum = 0;
    pool.run(10, [&](std::size_t i) { sum += i; });
    CHECK(sum == 45);
  }
}

TEST_CASE("a single tile that throws") {
  for (const std::size_t threads : thread_counts) {
    thread_pool pool(threads);
    CHECK_THROWS_AS(pool.run(1, [](std::size_t) { throw std::runtime_error("x"); }),
                    std::runtime_error);
  }
}

TEST_CASE("a run inside a tile runs in place") {
  thread_pool pool(3);
  std::vector<std::atomic<int>> runs(20 * 30);
  std::atomic<int> elsewhere = 0;
  pool.run(20, [&](std::size_t i) {
    const auto here = std::this_thread::get_id();
    pool.run(30, [&](std::size_t j) {
      if (std::this_thread::get_id() != here) ++elsewhere;
      ++runs[i * 30 + j];
    });
  });
  std::size_t wrong = 0;
  for (const auto& r : runs) wrong += r != 1 ? 1U : 0U;
  CHECK(wrong == 0);
  CHECK(elsewhere == 0);
}

TEST_CASE("a throw inside a nested run reaches the caller") {
  thread_pool pool(2);
  CHECK_THROWS_WITH(pool.run(4,
                             [&](std::size_t i) {
                               pool.run(4, [&](std::size_t j) {
                                 if (i == 1 && j == 2) throw std::runtime_error("inner");
                               });
                             }),
                    "inner");
}

TEST_CASE("two callers take turns") {
  thread_pool pool(3);
  std::vector<long> sums(2, 0);
  const auto call = [&](std::size_t who) {
    for (int round = 0; round < 500; ++round) {
      std::vector<long> parts(9, 0);
      pool.run(9, [&](std::size_t i) { parts[i] = static_cast<long>(i) + 1; });
      sums[who] += std::accumulate(parts.begin(), parts.end(), 0L);
    }
  };
  std::thread other(call, 1);
  call(0);
  other.join();
  CHECK(sums == std::vector<long>{500 * 45, 500 * 45});
}

TEST_CASE("pools come and go") {
  std::atomic<int> tiles = 0;
  for (int i = 0; i < 200; ++i) {
    thread_pool pool(4);
    if (i % 2 == 0) pool.run(3, [&](std::size_t) { ++tiles; });
  }
  CHECK(tiles == 300);
}

}  // namespace
