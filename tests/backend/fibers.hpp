// SPDX-License-Identifier: MIT
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

// The threads of one block, as fibers of one processor thread: they run one after another and
// change over only where a kernel waits for its fellows. A kernel that forgets to wait reads what
// has not been written yet, in one order of the fibers or the other. A team whose threads wait for
// each other only runs on, far ahead of the other teams.
namespace emulation {

enum class order { ascending, descending, inside_out };

class block_fibers {
 public:
  block_fibers(unsigned threads, unsigned lanes) : lanes_(lanes), fibers_(threads) {
    for (auto& f : fibers_) f.stack.resize(stack_bytes);
  }
  block_fibers(const block_fibers&) = delete;
  block_fibers& operator=(const block_fibers&) = delete;

  unsigned size() const noexcept { return static_cast<unsigned>(fibers_.size()); }
  unsigned lanes() const noexcept { return lanes_; }

  /// Runs body(rank) in every fiber to its end.
  void run(const std::function<void(unsigned)>& body, order o) {
    body_ = &body;
    for (auto& f : fibers_) f.state = phase::ready;
    while (true) {
      bool moved = false;
      const unsigned teams = size() / lanes_;
      for (unsigned n = 0; n < teams; ++n) moved = run_team(pick(n, teams, o), o) || moved;
      if (let_go(0, size(), phase::at_block)) {
        ++block_waits_;
        continue;
      }
      if (done()) return;
      if (!moved) give_up("some threads of a block wait for others that do not come");
    }
  }

  /// Called from a fiber: waits until the whole block, or its team, has come to the same `place`.
  void wait(bool team, unsigned place) {
    fiber& f = fibers_[current_];
    f.state = team ? phase::at_team : phase::at_block;
    f.place = place;
    leave(f);
  }
  unsigned current() const noexcept { return current_; }
  /// How often a whole block has waited.
  std::size_t block_waits() const noexcept { return block_waits_; }

 private:
  enum class phase { ready, at_block, at_team, ended };
  struct fiber {
    ucontext_t context;
    std::vector<unsigned char> stack;
    phase state = phase::ended;
    unsigned place = 0;
    bool begun = false;
    jmp_buf here;
  };
  static constexpr std::size_t stack_bytes = 128 * 1024;

  // A fiber lives as long as the block and runs one body after the other. It is entered the first
  // time through ucontext; from then on _setjmp and _longjmp change over without a system call.
  static void entry(unsigned low, unsigned high) {
    auto* self = reinterpret_cast<block_fibers*>(static_cast<std::uintptr_t>(low) |
                                                 static_cast<std::uintptr_t>(high) << 32);
    const unsigned i = self->current_;
    while (true) {
      try {
        (*self->body_)(i);
      } catch (...) {
        self->failure_ = std::current_exception();
        forget_frames(self->fibers_[i]);
      }
      self->fibers_[i].state = phase::ended;
      self->leave(self->fibers_[i]);
    }
  }
  void enter(unsigned i) {
    fiber& f = fibers_[i];
    current_ = i;
    if (_setjmp(scheduler_) != 0) return;
    if (f.begun) _longjmp(f.here, 1);
    f.begun = true;
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack.data();
    f.context.uc_stack.ss_size = f.stack.size();
    f.context.uc_link = nullptr;
    const auto self = reinterpret_cast<std::uintptr_t>(this);
    makecontext(&f.context, reinterpret_cast<void (*)()>(&block_fibers::entry), 2,
                static_cast<unsigned>(self & 0xffffffffu), static_cast<unsigned>(self >> 32));
    setcontext(&f.context);
  }
  void leave(fiber& f) {
    if (_setjmp(f.here) == 0) _longjmp(scheduler_, 1);
  }
  /// The address sanitizer does not see frames end that never return, nor, on a stack that it does
  /// not know, those that an exception leaves.
  static void forget_frames([[maybe_unused]] fiber& f) noexcept {
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(f.stack.data(), f.stack.size());
#endif
  }
  /// Fibers that wait in the middle of a kernel start afresh with the next one.
  [[noreturn]] void give_up(std::exception_ptr what) {
    for (auto& f : fibers_) {
      f.begun = f.begun && f.state == phase::ended;
      forget_frames(f);
    }
    std::rethrow_exception(what);
  }
  [[noreturn]] void give_up(const char* what) {
    give_up(std::make_exception_ptr(std::logic_error(what)));
  }

  /// The n-th of `count` in an order.
  static unsigned pick(unsigned n, unsigned count, order o) noexcept {
    if (o == order::ascending) return n;
    if (o == order::descending) return count - 1 - n;
    return n % 2 == 0 ? count / 2 + n / 2 : count / 2 - 1 - n / 2;
  }

  /// Moves the threads of a team on until they wait for the block or have ended; whether any moved.
  bool run_team(unsigned team, order o) {
    const unsigned first = team * lanes_;
    bool moved = false;
    do {
      for (unsigned n = 0; n < lanes_; ++n) {
        const unsigned i = first + pick(n, lanes_, o);
        if (fibers_[i].state != phase::ready) continue;
        moved = true;
        enter(i);
        if (failure_) give_up(std::exchange(failure_, nullptr));
      }
    } while (let_go(first, first + lanes_, phase::at_team));
    return moved;
  }

  /// Lets threads [first, end) go on if all of them wait.
  bool let_go(unsigned first, unsigned end, phase waiting) {
    for (unsigned i = first; i < end; ++i) {
      if (fibers_[i].state != waiting) return false;
      if (fibers_[i].place != fibers_[first].place) {
        give_up("threads of a block wait in different places of a kernel");
      }
    }
    for (unsigned i = first; i < end; ++i) fibers_[i].state = phase::ready;
    return true;
  }
  bool done() const noexcept {
    for (const fiber& f : fibers_) {
      if (f.state != phase::ended) return false;
    }
    return true;
  }

  unsigned lanes_;
  std::vector<fiber> fibers_;
  jmp_buf scheduler_;
  const std::function<void(unsigned)>* body_ = nullptr;
  std::exception_ptr failure_;
  unsigned current_ = 0;
  std::size_t block_waits_ = 0;
};

}  // namespace emulation
