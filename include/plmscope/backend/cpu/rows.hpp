// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/cpu/simd.hpp>
#include <plmscope/core/thread_pool.hpp>
#include <plmscope/core/view.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {
namespace cpu_kernels {

/// Runs f(first, count) over fixed blocks of rows, about 32 Ki entries each.
template <class F>
void for_rows(thread_pool& pool, std::size_t rows, std::size_t cols, const F& f) {
  const std::size_t block =
      std::clamp<std::size_t>(32768 / std::max<std::size_t>(cols, 1), 1, 4096);
  pool.run((rows + block - 1) / block,
           [&](std::size_t t) { f(t * block, std::min(block, rows - t * block)); });
}

/// As above over single rows. A vector (one row) is cut into pieces instead.
template <class V, class F>
void for_pieces(thread_pool& pool, V x, const F& f) {
  if (x.rows() == 1) {
    constexpr std::size_t piece = 16384;
    pool.run((x.cols() + piece - 1) / piece,
             [&](std::size_t t) { f(0, t * piece, std::min(piece, x.cols() - t * piece)); });
  } else {
    for_rows(pool, x.rows(), x.cols(), [&](std::size_t first, std::size_t count) {
      for (std::size_t r = first; r < first + count; ++r) f(r, 0, x.cols());
    });
  }
}

template <class V, class T>
void fill(thread_pool& pool, V x, T value) {
  for_pieces(pool, x, [&](std::size_t r, std::size_t c, std::size_t n) {
    std::fill_n(x.row_data(r) + c, n, value);
  });
}

/// A matrix of which only the shape matters.
struct places {
  std::size_t row_count, col_count;
  std::size_t rows() const noexcept { return row_count; }
  std::size_t cols() const noexcept { return col_count; }
  std::size_t size() const noexcept { return row_count * col_count; }
};

template <class F>
void entries(thread_pool& pool, std::size_t rows, std::size_t cols, const F& f) {
  for_pieces(pool, places{rows, cols}, [&](std::size_t r, std::size_t c, std::size_t n) {
    for (std::size_t j = c; j < c + n; ++j) f(r, j);
  });
}

template <class From, class To>
void copy(thread_pool& pool, From from, To to) {
  using U = typename To::value_type;
  for_pieces(pool, to, [&](std::size_t r, std::size_t c, std::size_t n) {
    const auto* a = from.row_data(r) + c;
    auto* b = to.row_data(r) + c;
    for (std::size_t j = 0; j < n; ++j) b[j] = static_cast<U>(a[j]);
  });
}

template <class V, class C, class Real>
void add_row(thread_pool& pool, V x, C row, Real alpha) {
  for_pieces(pool, x, [&](std::size_t r, std::size_t c, std::size_t n) {
    Real* a = x.row_data(r) + c;
    const Real* b = row.data() + c;
    for (std::size_t j = 0; j < n; ++j) a[j] += alpha * b[j];
  });
}

template <class V, class C>
void scale_columns(thread_pool& pool, V x, C factors) {
  for_pieces(pool, x, [&](std::size_t r, std::size_t c, std::size_t n) {
    auto* a = x.row_data(r) + c;
    const auto* b = factors.data() + c;
    for (std::size_t j = 0; j < n; ++j) a[j] *= b[j];
  });
}

template <class Real, class C, class V>
void axpy(thread_pool& pool, Real alpha, C x, V y) {
  for_pieces(pool, y, [&](std::size_t r, std::size_t c, std::size_t n) {
    const Real* a = x.row_data(r) + c;
    Real* b = y.row_data(r) + c;
    for (std::size_t j = 0; j < n; ++j) b[j] += alpha * a[j];
  });
}

template <class V, class Real>
void scale(thread_pool& pool, V x, Real alpha) {
  for_pieces(pool, x, [&](std::size_t r, std::size_t c, std::size_t n) {
    Real* a = x.row_data(r) + c;
    for (std::size_t j = 0; j < n; ++j) a[j] *= alpha;
  });
}

/// out[j] = sum over rows of term(row, j): blocks of 64 rows, block sums in order.
template <class Real, class V, class Term>
void column_reduce(thread_pool& pool, std::size_t rows, V out, const Term& term) {
  const std::size_t d = out.cols();
  constexpr std::size_t block = 64;
  const std::size_t blocks = (rows + block - 1) / block;
  std::vector<double> partial(std::max<std::size_t>(blocks, 1) * d, 0.0);
  pool.run(blocks, [&](std::size_t t) {
    double* sum = partial.data() + t * d;
    for (std::size_t r = t * block; r < std::min(rows, (t + 1) * block); ++r) {
      for (std::size_t j = 0; j < d; ++j) sum[j] += term(r, j);
    }
  });
  for (std::size_t t = 1; t < blocks; ++t) {
    for (std::size_t j = 0; j < d; ++j) partial[j] += partial[t * d + j];
  }
  for (std::size_t j = 0; j < d; ++j) out.data()[j] = static_cast<Real>(partial[j]);
}

template <class C, class V>
void column_sums(thread_pool& pool, C x, V out) {
  column_reduce<typename V::value_type>(pool, x.rows(), out, [x](std::size_t r, std::size_t j) {
    return static_cast<double>(x.row_data(r)[j]);
  });
}

template <class C, class V>
void column_dots(thread_pool& pool, C a, C b, V out) {
  column_reduce<typename V::value_type>(pool, a.rows(), out, [a, b](std::size_t r, std::size_t j) {
    return static_cast<double>(a.row_data(r)[j]) * static_cast<double>(b.row_data(r)[j]);
  });
}

template <class C, class V>
void row_norms(thread_pool& pool, C x, V out) {
  for_rows(pool, x.rows(), x.cols(), [&](std::size_t first, std::size_t count) {
    for (std::size_t r = first; r < first + count; ++r) {
      out.data()[r] = std::sqrt(dot(x.row_data(r), x.row_data(r), x.cols()));
    }
  });
}

template <class Real>
void rescale_row(Real* row, std::size_t d, Real epsilon) {
  const Real norm = std::sqrt(dot(row, row, d)) + epsilon;
  if (!(norm > Real{0})) return;
  for (std::size_t j = 0; j < d; ++j) row[j] /= norm;
}

template <class V, class Real>
void normalize_rows(thread_pool& pool, V x, Real epsilon) {
  for_rows(pool, x.rows(), x.cols(), [&](std::size_t first, std::size_t count) {
    for (std::size_t r = first; r < first + count; ++r) {
      rescale_row(x.row_data(r), x.cols(), epsilon);
    }
  });
}

/// The part of one row g along another, w; by default none.
template <class Real>
struct projected_row {
  projected_row() = default;
  projected_row(const Real* g, const Real* w, std::size_t d, Real epsilon)
      : norm(std::sqrt(dot(w, w, d)) + epsilon) {
    if (norm > Real{0}) along = dot(g, w, d) / norm;
  }
  /// out = what is left of `n` entries of g; may be g.
  void take(const Real* g, const Real* w, Real* out, std::size_t n) const noexcept {
    if (!(norm > Real{0})) {
      if (out != g) std::copy_n(g, n, out);
      return;
    }
    for (std::size_t j = 0; j < n; ++j) out[j] = g[j] - along * (w[j] / norm);
  }
  Real norm = 0;
  Real along = 0;
};

template <class V, class C, class Real>
void project_rows(thread_pool& pool, V gradient, C direction, Real epsilon) {
  const std::size_t d = gradient.cols();
  for_rows(pool, gradient.rows(), d, [&](std::size_t first, std::size_t count) {
    for (std::size_t r = first; r < first + count; ++r) {
      Real* g = gradient.row_data(r);
      const Real* w = direction.row_data(r);
      projected_row<Real>(g, w, d, epsilon).take(g, w, g, d);
    }
  });
}

template <class C, class V, class Real>
void row_moments(thread_pool& pool, C x, V mean, V deviation, std::size_t ddof, Real epsilon) {
  for_rows(pool, x.rows(), x.cols(), [&](std::size_t first, std::size_t count) {
    for (std::size_t r = first; r < first + count; ++r) {
      const Real* row = x.row_data(r);
      double sum = 0;
      for (std::size_t j = 0; j < x.cols(); ++j) sum += static_cast<double>(row[j]);
      const double m = x.cols() == 0 ? 0 : sum / static_cast<double>(x.cols());
      double squares = 0;
      for (std::size_t j = 0; j < x.cols(); ++j) {
        const double c = static_cast<double>(row[j]) - m;
        squares += c * c;
      }
      const auto freedom = static_cast<double>(x.cols() > ddof ? x.cols() - ddof : 1);
      mean.data()[r] = static_cast<Real>(m);
      deviation.data()[r] =
          static_cast<Real>(std::sqrt(squares / freedom + static_cast<double>(epsilon)));
    }
  });
}

template <class C, class V>
void affine_rows(thread_pool& pool, C x, C shift, C factor, V out) {
  for_rows(pool, x.rows(), x.cols(), [&](std::size_t first, std::size_t count) {
    for (std::size_t r = first; r < first + count; ++r) {
      const auto* a = x.row_data(r);
      auto* b = out.row_data(r);
      const auto s = shift.data()[r];
      const auto f = factor.data()[r];
      for (std::size_t j = 0; j < x.cols(); ++j) b[j] = (a[j] + s) * f;
    }
  });
}

template <class C, class Ids, class V>
void gather_rows(thread_pool& pool, C x, Ids ids, V out) {
  for_rows(pool, ids.size(), x.cols(), [&](std::size_t first, std::size_t count) {
    for (std::size_t r = first; r < first + count; ++r) {
      std::copy_n(x.row_data(ids.data()[r]), x.cols(), out.row_data(r));
    }
  });
}

template <class C, class Ids, class V>
void scatter_rows(thread_pool& pool, C x, Ids ids, V out) {
  for_rows(pool, ids.size(), x.cols(), [&](std::size_t first, std::size_t count) {
    for (std::size_t r = first; r < first + count; ++r) {
      std::copy_n(x.row_data(x.rows() == 1 ? 0 : r), x.cols(), out.row_data(ids.data()[r]));
    }
  });
}

template <class C, class Ids, class V>
void scatter_add_rows(thread_pool& pool, C x, Ids ids, V out) {
  for_rows(pool, ids.size(), x.cols(), [&](std::size_t first, std::size_t count) {
    for (std::size_t r = first; r < first + count; ++r) {
      const auto* a = x.row_data(x.rows() == 1 ? 0 : r);
      auto* b = out.row_data(ids.data()[r]);
      for (std::size_t j = 0; j < x.cols(); ++j) b[j] += a[j];
    }
  });
}

template <class Real, class C, class V>
void reciprocal(thread_pool& pool, Real alpha, C x, V out) {
  for_pieces(pool, out, [&](std::size_t r, std::size_t c, std::size_t n) {
    const Real* a = x.row_data(r) + c;
    Real* b = out.row_data(r) + c;
    for (std::size_t j = 0; j < n; ++j) b[j] = a[j] == Real{0} ? Real{0} : alpha / a[j];
  });
}

template <class C, class V>
void row_dots(thread_pool& pool, C a, C b, V out) {
  for_rows(pool, a.rows(), a.cols(), [&](std::size_t first, std::size_t count) {
    for (std::size_t r = first; r < first + count; ++r) {
      out.data()[r] = dot(a.row_data(r), b.row_data(r), a.cols());
    }
  });
}

/// Blocks of 256 rows, block sums in order.
template <class C, class V, class Real>
void weighted_row_sum(thread_pool& pool, C w, C s, V out, Real alpha) {
  const std::size_t d = w.cols();
  constexpr std::size_t block = 256;
  const std::size_t blocks = (w.rows() + block - 1) / block;
  std::vector<Real> partial(blocks * d, Real{0});
  pool.run(blocks, [&](std::size_t t) {
    add_weighted_sum(
        std::min(block, w.rows() - t * block), d,
        [&](std::size_t e) { return s.data()[t * block + e]; },
        [&](std::size_t e) { return w.row_data(t * block + e); }, partial.data() + t * d);
  });
  for (std::size_t t = 0; t < blocks; ++t) {
    for (std::size_t j = 0; j < d; ++j) out.data()[j] += alpha * partial[t * d + j];
  }
}

/// slot += sum over pieces of term(row, first column, columns), pieces added in order.
template <class C, class Slot, class Term>
void add_reduced(thread_pool& pool, C x, Slot slot, const Term& term) {
  constexpr std::size_t piece = 8192;
  const std::size_t pieces = (x.cols() + piece - 1) / piece;
  std::vector<double> partial(x.rows() * pieces, 0.0);
  const std::size_t block = std::max<std::size_t>(1, piece / std::max<std::size_t>(x.cols(), 1));
  pool.run((partial.size() + block - 1) / block, [&](std::size_t t) {
    for (std::size_t p = t * block; p < std::min(partial.size(), (t + 1) * block); ++p) {
      const std::size_t c = p % pieces * piece;
      partial[p] = term(p / pieces, c, std::min(piece, x.cols() - c));
    }
  });
  double sum = 0;
  for (const double v : partial) sum += v;
  slot.data()[0] += sum;
}

/// A sum in eight lanes, of numbers that come in runs of a multiple of 8, but for the last.
struct lane_sum {
  double sum[8] = {};

  template <class Real, class F>
  void add(const Real* p, std::size_t n, const F& f) noexcept {
    std::size_t i = 0;
    for (; i + 8 <= n; i += 8) {
      for (std::size_t u = 0; u < 8; ++u) sum[u] += f(static_cast<double>(p[i + u]));
    }
    for (; i < n; ++i) sum[0] += f(static_cast<double>(p[i]));
  }
  double total() const noexcept {
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
  }
};

template <class C, class Slot>
void add_sum(thread_pool& pool, C x, Slot slot) {
  add_reduced(pool, x, slot, [x](std::size_t r, std::size_t c, std::size_t n) {
    lane_sum sum;
    sum.add(x.row_data(r) + c, n, [](double v) { return v; });
    return sum.total();
  });
}

template <class C, class Slot>
void add_sum_squares(thread_pool& pool, C x, Slot slot) {
  add_reduced(pool, x, slot, [x](std::size_t r, std::size_t c, std::size_t n) {
    lane_sum sum;
    sum.add(x.row_data(r) + c, n, [](double v) { return v * v; });
    return sum.total();
  });
}

/// With the bits of project_rows and add_sum_squares.
template <class C, class Real, class Slot>
void add_projected_squares(thread_pool& pool, C gradient, C direction, Real epsilon, Slot slot) {
  add_reduced(pool, gradient, slot, [=](std::size_t r, std::size_t c, std::size_t n) {
    constexpr std::size_t run = 1024;
    const Real* g = gradient.row_data(r);
    const Real* w = direction.row_data(r);
    const projected_row<Real> row(g, w, gradient.cols(), epsilon);
    Real left[run];
    lane_sum sum;
    for (std::size_t i = c; i < c + n; i += run) {
      const std::size_t size = std::min(run, c + n - i);
      row.take(g + i, w + i, left, size);
      sum.add(left, size, [](double v) { return v * v; });
    }
    return sum.total();
  });
}

/// True when no exponent is all ones; bit patterns, so that -ffast-math cannot remove the check.
template <class Real>
inline bool finite_bits(const Real* p, std::size_t n) noexcept {
  using bits = std::conditional_t<sizeof(Real) == 4, std::uint32_t, std::uint64_t>;
  constexpr bits exponent =
      static_cast<bits>(sizeof(Real) == 4 ? 0x7f800000u : 0x7ff0000000000000u);
  bits bad = 0;
  for (std::size_t i = 0; i < n; ++i) {
    bad |= static_cast<bits>((std::bit_cast<bits>(p[i]) & exponent) == exponent);
  }
  return bad == 0;
}

template <class C>
bool all_finite(thread_pool&, C x) {
  for (std::size_t r = 0; r < x.rows(); ++r) {
    if (!finite_bits(x.row_data(r), x.cols())) return false;
  }
  return true;
}

}  // namespace cpu_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI
