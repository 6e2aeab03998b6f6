// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/eval/estimate.hpp>
#include <plmscope/eval/fidelity_protocol.hpp>
#include <plmscope/eval/metrics.hpp>
#include <plmscope/eval/protein_fidelity.hpp>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Every figure of fidelity.
enum class fidelity_figure : std::size_t {
  loss_clean,
  loss_spliced,
  loss_zero,
  loss_mean,
  recovered_zero,  ///< share of the loss that the SAE brings back from zero ablation
  recovered_mean,  ///< ... from mean ablation
  kl_spliced,      ///< KL(clean || spliced)
  kl_zero,
  kl_mean,
  kl_recovered_zero,  ///< 1 - kl_spliced / kl_zero
  kl_recovered_mean,
  agreement,       ///< share of predictions whose first choice stays
  accuracy_clean,  ///< share of predictions whose first choice is right
  accuracy_spliced,
  fvu,
  explained_variance,  ///< as the definition has it
  mean_squared_error,
  cosine,
  length_ratio,
  relative_bias,
  l0
};
// clang-format off
inline constexpr std::array<std::string_view, 21> fidelity_figure_names{
    "loss_clean", "loss_spliced", "loss_zero", "loss_mean", "recovered_zero", "recovered_mean",
    "kl_spliced", "kl_zero", "kl_mean", "kl_recovered_zero", "kl_recovered_mean", "agreement",
    "accuracy_clean", "accuracy_spliced", "fvu", "explained_variance", "mean_squared_error",
    "cosine", "length_ratio", "relative_bias", "l0"};
// clang-format on
inline constexpr std::size_t fidelity_figure_count = fidelity_figure_names.size();

namespace fidelity_detail {

/// What one protein adds to the sums that figures are quotients of.
struct contribution {
  std::array<double, fidelity_conditions> losses{}, divergences{}, agreeing{}, correct{};
  double scored = 0, compared = 0;
  std::array<double, 2> shares{};  // recovered from zeros, from the mean: ratios of this protein
  std::array<double, 2> shares_defined{};

  void add(const contribution& o, double times) {
    const auto sum = [times](auto& to, const auto& from) {
      for (std::size_t i = 0; i < to.size(); ++i) to[i] += times * from[i];
    };
    sum(losses, o.losses);
    sum(divergences, o.divergences);
    sum(agreeing, o.agreeing);
    sum(correct, o.correct);
    sum(shares, o.shares);
    sum(shares_defined, o.shares_defined);
    scored += times * o.scored;
    compared += times * o.compared;
  }
};

template <class Definition>
contribution contribution_of(const protein_fidelity& p, const Definition& definition) {
  contribution out;
  const bool by_protein = Definition::protocol.average != fidelity_average::tokens;
  const auto put = [&](std::size_t n, const auto& from, auto& to) {
    if (n == 0) return;
    const double unit = by_protein ? static_cast<double>(n) : 1.0;
    for (std::size_t c = 0; c < fidelity_conditions; ++c) {
      to[c] = static_cast<double>(from[c]) / unit;
    }
  };
  const auto weight = [&](std::size_t n) {
    return by_protein ? (n > 0 ? 1.0 : 0.0) : static_cast<double>(n);
  };
  put(p.scored, p.losses, out.losses);
  put(p.compared, p.divergences, out.divergences);
  put(p.compared, p.agreeing, out.agreeing);
  put(p.scored, p.correct, out.correct);
  out.scored = weight(p.scored);
  out.compared = weight(p.compared);
  using enum fidelity_condition;
  const std::array<double, 2> shares{
      definition.recovered(p.loss(clean), p.loss(spliced), p.loss(zero)),
      definition.recovered(p.loss(clean), p.loss(spliced), p.loss(mean))};
  for (std::size_t a = 0; a < 2; ++a) {
    if (!std::isfinite(shares[a])) continue;
    out.shares[a] = shares[a];
    out.shares_defined[a] = 1;
  }
  return out;
}

/// Which ablations were run.
struct ablations_run {
  bool zero = true;
  bool mean = true;
};

using figure_values = std::array<double, fidelity_figure_count>;

template <class Definition>
figure_values figures_of(const contribution& c, const reconstruction_moments& m,
                         const Definition& definition, ablations_run ran) {
  figure_values out;
  out.fill(not_defined);
  const auto set = [&](fidelity_figure f, double v) {
    out[static_cast<std::size_t>(f)] = std::isfinite(v) ? v : not_defined;
  };
  const auto over = [](double a, double b) { return b > 0 ? a / b : not_defined; };
  using enum fidelity_figure;
  const auto loss = [&](std::size_t k) { return over(c.losses[k], c.scored); };
  const auto kl = [&](std::size_t k) { return over(c.divergences[k], c.compared); };
  set(loss_clean, loss(0));
  set(loss_spliced, loss(1));
  set(kl_spliced, kl(1));
  set(agreement, over(c.agreeing[1], c.compared));
  set(accuracy_clean, over(c.correct[0], c.scored));
  set(accuracy_spliced, over(c.correct[1], c.scored));
  const auto ablation = [&](std::size_t k, fidelity_figure l, fidelity_figure r, fidelity_figure d,
                            fidelity_figure dr) {
    set(l, loss(k));
    set(d, kl(k));
    set(r, Definition::protocol.average == fidelity_average::ratios
               ? over(c.shares[k - 2], c.shares_defined[k - 2])
               : definition.recovered(loss(0), loss(1), loss(k)));
    set(dr, 1 - over(kl(1), kl(k)));
  };
  if (ran.zero) ablation(2, loss_zero, recovered_zero, kl_zero, kl_recovered_zero);
  if (ran.mean) ablation(3, loss_mean, recovered_mean, kl_mean, kl_recovered_mean);
  set(fvu, m.fvu());
  set(explained_variance, definition.explained_variance(m));
  set(mean_squared_error, m.mean_squared_error());
  set(cosine, m.cosine());
  set(length_ratio, m.length_ratio());
  set(relative_bias, m.relative_bias());
  set(l0, m.l0());
  return out;
}

/// Why a figure is not defined.
inline std::string_view reason(fidelity_figure f, const contribution& c,
                               const reconstruction_moments& m, const fidelity_protocol& protocol,
                               ablations_run ran) {
  using enum fidelity_figure;
  if (f == explained_variance && m.variance > 0) return "not part of this definition";
  if (f == fvu || f == explained_variance) return "the states do not vary";
  if (f == l0) return "the SAE shows no codes";
  if (f == length_ratio) return "a state is zero";
  if (f == relative_bias) return "reconstructions are at right angles to states";
  if (f >= mean_squared_error) return "no row is measured";
  if (!protocol.runs_model) return "this definition runs no language model";
  const bool of_zero =
      f == loss_zero || f == recovered_zero || f == kl_zero || f == kl_recovered_zero;
  const bool of_mean =
      f == loss_mean || f == recovered_mean || f == kl_mean || f == kl_recovered_mean;
  if ((of_zero && !ran.zero) || (of_mean && !ran.mean)) return "this ablation was not asked for";
  if (c.scored == 0) return "no prediction is scored";
  if (f == kl_recovered_zero || f == kl_recovered_mean) return "the ablation changes nothing";
  return "the ablation does not raise the loss";
}

/// The figures of a corpus and of resampled ones.
template <class Definition>
class figure_sums {
 public:
  figure_sums(const std::vector<protein_fidelity>& proteins, const Definition& definition,
              ablations_run ran)
      : definition_(&definition), ran_(ran) {
    for (const protein_fidelity& p : proteins) {
      if (p.residues == 0) continue;
      parts_.push_back(contribution_of(p, definition));
      rebuilt_.push_back(&p.rebuilt);
    }
  }

  std::size_t proteins() const noexcept { return parts_.size(); }

  figure_values resampled(const std::vector<std::uint32_t>& times) const {
    contribution sum;
    reconstruction_moments moments;
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      if (times[i] == 0) continue;
      sum.add(parts_[i], times[i]);
      moments.add(*rebuilt_[i], times[i]);
    }
    return figures_of(sum, moments, *definition_, ran_);
  }

  /// Values with their reasons, without intervals. `error_sum` is that of the whole corpus.
  std::array<estimate, fidelity_figure_count> all(std::vector<double> error_sum) const {
    contribution sum;
    reconstruction_moments moments;
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      sum.add(parts_[i], 1);
      moments.add(*rebuilt_[i]);
    }
    moments.error_sum = std::move(error_sum);
    const figure_values values = figures_of(sum, moments, *definition_, ran_);
    std::array<estimate, fidelity_figure_count> out;
    for (std::size_t f = 0; f < out.size(); ++f) {
      out[f].value = values[f];
      if (out[f].defined()) continue;
      out[f].why =
          reason(static_cast<fidelity_figure>(f), sum, moments, Definition::protocol, ran_);
    }
    return out;
  }

 private:
  const Definition* definition_;
  ablations_run ran_;
  std::vector<contribution> parts_;
  std::vector<const reconstruction_moments*> rebuilt_;
};

}  // namespace fidelity_detail

}  // namespace plmscope::inline PLMSCOPE_ABI
