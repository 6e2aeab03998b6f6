// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/eval/estimate.hpp>
#include <plmscope/eval/fidelity.hpp>
#include <plmscope/eval/fidelity_figures.hpp>
#include <plmscope/eval/rules.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

namespace fidelity_detail {

inline void check_alike(const fidelity& a, const fidelity& b, std::string_view definition) {
  const auto refuse = [&](std::string found) {
    throw error(rules::fidelity_compared, {.where = "compare_fidelity", .found = std::move(found)});
  };
  if (a.definition != b.definition || a.definition != definition) {
    refuse(a.definition + ", " + b.definition + " and " + std::string(definition));
  }
  if (a.of_protein.size() != b.of_protein.size()) {
    refuse(std::to_string(a.of_protein.size()) + " and " + std::to_string(b.of_protein.size()) +
           " proteins");
  }
  for (std::size_t p = 0; p < a.of_protein.size(); ++p) {
    const auto& x = a.of_protein[p];
    const auto& y = b.of_protein[p];
    if (x.residues == y.residues && x.scored == y.scored && x.losses[0] == y.losses[0]) continue;
    refuse("protein " + std::to_string(p) +
           " is another one, masked otherwise, or of another model");
  }
}

}  // namespace fidelity_detail

/// a - b, figure by figure, for two SAEs measured on the same proteins, with the intervals of the
/// difference, for which both meet the same resampled corpora: a difference is known better than
/// either number when the same proteins are hard for both. Figures that need whole rows have no
/// interval. Errors: eval.135.
template <fidelity_definition Definition = fidelity_by::standard>
std::array<estimate, fidelity_figure_count> compare_fidelity(const fidelity& a, const fidelity& b,
                                                             const Definition& definition = {},
                                                             std::size_t resamples = 1000,
                                                             std::uint64_t seed = 1) {
  fidelity_detail::check_alike(a, b, Definition::id);
  const auto ran = [](const fidelity& f) -> fidelity_detail::ablations_run {
    return {f[fidelity_figure::loss_zero].defined(), f[fidelity_figure::loss_mean].defined()};
  };
  const fidelity_detail::figure_sums of_a(a.of_protein, definition, ran(a));
  const fidelity_detail::figure_sums of_b(b.of_protein, definition, ran(b));
  std::array<estimate, fidelity_figure_count> out;
  for (std::size_t f = 0; f < out.size(); ++f) {
    out[f].value = a.figures[f].value - b.figures[f].value;
    if (!out[f].defined())
      out[f].why = a.figures[f].defined() ? b.figures[f].why : a.figures[f].why;
  }
  if (of_a.proteins() < 2) return out;
  std::vector<std::vector<double>> values(fidelity_figure_count);
  resample_proteins(of_a.proteins(), resamples, seed,
                    [&](std::size_t, const std::vector<std::uint32_t>& times) {
                      const auto x = of_a.resampled(times);
                      const auto y = of_b.resampled(times);
                      for (std::size_t f = 0; f < x.size(); ++f) values[f].push_back(x[f] - y[f]);
                    });
  for (std::size_t f = 0; f < values.size(); ++f) set_interval(out[f], values[f]);
  return out;
}

}  // namespace plmscope::inline PLMSCOPE_ABI
