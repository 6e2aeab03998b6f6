// SPDX-License-Identifier: MIT
#include <tests/golden.hpp>
#include <tests/plm/every_site.hpp>

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
#include <span>
#include <string>
#include <vector>

namespace {

using golden::same_bits;
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
  return {.layers = layers,
          .d_model = heads * head_dim,
          .heads = heads,
          .feed_forward = 4 * heads * head_dim};
}

packed_batch mixed_batch() {
  packed_batch batch;
  for (const std::size_t n : {3u, 70u, 0u, 1u, 130u, 64u}) batch.add(protein(n, n));
  batch.add("MK<mask>AY<mask><mask>W");
  return batch;
}

// Records the calls.
struct recorder {
  std::vector<site> at;
  std::vector<std::string> calls;
  std::vector<std::size_t> rows;
  std::vector<std::size_t> first_sequences;

  const std::vector<site>& sites() const { return at; }
  template <class B>
  void operator()(B&, site here, view<B> states, const batch_slice& slice) {
    calls.push_back(to_string(here));
    CHECK(states.rows() == slice.rows());
    CHECK(slice.positions.size() == slice.rows());
    CHECK(slice.offsets.front() == 0);
    CHECK(static_cast<std::size_t>(slice.offsets.back()) == slice.rows());
    if (here == site(plmscope::embeddings{})) {
      rows.push_back(slice.rows());
      first_sequences.push_back(slice.first_sequence);
    }
  }
};

recorder record(std::vector<site> at) {
  return {.at = std::move(at), .calls = {}, .rows = {}, .first_sequences = {}};
}

// Adds a number to every state of a site.
struct shift {
  site at;
  float by;

  std::vector<site> sites() const { return {at}; }
  template <class B>
  void operator()(B&, site, view<B> states, const batch_slice&) const {
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
    collect<float> a(every_site::of(2));
    collect<double> b(every_site::of(2));
    fast.forward(batch, a);
    exact.forward(batch, b);
    for (const site& at : every_site::of(2)) {
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
    collect<float> packed(every_site::of(2));
    auto model = esm2<>::random(config, 2, cpu(1));
    model.forward(batch, packed);
    for (std::size_t s = 0; s < batch.sequences(); ++s) {
      packed_batch one;
      one.add(batch.tokens().subspan(batch.first_row(s), batch.length(s)));
      collect<float> single(every_site::of(2));
      model.forward(one, single);
      for (const site& at : every_site::of(2)) {
        const std::size_t width = model.width(at);
        CHECK(same_bits(single.states(at), packed.states(at).subspan(batch.first_row(s) * width,
                                                                     batch.length(s) * width)));
      }
    }
    for (const std::size_t threads : {2u, 3u, 7u}) {
      for (const std::size_t tokens : {0u, 80u, 100'000u}) {
        cpu be(threads);
        auto other = esm2<>(be, plmscope::random_esm2_weights(be, config, 2), tokens);
        collect<float> again(every_site::of(2));
        other.forward(batch, again);
        for (const site& at : every_site::of(2))
          CHECK(same_bits(again.states(at), packed.states(at)));
      }
    }
  }
}

TEST_CASE("a hook sees its sites in order, slice by slice") {
  auto model = esm2<>::random(shape(2, 8), 3, cpu(1));
  packed_batch batch;
  batch.add("MKT");
  recorder all = record(every_site::of(2));
  model.forward(batch, all);
  std::vector<std::string> names;
  for (const site& at : every_site::of(2)) names.push_back(to_string(at));
  CHECK(names.size() == 29);
  CHECK(all.calls == names);
  recorder some = record({plmscope::mlp_in{1}, plmscope::resid_post{0}, plmscope::mlp_in{1}});
  model.forward(batch, some);
  CHECK(some.calls == std::vector<std::string>{"resid_post.0", "mlp_in.1"});

  // Slices are whole sequences, in order; a sequence longer than a slice stands alone.
  cpu be(1);
  auto sliced = esm2<>(be, plmscope::random_esm2_weights(be, shape(2, 8), 3), 10);
  packed_batch several;
  for (const std::size_t n : {3u, 3u, 1u, 20u, 2u}) several.add(protein(n, n));
  recorder parts = record({plmscope::embeddings{}});
  sliced.forward(several, parts);
  CHECK(parts.rows == std::vector<std::size_t>{10, 3, 22, 4});
  CHECK(parts.first_sequences == std::vector<std::size_t>{0, 2, 3, 4});

  recorder nothing = record({plmscope::logits{}});
  model.forward(packed_batch(), nothing);
  CHECK(nothing.calls.empty());
  recorder nowhere = record({});
  model.forward(batch, nowhere);
  CHECK(nowhere.calls.empty());
}

TEST_CASE("sites outside of the model are refused before anything runs") {
  auto model = esm2<>::random(shape(2, 8), 3, cpu(1));
  packed_batch batch;
  batch.add("MKT");
  recorder beyond = record({plmscope::embeddings{}, plmscope::resid_post{2}, plmscope::logits{}});
  CHECK_THROWS_WITH_AS(model.forward(batch, beyond), doctest::Contains("resid_post.2"),
                       plmscope::error);
  CHECK(beyond.calls.empty());
}

TEST_CASE("reading changes no bit of what comes after") {
  const packed_batch batch = mixed_batch();
  auto model = esm2<>::random(shape(3, 8), 6, cpu(2));
  collect<float> only({plmscope::logits{}});
  model.forward(batch, only);
  for (const site& at : every_site::of(2)) {
    collect<float> also({at, plmscope::logits{}});
    model.forward(batch, also);
    CAPTURE(to_string(at));
    CHECK(same_bits(only.states(plmscope::logits{}), also.states(plmscope::logits{})));
  }
}

TEST_CASE("attention maps: shown per sequence, attention is computed from them") {
  const packed_batch batch = mixed_batch();
  const auto config = shape(3, 8);
  auto model = esm2<>::random(config, 6, cpu(2));
  const std::vector<site> sites{plmscope::attn_map{1}, plmscope::attn_ctx{1}};
  collect<float> clean({plmscope::attn_value{1}, plmscope::attn_ctx{1}});
  collect<float> keep(sites);
  model.forward(batch, clean);
  model.forward(batch, keep);
  auto exact = esm2<reference>::random(config, 6);
  collect<double> expected(sites);
  exact.forward(batch, expected);

  const auto maps = keep.states(plmscope::attn_map{1});
  std::size_t at = 0;
  double worst = 0;
  for (std::size_t s = 0; s < batch.sequences(); ++s) {
    const std::size_t n = batch.length(s);
    for (std::size_t row = 0; row < config.heads * n; ++row) {
      double sum = 0;
      for (std::size_t j = 0; j < n; ++j, ++at) {
        sum += static_cast<double>(maps[at]);
        worst = std::max(worst, std::abs(static_cast<double>(maps[at]) -
                                         expected.states(plmscope::attn_map{1})[at]));
      }
      CHECK(sum == doctest::Approx(1).epsilon(1e-6));
    }
  }
  CHECK(at == maps.size());
  CHECK(worst < 2e-6);
  double apart = 0;
  for (std::size_t i = 0; i < clean.states(plmscope::attn_ctx{1}).size(); ++i) {
    apart = std::max(apart, std::abs(static_cast<double>(keep.states(plmscope::attn_ctx{1})[i] -
                                                         clean.states(plmscope::attn_ctx{1})[i])));
  }
  CHECK(apart < 5e-6);

  // All attention to <cls>: every token gets its value.
  struct look_at_first {
    std::vector<site> sites() const { return {plmscope::attn_map{1}}; }
    void operator()(cpu& be, site, view<cpu> map, const batch_slice& slice) const {
      CHECK(slice.sequences() == 1);
      CHECK(map.cols() == slice.rows());
      be.fill(map, 0.0f);
      be.fill(map.col_range(0, 1), 1.0f);
    }
  };
  collect<float> edited({plmscope::attn_ctx{1}});
  model.forward(batch, plmscope::hooks{look_at_first{}, edited});
  const std::size_t d = config.d_model;
  bool same = true;
  for (std::size_t s = 0; s < batch.sequences(); ++s) {
    for (std::size_t r = 0; r < batch.length(s) * d; ++r) {
      same = same && edited.states(plmscope::attn_ctx{1})[batch.first_row(s) * d + r] ==
                         clean.states(plmscope::attn_value{1})[batch.first_row(s) * d + r % d];
    }
  }
  CHECK(same);
}

TEST_CASE("what a hook changes, the later layers and hooks see") {
  auto model = esm2<>::random(shape(2, 8), 4, cpu(2));
  const packed_batch batch = mixed_batch();
  collect<float> clean(every_site::of(2));
  model.forward(batch, clean);
  for (const site& at : every_site::of(2)) {
    shift edit{at, 0.5f};
    collect<float> before(every_site::of(2));
    collect<float> after(every_site::of(2));
    model.forward(batch, plmscope::hooks{before, edit, after});
    for (const site& seen : every_site::of(2)) {
      CAPTURE(to_string(at));
      CAPTURE(to_string(seen));
      CHECK(same_bits(before.states(seen), clean.states(seen)) ==
            (seen <= at || every_site::beside(at, seen)));
      CHECK(same_bits(after.states(seen), clean.states(seen)) ==
            (seen < at || every_site::beside(at, seen)));
    }
    CHECK(after.states(at)[3] == clean.states(at)[3] + 0.5f);
  }
  // The same stream before block 1 and after block 0.
  CHECK(same_bits(clean.states(plmscope::resid_pre{1}), clean.states(plmscope::resid_post{0})));
}

TEST_CASE("several hooks: the pass runs to the last of them, each at its own") {
  auto model = esm2<>::random(shape(2, 8), 4, cpu(1));
  packed_batch batch;
  batch.add("MKT");
  recorder near = record({plmscope::resid_post{0}});
  recorder far = record({plmscope::final_norm{}, plmscope::resid_mid{1}});
  model.forward(batch, plmscope::hooks{near, far});
  CHECK(near.calls == std::vector<std::string>{"resid_post.0"});
  CHECK(far.calls == std::vector<std::string>{"resid_mid.1", "final_norm"});
  CHECK(plmscope::hooks{near, far}.sites().size() == 3);
}

TEST_CASE("collect keeps chosen sites only and starts anew after clear") {
  auto model = esm2<>::random(shape(2, 8), 4, cpu(1));
  packed_batch batch;
  batch.add("MKT");
  collect<float> keep({plmscope::resid_post{0}, plmscope::embeddings{}, plmscope::resid_post{0}});
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
