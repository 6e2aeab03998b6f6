// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/progress.hpp>
#include <plmscope/plm/alphabet.hpp>
#include <plmscope/plm/collect.hpp>
#include <plmscope/plm/contact_map.hpp>
#include <plmscope/plm/forward_pass.hpp>
#include <plmscope/plm/language_model.hpp>
#include <plmscope/plm/rules.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// The categorical Jacobian of a protein of n residues (Zhang et al. 2024, "Protein language models
/// learn evolutionary statistics of interacting sequence motifs"): entry (i, a, j, b) is by how
/// much the logit of amino acid b at residue j changes when residue i is set to amino acid a; a and
/// b run over the 20 standard amino acids in the order of their token ids. [n, 20, n, 20],
/// row-major.
struct categorical_jacobian {
  static constexpr std::size_t letters = 20;

  std::size_t residues = 0;
  std::vector<float> changes;

  float& operator()(std::size_t i, std::size_t a, std::size_t j, std::size_t b) noexcept {
    return changes[((i * letters + a) * residues + j) * letters + b];
  }
  float operator()(std::size_t i, std::size_t a, std::size_t j, std::size_t b) const noexcept {
    return changes[((i * letters + a) * residues + j) * letters + b];
  }
};

/// Runs the 20 n single mutants of one sequence through any model with the tokens of ESM-2, as many
/// to a pass as `tokens_per_batch` holds. `tokens` is `<cls>` residues `<eos>`. Cost: 20 n forward
/// passes; memory: 1,600 n^2 bytes. `report(done, all)` is called after every pass. Errors: plm.130
/// where that is not free, plm.114.
template <class Model, class Progress = no_progress>
categorical_jacobian compute_categorical_jacobian(Model& model,
                                                  std::span<const std::int32_t> tokens,
                                                  std::size_t tokens_per_batch = 8192,
                                                  Progress&& report = {}) {
  constexpr std::size_t letters = categorical_jacobian::letters;
  using real = typename Model::backend_type::real;
  model.check(logits{});
  const std::size_t vocabulary = model.width(logits{});
  auto batch = make_batch(model);
  batch.add(tokens);
  const std::size_t n = tokens.size() < 2 ? 0 : tokens.size() - 2;
  require_memory(model.backend(), 1600.0 * static_cast<double>(n) * static_cast<double>(n),
                 "the categorical Jacobian of " + std::to_string(n) + " residues");
  collect<real> keep({logits{}});
  model.forward(batch, keep);
  const std::vector<real> clean(keep.states(logits{}).begin(), keep.states(logits{}).end());

  categorical_jacobian out{n, std::vector<float>(n * letters * n * letters)};
  std::vector<std::int32_t> mutant(tokens.begin(), tokens.end());
  const std::size_t all = n * letters;
  for (std::size_t first = 0; first < all;) {
    batch.clear();
    std::size_t end = first;
    for (; end < all && (end == first || batch.rows() + mutant.size() <= tokens_per_batch); ++end) {
      const std::size_t i = end / letters;
      mutant[i + 1] = alphabet::first_standard + static_cast<std::int32_t>(end % letters);
      batch.add(std::span<const std::int32_t>(mutant));
      mutant[i + 1] = tokens[i + 1];
    }
    keep.clear();
    model.forward(batch, keep);
    const auto scores = keep.states(logits{});
    for (std::size_t m = first; m < end; ++m) {
      const real* const rows = scores.data() + batch.first_row(m - first) * vocabulary;
      for (std::size_t j = 0; j < n; ++j) {
        for (std::size_t b = 0; b < letters; ++b) {
          const std::size_t at = (j + 1) * vocabulary + alphabet::first_standard + b;
          out(m / letters, m % letters, j, b) = static_cast<float>(rows[at] - clean[at]);
        }
      }
    }
    report(end, all);
    first = end;
  }
  return out;
}

/// Contact scores of a Jacobian, by the order of steps of the method's published code: the mean
/// over each of the four axes is taken off in turn, J becomes (J + its transpose over residues and
/// letters) / 2 and is centred again, F[i, j] = |J[i, :, j, :]| with a zero diagonal, the average
/// product is taken off, F - row sum column sum / total, and the diagonal is zero. Not
/// probabilities; larger means closer.
inline contact_map contacts_of(const categorical_jacobian& jacobian) {
  constexpr std::size_t letters = categorical_jacobian::letters;
  const std::size_t n = jacobian.residues;
  const std::size_t side = n * letters;
  std::vector<double> x(jacobian.changes.begin(), jacobian.changes.end());
  // x as [n, 20, n, 20]: the means over each axis, one after another.
  const auto centre = [&] {
    const std::size_t extent[4]{n, letters, n, letters};
    for (std::size_t axis = 0; axis < 4; ++axis) {
      std::size_t inner = 1;
      for (std::size_t k = axis + 1; k < 4; ++k) inner *= extent[k];
      const std::size_t count = extent[axis];
      for (std::size_t outer = 0; outer < x.size() / (inner * count); ++outer) {
        for (std::size_t k = 0; k < inner; ++k) {
          double* const line = x.data() + outer * count * inner + k;
          double sum = 0;
          for (std::size_t i = 0; i < count; ++i) sum += line[i * inner];
          for (std::size_t i = 0; i < count; ++i)
            line[i * inner] -= sum / static_cast<double>(count);
        }
      }
    }
  };
  centre();
  for (std::size_t p = 0; p < side; ++p) {
    for (std::size_t q = 0; q < p; ++q) {
      const double both = (x[p * side + q] + x[q * side + p]) / 2;
      x[p * side + q] = x[q * side + p] = both;
    }
  }
  centre();
  std::vector<double> norm(n * n, 0.0);
  std::vector<double> row(n, 0.0);
  double total = 0;
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      if (i == j) continue;
      double squares = 0;
      for (std::size_t a = 0; a < letters; ++a) {
        for (std::size_t b = 0; b < letters; ++b) {
          const double v = x[(i * letters + a) * side + j * letters + b];
          squares += v * v;
        }
      }
      norm[i * n + j] = std::sqrt(squares);
      row[i] += norm[i * n + j];
      total += norm[i * n + j];
    }
  }
  contact_map out(n);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      const double both = (norm[i * n + j] + norm[j * n + i]) / 2;
      const double score = total > 0 ? both - row[i] * row[j] / total : 0.0;
      out(i, j) = out(j, i) = static_cast<float>(score);
    }
  }
  return out;
}

}  // namespace plmscope::inline PLMSCOPE_ABI
