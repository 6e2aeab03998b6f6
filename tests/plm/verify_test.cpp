// SPDX-License-Identifier: MIT
#include "tests/golden.hpp"

#include <plmscope/backend/cpu.hpp>
#include <plmscope/io/safetensors_writer.hpp>
#include <plmscope/plm/esm2.hpp>
#include <plmscope/plm/verify.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace {

using plmscope::cpu;
using plmscope::esm2;

esm2<> model() {
  return esm2<>::random({.layers = 2, .d_model = 8, .heads = 2, .feed_forward = 32}, 9, cpu(1));
}

// What the model itself computes for a sequence, in the layout of an expected file.
struct expected_parts {
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> positions;
  std::vector<float> hidden;
  std::vector<float> logits;

  plmscope::safetensors_file file() const {
    const std::size_t kept = positions.size();
    plmscope::safetensors_writer writer;
    writer.add("a.tokens", {tokens.size()}, std::span<const std::int32_t>(tokens));
    writer.add("a.positions", {kept}, std::span<const std::int32_t>(positions));
    writer.add("a.hidden", {kept == 0 ? 3 : hidden.size() / (8 * kept), kept, 8},
               std::span<const float>(hidden));
    writer.add("a.logits", {kept, 33}, std::span<const float>(logits));
    return plmscope::safetensors_file::parse(writer.to_bytes());
  }
};

expected_parts own_outputs(esm2<>& m) {
  expected_parts e{plmscope::tokenize("MKTAY"), {0, 2, 6}, {}, {}};
  plmscope::packed_batch batch;
  batch.add(std::span<const std::int32_t>(e.tokens));
  std::vector<plmscope::site> sites;
  for (std::size_t i = 0; i <= 2; ++i) sites.push_back(plmscope::hidden_state_site(i, 2));
  sites.push_back(plmscope::logits{});
  plmscope::collect<float> keep(sites);
  m.forward(batch, keep);
  for (const auto& at : sites) {
    auto& to = at == plmscope::site(plmscope::logits{}) ? e.logits : e.hidden;
    for (const std::int32_t p : e.positions) {
      for (std::size_t j = 0; j < m.width(at); ++j) {
        to.push_back(keep.states(at)[static_cast<std::size_t>(p) * m.width(at) + j]);
      }
    }
  }
  return e;
}

template <class F>
std::string id_of_error(const F& f) {
  try {
    f();
  } catch (const plmscope::error& e) {
    return std::string(e.id());
  }
  return "no error";
}

}  // namespace

TEST_CASE("a model agrees with itself exactly, and a change is measured where it is") {
  esm2<> m = model();
  expected_parts e = own_outputs(m);
  const auto same = plmscope::verify(m, e.file());
  REQUIRE(same.sequences.size() == 1);
  CHECK(same.sequences[0].key == "a");
  CHECK(same.sequences[0].tokens == 7);
  CHECK(same.sequences[0].states.size() == 3);
  CHECK(same.worst() == 0.0);

  double norm = 0;
  for (std::size_t i = 24; i < 48; ++i) norm += std::pow(static_cast<double>(e.hidden[i]), 2);
  expected_parts moved = e;
  moved.hidden[30] = 0.0f;
  const auto result = plmscope::verify(m, moved.file());
  CHECK(result.worst_state(0) == 0.0);
  const double without = norm - std::pow(static_cast<double>(e.hidden[30]), 2);
  CHECK(result.worst_state(1) ==
        doctest::Approx(std::abs(static_cast<double>(e.hidden[30])) / std::sqrt(without)));
  CHECK(result.worst_state(2) == 0.0);
  CHECK(result.worst_logits() == 0.0);
  CHECK(result.worst() == result.worst_state(1));

  expected_parts broken = e;
  broken.logits[5] = std::numeric_limits<float>::quiet_NaN();
  CHECK(std::isnan(plmscope::verify(m, broken.file()).worst()));
}

TEST_CASE("an expected file of another model or another layout is refused") {
  esm2<> m = model();
  const expected_parts e = own_outputs(m);
  const plmscope::esm2_config three{.layers = 3, .d_model = 8, .heads = 2, .feed_forward = 32};
  auto deeper = esm2<>::random(three, 9, cpu(1));
  CHECK(id_of_error([&] { plmscope::verify(deeper, e.file()); }) == "plm.116");
  expected_parts outside = e;
  outside.positions[1] = 7;
  CHECK(id_of_error([&] { plmscope::verify(m, outside.file()); }) == "plm.115");
  outside.positions[1] = -1;
  CHECK(id_of_error([&] { plmscope::verify(m, outside.file()); }) == "plm.115");
  plmscope::safetensors_writer writer;
  writer.add("a.tokens", {e.tokens.size()}, std::span<const std::int32_t>(e.tokens));
  CHECK(id_of_error([&] {
          plmscope::verify(m, plmscope::safetensors_file::parse(writer.to_bytes()));
        }) == "plm.115");
  const plmscope::safetensors_writer empty;
  CHECK(id_of_error([&] {
          plmscope::verify(m, plmscope::safetensors_file::parse(empty.to_bytes()));
        }) == "plm.115");
  expected_parts token = e;
  token.tokens[2] = 99;
  CHECK(id_of_error([&] { plmscope::verify(m, token.file()); }) == "plm.104");
}
