// SPDX-License-Identifier: MIT
// Whole training runs: the same bits for any number of threads, other bits for another seed.
#include <tests/train/planted.hpp>

#include <plmscope/backend/cpu.hpp>
#include <plmscope/sae/sae.hpp>
#include <plmscope/train/trainer.hpp>
#if defined(PLMSCOPE_TEST_HAS_ONEDNN)
#include <plmscope/backend/cpu/gemm_onednn.hpp>
#endif

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

struct outcome {
  std::vector<unsigned char> parameters;  // all bits of all of them
  double loss = 0;
  double aux_loss = 0;     // of the steps in which latents were dead
  std::size_t dead_steps = 0;
};

// 300 steps with warm-up, decay, clipping and AuxK on latents that die: there are more latents than
// directions, and few rows pass until one counts as dead. The batch is no multiple of any tile.
template <class B>
outcome train(std::size_t threads, std::uint64_t seed, std::uint64_t data_seed = 1) {
  plmscope::sae<plmscope::top_k, B> model({.d_model = 24,
                                           .features = 150,
                                           .sparsifier = {.k = 3},
                                           .seed = seed},
                                          B(threads));
  planted::reader<B> reader({.offset = 2, .seed = data_seed});
  plmscope::trainer fit{.steps = 300,
                        .batch = 203,
                        .optimizer = plmscope::adam{.lr = 3e-3},
                        .schedule = plmscope::warmup_decay{.warmup = 20, .decay_start = 200},
                        .dead = plmscope::aux_k{.dead_after = 3000},
                        .log_every = 10};
  outcome o;
  const auto last = fit(model, reader, [&](const plmscope::training_metrics& m) {
    if (m.aux_loss > 0) ++o.dead_steps;
    o.aux_loss += m.aux_loss;
  });
  o.loss = last.loss;
  model.parameters().for_each([&](const char*, auto& p) {
    const auto* from = reinterpret_cast<const unsigned char*>(p.data());
    o.parameters.insert(o.parameters.end(), from, from + p.size() * sizeof(*p.data()));
  });
  return o;
}

template <class B>
void check() {
  const outcome one = train<B>(1, 5);
  // What is compared is a real training: it learns, and AuxK works on dead latents.
  CHECK(one.loss < 1.0);
  CHECK(one.dead_steps >= 5);
  CHECK(one.aux_loss > 0);
  for (const std::size_t threads : std::vector<std::size_t>{1, 2, 3, 7}) {
    const outcome other = train<B>(threads, 5);
    INFO(threads, " threads");
    CHECK(other.parameters == one.parameters);
    CHECK(std::memcmp(&other.loss, &one.loss, sizeof one.loss) == 0);
    CHECK(std::memcmp(&other.aux_loss, &one.aux_loss, sizeof one.aux_loss) == 0);
  }
  CHECK(train<B>(2, 6).parameters != one.parameters);
  CHECK(train<B>(2, 5, 2).parameters != one.parameters);
}

TEST_CASE("a training run has the same bits for 1, 2, 3 and 7 threads") { check<plmscope::cpu>(); }

TEST_CASE("also in double") { check<plmscope::basic_cpu<double, plmscope::eigen_gemm>>(); }

#if defined(PLMSCOPE_TEST_HAS_ONEDNN)
TEST_CASE("also with oneDNN") { check<plmscope::basic_cpu<float, plmscope::onednn_gemm>>(); }
#endif

}  // namespace
