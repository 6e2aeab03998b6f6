// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/cpu.hpp>
#include <plmscope/core/rng.hpp>
#include <plmscope/core/thread_pool.hpp>
#include <plmscope/sae/sae.hpp>
#include <plmscope/tensor/codes_by_feature.hpp>
#include <plmscope/tensor/matrix.hpp>
#include <plmscope/train/trainer.hpp>
#if defined(PLMSCOPE_PROGRAM_GEMM_ONEDNN)
#include <plmscope/backend/cpu/gemm_onednn.hpp>
#elif defined(PLMSCOPE_PROGRAM_GEMM_OPENBLAS)
#include <plmscope/backend/cpu/gemm_openblas.hpp>
#endif

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif

// Our side of topk_step: the training run, its data, and the stages of a step one by one.
namespace topk_step {

#if defined(PLMSCOPE_PROGRAM_GEMM_ONEDNN)
using backend = plmscope::basic_cpu<float, plmscope::onednn_gemm>;
#elif defined(PLMSCOPE_PROGRAM_GEMM_OPENBLAS)
using backend = plmscope::basic_cpu<float, plmscope::openblas_gemm>;
#else
using backend = plmscope::basic_cpu<float, plmscope::eigen_gemm>;
#endif
using sae = plmscope::sae<plmscope::top_k, backend>;
using run_type = plmscope::training_run<sae, plmscope::trainer<>>;
using matrix = plmscope::matrix<float, backend>;
using cmat = plmscope::const_view<backend>;

constexpr double rate = 2e-4;
constexpr std::size_t batches = 4;
constexpr std::size_t verify_steps = 5;

struct setting {
  std::size_t d = 1280;
  std::size_t features = 10240;
  std::size_t k = 64;
  std::size_t batch = 2048;
  std::size_t rounds = 7;
  std::size_t steps = 5;  // timed steps of ours in a round; of the rival, ten times slower, one
  std::size_t threads = plmscope::available_threads();
  bool json = false;
  bool alone = false;
};

inline double milliseconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  const auto time = std::chrono::steady_clock::now() - start;
  return std::chrono::duration<double, std::milli>(time).count();
}

inline double median(std::vector<double> v) {
  if (v.empty()) return 0;
  std::sort(v.begin(), v.end());
  return v.size() % 2 == 1 ? v[v.size() / 2] : (v[v.size() / 2 - 1] + v[v.size() / 2]) / 2;
}

inline double median_of(std::size_t times, const std::function<void()>& work) {
  std::vector<double> ms;
  work();
  for (std::size_t i = 0; i < times; ++i) ms.push_back(milliseconds(work));
  return median(ms);
}

/// Rows of 32 random directions out of as many as there are latents, and noise: every row has its
/// own latents, as activations have.
inline matrix make_batch(backend& be, const setting& s, std::size_t which) {
  const plmscope::rng random(17 + which, 1);
  matrix x(be, s.batch, s.d);
  be.pool().run(s.batch, [&](std::size_t r) {
    float* row = x.data() + r * s.d;
    for (std::size_t j = 0; j < s.d; ++j) row[j] = 0.1f * float(random.normal(r * s.d + j));
    const plmscope::rng choice(29 + which, r + 2);
    for (std::size_t e = 0; e < 32; ++e) {
      const auto id = static_cast<std::uint64_t>(choice.uniform(2 * e) * double(s.features));
      const float weight = float(0.1 + 0.4 * choice.uniform(2 * e + 1));
      const plmscope::rng direction(5, id + 3);
      std::uint64_t bits = 0;  // a direction of random signs: cheap and nearly orthogonal
      for (std::size_t j = 0; j < s.d; ++j) {
        if (j % 32 == 0) bits = static_cast<std::uint64_t>(direction.uniform(j / 32) * 0x1p32);
        row[j] += (bits >> (j % 32) & 1) != 0 ? weight : -weight;
      }
    }
  });
  return x;
}

/// Binds every thread of the pool to a processor of its own, as the rival's threads are: left
/// alone, two threads may share one for seconds.
inline void bind_threads(plmscope::thread_pool& pool) {
#if defined(__linux__)
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  std::vector<std::size_t> processors;
  for (std::size_t i = 0; i < CPU_SETSIZE; ++i) {
    if (CPU_ISSET(i, &allowed)) processors.push_back(i);
  }
  if (processors.size() < pool.threads()) return;
  std::barrier all(static_cast<std::ptrdiff_t>(pool.threads()));
  pool.run(pool.threads(), [&](std::size_t i) {
    all.arrive_and_wait();  // so that each thread takes one
    cpu_set_t mine;
    CPU_ZERO(&mine);
    CPU_SET(processors[i], &mine);
    sched_setaffinity(0, sizeof mine, &mine);
  });
#else
  static_cast<void>(pool);
#endif
}

struct ours {
  explicit ours(const setting& s)
      : be(s.threads),
        model({.d_model = s.d, .features = s.features, .sparsifier = {.k = s.k}, .seed = 1}, be),
        run(std::make_unique<run_type>(model, plmscope::trainer<>{})) {
    for (std::size_t b = 0; b < batches; ++b) x.push_back(make_batch(be, s, b));
  }
  void step() { run->step(x[done++ % batches], rate); }

  backend be;
  sae model;
  std::unique_ptr<run_type> run;
  std::vector<matrix> x;
  std::size_t done = 0;
};

struct stage {
  const char* name;
  double ms;
};

/// The stages of a step, each timed on its own with the step's data, and the best rate (GFLOP/s)
/// that the product reaches.
inline std::vector<stage> stages(ours& o, const setting& s, double& peak_gflops) {
  auto& be = o.be;
  auto& p = o.model.parameters();
  const plmscope::trainer<> t;
  const std::size_t times = 7;
  std::vector<stage> out;
  const auto time = [&](const char* name, const std::function<void()>& work) {
    out.push_back({name, median_of(times, work)});
  };
  matrix x(be, s.batch, s.d);
  be.copy(cmat(o.x[0]), x.all());
  matrix pre(be, std::min<std::size_t>(s.batch, 1024), s.features);
  plmscope::codes<backend> z;
  const std::size_t tile = pre.rows();
  const auto select = [&](bool product, bool rest) {
    z.clear(be, s.features);
    for (std::size_t first = 0; first < s.batch; first += tile) {
      const std::size_t rows = std::min(tile, s.batch - first);
      const auto part = pre.all().row_range(0, rows);
      if (product) be.gemm_nt(cmat(x).row_range(first, rows), p.encoder, part);
      if (rest) {
        be.add_row(part, p.encoder_bias);
        be.top_k_rows(cmat(part), s.k, plmscope::by_value{}, z);
      }
    }
  };
  time("encoder product", [&] { select(true, false); });
  time("bias and selection", [&] { select(false, true); });
  select(true, true);

  matrix g(be, s.batch, s.d);
  matrix dz(be, 1, std::max<std::size_t>(z.entries(), 1));
  matrix rows(be, 3, s.batch);
  const plmscope::weighted_squares<float> loss{.scale = 1.0f / float(s.batch)};
  time("decode and dots", [&] {
    be.reconstruct(z, p.decoder, p.decoder_bias, cmat(x), loss, g, dz, rows);
  });
  plmscope::codes_by_feature<backend> by_feature;
  time("transpose", [&] { be.transpose(z, by_feature); });
  plmscope::sae_parameters<backend> gradient(be, s.features, s.d);
  time("gradients", [&] {
    be.sparse_backward(by_feature, cmat(z.values(), 1, z.entries()), dz, g, x, gradient.decoder,
                       gradient.encoder, gradient.encoder_bias);
    be.column_sums(g, gradient.decoder_bias);
    be.weighted_row_sum(p.encoder, gradient.encoder_bias, gradient.decoder_bias, -1.0f);
  });
  plmscope::matrix<double, backend> slot(be, 1, 2);
  plmscope::dictionary_training<decltype(t.dictionary), backend> dictionary(be, t.dictionary,
                                                                            t.optimizer, p);
  time("norm and clipping", [&] {
    dictionary.before_clip(t.dictionary, be, p, gradient);
    be.fill(slot.all(), 0.0);
    dictionary.add_squares(be, p, gradient, slot.all().col_range(0, 1));
    be.clip_factor(slot.all().col_range(0, 1), 1.0, slot.all().col_range(1, 1));
  });
  auto state = t.optimizer.start(be, p);
  time("Adam and unit norm", [&] {
    const plmscope::const_view<backend, double> factor = slot.all().col_range(1, 1);
    dictionary.step(t.dictionary, t.optimizer, be, p, gradient, state, 1e-9, factor);
  });

  // What this processor's product reaches at best: the same provider on packed weights, no tiling.
  const auto packed = be.pack(p.encoder);
  matrix large(be, tile, s.features);
  double best = std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < 12; ++i) {
    const auto rows_of_tile = cmat(x).row_range(0, tile);
    best = std::min(best, milliseconds([&] { be.linear(rows_of_tile, packed, {}, large); }));
  }
  peak_gflops = 2e-6 * double(tile) * double(s.features) * double(s.d) / best;
  return out;
}

}  // namespace topk_step
