// SPDX-License-Identifier: MIT
#include <tests/golden.hpp>

#include <plmscope/backend/cpu.hpp>
#include <plmscope/bridge/xtensor.hpp>

#include <doctest/doctest.h>

#include <vector>

using plmscope::cpu;

TEST_CASE("a strided view is seen in place") {
  cpu be(1);
  plmscope::matrix<float, cpu> m(be, 3, 5);
  for (std::size_t i = 0; i < m.size(); ++i) m.data()[i] = static_cast<float>(i);
  auto part = plmscope::as_xtensor(m.all().col_range(1, 2));
  CHECK(part.shape()[0] == 3);
  CHECK(part.shape()[1] == 2);
  CHECK(part(2, 1) == 12.0f);
  part(2, 1) = 99.0f;
  CHECK(m(2, 2) == 99.0f);
  CHECK(&part(0, 0) == m.data() + 1);
  CHECK(plmscope::as_xtensor(m.all().row_range(0, 0)).size() == 0);
}

TEST_CASE("codes are seen in place and as a dense copy") {
  cpu be(1);
  plmscope::matrix<float, cpu> pre(be, 2, 4);
  const float values[] = {1, -1, 3, 2, -1, -1, -1, 5};
  be.upload(std::span<const float>(values), pre.all());
  plmscope::codes<cpu> z(be, 4);
  be.top_k_rows(plmscope::const_view<cpu>(pre), 2, plmscope::by_value{}, z);
  const plmscope::codes_as_xtensor<cpu> seen(z);
  CHECK(seen.indptr(2) == 3);
  CHECK(seen.indices(0) == 2);
  CHECK(&seen.data(0) == z.values());
  const auto dense = plmscope::to_dense_xtensor(z);
  CHECK(dense(0, 2) == 3.0f);
  CHECK(dense(0, 0) == 0.0f);
  CHECK(dense(1, 3) == 5.0f);
}

TEST_CASE("a column of a score table is seen in place") {
  std::vector<plmscope::concept_result> table(3);
  for (std::size_t i = 0; i < 3; ++i) table[i].held_out.score = 0.1 * static_cast<double>(i);
  const auto column = plmscope::held_out_column(table);
  CHECK(column.size() == 3);
  CHECK(column(2) == table[2].held_out.score);
  CHECK(&column(1) == &table[1].held_out.score);
  CHECK(plmscope::held_out_column({}).size() == 0);
}

TEST_CASE("npy files go there and back, and a wrong rank is refused") {
  const golden::scratch_folder folder;
  xt::xtensor<double, 2> a = {{1.0, 2.0, 3.0}, {4.0, 5.0, 6.0}};
  plmscope::save_npy(folder / "a.npy", a * 2.0);
  const auto b = plmscope::load_npy<double, 2>(folder / "a.npy");
  CHECK(b.shape()[1] == 3);
  CHECK(b(1, 2) == 12.0);
  CHECK_THROWS_AS((plmscope::load_npy<double, 1>(folder / "a.npy")), plmscope::error);
}
