// SPDX-License-Identifier: MIT
#include <plmscope/backend/cpu.hpp>
#include <plmscope/backend/reference.hpp>
#include <plmscope/core/rng.hpp>
#include <plmscope/plm/collect.hpp>
#include <plmscope/plm/esm2.hpp>
#include <plmscope/plm/hook.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <span>
#include <string>
#include <vector>

namespace {

using plmscope::batch_slice;
using plmscope::collect;
using plmscope::cpu;
using plmscope::esm2;
using plmscope::packed_batch;
using plmscope::reference;
using plmscope::site;
using plmscope::view;

std::string protein(std::size_t length, std::uint64_t stream) {
  const plmscope::rng random(5, stream);
  std::string s;
  for (std::size_t i = 0; i < length; ++i) s += "LAGVSERTIDPKQNFYMHWCXBUZO"[random.below(i, 25)];
  return s;
}

plmscope::esm2_config shape(std::size_t heads, std::size_t head_dim, std::size_t layers = 2) {
  return {.layers = layers, .d_model = heads * head_dim, .heads = heads,
          .feed_forward = 4 * heads * head_dim};
}

packed_batch mixed_batch() {
  packed_batch batch;
  for (const std::size_t n : {3u, 70u, 0u, 1u, 130u, 64u}) batch.add(protein(n, n));
  batch.add("MK<mask>AY<mask><mask>W");
  return batch;
}

std::vector<site> sites_of(std::size_t layers) {
  std::vector<site> all{plmscope::embeddings{}};
  for (std::size_t l = 0; l < layers; ++l) {
    all.push_back(plmscope::resid_pre{l});
    all.push_back(plmscope::resid_post{l});
  }
  all.push_back(plmscope::final_norm{});
  all.push_back(plmscope::logits{});
  return all;
}

template <class Real>
bool same_bits(std::span<const Real> a, std::span<const Real> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

// Records the calls.
struct recorder {
  site until;
  std::vector<std::string> calls;
  std::vector<std::size_t> rows;
  std::vector<std::size_t> first_sequences;

  site last_site() const { return until; }
  template <class B>
  void operator()(B&, site at, view<B> states, const batch_slice& slice) {
    calls.push_back(to_string(at));
    CHECK(states.rows() == slice.rows());
    CHECK(slice.positions.size() == slice.rows());
    CHECK(slice.offsets.front() == 0);
    CHECK(static_cast<std::size_t>(slice.offsets.back()) == slice.rows());
    if (at == site(plmscope::embeddings{})) {
      rows.push_back(slice.rows());
      first_sequences.push_back(slice.first_sequence);
    }
  }
};

// Adds a number to every state of a site.
struct shift {
  site at;
  float by;

  site last_site() const { return at; }
  template <class B>
  void operator()(B&, site here, view<B> states, const batch_slice&) const {
    if (here != at) return;
    for (std::size_t r = 0; r < states.rows(); ++r) {
      for (std::size_t j = 0; j < states.cols(); ++j) {
        states(r, j) += static_cast<typename B::real>(by);
      }
    }
  }
};

}  // namespace

TEST_CASE("cpu equals the reference backend for every head width") {
  const packed_batch batch = mixed_batch();
  for (const std::size_t head_dim : {2u, 6u, 16u, 24u, 32u, 64u, 128u}) {
    const auto config = shape(2, head_dim);
    auto fast = esm2<cpu>::random(config, 1, cpu(2));
    auto exact = esm2<reference>::random(config, 1);
    collect<float> a(sites_of(2));
    collect<double> b(sites_of(2));
    fast.forward(batch, a);
    exact.forward(batch, b);
    for (const site& at : sites_of(2)) {
      double difference = 0;
      double norm = 0;
      REQUIRE(a.states(at).size() == batch.rows() * fast.width(at));
      for (std::size_t i = 0; i < a.states(at).size(); ++i) {
        const double x = b.states(at)[i];
        difference += std::pow(static_cast<double>(a.states(at)[i]) - x, 2);
        norm += x * x;
      }
      CAPTURE(head_dim);
      CAPTURE(to_string(at));
      CHECK(norm > 0);
      CHECK(std::sqrt(difference / norm) <= 2e-6);
    }
  }
}

TEST_CASE("a sequence's states do not depend on its batch, on slices or on threads") {
  const packed_batch batch = mixed_batch();
  for (const std::size_t head_dim : {6u, 16u, 24u}) {
    const auto config = shape(5, head_dim);
    collect<float> packed(sites_of(2));
    auto model = esm2<>::random(config, 2, cpu(1));
    model.forward(batch, packed);
    for (std::size_t s = 0; s < batch.sequences(); ++s) {
      packed_batch one;
      one.add(batch.tokens().subspan(batch.first_row(s), batch.length(s)));
      collect<float> single(sites_of(2));
      model.forward(one, single);
      for (const site& at : sites_of(2)) {
        const std::size_t width = model.width(at);
        CHECK(same_bits(single.states(at), packed.states(at).subspan(batch.first_row(s) * width,
                                                                     batch.length(s) * width)));
      }
    }
    for (const std::size_t threads : {2u, 3u, 7u}) {
      for (const std::size_t tokens : {0u, 80u, 100'000u}) {
        cpu be(threads);
        auto other = esm2<>(be, plmscope::random_esm2_weights(be, config, 2), tokens);
        collect<float> again(sites_of(2));
        other.forward(batch, again);
        for (const site& at : sites_of(2)) CHECK(same_bits(again.states(at), packed.states(at)));
      }
    }
  }
}

TEST_CASE("a hook sees every site in order, up to its last, slice by slice") {
  auto model = esm2<>::random(shape(2, 8), 3, cpu(1));
  packed_batch batch;
  batch.add("MKT");
  recorder all{.until = plmscope::logits{}, .calls = {}, .rows = {}, .first_sequences = {}};
  model.forward(batch, all);
  CHECK(all.calls == std::vector<std::string>{"embeddings", "resid_pre.0", "resid_post.0",
                                              "resid_pre.1", "resid_post.1", "final_norm",
                                              "logits"});
  recorder some{.until = plmscope::resid_pre{1}, .calls = {}, .rows = {}, .first_sequences = {}};
  model.forward(batch, some);
  CHECK(some.calls.back() == "resid_pre.1");
  CHECK(some.calls.size() == 4);

  // Slices are whole sequences, in order; a sequence longer than a slice stands alone.
  cpu be(1);
  auto sliced = esm2<>(be, plmscope::random_esm2_weights(be, shape(2, 8), 3), 10);
  packed_batch several;
  for (const std::size_t n : {3u, 3u, 1u, 20u, 2u}) several.add(protein(n, n));
  recorder parts{.until = plmscope::embeddings{}, .calls = {}, .rows = {}, .first_sequences = {}};
  sliced.forward(several, parts);
  CHECK(parts.rows == std::vector<std::size_t>{10, 3, 22, 4});
  CHECK(parts.first_sequences == std::vector<std::size_t>{0, 2, 3, 4});

  recorder nothing{.until = plmscope::logits{}, .calls = {}, .rows = {}, .first_sequences = {}};
  model.forward(packed_batch(), nothing);
  CHECK(nothing.calls.empty());
}

TEST_CASE("sites outside of the model are refused before anything runs") {
  auto model = esm2<>::random(shape(2, 8), 3, cpu(1));
  packed_batch batch;
  batch.add("MKT");
  recorder beyond{.until = plmscope::resid_post{2}, .calls = {}, .rows = {}, .first_sequences = {}};
  CHECK_THROWS_WITH_AS(model.forward(batch, beyond), doctest::Contains("resid_post.2"),
                       plmscope::error);
  CHECK(beyond.calls.empty());
}

TEST_CASE("what a hook changes, the later layers and hooks see") {
  auto model = esm2<>::random(shape(2, 8), 4, cpu(2));
  const packed_batch batch = mixed_batch();
  collect<float> clean(sites_of(2));
  model.forward(batch, clean);
  for (const site& at : sites_of(2)) {
    shift edit{at, 0.5f};
    collect<float> before(sites_of(2));
    collect<float> after(sites_of(2));
    model.forward(batch, plmscope::hooks{before, edit, after});
    for (const site& seen : sites_of(2)) {
      CAPTURE(to_string(at));
      CAPTURE(to_string(seen));
      CHECK(same_bits(before.states(seen), clean.states(seen)) == (seen <= at));
      CHECK(same_bits(after.states(seen), clean.states(seen)) == (seen < at));
    }
    CHECK(after.states(at)[3] == clean.states(at)[3] + 0.5f);
  }
  // The same stream before block 1 and after block 0.
  CHECK(same_bits(clean.states(plmscope::resid_pre{1}), clean.states(plmscope::resid_post{0})));
}

TEST_CASE("several hooks: the pass runs to the last of them, each only to its own") {
  auto model = esm2<>::random(shape(2, 8), 4, cpu(1));
  packed_batch batch;
  batch.add("MKT");
  recorder near{.until = plmscope::resid_post{0}, .calls = {}, .rows = {}, .first_sequences = {}};
  recorder far{.until = plmscope::final_norm{}, .calls = {}, .rows = {}, .first_sequences = {}};
  model.forward(batch, plmscope::hooks{near, far});
  CHECK(near.calls.back() == "resid_post.0");
  CHECK(far.calls.back() == "final_norm");
  CHECK(plmscope::hooks{near, far}.last_site() == site(plmscope::final_norm{}));
}

TEST_CASE("collect keeps chosen sites only and starts anew after clear") {
  auto model = esm2<>::random(shape(2, 8), 4, cpu(1));
  packed_batch batch;
  batch.add("MKT");
  collect<float> keep({plmscope::resid_post{0}, plmscope::embeddings{}, plmscope::resid_post{0}});
  CHECK(keep.last_site() == site(plmscope::resid_post{0}));
  CHECK(keep.sites().size() == 2);
  model.forward(batch, keep);
  CHECK(keep.states(plmscope::resid_post{0}).size() == 5 * 16);
  CHECK(keep.width(plmscope::embeddings{}) == 16);
  CHECK_THROWS_AS(keep.states(plmscope::final_norm{}), plmscope::error);
  keep.clear();
  CHECK(keep.states(plmscope::embeddings{}).empty());
  collect<float> none({});
  model.forward(batch, none);
  CHECK(none.sites().empty());
}

TEST_CASE("rows of <mask> start at zero, and only there") {
  auto model = esm2<>::random(shape(2, 8), 4, cpu(1));
  packed_batch batch;
  batch.add("M<mask>K");
  collect<float> keep({plmscope::embeddings{}, plmscope::resid_post{0}});
  model.forward(batch, keep);
  for (std::size_t j = 0; j < 16; ++j) {
    CHECK(keep.states(plmscope::embeddings{})[2 * 16 + j] == 0.0f);
  }
  CHECK(keep.states(plmscope::embeddings{})[16] != 0.0f);
  CHECK(keep.states(plmscope::resid_post{0})[2 * 16] != 0.0f);
}
