// SPDX-License-Identifier: MIT
#include <plmscope/acts/activation_memory_reader.hpp>
#include <plmscope/acts/model_reader.hpp>
#include <plmscope/acts/shuffled_rows.hpp>
#include <plmscope/plm/esm2.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

using plmscope::activation_memory;
using plmscope::activation_memory_reader;
using plmscope::cpu;
using plmscope::esm2;
using plmscope::esm2_reader;
using plmscope::resid_post;
using plmscope::shuffled_rows;

namespace {

// Empty ones at the beginning, inside and at the end; one longer than the batches of the tests.
const std::vector<std::string> sequences{"",
                                         "MKTAYIAKQRQISFVKSHFSRQ",
                                         "ACDE",
                                         "",
                                         "WYVTSRQPNMLKIHGFEDCAACDEFGHIKLMNPQRSTVWYACDEFGHIK",
                                         "GG",
                                         "TSRQPNM",
                                         ""};
const std::vector<plmscope::site> sites{resid_post{1}, plmscope::final_norm{}, resid_post{0}};

esm2<> small_model() {
  return esm2<>::random({.layers = 2, .d_model = 16, .heads = 2, .feed_forward = 64}, 7, cpu(2));
}

std::shared_ptr<const activation_memory> memory_of(esm2<>& esm, std::size_t tokens = 8192) {
  return std::make_shared<activation_memory>(
      activation_memory::of(esm, sites, sequences, plmscope::no_progress{}, tokens));
}

template <class Rows>
std::vector<float> batches(Rows& rows, cpu& be, int n, std::size_t size) {
  std::vector<float> out;
  for (int i = 0; i < n; ++i) {
    const auto view = rows.next(be, size);
    out.insert(out.end(), view.data(), view.data() + view.size());
  }
  return out;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), 4 * a.size()) == 0;
}

std::string id_of(auto&& run) {
  try {
    run();
  } catch (const plmscope::error& e) {
    return std::string(e.id());
  }
  return "none";
}

}  // namespace

TEST_CASE("one pass gives every site the rows that a reader of the model gives, in its order") {
  auto esm = small_model();
  auto& be = esm.backend();
  const auto memory = memory_of(esm, 30);
  CHECK(memory->rows() == 84);
  CHECK(activation_memory::bytes(esm, sites, memory->rows()) == 84 * 48 * 4);
  for (const auto& at : sites) {
    for (const std::uint64_t seed : {1u, 2u}) {
      for (const std::size_t capacity : {20u, 50u, 1000u}) {
        CAPTURE(to_string(at));
        CAPTURE(capacity);
        shuffled_rows<esm2_reader<>, cpu> of_model(esm2_reader<>(esm, at, sequences, seed, 40),
                                                   seed, capacity);
        shuffled_rows<activation_memory_reader<>, cpu> of_memory(
            activation_memory_reader<>(memory, to_string(at), seed, 25), seed, capacity);
        CHECK(of_memory.source().site == of_model.source().site);
        CHECK(of_memory.source().model_hash == of_model.source().model_hash);
        const auto expected = batches(of_model, be, 30, 10);
        CHECK(same_bits(batches(of_memory, be, 30, 10), expected));
        of_memory.seek(be, 170);
        const auto rest = batches(of_memory, be, 13, 10);
        const bool whole = capacity > 84;  // then what does not fill a batch waits
        if (!whole) CHECK(std::equal(rest.begin(), rest.end(), expected.begin() + 170 * 16));
      }
    }
  }
}

TEST_CASE("origins are those of the model's reader, every residue once an epoch") {
  auto esm = small_model();
  const auto memory = memory_of(esm);
  activation_memory_reader<> reader(memory, "final_norm", 3, 1);
  esm2_reader<> of_model(esm, plmscope::final_norm{}, sequences, 3, 1);
  plmscope::activation_batch<cpu> ours;
  plmscope::activation_batch<cpu> theirs;
  for (const std::size_t epoch : {0u, 1u, 5u}) {
    reader.rewind(epoch);
    of_model.rewind(epoch);
    std::size_t rows = 0;
    while (of_model.read(esm.backend(), theirs)) {
      REQUIRE(reader.read(esm.backend(), ours));
      CHECK(std::ranges::equal(ours.origins, theirs.origins, [](const auto& a, const auto& b) {
        return a.protein == b.protein && a.position == b.position;
      }));
      rows += ours.origins.size();
    }
    CHECK(!reader.read(esm.backend(), ours));
    CHECK(rows == 84);
  }
}

TEST_CASE("the identity names all that decides the rows") {
  auto esm = small_model();
  const auto memory = memory_of(esm);
  const auto identity = [&](const char* site, std::uint64_t seed, std::size_t rows) {
    return activation_memory_reader<>(memory, site, seed, rows).identity();
  };
  const auto one = identity("resid_post.1", 1, 10);
  CHECK(one == identity("resid_post.1", 1, 10));
  CHECK(one != identity("resid_post.0", 1, 10));
  CHECK(one != identity("resid_post.1", 2, 10));
  CHECK(one != identity("resid_post.1", 1, 11));
  const std::vector<std::string> cut_elsewhere{"MKTAYIAKQRQISFVKSHFSR", "QACDE"};
  const std::vector<std::string> cut{"MKTAYIAKQRQISFVKSHFSRQ", "ACDE"};
  CHECK(activation_memory::of(esm, sites, cut).sequences_hash() !=
        activation_memory::of(esm, sites, cut_elsewhere).sequences_hash());
}

TEST_CASE("what has no rows is refused") {
  auto esm = small_model();
  const std::vector<std::string> none{"", ""};
  CHECK(id_of([&] { activation_memory::of(esm, sites, none); }) == "acts.101");
  CHECK(id_of([&] { activation_memory::of(esm, {}, sequences); }) == "acts.102");
  CHECK(id_of([&] { activation_memory::of(esm, {plmscope::logits{}}, sequences); }) == "acts.102");
  CHECK(id_of([&] { activation_memory::of(esm, {resid_post{2}}, sequences); }) == "plm.108");
  CHECK(id_of([&] { activation_memory_reader<>(memory_of(esm), "resid_post.7"); }) == "acts.113");
}
