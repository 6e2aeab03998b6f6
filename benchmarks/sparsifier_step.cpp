// SPDX-License-Identifier: MIT
// Time of one training step of every architecture as a multiple of TopK's (d 1280, F 10,240, 64
// latents a row, batch 2,048), beside PyTorch. AuxK runs with as many dead latents as asked for.
#include "benchmarks/rival_process.hpp"
#include "benchmarks/topk_stages.hpp"

#include <plmscope/sae/sparsifiers/batch_top_k.hpp>
#include <plmscope/sae/sparsifiers/gated.hpp>
#include <plmscope/sae/sparsifiers/group_max.hpp>
#include <plmscope/sae/sparsifiers/jump_relu.hpp>
#include <plmscope/sae/sparsifiers/relu.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace topk_step;
using plmscope::unit_norm;

/// What this benchmark is asked for beside the setting of a step.
struct request {
  std::string only;           ///< names separated by commas; empty: all
  std::size_t dead = 0;       ///< dead latents of top_k_aux_k; 0: every tenth
  std::size_t k_aux = 0;      ///< 0: half the width
  bool by_processor = false;  ///< processor time of all threads instead of wall time

  bool wants(const std::string& name) const {
    return only.empty() || ("," + only + ",").find("," + name + ",") != std::string::npos;
  }
};

/// Wall time; by processor that of all our threads, for machines that others use too.
double time_of(const std::function<void()>& work, bool by_processor) {
  if (!by_processor) return milliseconds(work);
  const auto start = std::clock();
  work();
  return 1e3 * static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
}

/// One architecture at work on the shared batches.
struct contender {
  std::string name;
  std::function<void()> step;
  std::function<plmscope::training_metrics()> metrics;
  std::vector<double> ms = {};
  std::vector<double> rival_ms = {};
};

/// What all contenders start from: TopK's weights, and the value that keeps k latents a row.
struct shared_start {
  std::vector<std::vector<float>> parameters;
  double threshold = 0;
};

template <class S, class Policies, class Prepare>
contender make(std::string name, const setting& s, backend& be, std::vector<matrix>& x,
               const shared_start& start, S sparsifier, Policies policies, Prepare prepare,
               plmscope::product_precision precision = plmscope::product_precision::fp32,
               bool screen = false) {
  using model_type = plmscope::sae<S, backend>;
  using run = plmscope::training_run<model_type, Policies>;
  struct state {
    model_type model;
    std::unique_ptr<run> training;
    std::size_t done = 0;
  };
  typename model_type::options o;
  o.d_model = s.d, o.features = s.features, o.sparsifier = sparsifier;
  o.encoder_product = precision;
  o.screen = screen;
  auto all = std::make_shared<state>(state{model_type(std::move(o), be), nullptr});
  std::size_t i = 0;
  all->model.parameters().for_each([&](const char*, auto& m) {
    if (i < start.parameters.size()) {
      be.upload(std::span<const float>(start.parameters[i++]), m.all());
    }
  });
  all->training = std::make_unique<run>(all->model, policies);
  prepare(*all);
  return {std::move(name), [all, &x] { all->training->step(x[all->done++ % x.size()], rate); },
          [all] { return all->training->metrics(); }};
}

std::vector<contender> contenders(const setting& s, const request& asked, backend& be,
                                  std::vector<matrix>& x, const shared_start& start) {
  const auto nothing = [](auto&) {};
  const auto t = static_cast<float>(start.threshold);
  const auto some_dead = [&](auto& c) {  // as if some latents, evenly spread, were silent for long
    const std::size_t n = asked.dead == 0 ? (s.features + 9) / 10 : asked.dead;
    std::vector<std::int64_t> since(s.features, 0);
    for (std::size_t i = 0; i < n; ++i) since[i * s.features / n] = 10'000'000;
    be.upload(std::span<const std::int64_t>(since), c.training->dead_state().since_fired.all());
    c.training->dead_state().next_check = 0;
    // and too small to be among the k largest
    auto& p = c.model.parameters();
    for (std::size_t f = 0; f < s.features; ++f) {
      if (since[f] == 0) continue;
      p.encoder_bias.data()[f] = 0;
      for (std::size_t j = 0; j < s.d; ++j) p.encoder(f, j) *= 0.05f;
    }
  };
  const auto shift = [t](auto& c) {  // ReLU at the same number of active latents
    auto& bias = c.model.parameters().encoder_bias;
    for (std::size_t f = 0; f < bias.cols(); ++f) bias.data()[f] -= t;
  };
  const auto thresholds = [t](auto& c) {
    auto& theta = c.model.parameters().latent[0].values;
    std::fill_n(theta.data(), theta.cols(), t);
  };
  const auto gates = [t](auto& c) {
    auto& gate = c.model.parameters().latent[0].values;
    std::fill_n(gate.data(), gate.cols(), -t);
  };
  const double k = static_cast<double>(s.k);
  std::vector<std::uint32_t> ends;
  for (const std::size_t share : {16u, 8u, 4u, 2u, 1u}) {
    ends.push_back(static_cast<std::uint32_t>(s.features / share));
  }
  const plmscope::trainer<> plain;
  std::vector<contender> all;
  const auto add = [&](const std::string& name, auto... rest) {
    if (asked.wants(name) || all.empty()) all.push_back(make(name, s, be, x, start, rest...));
  };
  add("top_k", plmscope::top_k{s.k}, plain, nothing);
  if (backend::computes(plmscope::product_precision::bf16)) {
    add("top_k_bf16", plmscope::top_k{s.k}, plain, nothing, plmscope::product_precision::bf16);
    add("top_k_screened", plmscope::top_k{s.k}, plain, nothing, plmscope::product_precision::fp32,
        true);
  }
  add("batch_top_k", plmscope::batch_top_k{.k = k}, plain, nothing);
  add("jump_relu", plmscope::jump_relu{.bandwidth = start.threshold / 10},
      plmscope::trainer{.penalty = plmscope::l0_penalty{.weight = {1e-3}}}, thresholds);
  add("relu_l1", plmscope::relu{},
      plmscope::trainer{
          .penalty =
              plmscope::l1_penalty{.weight = {1e-3}, .length = plmscope::penalised_length::none}},
      shift);
  add("gated", plmscope::gated{},
      plmscope::trainer{.penalty = plmscope::l1_penalty{.weight = {1e-3}},
                        .dead = plmscope::aux_k{.alpha = 0}},
      gates);
  add("group_max", plmscope::group_max{s.k}, plain, nothing);
  add("top_k_aux_k", plmscope::top_k{s.k},
      plmscope::trainer{.dead = plmscope::aux_k{.k = asked.k_aux}}, some_dead);
  if (backend::computes(plmscope::product_precision::bf16)) {
    add("top_k_aux_k_bf16", plmscope::top_k{s.k},
        plmscope::trainer{.dead = plmscope::aux_k{.k = asked.k_aux,
                                                  .product = plmscope::product_precision::bf16}},
        some_dead);
  }
  add("matryoshka", plmscope::top_k{s.k}, plmscope::trainer{.plan = plmscope::matryoshka{ends}},
      nothing);
  add("batch_matryoshka", plmscope::batch_top_k{.k = k},
      plmscope::trainer{.plan = plmscope::matryoshka{ends}}, nothing);
  return all;
}

shared_start begin(const setting& s, backend& be, std::vector<matrix>& x) {
  ours o(s);
  o.step();  // brings the bias gradient to life
  shared_start start;
  o.model.parameters().for_each(
      [&](const char*, auto& m) { start.parameters.emplace_back(m.data(), m.data() + m.size()); });
  for (auto& batch : o.x) x.push_back(std::move(batch));
  // The smallest of the k m values that BatchTopK keeps of the first batch.
  plmscope::sae<plmscope::batch_top_k, backend> model({.d_model = s.d, .features = s.features}, be);
  std::size_t i = 0;
  model.parameters().for_each([&](const char*, auto& m) {
    be.upload(std::span<const float>(start.parameters[i++]), m.all());
  });
  plmscope::codes<backend> z;
  matrix last(be, 1, 1);
  z.clear(be, s.features);
  model.for_each_tile(model.centred(cmat(x[0])), [&](cmat pre) {
    be.batch_top_n(pre, s.k * s.batch, plmscope::by_value{}, z, last.all());
  });
  start.threshold = last.data()[0];
  return start;
}

double seconds_of(rival_process& rival, const std::string& name) {
  return std::strtod(rival.ask("time " + name).c_str(), nullptr);
}

int compare(const setting& s, const request& asked) {
  backend be(s.threads);
  std::vector<matrix> x;
  const shared_start start = begin(s, be, x);
  std::unique_ptr<rival_process> rival;
  const char* python = std::getenv("PLMSCOPE_PYTHON");
  if (!s.alone && python != nullptr) {
    const std::string threads = std::to_string(s.threads);
    rival = std::make_unique<rival_process>(
        std::vector<std::string>{python,
                                 PLMSCOPE_SOURCE_DIR "/benchmarks/sparsifier_step_rival.py"},
        std::vector<std::string>{"OMP_NUM_THREADS=" + threads, "OMP_PROC_BIND=true",
                                 "MALLOC_MMAP_MAX_=0", "MALLOC_TRIM_THRESHOLD_=100000000000",
                                 "MALLOC_TOP_PAD_=268435456"});
    std::ostringstream first;
    first << s.d << ' ' << s.features << ' ' << s.k << ' ' << s.batch << ' ' << x.size() << ' '
          << threads << ' ' << rate << ' ' << start.threshold << '\n';
    rival->send(first.str().data(), first.str().size());
    for (const auto& p : start.parameters) rival->send(p.data(), p.size() * sizeof(float));
    for (const auto& b : x) rival->send(b.data(), b.size() * sizeof(float));
    std::printf("%s\n", rival->ask("about").c_str());
  }
  bind_threads(be.pool());
  auto all = contenders(s, asked, be, x, start);
  for (auto& c : all) {
    c.step();
    const auto m = c.metrics();
    std::printf("%-18s loss %.4f, %.1f active a row, %.0f %% dead", c.name.c_str(), m.loss, m.l0,
                100 * m.dead_share);
    if (rival) {
      const std::string theirs = rival->ask("loss " + c.name);
      if (theirs != "none") {
        const double loss = std::strtod(theirs.c_str(), nullptr);
        std::printf("; torch has %.4f", loss);
        if (!(std::abs(loss - m.loss) < 1e-3 * m.loss)) {
          std::printf("\n");
          std::fprintf(stderr, "torch computes another step\n");
          return 1;
        }
      }
    }
    std::printf("\n");
    std::fflush(stdout);
  }
  for (std::size_t round = 0; round < s.rounds; ++round) {
    for (auto& c : all) {
      c.step();
      std::vector<double> here;
      for (std::size_t i = 0; i < s.steps; ++i) {
        here.push_back(time_of(c.step, asked.by_processor));
      }
      c.ms.push_back(median(here));
      if (rival) {
        const double theirs = seconds_of(*rival, c.name);
        if (theirs > 0) c.rival_ms.push_back(1000 * theirs);
      }
    }
  }
  for (const auto& c : all) {
    std::vector<double> ratios, rivals;
    for (std::size_t r = 0; r < c.ms.size(); ++r) ratios.push_back(c.ms[r] / all[0].ms[r]);
    for (std::size_t r = 0; r < c.rival_ms.size(); ++r) rivals.push_back(c.rival_ms[r] / c.ms[r]);
    std::printf("%-18s %8.1f ms a step", c.name.c_str(), median(c.ms));
    if (!rivals.empty())
      std::printf(", torch %8.1f ms: %.1f times as long", median(c.rival_ms), median(rivals));
    std::printf("\nratio step_%s_to_top_k %.2f\n", c.name.c_str(), median(ratios));
  }
  return 0;
}

bool parse(int argc, char** argv, setting& s, request& asked) {
  const std::vector<std::pair<std::string, std::size_t*>> known{{"--d", &s.d},
                                                                {"--features", &s.features},
                                                                {"--k", &s.k},
                                                                {"--batch", &s.batch},
                                                                {"--rounds", &s.rounds},
                                                                {"--steps", &s.steps},
                                                                {"--threads", &s.threads},
                                                                {"--dead", &asked.dead},
                                                                {"--k-aux", &asked.k_aux}};
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--alone") {
      s.alone = true;
      continue;
    }
    if (name == "--processor-time") {
      asked.by_processor = s.alone = true;
      continue;
    }
    if (name == "--only" && i + 1 < argc) {
      asked.only = argv[++i];
      continue;
    }
    const auto at =
        std::find_if(known.begin(), known.end(), [&](auto& k) { return k.first == name; });
    if (at == known.end() || i + 1 == argc) return false;
    *at->second = std::max<std::size_t>(std::strtoull(argv[++i], nullptr, 10), 1);
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  setting s;
  request asked;
  s.rounds = 5;
  s.steps = 3;
  if (!parse(argc, argv, s, asked)) {
    std::fprintf(stderr,
                 "sparsifier_step [--d N] [--features N] [--k N] [--batch N] [--rounds N] "
                 "[--steps N] [--threads N] [--alone: without the rival] [--only NAME,..] "
                 "[--dead N] [--k-aux N] [--processor-time: of all threads, without the rival]\n");
    return 2;
  }
  try {
    return compare(s, asked);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
