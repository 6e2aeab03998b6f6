// SPDX-License-Identifier: MIT
// SAEs with a screened encoder: codes and whole trainings have the bits of the fp32 encoder.
#include <tests/golden.hpp>
#include <tests/train/planted.hpp>

#include <plmscope/acts/read_activations.hpp>
#include <plmscope/backend/cpu.hpp>
#include <plmscope/backend/reference.hpp>
#include <plmscope/plm/esm2.hpp>
#include <plmscope/sae/sae.hpp>
#include <plmscope/sae/sparsifiers/relu.hpp>
#include <plmscope/train/trainer.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

namespace {

using plmscope::cpu;
using plmscope::esm2;

bool supported() {
  if (cpu::computes(plmscope::product_precision::bf16)) return true;
  golden::skip("this processor has no AVX512-BF16");
  return false;
}

template <class Model>
std::vector<unsigned char> bytes(Model& model) {
  std::vector<unsigned char> all;
  model.parameters().for_each([&](const char*, auto& p) {
    const auto* from = reinterpret_cast<const unsigned char*>(p.data());
    all.insert(all.end(), from, from + p.size() * sizeof(*p.data()));
  });
  return all;
}

/// Codes of x from an SAE with and without screening.
template <class S, class Options>
void compare_codes(Options o, plmscope::const_view<cpu> x, plmscope::screening_record* record) {
  using model_type = plmscope::sae<S, cpu>;
  o.screen = false;
  model_type plain(o, cpu(2));
  o.screen = true;
  model_type screened(o, cpu(2));
  plmscope::codes<cpu> want, got;
  plain.encode(x, want);
  screened.encode(x, got);
  CHECK(want.entries() > 0);
  CHECK(want.entries() == got.entries());
  if (want.entries() != got.entries()) return;
  CHECK(std::equal(want.ids(), want.ids() + want.entries(), got.ids()));
  CHECK(std::equal(want.offsets(), want.offsets() + x.rows() + 1, got.offsets()));
  CHECK(std::memcmp(want.values(), got.values(), want.entries() * sizeof(float)) == 0);
  *record = screened.screening();
}

struct protein {
  std::string sequence;
};

std::vector<protein> proteins() {
  const plmscope::rng random(3, 1);
  std::vector<protein> out;
  for (std::size_t p = 0, i = 0; p < 20; ++p) {
    std::string s;
    for (std::size_t r = 0; r < 60 + 7 * p; ++r) {
      s += "ACDEFGHIKLMNPQRSTVWY"[random.below(i++, 20)];
    }
    out.push_back({s});
  }
  return out;
}

}  // namespace

TEST_CASE("a training with a screened encoder ends with the bytes of the fp32 encoder") {
  if (!supported()) return;
  plmscope::screening_record record;
  const auto train = [&](bool screen, std::size_t threads, double alpha) {
    plmscope::sae<plmscope::top_k, cpu> model(
        {.d_model = 24, .features = 1500, .sparsifier = {.k = 4}, .screen = screen, .seed = 3},
        cpu(threads));
    planted::reader<cpu> reader({.offset = 1, .seed = 2});
    plmscope::trainer fit{.steps = 250,
                          .batch = 301,
                          .optimizer = plmscope::adam{.lr = 3e-3},
                          .dead = plmscope::aux_k{.alpha = alpha, .dead_after = 5000}};
    const auto last = fit(model, reader);
    CHECK(last.fvu < 0.3);
    record = model.screening();
    return bytes(model);
  };
  for (const double alpha : {0.0, 1.0 / 32}) {
    const auto want = train(false, 2, alpha);
    CHECK(record.rows() == 0);
    for (const std::size_t threads : {1u, 2u, 3u}) {
      CHECK(train(true, threads, alpha) == want);
      // Steps in which AuxK looks at the tiles have whole ones.
      CHECK(record.rows() > (alpha == 0 ? 250 * 301 / 2 : 5000 / 2));
      CHECK(record.entries() < 1500.0 / 8);
      CHECK(record.whole_share() < 0.5);
    }
  }
}

TEST_CASE("codes of a model's states are the same screened, by every way to select") {
  if (!supported()) return;
  auto model = esm2<>::load(golden::repository() / "examples/data/esm2_mini", {}, cpu(2));
  auto rows = plmscope::read_activations(model, plmscope::resid_post{0}, proteins(), 1);
  auto& be = model.backend();
  const auto x = rows.next(be, 1000);
  plmscope::screening_record record;
  const std::size_t d = x.cols();
  for (const auto lengths : {plmscope::row_lengths::free, plmscope::row_lengths::in_codes,
                             plmscope::row_lengths::rank}) {
    for (const bool unit : {false, true}) {
      compare_codes<plmscope::top_k>(
          plmscope::sae<plmscope::top_k>::options{.d_model = d,
                                                  .features = 3000,
                                                  .sparsifier = {.k = 16, .negatives = unit},
                                                  .unit_input = unit,
                                                  .lengths = lengths,
                                                  .seed = 1},
          x, &record);
      CHECK((record.rows() > 0) == (lengths != plmscope::row_lengths::rank));
    }
  }
  compare_codes<plmscope::abs_top_k>(
      plmscope::sae<plmscope::abs_top_k>::options{
          .d_model = d, .features = 3000, .sparsifier = {.k = 16}, .seed = 1},
      x, &record);
  CHECK(record.rows() == 1000);
  // Where it cannot help it is the plain product.
  compare_codes<plmscope::relu>(
      plmscope::sae<plmscope::relu>::options{.d_model = d, .features = 300, .seed = 1}, x, &record);
  CHECK(record.rows() == 0);
  compare_codes<plmscope::top_k>(
      plmscope::sae<plmscope::top_k>::options{
          .d_model = d, .features = 300, .sparsifier = {.k = 300}, .seed = 1},
      x, &record);
  CHECK(record.whole_share() == 1);
}

TEST_CASE("a backend without screening takes the option and computes as it does") {
  using model_type = plmscope::sae<plmscope::top_k, plmscope::reference>;
  model_type model({.d_model = 4, .features = 8, .sparsifier = {.k = 2}, .screen = true});
  plmscope::matrix<double, plmscope::reference> x(model.backend(), 300, 4);
  for (std::size_t i = 0; i < x.size(); ++i) x.data()[i] = static_cast<double>(i % 7) - 3;
  plmscope::codes<plmscope::reference> z;
  model.encode(x.all(), z);
  CHECK(z.rows() == 300);
  CHECK(model.screening().rows() == 0);
}
