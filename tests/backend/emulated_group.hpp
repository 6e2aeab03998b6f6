// SPDX-License-Identifier: MIT
#pragma once

#include <tests/backend/fibers.hpp>

#include <plmscope/backend/device/group.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <source_location>
#include <stdexcept>

namespace emulation {

/// What a kernel sees (backend/device/group.hpp).
class group {
 public:
  group(block_fibers* block, std::size_t index, unsigned rank, unsigned char* shared,
        std::size_t shared_bytes, unsigned char* slots)
      : block_(block),
        index_(index),
        rank_(rank),
        shared_(shared),
        left_(shared_bytes),
        slots_(slots) {}

  std::size_t index() const noexcept { return index_; }
  unsigned rank() const noexcept { return rank_; }
  unsigned size() const noexcept { return block_ == nullptr ? 1 : block_->size(); }
  unsigned lanes() const noexcept { return block_ == nullptr ? 1 : block_->lanes(); }
  unsigned lane() const noexcept { return rank_ % lanes(); }
  unsigned team() const noexcept { return rank_ / lanes(); }
  unsigned teams() const noexcept { return size() / lanes(); }
  static constexpr std::size_t slot_bytes = 48;

  /// The line of a kernel that waits.
  using place = std::source_location;

  void sync(place at = place::current()) { wait(false, at, 0); }
  template <class T>
  T sum(T v, place at = place::current()) {
    return combine(v, 0, size(), false, at);
  }
  template <class T>
  T team_sum(T v, place at = place::current()) {
    return combine(v, team() * lanes(), lanes(), true, at);
  }
  template <class T>
  T team_from(T v, unsigned lane, place at = place::current()) {
    if (lane >= lanes()) throw std::logic_error("a kernel asks for a lane that its team has not");
    put(v);
    wait(true, at, 0);
    const T got = get<T>(team() * lanes() + lane);
    wait(true, at, 1);
    return got;
  }
  /// c += a b with every entry of the tiles fetched from the lane that the layout names.
  void team_product(const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], float (&c)[4],
                    place at = place::current()) {
    if (lanes() != 32) throw std::logic_error("tiles are multiplied by teams of 32");
    held mine;
    for (unsigned i = 0; i < 8; ++i) mine[i] = half(a[i / 2], i % 2);
    for (unsigned i = 0; i < 4; ++i) mine[8 + i] = half(b[i / 2], i % 2);
    put(mine);
    wait(true, at, 0);
    float left[2][16];   // rows lane / 4 and lane / 4 + 8 of a
    float right[2][16];  // columns lane % 4 * 2 and the next of b
    for (unsigned k = 0; k < 16; ++k) {
      const unsigned holder = k % 8 / 2;
      for (unsigned n = 0; n < 2; ++n) {
        left[n][k] = part_of_tile(lane() / 4 * 4 + holder, k / 8 * 4 + n * 2 + k % 2);
        right[n][k] = part_of_tile((lane() % 4 * 2 + n) * 4 + holder, 8 + k / 8 * 2 + k % 2);
      }
    }
    for (unsigned i = 0; i < 4; ++i) {
      for (unsigned k = 0; k < 16; ++k) c[i] += left[i / 2][k] * right[i % 2][k];
    }
    wait(true, at, 1);
  }
  unsigned before(unsigned n, unsigned& total, place at = place::current()) {
    put(n);
    wait(false, at, 0);
    unsigned lower = 0;
    total = 0;
    for (unsigned i = 0; i < size(); ++i) {
      lower += i < rank_ ? get<unsigned>(i) : 0;
      total += get<unsigned>(i);
    }
    wait(false, at, 1);
    return lower;
  }
  template <class T>
  T team_before(T n, T& total, place at = place::current()) {
    const unsigned first = team() * lanes();
    put(n);
    wait(true, at, 0);
    T lower{0};
    total = T{0};
    for (unsigned i = first; i < first + lanes(); ++i) {
      if (i < rank_) lower += get<T>(i);
      total += get<T>(i);
    }
    wait(true, at, 1);
    return lower;
  }
  /// Waits for the team, which a GPU need not, so that a thread of it that does not come shows.
  void tally(unsigned* bins, unsigned bin, bool counts, place at = place::current()) {
    wait(true, at, 0);
    if (counts) ++bins[bin];
  }
  void add(std::uint64_t* p, std::uint64_t n) { *p += n; }
  template <class T>
  T* shared(std::size_t n) {
    const std::size_t bytes = n * sizeof(T);
    if (bytes > left_)
      throw std::logic_error("a kernel takes more shared memory than it asked for");
    T* const p = reinterpret_cast<T*>(shared_);
    shared_ += bytes;
    left_ -= bytes;
    return p;
  }

 private:
  using held = std::array<float, 12>;  ///< a lane's part of two tiles: a0 .. a7, b0 .. b3
  static_assert(sizeof(held) == slot_bytes);

  /// The low or the high half of a word as a number.
  static float half(std::uint32_t word, unsigned which) {
    word = which == 0 ? word << 16 : word >> 16 << 16;
    float v;
    std::memcpy(&v, &word, sizeof v);
    return v;
  }
  /// The nth number that a lane of this team has put.
  float part_of_tile(unsigned lane, unsigned nth) const {
    float v;
    std::memcpy(&v, slots_ + (team() * 32 + lane) * slot_bytes + nth * sizeof v, sizeof v);
    return v;
  }

  void wait(bool team, const place& at, unsigned nth) {
    if (block_ == nullptr)
      throw std::logic_error("a kernel that calls itself not cooperative waits");
    block_->wait(team, 2 * at.line() + nth);
  }
  template <class T>
  void put(T v) {
    std::memcpy(slots_ + rank_ * slot_bytes, &v, sizeof v);
  }
  template <class T>
  T get(unsigned i) const {
    T v;
    std::memcpy(&v, slots_ + i * slot_bytes, sizeof v);
    return v;
  }
  template <class T>
  T combine(T v, unsigned first, unsigned n, bool team, const place& at) {
    put(v);
    wait(team, at, 0);
    T total{0};
    for (unsigned i = 0; i < n; ++i) total += get<T>(first + i);
    wait(team, at, 1);
    return total;
  }

  block_fibers* block_;
  std::size_t index_;
  unsigned rank_;
  unsigned char* shared_;
  std::size_t left_;
  unsigned char* slots_;
};

}  // namespace emulation
