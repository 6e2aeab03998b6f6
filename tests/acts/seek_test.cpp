// SPDX-License-Identifier: MIT
// Sources of rows after `seek`: the rows that come are those that would have come.
#include <plmscope/acts/activation_store_reader.hpp>
#include <plmscope/acts/mean_pooled.hpp>
#include <plmscope/acts/read_activations.hpp>
#include <plmscope/acts/store_rows.hpp>
#include <plmscope/plm/esm2.hpp>

#include "tests/acts/sample_store.hpp"
#include "tests/golden.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

using namespace plmscope;

namespace {

const std::vector<std::string> sequences{"MKTAYIAKQRQISFVKSHFSRQ", "ACDE", "",
                                         "WYVTSRQPNMLKIHGFEDCA", "GG"};

template <class Rows>
std::vector<float> next(Rows& rows, cpu& be, std::size_t n) {
  const auto v = rows.next(be, n);
  return {v.data(), v.data() + v.size()};
}

// Batches of `n` rows: after every one of them, a source that is made anew and one that stands
// somewhere else are brought to the same place and must deliver the same from there on.
template <class Make>
void check(const Make& make, std::size_t n, std::size_t batches = 30) {
  cpu be(2);
  auto whole = make();
  std::vector<std::vector<float>> want;
  std::vector<std::size_t> positions;
  for (std::size_t b = 0; b < batches; ++b) {
    positions.push_back(whole.position());
    want.push_back(next(whole, be, n));
  }
  positions.push_back(whole.position());
  want.push_back(next(whole, be, n));
  CHECK(positions.front() == 0);
  auto other = make();
  for (std::size_t b = 0; b <= batches; ++b) {
    CAPTURE(b);
    auto fresh = make();
    CHECK(fresh.identity() == whole.identity());
    fresh.seek(be, positions[b]);
    CHECK(fresh.position() == positions[b]);
    for (std::size_t i = b; i < std::min(b + 3, batches + 1); ++i)
      CHECK(next(fresh, be, n) == want[i]);
    const std::size_t back = (b * 7 + 3) % (batches + 1);
    other.seek(be, positions[back]);
    CHECK(next(other, be, n) == want[back]);
  }
}

// A reader that can only be read.
template <class Reader>
struct plain {
  Reader reader;
  activation_source source() const { return reader.source(); }
  std::size_t width() const { return reader.width(); }
  std::size_t total_rows() const { return reader.total_rows(); }
  void rewind(std::size_t epoch) { reader.rewind(epoch); }
  bool read(cpu& be, activation_batch<cpu>& out) { return reader.read(be, out); }
  std::string identity() const { return reader.identity(); }
};

template <class Reader>
auto shuffled(Reader reader, std::uint64_t seed, std::size_t capacity) {
  return shuffled_rows<Reader, cpu>(std::move(reader), seed, capacity);
}

}  // namespace

TEST_CASE("shuffled rows of a model go on anywhere") {
  auto esm =
      esm2<>::random({.layers = 1, .d_model = 16, .heads = 2, .feed_forward = 32}, 7, cpu(2));
  const auto reader = [&](std::size_t tokens) {
    return esm2_reader<>(esm, resid_post{0}, sequences, 3, tokens);
  };
  for (const std::size_t tokens : {1, 26, 27, 100}) {
    CAPTURE(tokens);
    for (const std::size_t capacity : {10, 13, 47, 48, 1000}) {  // 48 rows in all
      CAPTURE(capacity);
      check([&] { return shuffled(reader(tokens), 5, capacity); }, 5);
      check([&] { return shuffled(plain<esm2_reader<>>{reader(tokens)}, 5, capacity); }, 4, 15);
    }
    check([&] { return shuffled(mean_pooled<esm2_reader<>>(reader(tokens)), 5, 2); }, 1);
    check([&] { return shuffled(mean_pooled<esm2_reader<>>(reader(tokens)), 5, 9); }, 3);
  }
  // With and without `pass`, the same rows.
  cpu be(1);
  auto a = shuffled(reader(26), 5, 13);
  auto b = shuffled(plain<esm2_reader<>>{reader(26)}, 5, 13);
  for (int i = 0; i < 20; ++i) CHECK(next(a, be, 5) == next(b, be, 5));
}

TEST_CASE("rows of a store go on anywhere") {
  const golden::scratch_folder folder;
  sample::finish(folder / "s", sample::manifest(dtype::f32, 16));
  const auto store = activation_store::open(folder / "s");
  for (const std::size_t capacity : {20, 33, 78, 1000}) {  // 78 rows in all
    CAPTURE(capacity);
    check(
        [&] {
          return store_rows<>(store, "final_norm", 3, {.buffer_rows = capacity, .run_rows = 5});
        },
        7);
    for (const std::size_t batch : {1, 10, 1000}) {
      check(
          [&] {
            return shuffled(activation_store_reader<>(store, "final_norm", 3, batch), 5, capacity);
          },
          7);
    }
  }
}

TEST_CASE("an identity tells apart what delivers other rows") {
  auto esm =
      esm2<>::random({.layers = 1, .d_model = 16, .heads = 2, .feed_forward = 32}, 7, cpu(1));
  auto changed = sequences;
  changed[1] = "ACDF";
  auto split = sequences;  // the same letters, cut elsewhere
  split[1] += split[3].front();
  split[3].erase(0, 1);
  const auto text = [&](const std::vector<std::string>& list, site at, std::uint64_t seed,
                        std::size_t tokens, std::uint64_t shuffle, std::size_t capacity) {
    return shuffled(esm2_reader<>(esm, at, list, seed, tokens), shuffle, capacity).identity();
  };
  std::vector<std::string> all{
      text(sequences, resid_post{0}, 1, 30, 1, 20), text(changed, resid_post{0}, 1, 30, 1, 20),
      text(split, resid_post{0}, 1, 30, 1, 20),     text(sequences, embeddings{}, 1, 30, 1, 20),
      text(sequences, resid_post{0}, 2, 30, 1, 20), text(sequences, resid_post{0}, 1, 31, 1, 20),
      text(sequences, resid_post{0}, 1, 30, 2, 20), text(sequences, resid_post{0}, 1, 30, 1, 21)};
  const golden::scratch_folder folder;
  sample::finish(folder / "s", sample::manifest(dtype::f32, 16));
  sample::finish(folder / "t", sample::manifest(dtype::bf16, 16));
  sample::finish(folder / "part", sample::manifest(dtype::f32, 16), {0, 7});
  for (const char* name : {"s", "t", "part"}) {
    const auto store = activation_store::open(folder / name, {.allow_partial = true});
    all.push_back(activation_store_reader<>(store, "final_norm", 3, 10).identity());
    all.push_back(store_rows<>(store, "final_norm", 3, {.buffer_rows = 20}).identity());
  }
  const auto store = activation_store::open(folder / "s");
  all.push_back(activation_store_reader<>(store, "final_norm", 4, 10).identity());
  all.push_back(activation_store_reader<>(store, "final_norm", 3, 11).identity());
  all.push_back(activation_store_reader<>(store, "resid_post.1", 3, 10).identity());
  all.push_back(store_rows<>(store, "final_norm", 4, {.buffer_rows = 20}).identity());
  all.push_back(
      store_rows<>(store, "final_norm", 3, {.buffer_rows = 20, .run_rows = 5}).identity());
  all.push_back(
      store_rows<>(store, "final_norm", 3, {.buffer_rows = 40, .run_rows = 5}).identity());
  for (std::size_t i = 0; i < all.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      CAPTURE(all[i]);
      CHECK(all[i] != all[j]);
    }
  }
}
