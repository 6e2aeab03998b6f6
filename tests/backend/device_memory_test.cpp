// SPDX-License-Identifier: MIT
// Memory of a device: the pool under every buffer, and what a training step asks of it.
#include <tests/backend/everything.hpp>

#include <plmscope/backend/device/buffer.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <new>

namespace {

using namespace compare;

// A device with so much memory that remembers what it has given.
struct small_memory {
  std::map<void*, std::size_t>* blocks;
  std::size_t limit;

  void* allocate(std::size_t bytes) {
    std::size_t used = 0;
    for (const auto& [p, n] : *blocks) used += n;
    if (bytes > limit - used) throw std::bad_alloc();
    void* const p = ::operator new(bytes);
    blocks->emplace(p, bytes);
    return p;
  }
  void release(void* p) noexcept {
    blocks->erase(p);
    ::operator delete(p);
  }
};
using small_pool = plmscope::memory_pool<small_memory>;

TEST_CASE("memory_pool: sizes waste at most an eighth") {
  CHECK(small_pool::size_class(1) == 256);
  CHECK(small_pool::size_class(256) == 256);
  CHECK(small_pool::size_class(257) == 512);
  CHECK(small_pool::size_class(4096) == 4096);
  CHECK(small_pool::size_class(4097) == 4608);
  std::size_t wrong = 0;
  std::size_t last = 0;
  for (std::size_t n = 1; n < 200'000; n += 1 + n / 97) {
    const std::size_t size = small_pool::size_class(n);
    const bool good = size >= n && size >= last && size % 256 == 0 &&
                      size - n <= std::max<std::size_t>(255, n / 8) &&
                      small_pool::size_class(size) == size;
    wrong += good ? 0U : 1U;
    last = size;
  }
  CHECK(wrong == 0);
  CHECK_THROWS_AS(small_pool::size_class(std::numeric_limits<std::size_t>::max()), std::bad_alloc);
}

TEST_CASE("memory_pool: what is given back serves the next request of its size") {
  std::map<void*, std::size_t> blocks;
  {
    small_pool pool(small_memory{&blocks, 10'000});
    void* const a = pool.take(1000);
    void* const b = pool.take(1000);
    CHECK(a != b);
    CHECK(pool.allocations() == 2);
    pool.give_back(a, 1000);
    CHECK(pool.take(900) == a);  // the same class
    CHECK(pool.allocations() == 2);
    void* const larger = pool.take(2000);
    CHECK(pool.allocations() == 3);
    pool.give_back(larger, 2000);
    pool.give_back(a, 900);
    CHECK(blocks.size() == 3);
    pool.trim();
    CHECK(blocks.size() == 1);
    CHECK(blocks.contains(b));
    pool.give_back(b, 1000);
  }
  CHECK(blocks.empty());
}

TEST_CASE("memory_pool: where memory is short, what nobody uses goes first") {
  std::map<void*, std::size_t> blocks;
  small_pool pool(small_memory{&blocks, 8192});
  void* const kept = pool.take(1024);
  void* const idle = pool.take(4096);
  CHECK_THROWS_AS(pool.take(4096), std::bad_alloc);
  pool.give_back(idle, 4096);
  void* const large = pool.take(7168);
  CHECK(blocks.size() == 2);
  CHECK(blocks.contains(kept));
  CHECK(blocks.contains(large));
  CHECK_THROWS_AS(pool.take(256), std::bad_alloc);
  pool.give_back(large, 7168);
  pool.give_back(kept, 1024);
}

TEST_CASE("borrowed_memory: back to the pool, at an error too") {
  std::map<void*, std::size_t> blocks;
  small_pool pool(small_memory{&blocks, 10'000});
  void* first = nullptr;
  try {
    const plmscope::borrowed_memory one(pool, 1000);
    const plmscope::borrowed_memory other(pool, 1000);
    CHECK(one.as<void>() != other.as<void>());
    first = one.as<void>();
    throw 1;
  } catch (int) {
  }
  CHECK(pool.allocations() == 2);
  const plmscope::borrowed_memory again(pool, 1000);
  CHECK(again.as<void>() == first);
  CHECK(pool.allocations() == 2);
}

TEST_CASE("a step asks for memory once and never waits for the device") {
  for_each_device([]<class B>(B be) {
    using real = typename B::real;
    constexpr std::size_t m = 40;
    constexpr std::size_t d = 30;
    constexpr std::size_t features = 100;
    const auto x = filled(be, m, d, 1);
    const auto pre = filled(be, m, features, 2);
    const auto w = filled(be, features, d, 3);
    auto dictionary = filled(be, features, d, 4);
    codes<B> z;
    codes_by_feature<B> t;
    matrix<std::int64_t, B> since(be, 1, features);
    const auto step = [&] {
      z.clear(be, features);
      be.top_k_rows(const_view<B>(pre), 7, plmscope::by_value{}, z);
      matrix<real, B> g(be, m, d), dz(be, 1, z.entries()), figures(be, 3, m);
      be.reconstruct(z, dictionary, const_view<B>(), x, steady_loss{}, g, dz, figures);
      be.transpose(z, t);
      matrix<real, B> d_decoder(be, features, d), sums(be, 1, d);
      matrix<double, B> squares(be, 1, 1), factor(be, 1, 1);
      be.sparse_backward(t, const_view<B>(z.values(), z.entries()), dz, g, x, d_decoder.all(),
                         view<B>(), view<B>());
      be.project_rows(d_decoder, dictionary, real{0});
      be.add_sum_squares(d_decoder, squares);
      be.clip_factor(squares, 1.0, factor);
      be.column_sums(g, sums);
      be.gemm_nt(x, w, matrix<real, B>(be, m, features).all());
      be.axpy(real(-0.1), d_decoder, dictionary);
      be.normalize_rows(dictionary, real{0});
      be.count_fired(z, since, 1, real{0});
    };
    step();
    const std::size_t allocations = be.runtime().memory().allocations();
    const std::size_t waits = be.runtime().waits();
    for (int i = 0; i < 3; ++i) step();
    CHECK(be.runtime().memory().allocations() == allocations);
    CHECK(be.runtime().waits() == waits);
    CHECK(be.all_finite(dictionary));
    CHECK(be.runtime().waits() == waits + 1);
  });
}

}  // namespace
