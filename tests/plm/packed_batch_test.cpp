// SPDX-License-Identifier: MIT
#include <plmscope/plm/packed_batch.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace {

using plmscope::packed_batch;

std::string id_of_error(packed_batch& batch, const std::vector<std::int32_t>& tokens) {
  try {
    batch.add(std::span<const std::int32_t>(tokens));
  } catch (const plmscope::error& e) {
    return std::string(e.id());
  }
  return "no error";
}

template <class T>
std::vector<T> copy_of(std::span<const T> s) {
  return {s.begin(), s.end()};
}

}  // namespace

TEST_CASE("sequences stand back to back, positions restart") {
  packed_batch batch;
  CHECK(batch.empty());
  batch.add("MK");
  batch.add("");
  batch.add("A");
  CHECK(batch.sequences() == 3);
  CHECK(batch.rows() == 9);
  CHECK(copy_of(batch.tokens()) == std::vector<std::int32_t>{0, 20, 15, 2, 0, 2, 0, 5, 2});
  CHECK(copy_of(batch.positions()) == std::vector<std::int32_t>{0, 1, 2, 3, 0, 1, 0, 1, 2});
  CHECK(copy_of(batch.offsets()) == std::vector<std::int64_t>{0, 4, 6, 9});
  CHECK(batch.first_row(2) == 6);
  CHECK(batch.length(1) == 2);
  batch.clear();
  CHECK(batch.empty());
  CHECK(batch.rows() == 0);
  batch.add("A");
  CHECK(copy_of(batch.offsets()) == std::vector<std::int64_t>{0, 3});
}

TEST_CASE("scales of embeddings: 0.88 / (1 - masked), masked rows zero, per sequence") {
  packed_batch batch;
  batch.add("AAA");
  batch.add("A<mask>A<mask>AA");
  std::vector<float> s(8, -1);
  batch.embedding_scales(0, std::span<float>(s));
  for (std::size_t i = 0; i < 5; ++i) CHECK(s[i] == 0.88f);
  batch.embedding_scales(1, std::span<float>(s));
  const float expected = 0.88f / (1.0f - 2.0f / 8.0f);
  CHECK(s == std::vector<float>{expected, expected, 0, expected, 0, expected, expected, expected});
  std::vector<double> wide(8);
  batch.embedding_scales(1, std::span<double>(wide));
  CHECK(wide[0] == doctest::Approx(0.88 / 0.75).epsilon(1e-15));
}

TEST_CASE("what is no sequence is refused and leaves the batch as it was") {
  packed_batch batch;
  batch.add("MK");
  CHECK(id_of_error(batch, {}) == "plm.103");
  CHECK(id_of_error(batch, {0, 33, 2}) == "plm.104");
  CHECK(id_of_error(batch, {0, -1, 2}) == "plm.104");
  CHECK(id_of_error(batch, {32, 32}) == "plm.105");
  const std::vector<std::int32_t> too_long(packed_batch::max_length + 1, 5);
  CHECK(id_of_error(batch, too_long) == "plm.106");
  CHECK(batch.rows() == 4);
  CHECK(batch.sequences() == 1);
  CHECK(id_of_error(batch, {1, 32, 1}) == "no error");
}
