// SPDX-License-Identifier: MIT
// What the GPU does in a second: the TopK step, the encoder product, attention, ESM-2, and all
// of it together. Prints lines `NAME VALUE UNIT`; benchmarks/gpu.sh sets them beside gpu_rival.py.
#include <plmscope/cuda.cuh>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using plmscope::cuda;
using plmscope::product_precision;
using matrix = plmscope::matrix<float, cuda>;
using sae = plmscope::sae<plmscope::top_k, cuda>;
using run_type = plmscope::training_run<sae, plmscope::trainer<>>;

struct setting {
  std::size_t d = 1280;
  std::size_t features = 10240;
  std::size_t k = 64;
  std::size_t batch = 4096;
  plmscope::esm2_config model = plmscope::esm2_sizes[3].config();
  std::size_t site = 24;
  std::size_t sequences = 256;
  std::size_t rounds = 7;
};

constexpr std::pair<product_precision, const char*> precisions[] = {
    {product_precision::fp32, "fp32"},
    {product_precision::tf32, "tf32"},
    {product_precision::bf16, "bf16"}};

/// Seconds of one call of work, the median of `rounds` calls of `inner` repetitions each.
template <class F>
double seconds(cuda& be, std::size_t rounds, std::size_t inner, const F& work) {
  for (std::size_t i = 0; i < 3; ++i) work();
  std::vector<double> all;
  for (std::size_t r = 0; r < rounds; ++r) {
    be.synchronize();
    const auto start = std::chrono::steady_clock::now();
    for (std::size_t i = 0; i < inner; ++i) work();
    be.synchronize();
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    all.push_back(time.count() / static_cast<double>(inner));
  }
  std::sort(all.begin(), all.end());
  return all[all.size() / 2];
}

void say(const std::string& name, double value, const char* unit) {
  std::printf("%-28s %12.4g %s\n", name.c_str(), value, unit);
  std::fflush(stdout);
}

matrix random_rows(cuda& be, std::size_t rows, std::size_t cols, std::uint64_t seed) {
  const plmscope::rng random(seed);
  std::vector<float> host(rows * cols);
  for (std::size_t i = 0; i < host.size(); ++i) host[i] = static_cast<float>(random.normal(i));
  matrix x(be, rows, cols);
  be.upload(std::span<const float>(host), x.all());
  return x;
}

void time_step(cuda& device, const setting& s) {
  const matrix x = random_rows(device, s.batch, s.d, 1);
  for (const auto& [precision, name] : precisions) {
    cuda be = device.with(precision);
    sae model({.d_model = s.d, .features = s.features, .sparsifier = {.k = s.k}}, be);
    plmscope::trainer<> with;
    with.dead.dead_after = std::int64_t{1} << 60;
    run_type run(model, with);
    const double t = seconds(be, s.rounds, 10, [&] { run.step(x, 2e-4); });
    say(std::string("step_") + name, 1e3 * t, "ms");
  }
}

void time_product(cuda& device, const setting& s) {
  const auto rate = [&](cuda be, std::size_t m, std::size_t n, std::size_t k) {
    const matrix a = random_rows(be, m, k, 2), b = random_rows(be, n, k, 3);
    matrix c(be, m, n);
    const auto packed = be.pack(b);
    const double t = seconds(be, s.rounds, 10, [&] { be.linear(a, packed, {}, c); });
    return 2e-12 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k) / t;
  };
  const cuda bf16 = device.with(product_precision::bf16);
  const double peak = rate(bf16, 8192, 8192, 8192);
  const double encoder = rate(bf16, s.batch, s.features, s.d);
  say("peak_bf16", peak, "TFLOP/s");
  say("encoder_bf16", encoder, "TFLOP/s");
  say("encoder_share_of_peak", encoder / peak, "");
}

/// Sequences of 50 to 1,000 random residues.
std::vector<std::string> proteins(std::size_t count) {
  constexpr std::string_view letters = "LAGVSERTIDPKQNFYMHWC";
  const plmscope::rng random(4);
  std::vector<std::string> out(count);
  std::uint64_t i = 0;
  for (auto& s : out) {
    s.resize(50 + random.below(i++, 951));
    for (char& c : s) c = letters[random.below(i++, letters.size())];
  }
  return out;
}

void time_model(cuda& device, const setting& s) {
  const auto sequences = proteins(s.sequences);
  plmscope::packed_batch batch;
  for (const auto& sequence : sequences) batch.add(sequence);
  for (const auto& [precision, name] : precisions) {
    cuda be = device.with(precision);
    auto esm = plmscope::esm2<cuda>(be, plmscope::random_esm2_weights(be, s.model, 5), 32768);
    const double t =
        seconds(be, 3, 1, [&] { esm.forward(batch, plmscope::no_hook{plmscope::final_norm{}}); });
    say(std::string("esm2_") + name, static_cast<double>(batch.rows()) / t, "tokens/s");
  }
}

/// Attention of one layer alone, both products.
void time_attention(cuda& device, const setting& s) {
  std::vector<std::int64_t> offsets{0};
  double work = 0;
  std::size_t longest = 0;
  for (const auto& sequence : proteins(s.sequences)) {
    offsets.push_back(offsets.back() + static_cast<std::int64_t>(sequence.size()));
    longest = std::max(longest, sequence.size());
    const auto n = static_cast<double>(sequence.size());
    work += 4 * n * n * static_cast<double>(s.model.d_model);
  }
  const std::size_t rows = static_cast<std::size_t>(offsets.back());
  const std::size_t d = s.model.d_model;
  const matrix qkv = random_rows(device, rows, 3 * d, 6);
  matrix out(device, rows, d);
  plmscope::matrix<std::int64_t, cuda> ends(device, 1, offsets.size());
  device.upload(std::span<const std::int64_t>(offsets), ends.all());
  const plmscope::const_view<cuda> all = qkv;
  for (const auto& [precision, name] : precisions) {
    if (precision == product_precision::tf32) continue;  // as in fp32
    cuda be = device.with(precision);
    const double t = seconds(be, s.rounds, 3, [&] {
      be.attention(all.col_range(0, d), all.col_range(d, d), all.col_range(2 * d, d),
                   s.model.head_dim(), ends, longest, out);
    });
    say(std::string("attention_") + name, 1e-12 * work / t, "TFLOP/s");
  }
}

/// Sequences to a trained SAE: the model, the shuffled buffer and the step together, then apart.
void time_together(cuda& device, const setting& s) {
  cuda be = device.with(product_precision::bf16);
  auto esm = plmscope::esm2<cuda>(be, plmscope::random_esm2_weights(be, s.model, 5), 32768);
  const plmscope::site at = plmscope::resid_post{std::min(s.site, s.model.layers) - 1};
  const auto sequences = proteins(2 * s.sequences);
  std::size_t residues = 0;
  for (const auto& sequence : sequences) residues += sequence.size();
  const std::size_t steps = residues / s.batch;
  sae model({.d_model = s.model.d_model, .features = s.features, .sparsifier = {.k = s.k}}, be);
  plmscope::trainer<> with;
  run_type run(model, with);
  const auto timed = [&](bool training) {
    plmscope::shuffled_rows<plmscope::esm2_reader<cuda>, cuda> rows(
        plmscope::esm2_reader<cuda>(esm, at, sequences), 3);
    be.synchronize();
    const auto start = std::chrono::steady_clock::now();
    for (std::size_t i = 0; i < steps; ++i) {
      const auto x = rows.next(be, s.batch);
      if (training) run.step(x, 2e-4);
    }
    be.synchronize();
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    return time.count();
  };
  timed(true);
  const double all = timed(true);
  const double reading = timed(false);
  say("together", static_cast<double>(steps * s.batch) / all, "tokens/s");
  say("together_reading_share", reading / all, "");
}

}  // namespace

int main(int argc, char** argv) try {
  setting s;
  if (argc > 1 && std::string_view(argv[1]) == "--small") {
    s = {.d = 320,
         .features = 4096,
         .k = 32,
         .batch = 1024,
         .model = plmscope::esm2_sizes[0].config(),
         .site = 4,
         .sequences = 32,
         .rounds = 3};
  }
  plmscope::cuda device;
  std::printf("# %s\n", device.runtime().device_name().c_str());
  time_step(device, s);
  time_product(device, s);
  time_attention(device, s);
  time_model(device, s);
  time_together(device, s);
} catch (const std::exception& e) {
  std::fprintf(stderr, "%s\n", e.what());
  return 1;
}
