// SPDX-License-Identifier: MIT
#pragma once

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

/// One tile a thread, at most 512 rows.
inline std::size_t gemm_tile_rows(std::size_t rows, std::size_t threads) noexcept {
  const std::size_t share = (rows + threads - 1) / threads;
  const std::size_t whole = (share + row_quantum - 1) / row_quantum * row_quantum;
  return std::clamp(whole, row_quantum, 8 * row_quantum);
}

template <class T>
std::vector<T>& gemm_scratch(int which) {
  static thread_local std::vector<T> scratch[2];
  return scratch[which];
}

/// Calls product(rows, a, lda, c, ldc) for row tiles of c = f(a), padding the last.
template <class Real, class A, class C, class Product, class After>
void for_row_tiles(thread_pool& pool, A a, C c, bool keep_c, const Product& product,
                   const After& after) {
  const std::size_t tile = gemm_tile_rows(c.rows(), pool.threads());
  const std::size_t tiles = (c.rows() + tile - 1) / tile;
  pool.run(tiles, [&](std::size_t t) {
    const std::size_t first = t * tile;
    const std::size_t rows = std::min(tile, c.rows() - first);
    const std::size_t whole = rows / row_quantum * row_quantum;
    if (whole > 0) product(whole, a.row_data(first), a.stride(), c.row_data(first), c.stride());
    if (const std::size_t rest = rows - whole; rest > 0) {
      auto& in = gemm_scratch<Real>(0);
      auto& out = gemm_scratch<Real>(1);
      in.assign(row_quantum * a.cols(), Real{0});
      out.assign(row_quantum * c.cols(), Real{0});
      for (std::size_t r = 0; r < rest; ++r) {
        const Real* from = a.row_data(first + whole + r);
        std::copy(from, from + a.cols(), in.data() + r * a.cols());
        if (keep_c) {
          const Real* old = c.row_data(first + whole + r);
          std::copy(old, old + c.cols(), out.data() + r * c.cols());
        }
      }
      product(row_quantum, in.data(), a.cols(), out.data(), c.cols());
      for (std::size_t r = 0; r < rest; ++r) {
        const Real* from = out.data() + r * c.cols();
        std::copy(from, from + c.cols(), c.row_data(first + whole + r));
      }
    }
    after(first, rows);
  });
}

template <class Gemm, class Packed, class X, class Out>
void linear(thread_pool& pool, X x, const Packed& w, X bias, Out out, epilogue then) {
  using Real = typename Out::value_type;
  const Real beta = then == epilogue::add ? Real{1} : Real{0};
  for_row_tiles<Real>(
      pool, x, out, then == epilogue::add,
      [&](std::size_t m, const Real* a, std::size_t lda, Real* c, std::size_t ldc) {
        w.product(m, a, lda, beta, c, ldc);
      },
      [&](std::size_t first, std::size_t rows) {
        for (std::size_t r = first; r < first + rows; ++r) {
          Real* row = out.row_data(r);
          if (!bias.empty()) {
            const Real* b = bias.data();
            for (std::size_t j = 0; j < out.cols(); ++j) row[j] += b[j];
          }
          if (then == epilogue::gelu) gelu_row(row, out.cols());
        }
      });
}

inline constexpr auto no_epilogue = [](std::size_t, std::size_t) {};

template <class Gemm, class A, class C, class Real>
void gemm_nt(thread_pool& pool, A a, A b, C c, Real beta) {
  for_row_tiles<Real>(
      pool, a, c, beta != Real{0},
      [&](std::size_t m, const Real* x, std::size_t ldx, Real* out, std::size_t ldo) {
        Gemm::template product<Real>(false, true, m, c.cols(), a.cols(), x, ldx, b.data(),
                                     b.stride(), beta, out, ldo);
      },
      no_epilogue);
}

template <class Gemm, class A, class C, class Real>
void gemm_nn(thread_pool& pool, A a, A b, C c, Real beta) {
  for_row_tiles<Real>(
      pool, a, c, beta != Real{0},
      [&](std::size_t m, const Real* x, std::size_t ldx, Real* out, std::size_t ldo) {
        Gemm::template product<Real>(false, false, m, c.cols(), a.cols(), x, ldx, b.data(),
                                     b.stride(), beta, out, ldo);
      },
      no_epilogue);
}

/// Rows of c are columns of a: tiles are column ranges of a, all rows of a and b are summed within
/// one product.
template <class Gemm, class A, class C, class Real>
void gemm_tn(thread_pool& pool, A a, A b, C c, Real beta) {
  const std::size_t tile = row_quantum;
  pool.run((c.rows() + tile - 1) / tile, [&](std::size_t t) {
    const std::size_t first = t * tile;
    const std::size_t rows = std::min(tile, c.rows() - first);
    Gemm::template product<Real>(true, false, rows, c.cols(), a.rows(), a.data() + first,
                                 a.stride(), b.data(), b.stride(), beta, c.row_data(first),
                                 c.stride());
  });
}

}  // namespace cpu_kernels
}  // namespace plmscope
