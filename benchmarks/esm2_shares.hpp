// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/plm/collect.hpp>
#include <plmscope/plm/esm2.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <fstream>
#include <limits>
#include <string>

/// What a forward pass is made of: the rate of its products beside the best that their provider
/// reaches at all, and the memory of a pass.
namespace esm2_shares {

/// Operations a second of the best of `rounds` calls.
template <class F>
double best_rate(std::size_t rounds, double operations, const F& f) {
  double best = std::numeric_limits<double>::max();
  for (std::size_t r = 0; r < rounds; ++r) {
    const auto start = std::chrono::steady_clock::now();
    f();
    best = std::min(
        best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return operations / best;
}

/// The provider's peak: square products whose operands are in the caches.
template <class Backend>
double peak_rate(Backend be) {
  using table = plmscope::matrix<float, Backend>;
  double best = 0;
  for (const std::size_t n : {512u, 1024u, 2048u}) {
    table w(be, n, n), x(be, n, n), out(be, n, n);
    be.fill(w.all(), 0.5f);
    be.fill(x.all(), 0.5f);
    const auto packed = be.pack(w.all());
    const double operations = 2.0 * static_cast<double>(n) * static_cast<double>(n * n);
    const auto product = [&] { be.linear(x.all(), packed, {}, out.all()); };
    best = std::max(best, best_rate(2 + (std::size_t{1} << 27) / (n * n), operations, product));
  }
  return best;
}

/// All products of the blocks of `esm` on `rows` tokens, weights from memory as in a pass.
template <class Backend>
double product_rate(plmscope::esm2<Backend>& esm, std::size_t rows) {
  using table = plmscope::matrix<float, Backend>;
  auto& be = esm.backend();
  const std::size_t d = esm.d_model();
  const std::size_t wide = esm.config().feed_forward;
  table x(be, rows, d), hidden(be, rows, wide), qkv(be, rows, 3 * d), out(be, rows, d);
  be.fill(x.all(), 0.5f);
  be.fill(hidden.all(), 0.5f);
  const double operations = 2.0 * static_cast<double>(rows) *
                            static_cast<double>(4 * d * d + 2 * d * wide) *
                            static_cast<double>(esm.layers());
  return best_rate(3, operations, [&] {
    for (const auto& block : esm.weights().blocks) {
      be.linear(x.all(), block.qkv, block.qkv_bias.all(), qkv.all());
      be.linear(x.all(), block.output, block.output_bias.all(), out.all());
      be.linear(x.all(), block.expand, block.expand_bias.all(), hidden.all());
      be.linear(hidden.all(), block.contract, block.contract_bias.all(), out.all());
    }
  });
}

/// A line of /proc/self/status in megabytes; 0 where there is none.
inline double status_megabytes(const std::string& name) {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);) {
    if (line.rfind(name + ":", 0) == 0) return std::stod(line.substr(name.size() + 1)) / 1024;
  }
  return 0;
}

/// Prints what a pass over one protein of 1,022 residues adds to the memory of the loaded model.
template <class Backend>
void print_memory(plmscope::esm2<Backend>& esm) {
  plmscope::packed_batch batch;
  batch.add(std::string(1022, 'L'));
  std::ofstream("/proc/self/clear_refs") << "5";  // the high-water mark starts anew
  const double before = status_megabytes("VmRSS");
  esm.forward(batch, plmscope::no_hook{plmscope::final_norm{}});
  std::printf("  memory: %.0f MB with the model loaded, a pass of 1,022 residues adds %.0f MB\n",
              before, status_megabytes("VmHWM") - before);
}

template <class Backend>
void print_products(plmscope::esm2<Backend>& esm, std::size_t rows) {
  const double peak = peak_rate(esm.backend());
  const double rate = product_rate(esm, rows);
  std::printf("  products of %zu rows: %.0f GFLOP/s, %.0f %% of the peak of %.0f\n", rows,
              rate * 1e-9, 100 * rate / peak, peak * 1e-9);
}

}  // namespace esm2_shares
