// SPDX-License-Identifier: MIT
#include <plmscope/acts/store_rows.hpp>
#include <plmscope/backend/reference.hpp>

#include "tests/acts/sample_store.hpp"
#include "tests/golden.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>
#include <vector>

using namespace plmscope;

namespace {

std::vector<std::vector<float>> take(store_rows<>& rows, cpu& be, std::size_t total,
                                     std::size_t batch) {
  std::vector<std::vector<float>> out;
  while (out.size() < total) {
    const auto v = rows.next(be, std::min(batch, total - out.size()));
    for (std::size_t r = 0; r < v.rows(); ++r) out.emplace_back(v.row(r).begin(), v.row(r).end());
  }
  return out;
}

}  // namespace

TEST_CASE("every row once an epoch, in another order every epoch, as the seed says") {
  cpu be(2);
  const golden::scratch_folder folder;
  const auto m = sample::manifest();
  sample::finish(folder / "s", m);
  const auto store = activation_store::open(folder / "s");
  std::vector<float> numbers(78 * 6);
  store.read(0, 0, numbers);
  std::multiset<std::vector<float>> all;
  for (std::size_t r = 0; r < 78; ++r)
    all.emplace(numbers.data() + r * 6, numbers.data() + r * 6 + 6);
  for (const std::size_t buffer :
       {std::size_t{1}, std::size_t{20}, std::size_t{33}, std::size_t{1000}}) {
    for (const std::size_t run :
         {std::size_t{1}, std::size_t{5}, std::size_t{16}, std::size_t{500}}) {
      const store_rows_options options{.buffer_rows = buffer, .run_rows = run};
      store_rows<> rows(store, "resid_post.1", 4, options);
      CHECK(rows.total_rows() == 78);
      std::vector<std::vector<std::vector<float>>> epochs;
      for (int e = 0; e < 3; ++e) {
        epochs.push_back(take(rows, be, 78, 10));
        CHECK(std::multiset<std::vector<float>>(epochs.back().begin(), epochs.back().end()) == all);
      }
      CHECK(epochs[0] != epochs[1]);
      CHECK(epochs[1] != epochs[2]);
      // The same for other batch sizes, and not for another seed.
      store_rows<> again(store, "resid_post.1", 4, options);
      CHECK(take(again, be, 78, 7) == epochs[0]);
      CHECK(take(again, be, 78, 78) == epochs[1]);
      store_rows<> other(store, "resid_post.1", 5, options);
      CHECK(take(other, be, 78, 7) != epochs[0]);
      // From anywhere.
      for (const std::size_t at : {std::size_t{0}, std::size_t{1}, std::size_t{41}, std::size_t{78},
                                   std::size_t{130}, std::size_t{156}}) {
        store_rows<> later(store, "resid_post.1", 4, options);
        later.seek(be, at);
        CHECK(later.position() == at);
        const auto tail = take(later, be, 3 * 78 - at, 9);
        std::vector<std::vector<float>> want;
        for (const auto& e : epochs) want.insert(want.end(), e.begin(), e.end());
        CHECK(std::equal(tail.begin(), tail.end(), want.begin() + static_cast<std::ptrdiff_t>(at)));
      }
    }
  }
}

TEST_CASE("rows of all shards mix in one batch") {
  cpu be(1);
  const golden::scratch_folder folder;
  sample::finish(folder / "s", sample::manifest(dtype::f32, 16));
  const auto store = activation_store::open(folder / "s");
  std::vector<std::set<float>> first_numbers;
  for (const auto& shard : store.shards()) {
    std::vector<float> numbers(shard.rows() * 6);
    shard.read(0, 0, numbers);
    first_numbers.emplace_back();
    for (std::size_t r = 0; r < shard.rows(); ++r) first_numbers.back().insert(numbers[r * 6]);
  }
  store_rows<> rows(store, "resid_post.1", 1, {.buffer_rows = 60, .run_rows = 3});
  std::set<std::size_t> seen;
  for (const auto& row : take(rows, be, 20, 20)) {
    for (std::size_t s = 0; s < first_numbers.size(); ++s) {
      if (first_numbers[s].contains(row[0])) seen.insert(s);
    }
  }
  CHECK(seen.size() == 4);
}

TEST_CASE("rows for other backends, and batches larger than the store") {
  const golden::scratch_folder folder;
  sample::finish(folder / "s", sample::manifest(dtype::bf16));
  const auto store = activation_store::open(folder / "s");
  cpu host(1);
  reference exact;
  store_rows<> a(store, "final_norm", 2, {.buffer_rows = 30, .run_rows = 4});
  store_rows<reference> b(store, "final_norm", 2, {.buffer_rows = 30, .run_rows = 4});
  for (int i = 0; i < 10; ++i) {
    const auto x = a.next(host, 13);
    const auto y = b.next(exact, 13);
    for (std::size_t j = 0; j < 13 * 5; ++j) CHECK(static_cast<double>(x.data()[j]) == y.data()[j]);
  }
  CHECK(a.next(host, 1000).rows() == 78);
}
