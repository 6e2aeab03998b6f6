// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif

namespace plmscope::inline PLMSCOPE_ABI {

/// Processors this process may use (its affinity mask, not the machine's count). At least 1.
inline std::size_t available_threads() noexcept {
#if defined(__linux__)
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    if (const int n = CPU_COUNT(&set); n > 0) return static_cast<std::size_t>(n);
  }
#endif
  const unsigned n = std::thread::hardware_concurrency();
  return n == 0 ? 1 : n;
}

/// Runs numbered tiles of work on a fixed set of threads. What a tile computes must depend on its
/// number alone; then results are the same bits for any number of threads, because only the
/// assignment of tiles to threads varies. The calling thread works too. A call from inside a tile
/// runs in place. Calls from several threads take turns.
class thread_pool {
 public:
  explicit thread_pool(std::size_t threads = available_threads()) {
    try {
      for (std::size_t i = 1; i < threads; ++i) workers_.emplace_back([this] { work(); });
    } catch (const std::system_error&) {
      // As many as the system gives; results do not depend on it.
    }
  }
  thread_pool(const thread_pool&) = delete;
  thread_pool& operator=(const thread_pool&) = delete;
  ~thread_pool() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (auto& w : workers_) w.join();
  }

  std::size_t threads() const noexcept { return workers_.size() + 1; }

  /// Calls `tile(i)` for every i in [0, tiles), each once, and returns when all are done. An
  /// exception of the lowest throwing tile is rethrown; the other tiles still run.
  template <class Tile>
  void run(std::size_t tiles, const Tile& tile) {
    if (tiles == 0) return;
    if (tiles == 1) return tile(0);
    if (workers_.empty() || inside_) return run_here(tiles, tile);
    const std::lock_guard turn(turn_);
    call_ = [](const void* f, std::size_t i) { (*static_cast<const Tile*>(f))(i); };
    {
      const std::lock_guard lock(mutex_);
      function_ = &tile;
      tiles_ = tiles;
      next_ = 0;
      busy_ = workers_.size();
      failed_tile_ = tiles;
      failure_ = nullptr;
      ++round_;
    }
    wake_.notify_all();
    drain();
    std::unique_lock lock(mutex_);
    done_.wait(lock, [&] { return busy_ == 0; });
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  template <class Tile>
  static void run_here(std::size_t tiles, const Tile& tile) {
    std::exception_ptr failure;
    for (std::size_t i = 0; i < tiles; ++i) {
      try {
        tile(i);
      } catch (...) {
        if (!failure) failure = std::current_exception();
      }
    }
    if (failure) std::rethrow_exception(failure);
  }

  void work() {
    std::uint64_t seen = 0;
    for (;;) {
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return stop_ || round_ != seen; });
        if (stop_) return;
        seen = round_;
      }
      drain();
      const std::lock_guard lock(mutex_);
      if (--busy_ == 0) done_.notify_one();
    }
  }

  void drain() {
    inside_ = true;
    for (std::size_t i; (i = next_.fetch_add(1)) < tiles_;) {
      try {
        call_(function_, i);
      } catch (...) {
        const std::lock_guard lock(mutex_);
        if (i < failed_tile_) {
          failed_tile_ = i;
          failure_ = std::current_exception();
        }
      }
    }
    inside_ = false;
  }

  static inline thread_local bool inside_ = false;

  std::vector<std::thread> workers_;
  std::mutex turn_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable done_;
  void (*call_)(const void*, std::size_t) = nullptr;
  const void* function_ = nullptr;
  std::size_t tiles_ = 0;
  std::atomic<std::size_t> next_ = 0;
  std::size_t busy_ = 0;
  std::size_t failed_tile_ = 0;
  std::exception_ptr failure_;
  std::uint64_t round_ = 0;
  bool stop_ = false;
};

}  // namespace plmscope
