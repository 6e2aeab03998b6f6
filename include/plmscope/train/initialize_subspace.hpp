// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/rng.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/sae/rules.hpp>
#include <plmscope/sae/sae.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Makes rows [r, d] orthonormal, first to last (modified Gram and Schmidt, twice); a row that
/// depends on those before it becomes zero. Cost: 4 r r d operations.
inline void orthonormalize(std::span<double> rows, std::size_t d) {
  const auto dot = [&](const double* a, const double* b) {
    double sum = 0;
    for (std::size_t j = 0; j < d; ++j) sum += a[j] * b[j];
    return sum;
  };
  for (std::size_t i = 0; d != 0 && i < rows.size() / d; ++i) {
    double* const row = rows.data() + i * d;
    const double before = std::sqrt(dot(row, row));
    for (int pass = 0; pass < 2; ++pass) {
      for (std::size_t k = 0; k < i; ++k) {
        const double* const other = rows.data() + k * d;
        const double along = dot(row, other);
        for (std::size_t j = 0; j < d; ++j) row[j] -= along * other[j];
      }
    }
    const double length = std::sqrt(dot(row, row));
    const bool independent = length > 1e-6 * before;
    for (std::size_t j = 0; j < d; ++j) row[j] = independent ? row[j] / length : 0;
  }
}

/// An orthonormal basis [r, d] of the directions in which rows [m, d] are longest, by subspace
/// iteration on X^T X from random rows (Halko et al. 2011, algorithm 4.4); r is at most d.
/// Directions that rows do not have at all, at the backend's precision, are rows of zeros. Waits
/// for the device.
template <class B>
std::vector<double> principal_directions(B& be, const_view<B> rows, std::size_t r,
                                         std::size_t iterations = 20, std::uint64_t seed = 0) {
  using real = typename B::real;
  const std::size_t d = rows.cols();
  r = std::min(r, d);
  const rng random(seed, 0x5bb);
  std::vector<double> q(r * d);
  for (std::size_t i = 0; i < q.size(); ++i) q[i] = random.normal(i);
  matrix<real, B> squares(be, d, d), from(be, r, d), to(be, r, d);
  be.gemm_tn(rows, rows, squares);
  for (std::size_t i = 0; i < iterations && r > 0; ++i) {
    orthonormalize(q, d);
    be.upload(std::span<const double>(q), from.all());
    be.gemm_nn(from, squares, to);
    be.download(const_view<B>(to), std::span<double>(q));
  }
  orthonormalize(q, d);
  return q;
}

/// Random decoder rows of length 1 within the `directions` longest principal directions of the rows
/// [m, d_in], for sites whose activations do not fill their space: elsewhere latents would be dead
/// from the start (Llamascopium's active subspace). Encoder rows become copies. Gives the share of
/// the squared length of the centred rows that lies in the subspace. For an SAE whose widths are
/// equal, once the input's bias has its value; equal seeds give equal starts. Without rows, or for
/// no directions, the model stays as it is and the share is 0.
template <class Sae, class Rows>
double initialize_in_subspace(Sae& model, Rows rows, std::size_t directions,
                              std::uint64_t seed = 0) {
  using backend = typename Sae::backend_type;
  using real = typename backend::real;
  auto& be = model.backend();
  auto& p = model.parameters();
  const const_view<backend> x = model.centred(rows);
  const std::size_t d = x.cols();
  if (p.decoder.cols() != d) {
    throw error(rules::sae_width, {.where = "initialize_in_subspace",
                                   .expected = "results as wide as rows, " + std::to_string(d),
                                   .found = std::to_string(p.decoder.cols())});
  }
  if (x.rows() == 0 || directions == 0) return 0;
  const auto basis = principal_directions(be, x, directions, 20, seed);
  const std::size_t r = basis.size() / d;
  matrix<real, backend> q(be, r, d), within(be, x.rows(), r), mix(be, model.features(), r);
  be.upload(std::span<const double>(basis), q.all());
  const rng random(seed, 0x5bc);
  std::vector<double> weights(mix.size());
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = random.normal(i);
  be.upload(std::span<const double>(weights), mix.all());
  be.gemm_nn(mix, q, p.decoder);
  be.normalize_rows(p.decoder, real{0});
  be.copy(const_view<backend>(p.decoder), p.encoder.all());
  be.gemm_nt(x, q, within);
  matrix<double, backend> sums(be, 1, 2);
  be.add_sum_squares(const_view<backend>(within), sums.all().col_range(0, 1));
  be.add_sum_squares(x, sums.all().col_range(1, 1));
  double host[2] = {};
  be.download(const_view<backend, double>(sums), std::span<double>(host));
  return host[1] > 0 ? host[0] / host[1] : 0;
}

}  // namespace plmscope::inline PLMSCOPE_ABI
