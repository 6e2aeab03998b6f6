// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/cpu/panels.hpp>
#include <plmscope/backend/cpu/product.hpp>
#include <plmscope/backend/cpu/transformer.hpp>
#include <plmscope/backend/primitives.hpp>
#include <plmscope/core/thread_pool.hpp>
#include <plmscope/core/view.hpp>

#include <algorithm>
#include <cstddef>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {
namespace cpu_kernels {

// Products run single-threaded over row tiles. Every product that a provider sees has a multiple
// of 64 rows: a last partial tile is computed in zero-padded scratch. A row's bits then do not
// depend on the rows beside it, on the number of threads, or on the tile size.
inline constexpr std::size_t row_quantum = 64;

/// For how many threads tiles are cut. Where the cut could change bits it is the same for all.
template <class Gemm>
std::size_t tile_threads(const thread_pool& pool) noexcept {
  return Gemm::rows_independent ? pool.threads() : 2;
}

/// One tile a thread, at most 512 rows.
inline std::size_t gemm_tile_rows(std::size_t rows, std::size_t threads) noexcept {
  const std::size_t share = (rows + threads - 1) / threads;
  const std::size_t whole = (share + row_quantum - 1) / row_quantum * row_quantum;
  return std::clamp(whole, row_quantum, 8 * row_quantum);
}

template <class T>
std::vector<T>& gemm_scratch(int which) {
  static thread_local std::vector<T> scratch[3];
  return scratch[which];
}

/// Calls product(rows, a, lda, c, ldc) for c = f(a), padding a last partial quantum of rows.
template <class Real, class A, class C, class Product>
void padded_product(A a, C c, bool keep_c, const Product& product) {
  const std::size_t whole = c.rows() / row_quantum * row_quantum;
  if (whole > 0) product(whole, a.data(), a.stride(), c.data(), c.stride());
  const std::size_t rest = c.rows() - whole;
  if (rest == 0) return;
  auto& in = gemm_scratch<Real>(0);
  auto& out = gemm_scratch<Real>(1);
  // With the strides of the operands: a provider may choose its kernel by them.
  const std::size_t lda = a.stride();
  const std::size_t ldc = c.stride();
  in.assign(row_quantum * lda, Real{0});
  out.assign(row_quantum * ldc, Real{0});
  for (std::size_t r = 0; r < rest; ++r) {
    const Real* from = a.row_data(whole + r);
    std::copy(from, from + a.cols(), in.data() + r * lda);
    if (keep_c) {
      const Real* old = c.row_data(whole + r);
      std::copy(old, old + c.cols(), out.data() + r * ldc);
    }
  }
  product(row_quantum, in.data(), lda, out.data(), ldc);
  for (std::size_t r = 0; r < rest; ++r) {
    const Real* from = out.data() + r * ldc;
    std::copy(from, from + c.cols(), c.row_data(whole + r));
  }
}

template <class Gemm, class Packed, class X, class Out>
void linear(thread_pool& pool, X x, const Packed& w, X bias, Out out, epilogue then) {
  using Real = typename Out::value_type;
  const std::size_t n = out.cols();
  const std::size_t tile = gemm_tile_rows(out.rows(), tile_threads<Gemm>(pool));
  const bool add = then == epilogue::add;
  pool.run((out.rows() + tile - 1) / tile, [&](std::size_t t) {
    const std::size_t first = t * tile;
    const std::size_t rows = std::min(tile, out.rows() - first);
    Out to = out.row_range(first, rows);
    if (add) {  // the sum is taken after the bias, as where product and residual are apart
      auto& scratch = gemm_scratch<Real>(2);
      if (scratch.size() < rows * n) scratch.resize(rows * n);
      to = Out(scratch.data(), rows, n);
    }
    padded_product<Real>(x.row_range(first, rows), to, false,
                         [&](std::size_t m, const Real* a, std::size_t lda, Real* c,
                             std::size_t ldc) { w.product(m, a, lda, Real{0}, c, ldc); });
    for (std::size_t r = 0; r < rows; ++r) {
      Real* row = to.row_data(r);
      if (!bias.empty()) {
        const Real* b = bias.data();
        for (std::size_t j = 0; j < n; ++j) row[j] += b[j];
      }
      if (then == epilogue::gelu) gelu_row(row, n);
      if (add) {
        Real* sum = out.row_data(first + r);
        for (std::size_t j = 0; j < n; ++j) sum[j] += row[j];
      }
    }
  });
}

/// Rows of a tile of products with panels: whole row blocks, few enough that they stay in the
/// second cache beside a panel, as many tiles for every thread.
inline std::size_t panel_tile_rows(std::size_t rows, std::size_t threads) noexcept {
  constexpr std::size_t most = 42 * panel_rows;
  const std::size_t share = (rows + threads - 1) / threads;
  const std::size_t turns = std::max<std::size_t>(1, (share + most - 1) / most);
  const std::size_t blocks = (share + turns * panel_rows - 1) / (turns * panel_rows);
  return std::max<std::size_t>(1, blocks) * panel_rows;
}

/// One tile of a product with weights in panels (`bf16_weights`, `int8_weights`), on this thread.
template <class Weights, class X, class Out>
void panel_tile(X x, const Weights& w, X bias, Out out, epilogue then) {
  static thread_local typename Weights::operand rounded;
  w.round(x.data(), x.stride(), out.rows(), rounded);
  for (std::size_t p = 0; p < w.panels(); ++p) {
    const std::size_t column = p * panel_columns;
    const std::size_t width = std::min(panel_columns, out.cols() - column);
    const float* b = bias.empty() ? nullptr : bias.data() + column;
    float* to = out.data() + column;
    w.product(rounded, out.rows(), p, b, then == epilogue::add, to, out.stride());
    for (std::size_t r = 0; then == epilogue::gelu && r < out.rows(); ++r) {
      gelu_row(to + r * out.stride(), width);
    }
  }
}

/// A row's bits are its own there, so tiles are cut as the threads like it.
template <class Weights, class X, class Out>
void linear_by_panels(thread_pool& pool, X x, const Weights& w, X bias, Out out, epilogue then) {
  if (out.cols() == 0) return;
  const std::size_t tile = panel_tile_rows(out.rows(), pool.threads());
  pool.run((out.rows() + tile - 1) / tile, [&](std::size_t t) {
    const std::size_t first = t * tile;
    const std::size_t rows = std::min(tile, out.rows() - first);
    panel_tile(x.row_range(first, rows), w, bias, out.row_range(first, rows), then);
  });
}

/// Entries have bits of their own: see `ordered_product`.
template <class A, class C, class Real>
void gemm_nt(thread_pool& pool, A a, A b, C c, Real beta) {
  const auto row = [&](std::size_t i) { return a.row_data(i); };
  ordered_product<Real>::run(pool, c.rows(), row, b,
                             [&](std::size_t i, std::size_t j, const Real* sums, std::size_t n) {
                               Real* to = c.row_data(i) + j;
                               if (beta == Real{0}) {
                                 std::copy_n(sums, n, to);
                               } else {
                                 for (std::size_t e = 0; e < n; ++e) to[e] = sums[e] + beta * to[e];
                               }
                             });
}

template <class Gemm, class A, class C, class Real>
void gemm_nn(thread_pool& pool, A a, A b, C c, Real beta) {
  const std::size_t tile = gemm_tile_rows(c.rows(), tile_threads<Gemm>(pool));
  pool.run((c.rows() + tile - 1) / tile, [&](std::size_t t) {
    const std::size_t first = t * tile;
    const std::size_t rows = std::min(tile, c.rows() - first);
    padded_product<Real>(
        a.row_range(first, rows), c.row_range(first, rows), beta != Real{0},
        [&](std::size_t m, const Real* x, std::size_t ldx, Real* out, std::size_t ldo) {
          Gemm::template product<Real>(false, false, m, c.cols(), a.cols(), x, ldx, b.data(),
                                       b.stride(), beta, out, ldo);
        });
  });
}

/// Rows of c are columns of a. Tiles of 64 of them are copied together, the last one padded, so
/// that every tile is the same product whatever surrounds it.
template <class Gemm, class A, class C, class Real>
void gemm_tn(thread_pool& pool, A a, A b, C c, Real beta) {
  const std::size_t n = c.cols();
  pool.run((c.rows() + row_quantum - 1) / row_quantum, [&](std::size_t t) {
    const std::size_t first = t * row_quantum;
    const std::size_t rows = std::min(row_quantum, c.rows() - first);
    auto& in = gemm_scratch<Real>(0);
    auto& out = gemm_scratch<Real>(1);
    if (rows < row_quantum) {
      in.assign(a.rows() * row_quantum, Real{0});
    } else if (in.size() < a.rows() * row_quantum) {
      in.resize(a.rows() * row_quantum);
    }
    for (std::size_t r = 0; r < a.rows(); ++r) {
      std::copy_n(a.row_data(r) + first, rows, in.data() + r * row_quantum);
    }
    const auto product = [&](Real* to, std::size_t stride) {
      Gemm::template product<Real>(true, false, row_quantum, n, a.rows(), in.data(), row_quantum,
                                   b.data(), b.stride(), beta, to, stride);
    };
    if (rows == row_quantum) return product(c.row_data(first), c.stride());
    out.assign(row_quantum * c.stride(), Real{0});
    if (beta != Real{0}) {
      for (std::size_t r = 0; r < rows; ++r)
        std::copy_n(c.row_data(first + r), n, out.data() + r * c.stride());
    }
    product(out.data(), c.stride());
    for (std::size_t r = 0; r < rows; ++r)
      std::copy_n(out.data() + r * c.stride(), n, c.row_data(first + r));
  });
}

}  // namespace cpu_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI
