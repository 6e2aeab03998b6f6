// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/device/group.hpp>
#include <plmscope/backend/device/tiles.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace plmscope::inline PLMSCOPE_ABI {
namespace device_kernels {

/// softmax(q k^T) v per sequence and head with both products in bfloat16 by tensor cores, after
/// FlashAttention-2 (Dao 2023): a team has 16 queries and keeps them, their sums and their scores
/// in registers; keys and values come by in tiles of 64 that the teams of a block share. q, k, v
/// and the weights e^(score - top) are rounded to bfloat16; scores, the running top, and the sums
/// of weights and of weighted values stay in single precision. A query's bits depend on its own
/// sequence only, not on its team.
///
/// In shared memory a key is a row of pairs of neighbouring columns, and a row of values holds the
/// pairs (2r, 2r + 1, the same column), because a product of tiles takes its right operand in pairs
/// down a column. Both rows are padded so that the 32 words that a team reads lie in 32 banks.
///
/// NaN and infinite scores give what `attention` gives: a NaN spoils its query, infinite scores
/// share the weight. A number beyond 3.39e38 counts as infinite.
///
/// `HeadDim` is the room for the columns of a head, a multiple of 16; the others are zeros.
template <class C, class V, unsigned HeadDim>
struct tensor_attention {
  static constexpr unsigned threads = 128;
  static constexpr unsigned tile = 64;                    ///< keys at a time
  static constexpr unsigned key_words = HeadDim / 2 + 4;  ///< of a key
  static constexpr unsigned value_words = HeadDim + 8;    ///< of two values

  C q, k, v;
  V out;
  const std::int64_t* offsets;
  unsigned head_dim;
  unsigned heads;
  unsigned runs;  ///< runs of queries that the longest sequence needs
  unsigned run;   ///< queries of a block

  /// Queries of a block of so many threads.
  static constexpr unsigned queries(unsigned block) noexcept { return block / tile_lanes * 16; }
  static constexpr std::size_t shared_bytes() noexcept {
    return (tile * key_words + tile / 2 * value_words) * sizeof(std::uint32_t);
  }

  template <class Group>
  PLMSCOPE_HD void operator()(Group& g) const {
    auto* const keys = g.template shared<std::uint32_t>(tile * key_words);
    auto* const values = g.template shared<std::uint32_t>(tile / 2 * value_words);
    const std::size_t sequence = g.index() / (heads * runs);
    const std::size_t head = g.index() / runs % heads;
    const auto first = static_cast<std::size_t>(offsets[sequence]);
    const auto length = static_cast<unsigned>(offsets[sequence + 1] - offsets[sequence]);
    const unsigned begin = static_cast<unsigned>(g.index() % runs) * run;
    if (begin >= length) return;
    const std::size_t column = head * head_dim;
    const bool whole =
        in_fours(q, column) && in_fours(k, column) && in_fours(v, column) && in_fours(out, column);
    // Of its team's queries a lane has parts of two: lane / 4, and the eighth after it.
    const unsigned query = begin + g.team() * 16 + g.lane() / 4;
    const bool works = begin + g.team() * 16 < length;

    part mine;
    take_queries(g, first, column, query, length, mine);
    for (unsigned j = 0; j < length; j += tile) {
      const unsigned n = length - j < tile ? length - j : tile;
      g.sync();
      share_tile(g, first + j, n, column, whole, keys, values);
      g.sync();
      if (!works) continue;
      float weight[tile / 8][4];
      multiply_keys(g, mine, keys, weight);
      weigh(g, n, weight, mine);
      add_values(g, weight, values, mine);
    }
    if (works) give(g, first, column, query, length, whole, mine);
  }

 private:
  /// What a lane holds of its team's queries, as parts of tiles (`team_product`). Of index 2, the
  /// second is about the query eight rows further down.
  struct part {
    std::uint32_t query[HeadDim / 16][4];
    float sum[HeadDim / 8][4];
    float top[2];    ///< largest score so far
    float total[2];  ///< sum of the weights of this lane's keys
  };

  /// Neighbours that are moved at once, from and to multiples of their size.
  template <class T, unsigned N>
  struct alignas(N * sizeof(T)) together {
    T at[N];
  };

  /// Whether columns of a head can be moved four at a time.
  template <class View>
  PLMSCOPE_HD bool in_fours(const View& x, std::size_t column) const {
    return head_dim % 4 == 0 && x.stride() % 4 == 0 &&
           reinterpret_cast<std::uintptr_t>(x.data() + column) % 16 == 0;
  }

  /// Columns [c, c + 4) of a row; zeros where it has ended.
  PLMSCOPE_HD static void take(const float* row, unsigned c, unsigned width, bool whole,
                               float (&to)[4]) {
    if (whole && c < width) {
      const auto four = *reinterpret_cast<const together<float, 4>*>(row + c);
      for (unsigned i = 0; i < 4; ++i) to[i] = four.at[i];
    } else {
      for (unsigned i = 0; i < 4; ++i) to[i] = c + i < width ? row[c + i] : 0.0f;
    }
  }

  template <class Group>
  PLMSCOPE_HD void take_queries(Group& g, std::size_t first, std::size_t column, unsigned query,
                                unsigned length, part& mine) const {
    for (unsigned i = 0; i < 4; ++i) {
      const unsigned row = query + i % 2 * 8;
      const float* const from =
          row < length ? q.row_data(first + row) + column : q.row_data(first) + column;
      const unsigned width = row < length ? head_dim : 0;
      for (unsigned s = 0; s < HeadDim / 16; ++s) {
        const unsigned c = 16 * s + i / 2 * 8 + g.lane() % 4 * 2;
        mine.query[s][i] =
            bf16_pair(c < width ? from[c] : 0.0f, c + 1 < width ? from[c + 1] : 0.0f);
      }
    }
    for (unsigned c = 0; c < HeadDim / 8; ++c) {
      for (unsigned i = 0; i < 4; ++i) mine.sum[c][i] = 0;
    }
    for (unsigned h = 0; h < 2; ++h) {
      mine.top[h] = -std::numeric_limits<float>::infinity();
      mine.total[h] = 0;
    }
  }

  /// The next n keys and values into shared memory, zeros after them.
  template <class Group>
  PLMSCOPE_HD void share_tile(Group& g, std::size_t row, unsigned n, std::size_t column, bool whole,
                              std::uint32_t* keys, std::uint32_t* values) const {
    constexpr unsigned fours = HeadDim / 4;
    for (unsigned i = g.rank(); i < tile / 2 * fours; i += g.size()) {
      const unsigned r = i / fours * 2;
      const unsigned c = i % fours * 4;
      float of_key[2][4];
      float of_value[2][4];
      for (unsigned two = 0; two < 2; ++two) {
        const bool inside = r + two < n;
        const std::size_t at = inside ? row + r + two : row;
        take(k.row_data(at) + column, c, inside ? head_dim : 0, whole, of_key[two]);
        take(v.row_data(at) + column, c, inside ? head_dim : 0, whole, of_value[two]);
      }
      for (unsigned two = 0; two < 2; ++two) {
        *reinterpret_cast<together<std::uint32_t, 2>*>(keys + (r + two) * key_words + c / 2) = {
            {bf16_pair(of_key[two][0], of_key[two][1]), bf16_pair(of_key[two][2], of_key[two][3])}};
      }
      together<std::uint32_t, 4> pairs;
      for (unsigned l = 0; l < 4; ++l) pairs.at[l] = bf16_pair(of_value[0][l], of_value[1][l]);
      *reinterpret_cast<together<std::uint32_t, 4>*>(values + r / 2 * value_words + c) = pairs;
    }
  }

  /// score = q k^T, eight keys a product.
  template <class Group>
  PLMSCOPE_HD static void multiply_keys(Group& g, const part& mine, const std::uint32_t* keys,
                                        float (&score)[tile / 8][4]) {
    for (unsigned b = 0; b < tile / 8; ++b) {
      for (unsigned i = 0; i < 4; ++i) score[b][i] = 0;
    }
    const std::uint32_t* const key = keys + g.lane() / 4 * key_words + g.lane() % 4;
    for (unsigned s = 0; s < HeadDim / 16; ++s) {
      for (unsigned b = 0; b < tile / 8; ++b) {  // products that need not wait for each other
        const unsigned at = 8 * b * key_words + 8 * s;
        const std::uint32_t pairs[2] = {key[at], key[at + 4]};
        g.team_product(mine.query[s], pairs, score[b]);
      }
    }
  }

  /// Scores to weights 2^((score - top) log2 e); sums so far shrink when the top rises (Milakov &
  /// Gimelshein 2018).
  template <class Group>
  PLMSCOPE_HD static void weigh(Group& g, unsigned n, float (&w)[tile / 8][4], part& mine) {
    constexpr float log2e = 1.44269504f;
    constexpr float infinity = std::numeric_limits<float>::infinity();
    const unsigned at = g.lane() % 4 * 2;  // entry i of block b is of key 8 b + at + i % 2
    if (n < tile) {
      for (unsigned b = 0; b < tile / 8; ++b) {
        for (unsigned i = 0; i < 4; ++i) w[b][i] = 8 * b + at + i % 2 < n ? w[b][i] : -infinity;
      }
    }
    for (unsigned h = 0; h < 2; ++h) {
      float top = mine.top[h];  // never NaN: fmax passes over it
      for (unsigned b = 0; b < tile / 8; ++b) {
        top = std::fmax(top, std::fmax(w[b][2 * h], w[b][2 * h + 1]));
      }
      top = std::fmax(top, g.team_from(top, g.lane() ^ 1u));
      top = std::fmax(top, g.team_from(top, g.lane() ^ 2u));
      const float shrink = mine.top[h] == top ? 1.0f : std::exp2((mine.top[h] - top) * log2e);
      float shift = top * log2e;
      // Far from zero, shift has no digits left for differences; and inf - inf is 0 here.
      if (!(std::fabs(shift) < 1024.0f)) {
        shift = 0;
        for (unsigned b = 0; b < tile / 8; ++b) {
          for (unsigned i = 2 * h; i < 2 * h + 2; ++i) {
            const bool inside = 8 * b + at + i % 2 < n;
            w[b][i] = !inside ? -infinity : w[b][i] == top ? 0.0f : w[b][i] - top;
          }
        }
      }
      float total = 0;
      for (unsigned b = 0; b < tile / 8; ++b) {
        for (unsigned i = 2 * h; i < 2 * h + 2; ++i) {
          w[b][i] = std::exp2(std::fma(w[b][i], log2e, -shift));
          total += w[b][i];
        }
      }
      mine.top[h] = top;
      mine.total[h] = mine.total[h] * shrink + total;
      for (unsigned c = 0; c < HeadDim / 8; ++c) {
        mine.sum[c][2 * h] *= shrink;
        mine.sum[c][2 * h + 1] *= shrink;
      }
    }
  }

  /// sum += weight v, sixteen keys a product. Where a lane holds a result of one product it holds a
  /// part of the left operand of the next.
  template <class Group>
  PLMSCOPE_HD static void add_values(Group& g, const float (&w)[tile / 8][4],
                                     const std::uint32_t* values, part& mine) {
    const std::uint32_t* const value = values + g.lane() % 4 * value_words + g.lane() / 4;
    for (unsigned b = 0; b < tile / 8; b += 2) {
      const std::uint32_t pairs[4] = {bf16_pair(w[b][0], w[b][1]), bf16_pair(w[b][2], w[b][3]),
                                      bf16_pair(w[b + 1][0], w[b + 1][1]),
                                      bf16_pair(w[b + 1][2], w[b + 1][3])};
      for (unsigned c = 0; c < HeadDim / 8; ++c) {
        const unsigned at = 4 * b * value_words + 8 * c;
        const std::uint32_t two[2] = {value[at], value[at + 4 * value_words]};
        g.team_product(pairs, two, mine.sum[c]);
      }
    }
  }

  /// out = sum / total.
  template <class Group>
  PLMSCOPE_HD void give(Group& g, std::size_t first, std::size_t column, unsigned query,
                        unsigned length, bool whole, const part& mine) const {
    for (unsigned h = 0; h < 2; ++h) {
      float total = mine.total[h];
      total += g.team_from(total, g.lane() ^ 1u);
      total += g.team_from(total, g.lane() ^ 2u);
      if (query + 8 * h >= length) continue;
      const float share = 1 / total;
      float* const to = out.row_data(first + query + 8 * h) + column;
      for (unsigned b = 0; b < HeadDim / 8; ++b) {
        const unsigned c = 8 * b + g.lane() % 4 * 2;
        const together<float, 2> two{{mine.sum[b][2 * h] * share, mine.sum[b][2 * h + 1] * share}};
        if (whole && c < head_dim) {
          *reinterpret_cast<together<float, 2>*>(to + c) = two;
        } else {
          if (c < head_dim) to[c] = two.at[0];
          if (c + 1 < head_dim) to[c + 1] = two.at[1];
        }
      }
    }
  }
};

}  // namespace device_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI
