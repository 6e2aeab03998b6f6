// SPDX-License-Identifier: MIT
#include <plmscope/acts/mean_pooled.hpp>
#include <plmscope/acts/read_activations.hpp>
#include <plmscope/plm/collect.hpp>
#include <plmscope/plm/esm2.hpp>
#include <plmscope/plm/esmc.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

using plmscope::activation_batch;
using plmscope::cpu;
using plmscope::esm2;
using plmscope::esm2_reader;
using plmscope::resid_post;

namespace {

const std::vector<std::string> sequences{"MKTAYIAKQRQISFVKSHFSRQ", "ACDE", "", "WYVTSRQPNMLKIHGFEDCA",
                                         "GG"};

esm2<> small_model() {
  return esm2<>::random({.layers = 2, .d_model = 16, .heads = 2, .feed_forward = 64}, 7, cpu(2));
}

std::vector<float> row_of(const plmscope::matrix<float, cpu>& m, std::size_t r) {
  return {m.data() + r * m.cols(), m.data() + (r + 1) * m.cols()};
}

}  // namespace

TEST_CASE("every residue is one row, special tokens are none") {
  auto esm = small_model();
  esm2_reader<> reader(esm, resid_post{1}, sequences, 3, 30);
  CHECK(reader.total_rows() == 48);
  CHECK(reader.source().site == "resid_post.1");
  for (const std::size_t epoch : {std::size_t{0}, std::size_t{1}, std::size_t{2}}) {
    reader.rewind(epoch);
    activation_batch<cpu> batch;
    std::set<std::pair<std::uint32_t, std::uint32_t>> seen;
    std::size_t batches = 0;
    while (reader.read(esm.backend(), batch)) {
      ++batches;
      CHECK(batch.rows.rows() == batch.origins.size());
      for (std::size_t r = 0; r < batch.origins.size(); ++r) {
        const auto [p, i] = batch.origins[r];
        CHECK(seen.insert({p, i}).second);
        // the same state as a pass over this protein alone
        plmscope::packed_batch one;
        one.add(sequences[p]);
        plmscope::collect<float> keep({resid_post{1}});
        esm.forward(one, keep);
        const auto states = keep.states(resid_post{1});
        const auto ours = row_of(batch.rows, r);
        CHECK(std::equal(ours.begin(), ours.end(), states.begin() + (i + 1) * 16));
      }
    }
    CHECK(batches > 1);
    CHECK(seen.size() == 48);
  }
}

TEST_CASE("readers refuse what has no rows") {
  auto esm = small_model();
  CHECK_THROWS_AS((esm2_reader<>(esm, resid_post{0}, {"", ""})), plmscope::error);
  CHECK_THROWS_AS((esm2_reader<>(esm, resid_post{9}, sequences)), plmscope::error);
  CHECK_THROWS_AS((esm2_reader<>(esm, plmscope::logits{}, sequences)), plmscope::error);
}

TEST_CASE("shuffled rows hand out every row once an epoch, in an order that the seed decides") {
  auto esm = small_model();
  std::multiset<std::vector<float>> all;
  {
    esm2_reader<> reader(esm, resid_post{0}, sequences);
    activation_batch<cpu> batch;
    while (reader.read(esm.backend(), batch)) {
      for (std::size_t r = 0; r < batch.rows.rows(); ++r) all.insert(row_of(batch.rows, r));
    }
  }
  const auto epoch = [&](std::uint64_t seed) {
    plmscope::shuffled_rows<esm2_reader<>, cpu> rows(
        esm2_reader<>(esm, resid_post{0}, sequences, seed), seed);
    std::vector<std::vector<float>> out;
    for (int b = 0; b < 8; ++b) {  // two epochs of four batches
      const auto view = rows.next(esm.backend(), 12);
      for (std::size_t r = 0; r < 12; ++r) {
        out.emplace_back(view.row(r).begin(), view.row(r).end());
      }
    }
    return out;
  };
  const auto a = epoch(5);
  CHECK(std::multiset<std::vector<float>>(a.begin(), a.begin() + 48) == all);
  CHECK(std::multiset<std::vector<float>>(a.begin() + 48, a.end()) == all);
  CHECK(!std::equal(a.begin(), a.begin() + 48, a.begin() + 48));
  CHECK(a == epoch(5));
  CHECK(a != epoch(6));
}

TEST_CASE("a buffer smaller than the data still hands out everything, about equally often") {
  auto esm = small_model();
  plmscope::shuffled_rows<esm2_reader<>, cpu> rows(
      esm2_reader<>(esm, resid_post{0}, sequences, 1, 20), 1, 24);
  std::map<std::vector<float>, int> count;
  for (int b = 0; b < 120; ++b) {  // 480 rows: ten epochs
    const auto view = rows.next(esm.backend(), 4);
    for (std::size_t r = 0; r < 4; ++r) ++count[{view.row(r).begin(), view.row(r).end()}];
  }
  CHECK(count.size() == 48);
  for (const auto& [row, n] : count) CHECK(n >= 5);
  CHECK_THROWS_AS(rows.next(esm.backend(), 13), plmscope::error);
}

TEST_CASE("pooled rows are means over residues") {
  auto esm = small_model();
  plmscope::mean_pooled<esm2_reader<>> pooled(esm2_reader<>(esm, resid_post{1}, sequences));
  CHECK(pooled.source().site == "resid_post.1.mean");
  activation_batch<cpu> batch;
  std::size_t proteins = 0;
  while (pooled.read(esm.backend(), batch)) {
    for (std::size_t r = 0; r < batch.origins.size(); ++r, ++proteins) {
      const auto& s = sequences[batch.origins[r].protein];
      plmscope::packed_batch one;
      one.add(s);
      plmscope::collect<float> keep({resid_post{1}});
      esm.forward(one, keep);
      for (std::size_t j = 0; j < 16; ++j) {
        double mean = 0;
        for (std::size_t i = 0; i < s.size(); ++i) {
          mean += static_cast<double>(keep.states(resid_post{1})[(i + 1) * 16 + j]);
        }
        CHECK(static_cast<double>(batch.rows(r, j)) ==
              doctest::Approx(mean / static_cast<double>(s.size())).epsilon(1e-5));
      }
    }
  }
  CHECK(proteins == 4);
}
