// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/progress.hpp>
#include <plmscope/plm/alphabet.hpp>
#include <plmscope/plm/collect.hpp>
#include <plmscope/plm/language_model.hpp>
#include <plmscope/plm/lm_scores.hpp>
#include <plmscope/plm/rules.hpp>
#include <plmscope/plm/site.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// What a residue is predicted from.
enum class residue_context {
  masked,  ///< all others, itself behind `<mask>`: one forward pass per residue
  visible  ///< all others and itself: one forward pass in all; the model sees what it predicts
};

/// ln p of every token at every residue of one protein, in double.
struct residue_scores {
  std::size_t vocabulary = 0;
  std::vector<std::int32_t> tokens;  ///< of the residues, without `<cls>` and `<eos>`
  std::vector<double> log_p;         ///< [residues, vocabulary], row-major

  std::size_t residues() const noexcept { return tokens.size(); }
  std::span<const double> row(std::size_t i) const noexcept {
    return std::span(log_p).subspan(i * vocabulary, vocabulary);
  }
  /// ln p of token `token` at residue i, counted from 0.
  double at(std::size_t i, std::int32_t token) const noexcept {
    return log_p[i * vocabulary + static_cast<std::size_t>(token)];
  }
  /// Of the residue that stands there.
  double own(std::size_t i) const noexcept { return at(i, tokens[i]); }

  /// Entropy of residue i over the 20 standard amino acids, in nats: 0 where the model is sure, ln
  /// 20 where it knows nothing.
  double entropy_at(std::size_t i) const {
    constexpr std::size_t first = alphabet::first_standard;
    return entropy(row(i).subspan(first, alphabet::last_standard - first + 1));
  }
  /// exp(- mean ln p(residue)): the pseudo-perplexity (Salazar et al. 2020) of `masked` scores,
  /// where 1 is certain and 20 a guess. Of `visible` ones a cheap stand-in that is always too low.
  double perplexity() const {
    double sum = 0;
    for (std::size_t i = 0; i < residues(); ++i) sum -= own(i);
    return std::exp(sum / static_cast<double>(residues()));
  }
  /// ln p(token) - ln p(own) at residue i: the effect of a substitution, negative where it harms.
  /// Masked-marginal and wild-type-marginal scores of Meier et al. 2021, by the context.
  double substitution(std::size_t i, std::int32_t token) const noexcept {
    return at(i, token) - own(i);
  }
};

/// Scores every residue of one sequence, `<cls>` residues `<eos>`. Works with every model whose
/// tokens are those of ESM-2 (ESM-C's are). `report(done, all)` counts passes. Cost: one token row
/// a residue (`visible`), or as many whole sequences as there are residues (`masked`). Errors:
/// plm.114, plm.103 for a sequence without residues.
template <class Model, class Progress = no_progress>
residue_scores score_residues(Model& model, std::span<const std::int32_t> tokens,
                              residue_context context, std::size_t tokens_per_batch = 8192,
                              Progress&& report = {}) {
  model.check(logits{});
  if (tokens.size() < 3) {
    throw error(rules::batch_empty_sequence,
                {.where = "scores of residues", .found = "no residue"});
  }
  const std::size_t n = tokens.size() - 2;
  residue_scores out{model.width(logits{}), {tokens.begin() + 1, tokens.end() - 1}, {}};
  out.log_p.reserve(n * out.vocabulary);
  collect<double> keep({logits{}});
  auto batch = make_batch(model);
  const auto append = [&](std::size_t row) {
    const auto scores =
        log_softmax(keep.states(logits{}).subspan(row * out.vocabulary, out.vocabulary));
    out.log_p.insert(out.log_p.end(), scores.begin(), scores.end());
  };
  if (context == residue_context::visible) {
    batch.add(tokens);
    model.forward(batch, keep);
    for (std::size_t i = 0; i < n; ++i) append(i + 1);
    report(n, n);
    return out;
  }
  std::vector<std::int32_t> hidden(tokens.begin(), tokens.end());
  for (std::size_t first = 0; first < n;) {
    batch.clear();
    keep.clear();
    std::size_t end = first;
    for (; end < n && (end == first || batch.rows() + hidden.size() <= tokens_per_batch); ++end) {
      hidden[end + 1] = alphabet::mask;
      batch.add(std::span<const std::int32_t>(hidden));
      hidden[end + 1] = tokens[end + 1];
    }
    model.forward(batch, keep);
    for (std::size_t i = first; i < end; ++i) append(batch.first_row(i - first) + i + 1);
    first = end;
    report(end, n);
  }
  return out;
}

}  // namespace plmscope::inline PLMSCOPE_ABI
