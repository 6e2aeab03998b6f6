// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/primitives.hpp>
#include <plmscope/core/rng.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/sae/parameters.hpp>
#include <plmscope/tensor/codes.hpp>
#include <plmscope/tensor/codes_by_feature.hpp>
#include <plmscope/tensor/matrix.hpp>
#include <plmscope/train/penalty_weights.hpp>
#include <plmscope/train/step_context.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

namespace orthogonality_detail {

// A row's product with itself is no neighbour.
template <class Real>
struct clear_own {
  Real* products;
  std::size_t columns;
  std::size_t first;  ///< column of row 0
  PLMSCOPE_HD void operator()(std::size_t, std::size_t row) const {
    products[row * columns + first + row] = 0;
  }
};

}  // namespace orthogonality_detail

/// Orthogonality of the dictionary (OrtSAE; Korznikov et al. 2025): latents that one direction
/// would do for are pushed apart.
///
///   weight / F sum_i max_(j != i, j in the chunk of i) cos(w_i, w_j)^2
///
/// Latents are dealt into ceil(F / chunk) chunks of nearly equal size, differently in every step,
/// so that all pairs meet in time and the cost is linear in F. With `every` above 1 only every so
/// many steps have the penalty (and its value is 0 in between). Gradients reach both rows of a
/// pair, never the lengths; of equally near neighbours the first of the chunk counts.
///
/// It looks at the decoder alone: a transcoder's too, and rows as the forward pass uses them. Cost:
/// 2 F chunk d multiplications where it is applied; memory: a chunk's rows three times and 16 MiB
/// of products. Does not wait for a device.
struct orthogonality_penalty {
  warmed_weight weight = {.value = 0.25};
  std::size_t chunk = 8192;  ///< latents at most; 0: all of them
  std::size_t every = 5;     ///< steps
  std::uint64_t seed = 0;

  template <class B>
  struct state {
    using real = typename B::real;
    matrix<std::uint32_t, B> ids;
    matrix<real, B> unit, pull, products, lengths, zero, sum;
    codes<B> nearest;
    codes_by_feature<B> by_neighbour;
    matrix<double, B> slot;
    warmed_weight::state weight;
    double factor = 0;  ///< weight / F of the last step

    template <class F>
    void fields(const F&) {}  // a step's chunks depend on its number alone
  };

  template <class B>
  void add_gradient(B& be, step_context<B>& c, sae_parameters<B>& gradient, view<B>,
                    state<B>& s) const {
    s.factor = 0;
    if (every > 1 && c.step % every != 0) return;
    const std::size_t features = c.features();
    s.factor = weight(be, c, s.weight) / static_cast<double>(features);
    if (s.factor == 0) return;
    if (s.slot.empty()) s.slot = matrix<double, B>(be, 1, 1);
    be.fill(s.slot.all(), 0.0);
    const std::size_t chunks = chunk == 0 ? 1 : (features + chunk - 1) / chunk;
    deal(be, features, chunks, c.step, s);
    for (std::size_t i = 0; i < chunks; ++i) {
      const std::size_t first = features * i / chunks;
      const auto ids =
          const_view<B, std::uint32_t>(s.ids).col_range(first, features * (i + 1) / chunks - first);
      add_chunk(be, c.parameters.decoder, ids, gradient.decoder, s);
    }
  }

  template <class B>
  double loss(B& be, state<B>& s) const {
    if (s.factor == 0) return 0;
    double sum = 0;
    be.download(const_view<B, double>(s.slot), std::span<double>(&sum, 1));
    return s.factor * sum;
  }

 private:
  template <class B>
  void deal(B& be, std::size_t features, std::size_t chunks, std::size_t step, state<B>& s) const {
    if (!s.ids.empty() && chunks == 1) return;
    const permutation dealt(features, seed, 0x027 + step);
    std::vector<std::uint32_t> order(features);
    for (std::size_t i = 0; i < features; ++i) {
      order[i] = static_cast<std::uint32_t>(chunks == 1 ? i : dealt(i));
    }
    s.ids.reshape(be, 1, features);
    be.upload(std::span<const std::uint32_t>(order), s.ids.all());
  }

  template <class B>
  void add_chunk(B& be, const matrix<typename B::real, B>& decoder,
                 const_view<B, std::uint32_t> ids, matrix<typename B::real, B>& gradient,
                 state<B>& s) const {
    using real = typename B::real;
    const std::size_t n = ids.cols(), d = decoder.cols();
    s.unit.reshape(be, n, d);
    s.pull.reshape(be, n, d);
    for (auto* row : {&s.lengths, &s.zero, &s.sum}) row->reshape(be, 1, n);
    be.gather_rows(const_view<B>(decoder), ids, s.unit);
    be.row_norms(const_view<B>(s.unit), s.lengths);
    be.normalize_rows(s.unit, real{0});
    find_nearest(be, s);
    // With c_i = cos(w_i, w_j): c_i u_j, whose product with u_i is c_i^2; then c_i u_i for u_j.
    be.decode(s.nearest, const_view<B>(s.unit), const_view<B>(), s.pull);
    be.row_dots(const_view<B>(s.pull), const_view<B>(s.unit), s.sum);
    be.add_sum(const_view<B>(s.sum), s.slot.all());
    be.transpose(s.nearest, s.by_neighbour);
    const const_view<B> cosines(s.nearest.values(), 1, s.nearest.entries());
    be.sparse_backward(s.by_neighbour, cosines, cosines, const_view<B>(s.unit), const_view<B>(),
                       s.pull.all(), view<B>(), view<B>(), real{1});
    // from u to w = |w| u
    be.project_rows(s.pull, s.unit, real{0});
    be.fill(s.zero.all(), real{0});
    be.reciprocal(static_cast<real>(2 * s.factor), const_view<B>(s.lengths), s.lengths);
    be.affine_rows(const_view<B>(s.pull), s.zero, s.lengths, s.pull);
    be.scatter_add_rows(const_view<B>(s.pull), ids, gradient.all());
  }

  // nearest: for each row of `unit` the other row of largest |cosine|, with the cosine.
  template <class B>
  static void find_nearest(B& be, state<B>& s) {
    using real = typename B::real;
    const std::size_t n = s.unit.rows();
    const std::size_t tile =
        std::clamp<std::size_t>((std::size_t{16} << 20) / (n * sizeof(real)), 1, n);
    s.nearest.clear(be, n);
    for (std::size_t first = 0; first < n; first += tile) {
      const std::size_t rows = std::min(tile, n - first);
      s.products.reshape(be, rows, n);
      be.gemm_nt(const_view<B>(s.unit).row_range(first, rows), const_view<B>(s.unit), s.products);
      be.entries(1, rows, orthogonality_detail::clear_own<real>{s.products.data(), n, first});
      be.top_k_rows(const_view<B>(s.products), 1, by_magnitude{}, s.nearest);
    }
  }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
