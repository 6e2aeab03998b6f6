// SPDX-License-Identifier: MIT
#pragma once

#include <tests/backend/emulated_group.hpp>
#include <tests/backend/fibers.hpp>

#include <plmscope/backend/device.hpp>
#include <plmscope/backend/bfloat16.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <numeric>
#include <source_location>
#include <stdexcept>
#include <string_view>
#include <vector>

// A device made of a processor: the runtime under `basic_device`, so that every kernel of the CUDA
// backend runs, thread by thread, where there is no GPU. Fresh and shared memory is filled with
// rubbish; shared memory beyond what was asked for, threads that miss a wait, and waits of the host
// are noticed.
namespace emulation {

/// Memory with rubbish in it.
struct rubbish_memory {
  void* allocate(std::size_t bytes) {
    void* const p = std::malloc(bytes);
    if (p == nullptr) throw std::bad_alloc();
    std::memset(p, 0xA5, bytes);
    return p;
  }
  void release(void* p) noexcept { std::free(p); }
};

template <unsigned Threads, unsigned Lanes>
class runtime {
 public:
  static constexpr std::string_view id = "emulated";
  static constexpr unsigned lanes = Lanes;
  static constexpr std::string_view products_name() noexcept { return "loops"; }
  template <class Kernel>
  static constexpr unsigned threads_per_block() noexcept {
    return Threads;
  }

  explicit runtime(int) {}

  plmscope::memory_pool<rubbish_memory>& memory() noexcept { return memory_; }
  std::size_t waits() const noexcept { return waits_; }
  /// How many numbers were read, and the fewest kernels and products that were queued between
  /// sending and reading one: with 0 the device stands still meanwhile.
  std::size_t receipts() const noexcept { return receipts_; }
  std::size_t head_start() const noexcept { return head_start_; }
  std::size_t launches() const noexcept { return launches_; }
  /// In which order the threads of a block move; blocks come in descending order with `descending`.
  order schedule = order::ascending;

  void clear(void* to, std::size_t bytes) {
    if (bytes > 0) std::memset(to, 0, bytes);
  }
  void* stage(std::size_t bytes) {
    staged_.resize(bytes);
    return staged_.data();
  }
  void to_device(const void* from, void* to, std::size_t rows, std::size_t width,
                 std::size_t stride) {
    for (std::size_t r = 0; r < rows && width > 0; ++r) {
      std::memcpy(static_cast<char*>(to) + r * stride, static_cast<const char*>(from) + r * width,
                  width);
    }
  }
  void to_host(const void* from, void* to, std::size_t rows, std::size_t width,
               std::size_t stride) {
    ++waits_;
    for (std::size_t r = 0; r < rows; ++r) {
      std::memcpy(static_cast<char*>(to) + r * width, static_cast<const char*>(from) + r * stride,
                  width);
    }
  }
  void wait() { ++waits_; }
  std::uint64_t available_bytes() const { return 0; }
  /// Most shared memory of a block; any device has 48 KB.
  std::size_t shared_bytes() const noexcept { return shared_limit; }
  std::size_t shared_limit = 96 * 1024;
  /// How often the blocks of all launches waited.
  std::size_t block_waits() const noexcept { return fibers_.block_waits(); }

  template <class Kernel>
  void launch(std::size_t blocks, std::size_t shared_bytes, const Kernel& kernel) {
    ++launches_;
    constexpr bool cooperative = [] {
      if constexpr (requires { Kernel::cooperative; }) {
        return Kernel::cooperative;
      } else {
        return true;
      }
    }();
    if constexpr (!cooperative) {
      for (std::size_t n = 0; n < blocks; ++n) {
        group g(nullptr, nth_block(n, blocks), 0, nullptr, 0, nullptr);
        kernel(g);
      }
    } else {
      if (shared_bytes > std::max<std::size_t>(shared_limit, 48 * 1024)) {
        throw std::logic_error("a kernel asks for more shared memory than there is");
      }
      shared_.resize(shared_bytes);
      for (std::size_t n = 0; n < blocks; ++n) {
        const std::size_t b = nth_block(n, blocks);
        std::fill(shared_.begin(), shared_.end(), static_cast<unsigned char>(0x5A));
        fibers_.run(
            [&](unsigned rank) {
              group g(&fibers_, b, rank, shared_.data(), shared_bytes, slots_.data());
              kernel(g);
            },
            schedule);
      }
    }
  }

  void running_sum(std::int64_t* x, std::size_t n) { std::partial_sum(x, x + n, x); }
  /// Sorts keys and leaves in `positions` where each came from; equal keys keep their order.
  void sort_with_positions(std::uint32_t* keys, std::uint32_t* positions, std::size_t n,
                           std::size_t) {
    std::iota(positions, positions + n, 0u);
    std::stable_sort(positions, positions + n,
                     [&](std::uint32_t a, std::uint32_t b) { return keys[a] < keys[b]; });
    std::vector<std::uint32_t> sorted(n);
    for (std::size_t i = 0; i < n; ++i) sorted[i] = keys[positions[i]];
    std::copy(sorted.begin(), sorted.end(), keys);
  }
  /// Numbers on their way to the host. Nobody may read one whose place is used again.
  std::size_t send(const std::int64_t* from) {
    std::size_t i = 0;
    while (i < letters_.size() && letters_[i].taken) ++i;
    if (i == letters_.size()) letters_.emplace_back();
    letters_[i] = {*from, launches_ + products_, true};
    return i;
  }
  std::int64_t receive(std::size_t ticket) {
    const letter& l = letters_.at(ticket);
    if (!l.taken) throw std::logic_error("a number is read that was not sent");
    ++receipts_;
    head_start_ = std::min(head_start_, launches_ + products_ - l.sent_after);
    return l.number;
  }
  void drop(std::size_t ticket) noexcept { letters_[ticket].taken = false; }

  /// Weights as they are.
  template <class Real>
  class packed {
   public:
    packed() = default;
    packed(const std::shared_ptr<runtime>& run, const Real* w, std::size_t n, std::size_t k,
           std::size_t stride, plmscope::product_precision precision)
        : weights_(run, n * k), n_(n), k_(k), precision_(precision) {
      for (std::size_t r = 0; r < n; ++r) std::copy_n(w + r * stride, k, weights_.get() + r * k);
    }
    std::size_t rows() const noexcept { return n_; }
    std::size_t cols() const noexcept { return k_; }
    const Real* data() const noexcept { return weights_.get(); }

    plmscope::product_precision precision() const noexcept { return precision_; }

   private:
    plmscope::device_buffer<Real, runtime> weights_;
    std::size_t n_ = 0;
    std::size_t k_ = 0;
    plmscope::product_precision precision_ = plmscope::product_precision::fp32;
  };
  template <class C, class Real, class V>
  void product(C x, const packed<Real>& w, V out, Real beta) {
    product_nt(x, C(w.data(), w.rows(), w.cols()), out, beta, w.precision());
  }
  template <class Real, class V>
  void unpack(const packed<Real>& w, V out) {
    for (std::size_t r = 0; r < w.rows(); ++r) {
      std::copy_n(w.data() + r * w.cols(), w.cols(), out.row_data(r));
    }
  }
  template <class C, class V, class Real>
  void product_nt(C a, C b, V c, Real beta, plmscope::product_precision p) {
    multiply(
        c, a.cols(), [=](std::size_t i, std::size_t l) { return a.row_data(i)[l]; },
        [=](std::size_t l, std::size_t j) { return b.row_data(j)[l]; }, beta, p);
  }
  template <class C, class V, class Real>
  void product_nn(C a, C b, V c, Real beta, plmscope::product_precision p) {
    multiply(
        c, a.cols(), [=](std::size_t i, std::size_t l) { return a.row_data(i)[l]; },
        [=](std::size_t l, std::size_t j) { return b.row_data(l)[j]; }, beta, p);
  }
  template <class C, class V, class Real>
  void product_tn(C a, C b, V c, Real beta, plmscope::product_precision p) {
    multiply(
        c, a.rows(), [=](std::size_t i, std::size_t l) { return a.row_data(l)[i]; },
        [=](std::size_t l, std::size_t j) { return b.row_data(l)[j]; }, beta, p);
  }

 private:
  std::size_t nth_block(std::size_t n, std::size_t blocks) const noexcept {
    return schedule == order::descending ? blocks - 1 - n : n;
  }

  template <class V, class A, class B, class Real>
  void multiply(V c, std::size_t k, const A& a, const B& b, Real beta,
                       plmscope::product_precision precision) {
    ++products_;
    const bool rounds = precision == plmscope::product_precision::bf16;
    for (std::size_t i = 0; i < c.rows(); ++i) {
      for (std::size_t j = 0; j < c.cols(); ++j) {
        Real sum = 0;
        for (std::size_t l = 0; l < k; ++l) {
          sum += rounds ? rounded(a(i, l)) * rounded(b(l, j)) : a(i, l) * b(l, j);
        }
        Real& out = c.row_data(i)[j];
        out = beta == Real{0} ? sum : sum + beta * out;
      }
    }
  }

  /// As a number of the tensor cores; doubles stay as they are.
  static double rounded(double v) { return v; }
  static float rounded(float v) {
    const auto bits = static_cast<std::uint32_t>(plmscope::device_kernels::to_bfloat16(v)) << 16;
    float out;
    std::memcpy(&out, &bits, sizeof out);
    return out;
  }

  plmscope::memory_pool<rubbish_memory> memory_{rubbish_memory{}};
  block_fibers fibers_{Threads, Lanes};
  std::vector<unsigned char> shared_;
  std::vector<unsigned char> slots_ = std::vector<unsigned char>(group::slot_bytes * Threads);
  std::vector<unsigned char> staged_;
  struct letter {
    std::int64_t number = 0;
    std::size_t sent_after = 0;
    bool taken = false;
  };
  std::vector<letter> letters_;
  std::size_t waits_ = 0;
  std::size_t receipts_ = 0;
  std::size_t head_start_ = ~std::size_t{0};
  std::size_t launches_ = 0;
  std::size_t products_ = 0;
};

/// Sixteen threads a block, teams of four.
using device = plmscope::basic_device<float, runtime<16, 4>>;
using device_in_double = plmscope::basic_device<double, runtime<6, 2>>;
/// Teams as wide as those of a GPU, two in a block.
using device_with_tiles = plmscope::basic_device<float, runtime<64, 32>>;

}  // namespace emulation
