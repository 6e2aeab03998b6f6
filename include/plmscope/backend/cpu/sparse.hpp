// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/cpu/simd.hpp>
#include <plmscope/backend/cpu/streamed_sums.hpp>
#include <plmscope/core/thread_pool.hpp>
#include <plmscope/core/view.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {
namespace cpu_kernels {

// All kernels gather whole rows of [F, d] dictionaries: one latent's direction is contiguous.
inline constexpr std::size_t sparse_block = 16;

template <class F>
void for_blocks(thread_pool& pool, std::size_t n, const F& f) {
  pool.run((n + sparse_block - 1) / sparse_block, [&](std::size_t t) {
    for (std::size_t i = t * sparse_block; i < std::min(n, (t + 1) * sparse_block); ++i) f(i);
  });
}

/// The entries of one row of codes.
template <class Codes>
struct code_row {
  const std::uint32_t* ids;
  decltype(std::declval<const Codes&>().values()) values;
  std::size_t first;
  std::size_t size;
  code_row(const Codes& z, std::size_t r)
      : first(static_cast<std::size_t>(z.offsets()[r])),
        size(static_cast<std::size_t>(z.offsets()[r + 1]) - first) {
    ids = z.ids() + first;
    values = z.values() + first;
  }
};

template <class C, class Real>
void start_row(C bias, std::size_t d, Real* out) {
  if (bias.empty()) {
    std::fill_n(out, d, Real{0});
  } else {
    std::copy_n(bias.data(), d, out);
  }
}

template <class Codes, class C, class Real>
void decode_row(const code_row<Codes>& z, C dictionary, C bias, Real* out) {
  start_row(bias, dictionary.cols(), out);
  add_weighted_sum(
      z.size, dictionary.cols(), [&](std::size_t e) { return z.values[e]; },
      [&](std::size_t e) { return dictionary.row_data(z.ids[e]); }, out);
}

/// As `decode_row` for all rows, to the bit.
template <class Codes, class C, class V>
void decode_streamed(thread_pool& pool, const Codes& z, C dictionary, C bias, V out) {
  using Real = typename V::value_type;
  auto& sums = streamed_scratch<Real>();
  sums.pack(pool, z.rows(), z.features(), z.offsets(), z.ids(),
            [&](std::size_t e) { return z.values()[e]; });
  for_blocks(pool, z.rows(),
             [&](std::size_t r) { start_row(bias, dictionary.cols(), out.row_data(r)); });
  sums.add(pool, dictionary, out);
}
template <class Codes>
bool streams(const Codes& z) noexcept {
  return streamed_sums<typename Codes::real>::pay(z.rows(), z.features(), z.entries());
}

template <class Codes>
bool streams_dots(const Codes& z) noexcept {
  return streams(z) && 4 * z.entries() >= z.rows() * z.features();
}

template <class Codes, class C, class V>
void decode(thread_pool& pool, const Codes& z, C dictionary, C bias, V out) {
  if (streams(z)) return decode_streamed(pool, z, dictionary, bias, out);
  for_blocks(pool, z.rows(), [&](std::size_t r) {
    decode_row(code_row<Codes>(z, r), dictionary, bias, out.row_data(r));
  });
}

template <class Codes, class C, class RowLoss, class V>
void reconstruct(thread_pool& pool, const Codes& z, C dictionary, C bias, C target,
                 const RowLoss& loss, V gradient, V dz, V rows) {
  using Real = typename V::value_type;
  const std::size_t d = dictionary.cols();
  const bool decoded = streams(z);
  const bool dots_later = streams_dots(z);
  if (decoded) decode_streamed(pool, z, dictionary, bias, gradient);
  for_blocks(pool, z.rows(), [&](std::size_t r) {
    const code_row<Codes> row(z, r);
    Real* g = gradient.row_data(r);
    if (!decoded) decode_row(row, dictionary, bias, g);
    const Real* y = target.row_data(r);
    for (std::size_t j = 0; j < d; ++j) g[j] -= y[j];
    const Real sse = dot(g, g, d);
    const Real slope = loss.slope(r, sse);
    rows.row_data(0)[r] = sse;
    rows.row_data(1)[r] = loss.value(r, sse);
    rows.row_data(2)[r] = slope;
    for (std::size_t j = 0; j < d; ++j) g[j] *= slope;
    for (std::size_t e = 0; !dots_later && e < row.size; ++e) {
      dz.data()[row.first + e] = dot(g, dictionary.row_data(row.ids[e]), d);
    }
  });
  if (dots_later) streamed_dots(pool, z, C(gradient), dictionary, dz);
}

template <class Codes, class C, class V>
void sampled_dot(thread_pool& pool, const Codes& z, C gradient, C dictionary, V dz) {
  if (streams_dots(z)) return streamed_dots(pool, z, gradient, dictionary, dz);
  for_blocks(pool, z.rows(), [&](std::size_t r) {
    const code_row<Codes> row(z, r);
    for (std::size_t e = 0; e < row.size; ++e) {
      dz.data()[row.first + e] =
          dot(gradient.row_data(r), dictionary.row_data(row.ids[e]), dictionary.cols());
    }
  });
}

/// Counting sort; stable, so rows ascend within a feature.
template <class Backend, class Codes, class Transposed>
void transpose(thread_pool&, Backend& be, const Codes& z, Transposed& out) {
  out.reshape(be, z.features(), z.entries());
  std::int64_t* offsets = out.offsets();
  std::fill_n(offsets, z.features() + 1, std::int64_t{0});
  for (std::size_t e = 0; e < z.entries(); ++e) ++offsets[z.ids()[e] + 1];
  for (std::size_t f = 0; f < z.features(); ++f) offsets[f + 1] += offsets[f];
  std::vector<std::int64_t> next(offsets, offsets + z.features());
  for (std::size_t r = 0; r < z.rows(); ++r) {
    const code_row<Codes> row(z, r);
    for (std::size_t e = 0; e < row.size; ++e) {
      const auto p = static_cast<std::size_t>(next[row.ids[e]]++);
      out.rows()[p] = static_cast<std::uint32_t>(r);
      out.entries()[p] = static_cast<std::uint32_t>(row.first + e);
    }
  }
}

// Gradients are summed in slabs of columns: 2,048 rows of one slab are copied together once and fit
// in the second cache, where each is read about k times. How the work is cut changes no bit: every
// entry of a gradient is a sum of its own, over the same entries in the same order.

/// Columns of a slab.
template <class Real>
inline constexpr std::size_t slab_columns = 4 * simd<Real>::lanes;

/// The columns [column, column + n) of all rows, copied together; valid until the thread's next
/// call.
template <class C>
auto* copy_slab(C from, std::size_t column, std::size_t n) {
  using Real = typename C::value_type;
  static thread_local std::vector<Real> slab;
  slab.resize(from.rows() * n);
  for (std::size_t r = 0; r < from.rows(); ++r) {
    std::copy_n(from.row_data(r) + column, n, slab.data() + r * n);
  }
  return slab.data();
}

/// out[f, 0..n) = beta out[f, 0..n) + sum over the entries of f of weight * slab[row], for features
/// [first, last). `slab` is [rows, n] without gaps.
template <class Transposed, class C, class V, class Real>
void add_slab(const Transposed& by_feature, C weights, const Real* slab, std::size_t n, V out,
              std::size_t column, std::size_t first, std::size_t last, Real beta) {
  for (std::size_t f = first; f < last; ++f) {
    const auto begin = static_cast<std::size_t>(by_feature.offsets()[f]);
    const auto end = static_cast<std::size_t>(by_feature.offsets()[f + 1]);
    const std::uint32_t* rows = by_feature.rows() + begin;
    const std::uint32_t* entries = by_feature.entries() + begin;
    Real* row = out.row_data(f) + column;
    if (beta == Real{0}) {
      std::fill_n(row, n, Real{0});
    } else if (beta != Real{1}) {
      for (std::size_t j = 0; j < n; ++j) row[j] *= beta;
    }
    const auto weight = [&](std::size_t e) { return weights.data()[entries[e]]; };
    const auto from = [&](std::size_t e) { return slab + rows[e] * n; };
    if (n == slab_columns<Real>) {
      weighted_sum_chunk<4>(end - begin, 0, weight, from, row);
    } else {
      add_weighted_sum(end - begin, n, weight, from, row);
    }
  }
}

template <class Transposed, class C, class V, class Real>
void bias_gradient(const Transposed& by_feature, C dz, V d_bias, std::size_t first,
                   std::size_t last, Real beta) {
  for (std::size_t f = first; f < last; ++f) {
    Real sum = beta == Real{0} ? Real{0} : beta * d_bias.data()[f];
    for (auto e = by_feature.offsets()[f]; e < by_feature.offsets()[f + 1]; ++e) {
      sum += dz.data()[by_feature.entries()[e]];
    }
    d_bias.data()[f] = sum;
  }
}

/// As the slabs below, to the bit, for codes with entries in many places.
template <class Transposed, class C, class V, class Real>
void sparse_backward_streamed(thread_pool& pool, const Transposed& by_feature, C z, C dz,
                              C gradient, C x, V d_decoder, V d_encoder, V d_bias, Real beta) {
  auto& sums = streamed_scratch<Real>();
  const auto add = [&](C weights, C from, V out) {
    if (out.empty()) return;
    sums.pack(pool, by_feature.features(), from.rows(), by_feature.offsets(), by_feature.rows(),
              [&](std::size_t e) { return weights.data()[by_feature.entries()[e]]; });
    for_blocks(pool, out.rows(), [&](std::size_t f) {
      Real* row = out.row_data(f);
      for (std::size_t j = 0; j < out.cols(); ++j)
        row[j] = beta == Real{0} ? Real{0} : beta * row[j];
    });
    sums.add(pool, from, out);
  };
  add(z, gradient, d_decoder);
  add(dz, x, d_encoder);
  if (!d_bias.empty()) bias_gradient(by_feature, dz, d_bias, 0, by_feature.features(), beta);
}

template <class Transposed, class C, class V, class Real>
void sparse_backward(thread_pool& pool, const Transposed& by_feature, C z, C dz, C gradient, C x,
                     V d_decoder, V d_encoder, V d_bias, Real beta) {
  const std::size_t features = by_feature.features();
  const std::size_t rows = std::max(gradient.rows(), x.rows());
  if (streamed_sums<Real>::pay(features, rows, dz.cols())) {
    return sparse_backward_streamed(pool, by_feature, z, dz, gradient, x, d_decoder, d_encoder,
                                    d_bias, beta);
  }
  const std::size_t width = std::max(d_decoder.cols(), d_encoder.cols());
  const std::size_t slabs =
      std::max<std::size_t>(1, (width + slab_columns<Real> - 1) / slab_columns<Real>);
  const std::size_t parts = 1 + 2 * pool.threads() / slabs;
  const std::size_t part = (features + parts - 1) / parts;
  pool.run(2 * slabs * parts, [&](std::size_t t) {
    const bool encoder = t % 2 == 1;
    const std::size_t column = t / 2 % slabs * slab_columns<Real>;
    const std::size_t first = std::min(features, t / 2 / slabs * part);
    const std::size_t last = std::min(features, first + part);
    const V out = encoder ? d_encoder : d_decoder;
    const C from = encoder ? x : gradient;
    if (column < out.cols() && !out.empty()) {
      const std::size_t n = std::min(slab_columns<Real>, out.cols() - column);
      add_slab(by_feature, encoder ? dz : z, copy_slab(from, column, n), n, out, column, first,
               last, beta);
    }
    if (encoder || column != 0 || d_bias.empty()) return;
    bias_gradient(by_feature, dz, d_bias, first, last, beta);
  });
}

template <class Codes, class Since, class Real>
void count_fired(const Codes& z, Since since, std::int64_t tokens, Real least) {
  for (std::size_t f = 0; f < since.cols(); ++f) since.data()[f] += tokens;
  for (std::size_t e = 0; e < z.entries(); ++e) {
    if (std::abs(z.values()[e]) > least) since.data()[z.ids()[e]] = 0;
  }
}

template <class Since, class Ids>
std::size_t ids_where(Since since, std::int64_t at_least, Ids out) {
  std::size_t n = 0;
  for (std::size_t f = 0; f < since.cols(); ++f) {
    if (since.data()[f] >= at_least) out.data()[n++] = static_cast<std::uint32_t>(f);
  }
  return n;
}

}  // namespace cpu_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI
