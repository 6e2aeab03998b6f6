// SPDX-License-Identifier: MIT
// Time of one TopK training step (d 1280, F 10,240, k 64, batch 2,048) beside PyTorch
#include "benchmarks/rival_process.hpp"

#include <plmscope/backend/cpu.hpp>
#include <plmscope/core/rng.hpp>
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
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fstream>
#include <functional>
#include <limits>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

namespace {

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
  std::size_t steps = 5;  // timed steps of ours in a round; the rival does one
  std::size_t threads = plmscope::available_threads();
  bool json = false;
  bool alone = false;
};

double milliseconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> v) {
  if (v.empty()) return 0;
  std::sort(v.begin(), v.end());
  return v.size() % 2 == 1 ? v[v.size() / 2] : (v[v.size() / 2 - 1] + v[v.size() / 2]) / 2;
}

double median_of(std::size_t times, const std::function<void()>& work) {
  std::vector<double> ms;
  work();
  for (std::size_t i = 0; i < times; ++i) ms.push_back(milliseconds(work));
  return median(ms);
}

double peak_mebibytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::strtod(line.c_str() + 6, nullptr) / 1024;
  }
  return 0;
}

/// Rows of 32 random directions out of as many as there are latents, and noise: every row has its
/// own latents, as activations have.
matrix make_batch(backend& be, const setting& s, std::size_t which) {
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
        if (j % 32 == 0) bits = static_cast<std::uint64_t>(direction.uniform(j / 32) * 4294967296.0);
        row[j] += (bits >> (j % 32) & 1) != 0 ? weight : -weight;
      }
    }
  });
  return x;
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

// ---- the stages of a step, each timed on its own with the step's data ----

struct stage {
  const char* name;
  double ms;
};

std::vector<stage> stages(ours& o, const setting& s, double& peak_gflops) {
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
  time("projection and norm", [&] {
    t.dictionary.before_clip(be, p, gradient);
    be.fill(slot.all(), 0.0);
    gradient.for_each([&](const char*, auto& m) {
      be.add_sum_squares(cmat(m), slot.all().col_range(0, 1));
    });
    be.clip_factor(slot.all().col_range(0, 1), 1.0, slot.all().col_range(1, 1));
  });
  auto state = t.optimizer.start(be, p);
  time("Adam and unit norm", [&] {
    t.optimizer.step(be, p, gradient, state, 1e-9,
                     plmscope::const_view<backend, double>(slot.all().col_range(1, 1)));
    t.dictionary.after_step(be, p);
  });

  // What this processor's product reaches at best: the same provider on packed weights, no tiling.
  const auto packed = be.pack(p.encoder);
  matrix large(be, tile, s.features);
  double best = std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < 12; ++i) {
    best = std::min(best, milliseconds([&] { be.linear(cmat(x).row_range(0, tile), packed, {}, large); }));
  }
  peak_gflops = 2e-6 * double(tile) * double(s.features) * double(s.d) / best;
  return out;
}

void print_breakdown(ours& o, const setting& s, double step_ms, double memory) {
  double peak = 0;
  const auto parts = stages(o, s, peak);
  const double product = 2e-6 * double(s.batch) * double(s.features) * double(s.d);
  double sum = 0;
  for (const auto& part : parts) sum += part.ms;
  for (const auto& part : parts) {
    if (s.json) {
      std::printf("{\"stage\": \"%s\", \"ms\": %.3f}\n", part.name, part.ms);
    } else {
      std::printf("  %-22s %8.2f ms %5.1f %%\n", part.name, part.ms, 100 * part.ms / sum);
    }
  }
  const double dense = 5.0 * double(s.batch) * double(s.features) * sizeof(float) / 1048576;
  const double parameters = 4.0 * 2.0 * double(s.features) * double(s.d) * sizeof(float) / 1048576;
  if (s.json) {
    std::printf("{\"peak_gflops\": %.1f, \"product_gflops\": %.1f, \"floor_share\": %.3f, "
                "\"peak_mib\": %.0f, \"dense_mib\": %.0f, \"parameters_mib\": %.0f}\n",
                peak, product / parts[0].ms, product / peak / step_ms, memory, dense, parameters);
    return;
  }
  std::printf("  %-22s %8.2f ms, measured one by one; the step as a whole %.2f ms\n", "sum", sum,
              step_ms);
  std::printf("encoder product: %.0f GFLOP/s, %.0f %% of the %.0f reached with packed weights\n",
              product / parts[0].ms, 100 * product / parts[0].ms / peak, peak);
  std::printf("floor (that product alone at the best rate): %.1f ms, %.0f %% of the step\n",
              product / peak, 100 * product / peak / step_ms);
  std::printf("peak memory: %.0f MiB, of which %.0f are parameters, gradients and moments; the five "
              "dense [batch, F] arrays of a dense step alone: %.0f MiB\n",
              memory, parameters, dense);
}

// ---- the rival ----

std::vector<double> numbers(const std::string& line) {
  std::istringstream in(line);
  std::vector<double> out;
  for (std::string word; in >> word;) out.push_back(std::strtod(word.c_str(), nullptr));
  return out;
}

std::unique_ptr<rival_process> start_rival(ours& o, const setting& s) {
  const char* python = std::getenv("PLMSCOPE_PYTHON");
  const char* script = std::getenv("PLMSCOPE_RIVAL");
  if (s.alone || python == nullptr) return nullptr;
  const std::string threads = std::to_string(s.threads);
  // Settings that made torch fastest: threads bound to cores, and large blocks of memory kept
  // instead of returned to the system after every operation.
  auto rival = std::make_unique<rival_process>(
      std::vector<std::string>{python, script != nullptr ? script
                                                         : PLMSCOPE_SOURCE_DIR
                                                               "/benchmarks/topk_step_rival.py"},
      std::vector<std::string>{"OMP_NUM_THREADS=" + threads, "OMP_PROC_BIND=true",
                               "MALLOC_MMAP_MAX_=0", "MALLOC_TRIM_THRESHOLD_=100000000000",
                               "MALLOC_TOP_PAD_=268435456", "OPENBLAS_CORETYPE",
                               "OPENBLAS_L2_SIZE"});
  std::ostringstream first;
  first << s.d << ' ' << s.features << ' ' << s.k << ' ' << s.batch << ' ' << batches << ' '
        << threads << ' ' << rate << '\n';
  rival->send(first.str().data(), first.str().size());
  o.model.parameters().for_each(
      [&](const char*, auto& m) { rival->send(m.data(), m.size() * sizeof(float)); });
  for (const auto& x : o.x) rival->send(x.data(), x.size() * sizeof(float));
  return rival;
}

struct form {
  std::string name;
  std::vector<double> ms = {};
};

/// Both sides take the same steps from the same weights; the largest relative difference of a loss.
double verify(rival_process& rival, const form& f, const std::vector<double>& losses) {
  const auto theirs = numbers(rival.ask("losses " + f.name + " " + std::to_string(verify_steps)));
  if (theirs.size() != losses.size()) throw std::runtime_error("the rival's losses are missing");
  double worst = 0;
  for (std::size_t i = 0; i < losses.size(); ++i) {
    worst = std::max(worst, std::abs(theirs[i] - losses[i]) / std::abs(losses[i]));
  }
  return worst;
}

int compare(const setting& s) {
  ours o(s);
  const auto rival = start_rival(o, s);
  if (!s.json) {
    std::printf("TopK step: d %zu, F %zu, k %zu, batch %zu, %zu threads, products by %s\n", s.d,
                s.features, s.k, s.batch, s.threads, std::string(backend::gemm_name()).c_str());
  }
  std::vector<double> losses;
  double norm = 0;
  for (std::size_t i = 0; i < verify_steps; ++i) {
    o.step();
    const auto m = o.run->metrics();
    losses.push_back(m.loss);
    norm = m.gradient_norm;
  }
  if (!s.json) {
    std::printf("loss of %zu steps: %.6f -> %.6f (gradient norm %.3f)\n", verify_steps,
                losses.front(), losses.back(), norm);
  }
  std::vector<form> forms;
  if (rival) {
    std::istringstream names(rival->ask("forms"));
    for (std::string name; names >> name;) forms.push_back({name});
    for (const auto& f : forms) {
      const double worst = verify(*rival, f, losses);
      std::printf(s.json ? "{\"verify\": \"%s\", \"worst\": %.3g}\n"
                         : "torch %s: the same losses, largest relative difference %.1g\n",
                  f.name.c_str(), worst);
      if (!(worst < 1e-4)) {
        std::fprintf(stderr, "torch %s does not compute the same step\n", f.name.c_str());
        return 1;
      }
    }
    if (!s.json) std::printf("%s\n", rival->ask("about").c_str());
  }
  std::vector<double> ms;
  for (std::size_t round = 0; round < s.rounds; ++round) {
    o.step();  // brings our data back into the caches and wakes the threads
    std::vector<double> here;
    for (std::size_t i = 0; i < s.steps; ++i) here.push_back(milliseconds([&] { o.step(); }));
    ms.push_back(median(here));
    if (s.json) std::printf("{\"round\": %zu, \"plmscope\": %.3f}\n", round, ms.back());
    for (auto& f : forms) {
      f.ms.push_back(median(numbers(rival->ask("time " + f.name + " 2"))));
      if (s.json) std::printf("{\"round\": %zu, \"%s\": %.3f}\n", round, f.name.c_str(), f.ms.back());
    }
    std::fflush(stdout);
  }
  const double memory = peak_mebibytes();
  if (o.run->metrics().dead_share > 0) std::printf("note: some latents are dead\n");
  const double step_ms = median(ms);
  if (!s.json) std::printf("plmscope: %.2f ms a step, median of %zu rounds\n", step_ms, s.rounds);
  print_breakdown(o, s, step_ms, memory);
  for (const auto& f : forms) {
    std::vector<double> ratios;
    for (std::size_t i = 0; i < ms.size(); ++i) ratios.push_back(f.ms[i] / ms[i]);
    std::sort(ratios.begin(), ratios.end());
    const bool main = f.name == "dense";
    std::printf(s.json ? "" : "torch %s: %.1f ms a step, ratio by round %.2f .. %.2f\n",
                f.name.c_str(), median(f.ms), ratios.front(), ratios.back());
    if (!main) std::printf("ratio topk_step_%s %.2f\n", f.name.c_str(), median(ratios));
  }
  for (const auto& f : forms) {
    if (f.name != "dense") continue;
    std::vector<double> ratios;
    for (std::size_t i = 0; i < ms.size(); ++i) ratios.push_back(f.ms[i] / ms[i]);
    std::printf("ratio topk_step %.2f\n", median(ratios));
  }
  return 0;
}

bool parse(int argc, char** argv, setting& s) {
  const std::vector<std::pair<const char*, std::size_t*>> known{
      {"--d", &s.d},           {"--features", &s.features}, {"--k", &s.k},
      {"--batch", &s.batch},   {"--rounds", &s.rounds},     {"--steps", &s.steps},
      {"--threads", &s.threads}};
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--json") == 0) {
      s.json = true;
    } else if (std::strcmp(argv[i], "--alone") == 0) {
      s.alone = true;
    } else {
      const auto hit = std::find_if(known.begin(), known.end(),
                                    [&](const auto& f) { return std::strcmp(f.first, argv[i]) == 0; });
      if (hit == known.end() || i + 1 == argc) return false;
      *hit->second = std::strtoull(argv[++i], nullptr, 10);
      if (*hit->second == 0) return false;
    }
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  setting s;
  if (!parse(argc, argv, s)) {
    std::fprintf(stderr, "topk_step [--d N] [--features N] [--k N] [--batch N] [--rounds N] "
                         "[--steps N] [--threads N] [--json] [--alone: without the rival]\n");
    return 2;
  }
  try {
    return compare(s);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
