// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/eval/fidelity_protocol.hpp>
#include <plmscope/eval/metrics.hpp>
#include <plmscope/eval/reconstruction_moments.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <tuple>

namespace plmscope::inline PLMSCOPE_ABI {

/// Definitions of fidelity: ours, and what published code computes, under its name, defects
/// included. Each was read in the code of the named system; `docs/fidelity.md` has the table.
namespace fidelity_by {

/// Loss recovered as it comes out: not clipped, whatever the denominator's sign.
struct unclipped {
  double recovered(double clean, double spliced, double ablated) const noexcept {
    return share_recovered(clean, spliced, ablated);
  }
};

/// Masked residues are predicted, states of residues alone are replaced (SAEs are trained on
/// those), every masked residue counts the same, nothing is clipped. Not defined where the
/// ablation does not raise the loss, since then there is nothing to recover.
struct standard {
  static constexpr std::string_view id = "standard";
  static constexpr std::string_view defect = "";
  static constexpr fidelity_protocol protocol{.masked_share = 0.15};
  double recovered(double clean, double spliced, double ablated) const noexcept {
    return ablated > clean ? share_recovered(clean, spliced, ablated) : not_defined;
  }
  double explained_variance(const reconstruction_moments& m) const noexcept { return 1 - m.fvu(); }
};

/// InterPLM (Simon and Zou 2024), `train/fidelity.py` and `scripts/evaluate_sae.py`; there in per
/// cent.
struct interplm {
  static constexpr std::string_view id = "interplm";
  static constexpr std::string_view defect =
      "the model sees the residues it predicts, so the clean loss is near 0; the SAE also rewrites "
      "<cls> and <eos>, on which it was not trained; clipped to 0..1, so an SAE worse than zeros "
      "shows as 0, as does an ablation that costs nothing; explained variance forgives a constant "
      "error";
  static constexpr fidelity_protocol protocol{.replaced = fidelity_rows::all,
                                              .ablated = fidelity_rows::all,
                                              .average = fidelity_average::proteins};
  double recovered(double clean, double spliced, double ablated) const noexcept {
    if (std::abs(ablated - clean) <= 1e-8) return 0;
    return std::clamp(1 - (spliced - clean) / (ablated - clean), 0.0, 1.0);
  }
  double explained_variance(const reconstruction_moments& m) const noexcept {
    return m.explained_up_to_an_offset();
  }
};

/// InterProt (Adams et al. 2025), `validation_metrics.py` and `esm_wrapper.py`.
struct interprot : unclipped {
  static constexpr std::string_view id = "interprot";
  static constexpr std::string_view defect =
      "the model sees the residues it predicts; <cls> and <eos> are rewritten, and counted as "
      "predictions; a mean of ratios, which proteins with a small denominator decide; ESM-2 runs "
      "without its token-dropout factor, on embeddings it was not trained with";
  static constexpr fidelity_protocol protocol{.replaced = fidelity_rows::all,
                                              .ablated = fidelity_rows::all,
                                              .scored = fidelity_rows::all,
                                              .measured = fidelity_rows::all,
                                              .average = fidelity_average::ratios,
                                              .token_dropout = false};
  double explained_variance(const reconstruction_moments&) const noexcept { return not_defined; }
};

/// reticular-sae (Parsan et al. 2025), `eval/cross_entropy_eval.py`: InterPLM's numbers, but the
/// state replaced is the output of the block that reads the SAE's state.
struct reticular {
  static constexpr std::string_view id = "reticular";
  static constexpr std::string_view defect =
      "the SAE of resid_post.L reads and replaces resid_post.L+1, another layer than it was "
      "trained on; else as interplm";
  static constexpr fidelity_protocol protocol{.replaced = fidelity_rows::all,
                                              .ablated = fidelity_rows::all,
                                              .average = fidelity_average::proteins,
                                              .blocks_later = 1};
  double recovered(double clean, double spliced, double ablated) const noexcept {
    return interplm{}.recovered(clean, spliced, ablated);
  }
  double explained_variance(const reconstruction_moments& m) const noexcept {
    return m.explained_up_to_an_offset();
  }
};

/// Gujral et al. 2025, Rep_SAEs_PLMs: mean squared error of the reconstruction and nothing of the
/// language model.
struct gujral {
  static constexpr std::string_view id = "gujral";
  static constexpr std::string_view defect =
      "a mean squared error depends on the scale of the states, so SAEs of different layers or "
      "models cannot be compared; says nothing of the language model";
  static constexpr fidelity_protocol protocol{.runs_model = false};
  double recovered(double, double, double) const noexcept { return not_defined; }
  double explained_variance(const reconstruction_moments&) const noexcept { return not_defined; }
};

/// BioNeMo's ESM-2 recipe (NVIDIA 2026), `esm2_sae/eval/loss_recovered.py` and `sae/eval`.
struct bionemo {
  static constexpr std::string_view id = "bionemo";
  static constexpr std::string_view defect =
      "the model sees the residues it predicts; clipped to 0..1; at the last layer the original "
      "reads the state after the final layer norm and writes it before, so the norm acts twice "
      "(not so here); explained variance forgives a constant error";
  static constexpr fidelity_protocol protocol{};
  double recovered(double clean, double spliced, double ablated) const noexcept {
    return std::clamp(1 - (spliced - clean) / (ablated - clean + 1e-8), 0.0, 1.0);
  }
  double explained_variance(const reconstruction_moments& m) const noexcept {
    return m.explained_up_to_an_offset();
  }
};

/// SAELens up to 6.18 (Bloom et al. 2025), `evals.py`. Later releases have the right explained
/// variance, which is `standard`'s.
struct saelens : unclipped {
  static constexpr std::string_view id = "saelens";
  static constexpr std::string_view defect =
      "scores the prediction of the NEXT token, which a masked language model does not make; zeros "
      "replace <cls> and <eos> too, the SAE does not; explained variance subtracts the square of "
      "the mean square instead of the square of the mean";
  static constexpr fidelity_protocol protocol{.ablated = fidelity_rows::all, .next_token = true};
  double explained_variance(const reconstruction_moments& m) const noexcept {
    return m.explained_by_squared_squares();
  }
};

/// SAEBench 0.6 (Karvonen et al. 2025), `evals/core/main.py`: SAELens, with the SAE at every token.
struct saebench : unclipped {
  static constexpr std::string_view id = "saebench";
  static constexpr std::string_view defect =
      "scores the prediction of the NEXT token, which a masked language model does not make; the "
      "SAE also rewrites <cls> and <eos>; explained variance subtracts the square of the mean "
      "square instead of the square of the mean";
  static constexpr fidelity_protocol protocol{
      .replaced = fidelity_rows::all, .ablated = fidelity_rows::all, .next_token = true};
  double explained_variance(const reconstruction_moments& m) const noexcept {
    return m.explained_by_squared_squares();
  }
};

/// dictionary_learning (Marks et al. 2024), `evaluation.py`.
struct dictionary_learning : unclipped {
  static constexpr std::string_view id = "dictionary_learning";
  static constexpr std::string_view defect =
      "scores the prediction of the NEXT token, <eos> included, which a masked language model does "
      "not make; special tokens are rewritten; explained variance forgives a constant error";
  static constexpr fidelity_protocol protocol{.replaced = fidelity_rows::all,
                                              .ablated = fidelity_rows::all,
                                              .scored = fidelity_rows::all,
                                              .measured = fidelity_rows::all,
                                              .next_token = true};
  double explained_variance(const reconstruction_moments& m) const noexcept {
    return m.explained_up_to_an_offset();
  }
};

/// BatchTopK and matryoshka_sae (Bussmann et al. 2024), `logs.py`: loss recovered from zeros and
/// from the mean; there the mean of a batch, here of the corpus.
struct bussmann : unclipped {
  static constexpr std::string_view id = "bussmann";
  static constexpr std::string_view defect =
      "scores the prediction of the NEXT token, <eos> included, which a masked language model does "
      "not make; special tokens are rewritten; there is no explained variance";
  static constexpr fidelity_protocol protocol = dictionary_learning::protocol;
  double explained_variance(const reconstruction_moments&) const noexcept { return not_defined; }
};

/// All of them, for programs.
using every = std::tuple<standard, interplm, interprot, reticular, gujral, bionemo, saelens,
                         saebench, dictionary_learning, bussmann>;

}  // namespace fidelity_by

/// f(definition) with the definition of that name; whether there is one.
template <class F>
bool with_fidelity_definition(std::string_view id, const F& f) {
  bool found = false;
  const auto one = [&](const auto& definition) {
    if (definition.id != id) return;
    found = true;
    f(definition);
  };
  std::apply([&](const auto&... all) { (one(all), ...); }, fidelity_by::every{});
  return found;
}

}  // namespace plmscope::inline PLMSCOPE_ABI
