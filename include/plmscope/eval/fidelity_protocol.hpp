// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/eval/metrics.hpp>
#include <plmscope/eval/reconstruction_moments.hpp>
#include <plmscope/plm/lm_scores.hpp>

#include <concepts>
#include <cstddef>
#include <string_view>

namespace plmscope::inline PLMSCOPE_ABI {

/// Which tokens of a sequence something is done to.
enum class fidelity_rows {
  residues,  ///< all but the first and the last, `<cls>` and `<eos>`
  all
};

/// What the mean is taken over.
enum class fidelity_average {
  tokens,    ///< every position counts the same
  proteins,  ///< every protein counts the same: losses are means of the proteins' means
  ratios     ///< as `proteins`, and the share recovered is the mean of the proteins' shares
};

/// How a definition of fidelity runs the model: everything about it that is no formula.
struct fidelity_protocol {
  fidelity_rows replaced = fidelity_rows::residues;  ///< by the SAE's reconstruction
  fidelity_rows ablated = fidelity_rows::residues;   ///< by zeros, or by the mean of these rows
  fidelity_rows scored = fidelity_rows::residues;    ///< rows whose prediction is compared
  fidelity_rows measured = fidelity_rows::residues;  ///< by FVU and the like; `replaced` or fewer
  /// A row is scored against the token after its own, as in models that write from left to right.
  bool next_token = false;
  fidelity_average average = fidelity_average::tokens;
  /// The state is replaced so many blocks after the SAE's own site.
  std::size_t blocks_later = 0;
  /// false: unmasked sequences run without ESM-2's factor (`without_token_dropout`).
  bool token_dropout = true;
  bool runs_model = true;  ///< false: reconstruction only
  /// Share of residues masked unless the user says otherwise; 0: none, as published systems do.
  double masked_share = 0;
};

/// A definition of fidelity: how the model is run and what is made of the losses. `recovered` gets
/// mean losses in nats (of a protein with `fidelity_average::ratios`) and both functions give
/// `not_defined` where the number would have no meaning. `defect` says in a sentence what is wrong
/// with it, "" where nothing is. One of your own:
///
///   struct ours {
///     static constexpr std::string_view id = "ours";
///     static constexpr std::string_view defect = "";
///     static constexpr plmscope::fidelity_protocol protocol{};
///     double recovered(double clean, double spliced, double ablated) const {
///       return plmscope::share_recovered(clean, spliced, ablated);
///     }
///     double explained_variance(const plmscope::reconstruction_moments& m) const {
///       return 1 - m.fvu();
///     }
///   };
template <class D>
concept fidelity_definition =
    requires(const D& d, double loss, const reconstruction_moments& moments) {
      { D::id } -> std::convertible_to<std::string_view>;
      { D::defect } -> std::convertible_to<std::string_view>;
      { D::protocol } -> std::convertible_to<fidelity_protocol>;
      { d.recovered(loss, loss, loss) } -> std::same_as<double>;
      { d.explained_variance(moments) } -> std::same_as<double>;
    };

/// `loss_recovered`, or `not_defined` where the two losses are the same number.
inline double share_recovered(double clean, double spliced, double ablated) noexcept {
  return ablated == clean ? not_defined : loss_recovered(clean, spliced, ablated);
}

}  // namespace plmscope::inline PLMSCOPE_ABI
