// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/progress.hpp>
#include <plmscope/eval/estimate.hpp>
#include <plmscope/eval/fidelity_definitions.hpp>
#include <plmscope/eval/fidelity_figures.hpp>
#include <plmscope/eval/fidelity_masking.hpp>
#include <plmscope/eval/fidelity_passes.hpp>
#include <plmscope/eval/protein_fidelity.hpp>
#include <plmscope/plm/language_model.hpp>
#include <plmscope/plm/site.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

struct fidelity_options {
  /// Nothing: as the definition has it, which for published ones is no masks.
  std::optional<fidelity_masking> masking = {};
  bool zero_ablation = true;
  bool mean_ablation = true;
  std::size_t tokens_per_batch = 8192;  ///< a longer protein is a batch of its own
  std::size_t resamples = 1000;         ///< of the bootstrap; 0: no intervals
  std::uint64_t seed = 1;               ///< of masks and bootstrap
};

/// How much of a language model's behaviour survives an SAE.
struct fidelity {
  std::string definition;
  std::string defect;        ///< what is wrong with the definition; empty where nothing is
  site at;                   ///< where states were replaced
  std::size_t proteins = 0;  ///< with residues
  std::size_t skipped = 0;   ///< without
  std::size_t residues = 0;
  std::size_t predictions = 0;  ///< with a loss
  bool masked = false;
  std::array<estimate, fidelity_figure_count> figures;
  std::vector<protein_fidelity> of_protein;  ///< in the order of the proteins given

  const estimate& operator[](fidelity_figure f) const noexcept {
    return figures[static_cast<std::size_t>(f)];
  }
};

/// Measures what is lost when states at `at` are replaced by their reconstruction: losses of the
/// model clean, spliced, and with the state ablated to zeros and to its mean; the share of the loss
/// that the SAE brings back; KL divergences; and the reconstruction itself. See `fidelity_by` for
/// definitions.
///
///   auto f = plmscope::measure_fidelity(esm, plmscope::resid_post{4}, sae, sequences);
///   f[plmscope::fidelity_figure::recovered_zero].value;
///
/// `Sae` is anything with `reconstruct(const_view, view)` on the model's backend, which turns rows
/// [m, width] into as many; with a third argument for codes, L0 is counted. Figures of the
/// reconstruction are on the proteins as they are, those of the model on masked ones where there
/// are masks. The mean row is that of the same proteins, from a pass of its own. Figures that have
/// no meaning are `not_defined` and say why. Intervals are bootstrapped over proteins (a definition
/// of explained variance that needs whole rows has none, nor has a single protein).
///
/// The numbers do not depend on threads, on how proteins are packed, or on anything but the input;
/// with OpenBLAS up to rounding. Memory: one batch, about 500 bytes a protein. Cost: 4 forward
/// passes (2 less without ablations) of every sequence the masking makes and 1 as far as the site,
/// 2 with masks. Errors: eval.130 to eval.134, those of model and tokenizer.
template <fidelity_definition Definition = fidelity_by::standard, class Model, class Sae,
          class Progress = no_progress>
fidelity measure_fidelity(Model& model, const site& at, Sae& sae,
                          std::span<const std::string> sequences, const Definition& definition = {},
                          const fidelity_options& options = {}, Progress&& report = {}) {
  static_assert(require_language_model<Model>::value);
  constexpr fidelity_protocol protocol = Definition::protocol;
  static_assert(
      protocol.replaced == fidelity_rows::all || protocol.measured == fidelity_rows::residues,
      "plmscope: a definition of fidelity measures rows that the SAE replaces");
  const fidelity_masking masking =
      options.masking             ? *options.masking
      : protocol.masked_share > 0 ? fidelity_masking::share_of(protocol.masked_share, options.seed)
                                  : fidelity_masking::none();
  fidelity out;
  out.definition = Definition::id;
  out.defect = Definition::defect;
  out.masked = protocol.runs_model && masking.masks();
  const fidelity_detail::ablations_run ran{options.zero_ablation, options.mean_ablation};
  fidelity_detail::passes run(model, at, sae, sequences, protocol, masking, ran,
                              options.tokens_per_batch, report);
  out.at = run.where();
  run.measure(out.of_protein);
  for (const protein_fidelity& p : out.of_protein) {
    ++(p.residues == 0 ? out.skipped : out.proteins);
    out.residues += p.residues;
    out.predictions += p.scored;
  }
  const fidelity_detail::figure_sums sums(out.of_protein, definition, ran);
  out.figures = sums.all(run.error_sum());
  if (sums.proteins() < 2) return out;
  std::vector<std::vector<double>> values(fidelity_figure_count);
  resample_proteins(sums.proteins(), options.resamples, options.seed,
                    [&](std::size_t, const std::vector<std::uint32_t>& times) {
                      const auto figures = sums.resampled(times);
                      for (std::size_t f = 0; f < figures.size(); ++f) {
                        values[f].push_back(figures[f]);
                      }
                    });
  for (std::size_t f = 0; f < values.size(); ++f) set_interval(out.figures[f], values[f]);
  return out;
}

}  // namespace plmscope::inline PLMSCOPE_ABI
