// SPDX-License-Identifier: MIT
#include "tests/golden.hpp"

#include <tests/plm/every_site.hpp>

#include <plmscope/backend/cpu.hpp>
#include <plmscope/backend/reference.hpp>
#include <plmscope/core/rng.hpp>
#include <plmscope/plm/collect.hpp>
#include <plmscope/plm/esm2.hpp>
#include <plmscope/plm/esmc.hpp>
#include <plmscope/plm/language_model.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace {

using golden::same_bits;
using plmscope::batch_slice;
using plmscope::collect;
using plmscope::cpu;
using plmscope::esmc;
using plmscope::esmc_alphabet;
using plmscope::esmc_batch;
using plmscope::reference;
using plmscope::site;
using plmscope::tokenize;
using plmscope::view;
using ids = std::vector<std::int32_t>;

static_assert(plmscope::language_model<esmc<>>);
static_assert(plmscope::language_model<esmc<reference>>);
static_assert(plmscope::language_model<plmscope::esm2<>>);
static_assert(!plmscope::language_model<esmc_batch>);
// A batch of the other model does not compile.
static_assert(!std::invocable<decltype([](auto& m, auto& b) -> decltype(m.forward(b)) {}), esmc<>&,
                              plmscope::packed_batch&>);

plmscope::esmc_config shape(std::size_t heads, std::size_t head_dim, std::size_t layers = 2) {
  return {.layers = layers,
          .d_model = heads * head_dim,
          .heads = heads,
          .feed_forward = 3 * heads * head_dim + 5};
}

esmc_batch mixed_batch() {
  esmc_batch batch;
  for (const std::size_t n : {3u, 70u, 0u, 1u, 130u, 64u}) {
    const plmscope::rng random(5, n);
    std::string s;
    for (std::size_t i = 0; i < n; ++i) s += "LAGVSERTIDPKQNFYMHWCXBUZO|.-"[random.below(i, 28)];
    batch.add(s);
  }
  batch.add("<mask><mask>#");
  return batch;
}

// Records the calls, and adds a number to every state of one site.
struct shift {
  site at;
  float by;
  std::vector<site> seen;
  std::vector<std::string> calls = {};

  const std::vector<site>& sites() const { return seen; }
  template <class B>
  void operator()(B&, site here, view<B> states, const batch_slice& slice) {
    CHECK(states.rows() == slice.rows());
    calls.push_back(to_string(here));
    if (here != at) return;
    for (std::size_t r = 0; r < states.rows(); ++r) {
      for (std::size_t j = 0; j < states.cols(); ++j) states(r, j) += by;
    }
  }
};

std::string id_of_error(const auto& f) {
  try {
    f();
  } catch (const plmscope::error& e) {
    return std::string(e.id());
  }
  return "no error";
}

}  // namespace

TEST_CASE("ESM-C reads the published examples as its tokenizers do") {
  const auto read = [](std::string_view text) { return tokenize<esmc_alphabet>(text); };
  CHECK(read("MKTVRQG") == ids{0, 20, 15, 11, 7, 10, 16, 6, 2});
  CHECK(read("K A <mask>") == ids{0, 15, 3, 5, 3, 32, 2});
  CHECK(read("MJ*aK") == ids{0, 20, 3, 3, 3, 15, 2});
  CHECK(read("MK|AC") == ids{0, 20, 15, 31, 5, 23, 2});
  CHECK(read("A_C") == ids{0, 5, 3, 23, 2});
  CHECK(tokenize<esmc_alphabet>("A_Cj", plmscope::underscore_is_mask{}) == ids{0, 5, 32, 23, 3, 2});
  CHECK(read("M<pad>K") == ids{0, 20, 1, 15, 2});
  CHECK(read("<cls>M<eos><unk>") == ids{0, 0, 20, 2, 3, 2});
  CHECK(read("") == ids{0, 2});
  CHECK(read("M\xc3\xa9K\xe2\x82\xac\xff") == ids{0, 20, 3, 15, 3, 3, 2});  // one per character
  CHECK(id_of_error([&] { read("M<mas"); }) == "plm.102");
  CHECK(id_of_error([&] { tokenize<esmc_alphabet>("M_", plmscope::strict{}); }) == "plm.101");
  // ESM-2 knows no chain break.
  CHECK(tokenize("M|K") == ids{0, 20, 3, 15, 2});
  CHECK(esmc_alphabet::token_of('L') == plmscope::alphabet::token_of('L'));
}

TEST_CASE("a batch for ESM-C: all masked is fine, what is no token is not") {
  esmc_batch batch;
  batch.add("<mask><mask>");
  CHECK(id_of_error([&] { batch.add(ids{32, 32}); }) == "no error");
  CHECK(id_of_error([&] { batch.add(ids{0, 33, 2}); }) == "plm.104");
  CHECK(id_of_error([&] { batch.add(ids{0, -1, 2}); }) == "plm.104");
  CHECK(batch.sequences() == 2);
}

TEST_CASE("the published sizes have the feed-forward widths of their files") {
  CHECK(plmscope::esmc_feed_forward(960) == 2560);
  CHECK(plmscope::esmc_feed_forward(1152) == 3072);
  CHECK(plmscope::esmc_feed_forward(2560) == 6912);
  CHECK(plmscope::esmc_feed_forward(64) == 256);
  CHECK(plmscope::esmc_feed_forward(96) == 256);
  // Numbers of a published file: 64 d + L (4 d d + 3 f d + 6 d) + d + head.
  const std::size_t parameters[3]{332'997'184, 575'036'992, 6'352'005'184};
  for (std::size_t i = 0; i < 3; ++i) {
    const auto c = plmscope::esmc_sizes[i].config();
    const std::size_t d = c.d_model;
    CHECK(c.head_dim() == 64);
    CHECK(64 * d + c.layers * (4 * d * d + 3 * c.feed_forward * d + 6 * d) + d + d * d + 3 * d +
              64 * d + 64 ==
          parameters[i]);
  }
}

TEST_CASE("ESM-C: cpu equals the reference backend for every head width") {
  const esmc_batch batch = mixed_batch();
  for (const std::size_t head_dim : {2u, 6u, 16u, 24u, 64u, 128u}) {
    const auto config = shape(2, head_dim);
    auto fast = esmc<cpu>::random(config, 1, cpu(2));
    auto exact = esmc<reference>::random(config, 1);
    collect<float> a(every_site::of(2));
    collect<double> b(every_site::of(2));
    fast.forward(batch, a);
    exact.forward(batch, b);
    for (const site& at : every_site::of(2)) {
      REQUIRE(a.states(at).size() == batch.rows() * fast.width(at));
      CAPTURE(head_dim);
      CAPTURE(to_string(at));
      CHECK(golden::relative_l2(a.states(at), b.states(at)) <= 2e-6);
    }
  }
}

TEST_CASE("ESM-C: a hook sees its sites in order, and what it changes stays") {
  auto model = esmc<>::random(shape(2, 8), 4, cpu(2));
  const esmc_batch batch = mixed_batch();
  shift all{plmscope::embeddings{}, 0, every_site::of(2)};
  model.forward(batch, all);
  std::vector<std::string> names;
  for (const site& at : every_site::of(2)) names.push_back(to_string(at));
  CHECK(all.calls == names);
  collect<float> only({plmscope::logits{}});
  model.forward(batch, only);
  collect<float> clean(every_site::of(2));
  model.forward(batch, clean);
  CHECK(same_bits(only.states(plmscope::logits{}), clean.states(plmscope::logits{})));
  for (const site& at : every_site::of(2)) {
    shift some{at, 0.5f, {at}};
    collect<float> before(every_site::of(2));
    collect<float> after(every_site::of(2));
    model.forward(batch, plmscope::hooks{before, some, after});
    CHECK(some.calls.back() == to_string(at));
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
  shift beyond{plmscope::embeddings{}, 0, {plmscope::embeddings{}, plmscope::resid_post{2}}};
  CHECK(id_of_error([&] { model.forward(batch, beyond); }) == "plm.108");
  CHECK(beyond.calls.empty());
  model.forward(esmc_batch(), all);
  CHECK(all.calls.size() == names.size());
}

TEST_CASE("ESM-C: embeddings are table rows, <mask> too; attention crosses the chain break") {
  auto model = esmc<>::random(shape(2, 8), 4, cpu(1));
  const auto states = [&](std::string_view text, site at) {
    esmc_batch batch;
    batch.add(text);
    collect<float> keep({at});
    model.forward(batch, keep);
    return std::vector<float>(keep.states(at).begin(), keep.states(at).end());
  };
  const auto row = [](const std::vector<float>& x, std::size_t r) {
    return std::vector<float>(x.begin() + static_cast<std::ptrdiff_t>(16 * r),
                              x.begin() + static_cast<std::ptrdiff_t>(16 * (r + 1)));
  };
  const auto e = states("A<mask><mask>A<pad>", plmscope::embeddings{});
  CHECK(row(e, 1) == row(e, 4));
  CHECK(row(e, 2) == row(e, 3));
  CHECK(row(e, 2) != std::vector<float>(16, 0.0f));
  CHECK(row(e, 5) != std::vector<float>(16, 0.0f));
  CHECK(row(e, 1) == row(states("AAAA", plmscope::embeddings{}), 2));
  CHECK(row(states("MKT|AAA", plmscope::final_norm{}), 2) !=
        row(states("MKT|AAW", plmscope::final_norm{}), 2));
}
