// SPDX-License-Identifier: MIT
// Forward passes of ESM-2 on proteins of mixed lengths (8M to 650M) beside Hugging Face
// transformers
#include "benchmarks/esm2_shares.hpp"
#include "benchmarks/rival_process.hpp"

#include <plmscope/backend/cpu.hpp>
#include <plmscope/core/thread_pool.hpp>
#include <plmscope/io/uniprot_tsv.hpp>
#include <plmscope/plm/collect.hpp>
#include <plmscope/plm/esm2.hpp>
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
#include <exception>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

#if defined(PLMSCOPE_PROGRAM_GEMM_ONEDNN)
using backend = plmscope::basic_cpu<float, plmscope::onednn_gemm>;
#elif defined(PLMSCOPE_PROGRAM_GEMM_OPENBLAS)
using backend = plmscope::basic_cpu<float, plmscope::openblas_gemm>;
#else
using backend = plmscope::cpu;
#endif
namespace fs = std::filesystem;

struct setting {
  std::vector<std::string> sizes{"8M", "35M", "150M", "650M"};
  std::size_t rounds = 5;
  std::size_t tokens = 0;  // about, of each size; 0: so many that a pass takes a few seconds
  std::size_t threads = plmscope::available_threads();
  plmscope::product_precision precision = plmscope::product_precision::fp32;  // of our products
  bool exact() const { return precision == plmscope::product_precision::fp32; }
  bool alone = false;
  bool shares = false;  // products beside their peak, and memory
};

double seconds(auto&& f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v.empty() ? 0 : (v[(v.size() - 1) / 2] + v[v.size() / 2]) / 2;
}

std::vector<double> numbers(const std::string& line) {
  std::istringstream in(line);
  std::vector<double> out;
  for (std::string word; in >> word;) out.push_back(std::strtod(word.c_str(), nullptr));
  return out;
}

plmscope::esm2_config shape_of(const std::string& size) {
  for (const auto& known : plmscope::esm2_sizes) {
    if (std::string(known.name).find("_" + size + "_") != std::string::npos) return known.config();
  }
  throw std::runtime_error("no published size is called " + size);
}

double flops(const plmscope::esm2_config& c, const plmscope::packed_batch& batch) {
  const auto d = static_cast<double>(c.d_model);
  double sum = 24 * d * d * static_cast<double>(batch.rows());
  for (std::size_t s = 0; s < batch.sequences(); ++s) {
    sum += 4 * d * static_cast<double>(batch.length(s)) * static_cast<double>(batch.length(s));
  }
  return sum * static_cast<double>(c.layers);
}

// Whole proteins of the bundled set, evenly picked, up to about `tokens`.
plmscope::packed_batch proteins(std::size_t tokens) {
  const auto all =
      plmscope::read_uniprot_tsv(fs::path(PLMSCOPE_SOURCE_DIR "/examples/data/uniprot_demo.tsv"));
  plmscope::packed_batch batch;
  for (std::size_t i = 0; batch.rows() < tokens; ++i) {
    const auto& p = all[i * 37 % all.size()];
    if (p.sequence.size() <= 1022) batch.add(p.sequence);
  }
  return batch;
}

void run(const std::string& size, const setting& s, rival_process* rival, const fs::path& folder) {
  const auto shape = shape_of(size);
  const double per_token = 24.0 * static_cast<double>(shape.layers * shape.d_model * shape.d_model);
  const std::size_t tokens =
      s.tokens != 0
          ? s.tokens
          : std::clamp<std::size_t>(static_cast<std::size_t>(4e11 / per_token), 700, 20000);
  const auto batch = proteins(tokens);
  backend be(s.threads);
  be = be.with(s.precision);
  const fs::path model_folder = folder / size;
  if (rival != nullptr) {
    std::ostringstream make;
    make << "make " << size << ' ' << shape.layers << ' ' << shape.d_model << ' ' << shape.heads
         << ' ' << model_folder.string();
    rival->ask(make.str());
  }
  auto esm = rival != nullptr
                 ? plmscope::esm2<backend>::load(model_folder, {.content_hash = false}, be)
                 : plmscope::esm2<backend>::random(shape, 1, be);
  if (s.shares) esm2_shares::print_memory(esm);
  const auto pass = [&] { esm.forward(batch, plmscope::no_hook{plmscope::final_norm{}}); };
  const double work = flops(shape, batch);
  std::printf("%s: %zu proteins, %zu tokens, %.0f GFLOP\n", size.c_str(), batch.sequences(),
              batch.rows(), work * 1e-9);
  if (s.shares) esm2_shares::print_products(esm, std::min<std::size_t>(batch.rows(), 2048));
  pass();
  std::vector<double> ours;
  if (rival == nullptr) {
    for (std::size_t r = 0; r < s.rounds; ++r) ours.push_back(seconds(pass));
    std::printf("  plmscope %.0f tokens/s, %.0f GFLOP/s\n",
                static_cast<double>(batch.rows()) / median(ours), work * 1e-9 / median(ours));
    return;
  }

  std::ostringstream lines;
  lines << "sequences " << batch.sequences();
  for (std::size_t q = 0; q < batch.sequences(); ++q) {
    lines << '\n';
    for (const auto t : batch.tokens().subspan(batch.first_row(q), batch.length(q)))
      lines << t << ' ';
  }
  rival->ask(lines.str());
  rival->ask("open " + model_folder.string() + (s.exact() ? " fp32" : " bf16"));
  // The same numbers first.
  plmscope::collect keep({plmscope::final_norm{}});
  esm.forward(batch, keep);
  const auto theirs = numbers(rival->ask("states 0"));
  double apart = 0;
  double norm = 0;
  for (std::size_t i = 0; i < theirs.size(); ++i) {
    const double x = static_cast<double>(keep.states(plmscope::final_norm{})[i]);
    apart += (x - theirs[i]) * (x - theirs[i]);
    norm += theirs[i] * theirs[i];
  }
  const double error = std::sqrt(apart / norm);
  std::printf("  the same states, relative L2 %.1g\n", error);
  if (!(error < (s.exact() ? 2e-5 : 6e-2)))
    throw std::runtime_error("the rival computes something else");

  std::istringstream names(rival->ask("forms"));
  std::map<std::string, std::vector<double>> forms;
  for (std::string name; names >> name;) forms[name];
  for (auto& [name, times] : forms) rival->ask("time " + name);  // warm
  for (std::size_t r = 0; r < s.rounds; ++r) {
    ours.push_back(seconds(pass));
    for (auto& [name, times] : forms) {
      times.push_back(std::strtod(rival->ask("time " + name).c_str(), nullptr));
    }
  }
  const auto tokens_per_second = [&](const std::vector<double>& t) {
    return static_cast<double>(batch.rows()) / median(t);
  };
  std::printf("  plmscope          %8.0f tokens/s %6.0f GFLOP/s\n", tokens_per_second(ours),
              work * 1e-9 / median(ours));
  std::string best;
  for (const auto& [name, times] : forms) {
    std::printf("  %-17s %8.0f tokens/s\n", name.c_str(), tokens_per_second(times));
    if (best.empty() || median(times) < median(forms[best])) best = name;
  }
  std::vector<double> ratios;
  for (std::size_t r = 0; r < s.rounds; ++r) ratios.push_back(forms[best][r] / ours[r]);
  std::printf("ratio esm2_forward_%s%s %.2f\n", size.c_str(),
              s.exact() ? "" : ("_" + std::string(to_string(s.precision))).c_str(), median(ratios));
  std::fflush(stdout);
}

int compare(const setting& s) {
  const char* python = std::getenv("PLMSCOPE_PYTHON");
  const char* script = std::getenv("PLMSCOPE_RIVAL");
  const std::string threads = std::to_string(s.threads);
  std::unique_ptr<rival_process> rival;
  if (!s.alone && python != nullptr) {
    rival = std::make_unique<rival_process>(
        std::vector<std::string>{
            python,
            script != nullptr ? script : PLMSCOPE_SOURCE_DIR "/benchmarks/esm2_forward_rival.py",
            threads},
        std::vector<std::string>{"OMP_NUM_THREADS=" + threads, "OMP_PROC_BIND=true",
                                 "MALLOC_MMAP_MAX_=0", "MALLOC_TRIM_THRESHOLD_=100000000000",
                                 "MALLOC_TOP_PAD_=268435456", "HF_HUB_OFFLINE=1"});
    std::printf("%s\n", rival->ask("about").c_str());
  }
  std::printf("plmscope: %s threads, products by %s\n", threads.c_str(),
              std::string(backend::gemm_name()).c_str());
  const fs::path folder =
      fs::temp_directory_path() / ("plmscope-esm2-forward-" + std::to_string(::getpid()));
  for (const auto& size : s.sizes) {
    run(size, s, rival.get(), folder);
    std::error_code ignored;
    fs::remove_all(folder, ignored);
  }
  return 0;
}

bool parse(int argc, char** argv, setting& s) {
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--bf16" || name == "--int8") {
      s.precision =
          name == "--bf16" ? plmscope::product_precision::bf16 : plmscope::product_precision::int8;
      continue;
    }
    if (name == "--alone" || name == "--shares") {
      (name == "--alone" ? s.alone : s.shares) = true;
      continue;
    }
    if (i + 1 == argc) return false;
    const std::string value = argv[++i];
    if (name == "--sizes") {
      s.sizes.clear();
      std::istringstream in(value);
      for (std::string one; std::getline(in, one, ',');) s.sizes.push_back(one);
    } else if (name == "--rounds") {
      s.rounds = std::max<std::size_t>(std::strtoull(value.c_str(), nullptr, 10), 1);
    } else if (name == "--tokens") {
      s.tokens = std::strtoull(value.c_str(), nullptr, 10);
    } else if (name == "--threads") {
      s.threads = std::max<std::size_t>(std::strtoull(value.c_str(), nullptr, 10), 1);
    } else {
      return false;
    }
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  setting s;
  if (!parse(argc, argv, s)) {
    std::fprintf(stderr,
                 "esm2_forward [--sizes 8M,35M,150M,650M] [--rounds N] [--tokens N] "
                 "[--threads N] [--bf16: products of both sides] "
                 "[--int8: our products, the rival in bf16] "
                 "[--alone: without the rival] [--shares: products beside their peak, memory]\n");
    return 2;
  }
  try {
    return compare(s);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
