// SPDX-License-Identifier: MIT
// Time of one TopK training step (d 1280, F 10,240, k 64, batch 2,048) beside PyTorch
#include "benchmarks/rival_process.hpp"
#include "benchmarks/topk_stages.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fstream>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace topk_step;

double peak_mebibytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::strtod(line.c_str() + 6, nullptr) / 1024;
  }
  return 0;
}

void print_breakdown(ours& o, const setting& s, double memory) {
  // The machine may have another speed now than in the rounds: the step as a whole once more.
  const double before = median_of(5, [&] { o.step(); });
  double peak = 0;
  const auto parts = stages(o, s, peak);
  const double step_ms = (before + median_of(5, [&] { o.step(); })) / 2;
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
  const double data = double(batches * s.batch * s.d) * sizeof(float) / 1048576;
  if (s.json) {
    std::printf("{\"peak_gflops\": %.1f, \"product_gflops\": %.1f, \"floor_share\": %.3f}\n", peak,
                product / parts[0].ms, product / peak / step_ms);
    std::printf("{\"peak_mib\": %.0f, \"dense_mib\": %.0f, \"parameters_mib\": %.0f, "
                "\"data_mib\": %.0f}\n",
                memory, dense, parameters, data);
    return;
  }
  std::printf("  %-22s %8.2f ms, measured one by one; the whole step beside them %.2f ms\n", "sum",
              sum, step_ms);
  std::printf("encoder product: %.0f GFLOP/s, %.0f %% of the %.0f reached with packed weights\n",
              product / parts[0].ms, 100 * product / parts[0].ms / peak, peak);
  std::printf("floor (that product alone at the best rate): %.1f ms, %.0f %% of the step\n",
              product / peak, 100 * product / peak / step_ms);
  std::printf("peak memory: %.0f MiB, of which parameters, gradients and moments %.0f and the "
              "batches here %.0f;\n  %.0f MiB for the work, against %.0f for five dense [batch, F] "
              "arrays\n",
              memory, parameters, data, memory - parameters - data, dense);
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

/// Last line: the ratio to `dense`, which the rival lists first.
void print_ratios(const setting& s, const std::vector<form>& forms, const std::vector<double>& ms) {
  for (auto f = forms.rbegin(); f != forms.rend(); ++f) {
    std::vector<double> ratios;
    for (std::size_t i = 0; i < ms.size(); ++i) ratios.push_back(f->ms[i] / ms[i]);
    const auto [least, most] = std::minmax_element(ratios.begin(), ratios.end());
    if (!s.json) {
      std::printf("torch %s: %.1f ms a step, ratio by round %.2f .. %.2f\n", f->name.c_str(),
                  median(f->ms), *least, *most);
    }
    const std::string which = f->name == "dense" ? "" : "_" + f->name;
    std::printf("ratio topk_step%s %.2f\n", which.c_str(), median(ratios));
  }
}

int compare(const setting& s) {
  ours o(s);
  const auto rival = start_rival(o, s);  // before this process binds its threads
  bind_threads(o.be.pool());
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
      f.ms.push_back(median(numbers(rival->ask("time " + f.name + " 1"))));
      if (!s.json) continue;
      std::printf("{\"round\": %zu, \"%s\": %.3f}\n", round, f.name.c_str(), f.ms.back());
    }
    std::fflush(stdout);
  }
  const double memory = peak_mebibytes();
  if (o.run->metrics().dead_share > 0) std::printf("note: some latents are dead\n");
  if (!s.json) {
    std::printf("plmscope: %.2f ms a step, median of %zu rounds\n", median(ms), s.rounds);
  }
  print_breakdown(o, s, memory);
  print_ratios(s, forms, ms);
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
      const auto named = [&](const auto& f) { return std::strcmp(f.first, argv[i]) == 0; };
      const auto hit = std::find_if(known.begin(), known.end(), named);
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
