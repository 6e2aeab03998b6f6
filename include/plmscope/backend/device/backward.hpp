// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/device/group.hpp>

#include <cstddef>
#include <cstdint>

namespace plmscope::inline PLMSCOPE_ABI {
namespace device_kernels {

// The weight gradients of sparse codes. Some latents fire on every tenth token, so entries of one
// feature are cut into chunks and the chunks' sums added in order: no block works long, no sum
// depends on which block was faster.

inline constexpr std::size_t chunk_entries = 256;

/// offsets[f] = first position p with keys[p] >= f, for f in [0, features]; keys ascend. One entry
/// (0, p) per position, and one behind the last.
struct feature_offsets {
  const std::uint32_t* keys;
  std::size_t entries;
  std::size_t features;
  std::int64_t* offsets;

  PLMSCOPE_HD void operator()(std::size_t, std::size_t p) const {
    const std::size_t from = p == 0 ? 0 : keys[p - 1] + std::size_t{1};
    const std::size_t to = p == entries ? features : at_most(keys[p], features);
    for (std::size_t f = from; f <= to; ++f) offsets[f] = static_cast<std::int64_t>(p);
  }
};

/// Chunks of a feature: at least one, which also clears the gradient of a silent latent.
PLMSCOPE_HD inline std::int64_t chunks_of(const std::int64_t* offsets, std::size_t f) noexcept {
  const std::int64_t n = offsets[f + 1] - offsets[f];
  const auto chunk = static_cast<std::int64_t>(chunk_entries);
  return n <= chunk ? 1 : (n + chunk - 1) / chunk;
}

/// Sums of the entries of one chunk; a block per chunk. The first chunk of a feature goes to the
/// gradients, every further one to a row of `partial` [.., d_decoder + d_encoder + 1].
template <class Real, class C, class V>
struct sum_chunks {
  const std::int64_t* offsets;      ///< of the features, F + 1
  const std::int64_t* first_chunk;  ///< F + 1, running count of chunks
  const std::uint32_t* rows;
  const std::uint32_t* entries;
  std::size_t features;
  C z, dz, gradient, x;
  V d_decoder, d_encoder, d_bias;
  Real* partial;
  std::size_t partial_width;
  Real beta;

  static constexpr std::size_t shared_bytes() noexcept {
    return chunk_entries * (2 * sizeof(Real) + sizeof(std::uint32_t));
  }

  template <class Group>
  PLMSCOPE_HD void operator()(Group& g) const {
    Real* const weights = g.template shared<Real>(chunk_entries);
    Real* const pulls = g.template shared<Real>(chunk_entries);
    auto* const from = g.template shared<std::uint32_t>(chunk_entries);
    const auto chunk = static_cast<std::int64_t>(g.index());
    if (chunk >= first_chunk[features]) return;
    const std::size_t f = feature_of(chunk);
    const std::int64_t nth = chunk - first_chunk[f];
    const std::int64_t begin = offsets[f] + nth * static_cast<std::int64_t>(chunk_entries);
    const auto n = static_cast<unsigned>(
        at_most(static_cast<std::size_t>(offsets[f + 1] - begin), chunk_entries));
    for (unsigned i = g.rank(); i < n; i += g.size()) {
      const std::uint32_t e = entries[begin + i];
      from[i] = rows[begin + i];
      weights[i] = d_decoder.empty() ? Real{0} : z.data()[e];
      pulls[i] = dz.data()[e];
    }
    g.sync();
    const bool first = nth == 0;
    // Further chunks before this one: all chunks but the first of every feature.
    Real* const own =
        first ? nullptr : partial + (static_cast<std::size_t>(chunk) - f - 1) * partial_width;
    add(g, n, from, weights, gradient, first ? row_or_null(d_decoder, f) : own, d_decoder.cols(),
        !d_decoder.empty(), first);
    add(g, n, from, pulls, x, first ? row_or_null(d_encoder, f) : own + d_decoder.cols(),
        d_encoder.cols(), !d_encoder.empty(), first);
    if (d_bias.empty() || g.rank() != 0) return;
    Real* const to = first ? d_bias.data() + f : own + d_decoder.cols() + d_encoder.cols();
    Real sum = first && beta != Real{0} ? beta * *to : Real{0};
    for (unsigned i = 0; i < n; ++i) sum += pulls[i];
    *to = sum;
  }

 private:
  PLMSCOPE_HD static Real* row_or_null(V v, std::size_t f) noexcept {
    return v.empty() ? nullptr : v.row_data(f);
  }

  /// The feature whose chunks include this one: the last f with first_chunk[f] <= chunk.
  PLMSCOPE_HD std::size_t feature_of(std::int64_t chunk) const noexcept {
    std::size_t low = 0;
    std::size_t high = features;
    while (high - low > 1) {
      const std::size_t middle = low + (high - low) / 2;
      (first_chunk[middle] <= chunk ? low : high) = middle;
    }
    return low;
  }

  template <class Group>
  PLMSCOPE_HD void add(Group& g, unsigned n, const std::uint32_t* from, const Real* weight,
                       C source, Real* to, std::size_t d, bool wanted, bool first) const {
    if (!wanted) return;
    constexpr unsigned columns = 4;  // of a thread
    for (std::size_t column = 0; column < d; column += columns * g.size()) {
      Real acc[columns];
      for (unsigned u = 0; u < columns; ++u) {
        const std::size_t j = column + u * g.size() + g.rank();
        acc[u] = j < d && first && beta != Real{0} ? beta * to[j] : Real{0};
      }
      for (unsigned i = 0; i < n; ++i) {
        const Real* row = source.row_data(from[i]);
        for (unsigned u = 0; u < columns; ++u) {
          const std::size_t j = column + u * g.size() + g.rank();
          if (j < d) acc[u] += weight[i] * row[j];
        }
      }
      for (unsigned u = 0; u < columns; ++u) {
        const std::size_t j = column + u * g.size() + g.rank();
        if (j < d) to[j] = acc[u];
      }
    }
  }
};

/// Adds the further chunks of a feature to its gradients, in order; a block per feature.
template <class Real, class V>
struct add_chunks {
  static constexpr bool cooperative = false;
  const std::int64_t* first_chunk;
  V d_decoder, d_encoder, d_bias;
  const Real* partial;
  std::size_t partial_width;

  template <class Group>
  PLMSCOPE_HD void operator()(Group& g) const {
    const std::size_t f = g.index();
    const auto first = static_cast<std::size_t>(first_chunk[f]) - f;
    const auto more = static_cast<std::size_t>(first_chunk[f + 1] - first_chunk[f] - 1);
    if (more == 0) return;
    add(g, partial + first * partial_width, more, d_decoder, f);
    add(g, partial + first * partial_width + d_decoder.cols(), more, d_encoder, f);
    if (d_bias.empty() || g.rank() != 0) return;
    const Real* from = partial + first * partial_width + d_decoder.cols() + d_encoder.cols();
    for (std::size_t c = 0; c < more; ++c) d_bias.data()[f] += from[c * partial_width];
  }

 private:
  template <class Group>
  PLMSCOPE_HD void add(Group& g, const Real* from, std::size_t more, V out, std::size_t f) const {
    if (out.empty()) return;
    for (std::size_t j = g.rank(); j < out.cols(); j += g.size()) {
      Real sum = out.row_data(f)[j];
      for (std::size_t c = 0; c < more; ++c) sum += from[c * partial_width + j];
      out.row_data(f)[j] = sum;
    }
  }
};

}  // namespace device_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI
