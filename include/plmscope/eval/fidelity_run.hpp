// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/eval/fidelity_masking.hpp>
#include <plmscope/eval/fidelity_protocol.hpp>
#include <plmscope/eval/protein_fidelity.hpp>
#include <plmscope/eval/rules.hpp>
#include <plmscope/eval/without_token_dropout.hpp>
#include <plmscope/plm/collect.hpp>
#include <plmscope/plm/hook.hpp>
#include <plmscope/plm/language_model.hpp>
#include <plmscope/plm/lm_scores.hpp>
#include <plmscope/plm/site.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Runs batches of sequences under one condition after another and adds up losses, divergences and
/// choices of the model, protein by protein, in the order of the sequences. Keeps the clean run's
/// log-probabilities of one batch at a time.
template <class Model>
class fidelity_run {
 public:
  /// `first` is a hook that every condition begins with.
  fidelity_run(Model& model, const fidelity_protocol& protocol, without_token_dropout first,
               std::vector<protein_fidelity>& into)
      : model_(&model),
        protocol_(protocol),
        first_(std::move(first)),
        into_(&into),
        batch_(make_batch(model)) {}

  std::size_t rows() const noexcept { return batch_.rows(); }
  const typename Model::batch_type& batch() const noexcept { return batch_; }
  /// Proteins of the sequences of the batch.
  const std::vector<std::size_t>& proteins() const noexcept { return proteins_; }

  void clear() {
    batch_.clear();
    proteins_.clear();
    predictions_.clear();
    clean_.clear();
  }

  /// Appends a sequence of protein `p`: `hidden` is what the model sees, `tokens` the truth,
  /// `masked` the positions of masks; without any, the rows of the protocol are predicted.
  void add(std::size_t p, std::span<const std::int32_t> hidden,
           std::span<const std::int32_t> tokens, std::span<const std::size_t> masked,
           bool with_masks) {
    batch_.add(hidden);
    const std::size_t first = batch_.first_row(proteins_.size());
    proteins_.push_back(p);
    const std::size_t ahead = protocol_.next_token ? 1 : 0;
    const auto known = [&](std::size_t t) {
      return tokens[t] != alphabet::mask && tokens[t] != alphabet::unk;
    };
    if (with_masks) {
      for (const std::size_t t : masked) {
        predictions_.push_back({first + t - ahead, p, tokens[t]});
      }
      return;
    }
    const std::size_t edge = protocol_.scored == fidelity_rows::all ? 0 : 1;
    for (std::size_t r = edge; r + edge < tokens.size(); ++r) {
      const bool has_target = r + ahead < tokens.size() && known(r + ahead);
      predictions_.push_back({first + r, p, has_target ? tokens[r + ahead] : -1});
    }
  }

  /// Runs the batch with a hook in place. The clean condition comes first.
  template <class Hook>
  void run(fidelity_condition condition, Hook&& hook) {
    keep_.clear();
    model_->forward(batch_, hooks{first_, hook, keep_});
    const std::size_t width = keep_.width(logits{});
    const auto rows = keep_.states(logits{});
    const auto c = static_cast<std::size_t>(condition);
    for (std::size_t i = 0; i < predictions_.size(); ++i) {
      const prediction& at = predictions_[i];
      const auto log_p = log_softmax(rows.subspan(at.row * width, width));
      check(log_p, at.protein);
      if (condition == fidelity_condition::clean) {
        clean_.insert(clean_.end(), log_p.begin(), log_p.end());
      }
      add_prediction(at, std::span(clean_).subspan(i * width, width), log_p, c);
    }
  }

 private:
  struct prediction {
    std::size_t row;
    std::size_t protein;
    std::int32_t target;  // -1: none
  };

  void add_prediction(const prediction& at, std::span<const double> clean,
                      const std::vector<double>& log_p, std::size_t c) {
    protein_fidelity& to = (*into_)[at.protein];
    const auto choice = std::ranges::max_element(log_p) - log_p.begin();
    const auto clean_choice = std::ranges::max_element(clean) - clean.begin();
    // KL(p || q) = sum p (ln p - ln q); rounding may leave it a hair below 0.
    double divergence = 0;
    for (std::size_t j = 0; j < log_p.size(); ++j) {
      divergence += std::exp(clean[j]) * (clean[j] - log_p[j]);
    }
    to.divergences[c] += std::max(divergence, 0.0);
    to.agreeing[c] += choice == clean_choice ? 1 : 0;
    if (c == 0) ++to.compared;
    if (at.target < 0) return;
    to.losses[c] -= log_p[static_cast<std::size_t>(at.target)];
    to.correct[c] += choice == at.target ? 1 : 0;
    if (c == 0) ++to.scored;
  }

  void check(const std::vector<double>& log_p, std::size_t protein) const {
    for (const double l : log_p) {
      if (std::isfinite(l)) continue;
      throw error(rules::fidelity_not_finite,
                  {.where = "protein " + std::to_string(protein),
                   .found = "a NaN or an infinity in the logits",
                   .remedy = "the reconstruction may be too far from any state"});
    }
  }

  Model* model_;
  fidelity_protocol protocol_;
  without_token_dropout first_;
  std::vector<protein_fidelity>* into_;
  typename Model::batch_type batch_;
  std::vector<std::size_t> proteins_;
  std::vector<prediction> predictions_;
  std::vector<double> clean_;  // ln p, [predictions, vocabulary]
  collect<double> keep_{{logits{}}};
};

}  // namespace plmscope::inline PLMSCOPE_ABI
