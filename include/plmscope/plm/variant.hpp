// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/plm/alphabet.hpp>
#include <plmscope/plm/collect.hpp>
#include <plmscope/plm/language_model.hpp>
#include <plmscope/plm/lm_scores.hpp>
#include <plmscope/plm/residue_scores.hpp>
#include <plmscope/plm/rules.hpp>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// One amino acid in place of another: A24G is {23, A, G}.
struct substitution {
  std::size_t residue = 0;  ///< counted from 0
  char from = 'X';
  char to = 'X';

  friend bool operator==(const substitution&, const substitution&) = default;
};

/// Substitutions that occur together.
using variant = std::vector<substitution>;

/// Reads `A24G` or several joined by `:`, `,`, `+` or `/`, positions counted from 1. Errors:
/// plm.135.
inline variant parse_variant(std::string_view text) {
  const auto fail = [&](std::string found) {
    throw error(rules::variant_text, {.where = "\"" + std::string(text.substr(0, 64)) + "\"",
                                      .expected = "like A24G, or A24G:K5R",
                                      .found = std::move(found)});
  };
  variant out;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find_first_of(":,+/", at), text.size());
    const std::string_view one = text.substr(at, end - at);
    std::size_t position = 0;
    const bool letters = one.size() >= 3 && alphabet::token_of(one.front()) >= 0 &&
                         alphabet::token_of(one.back()) >= 0;
    const char* const digits = one.data() + 1;
    const char* const stop = one.data() + one.size() - (one.empty() ? 0 : 1);
    if (letters) {
      const auto [last, failure] = std::from_chars(digits, stop, position);
      if (failure != std::errc() || last != stop) position = 0;
    }
    if (position == 0) fail(one.empty() ? "nothing" : std::string(one.substr(0, 32)));
    for (const substitution& s : out) {
      if (s.residue == position - 1) fail("two substitutions at " + std::to_string(position));
    }
    out.push_back({position - 1, one.front(), one.back()});
    at = end + 1;
  }
  return out;
}

/// Refuses (plm.136) a variant that names residues the sequence does not have there.
inline void check_variant(const variant& v, std::span<const std::int32_t> residues) {
  for (const substitution& s : v) {
    const bool inside = s.residue < residues.size();
    if (inside && residues[s.residue] == alphabet::token_of(s.from)) continue;
    throw error(
        rules::variant_residue,
        {.where = std::string(1, s.from) + std::to_string(s.residue + 1) + s.to,
         .expected =
             inside ? std::string(alphabet::tokens[static_cast<std::size_t>(residues[s.residue])]) +
                          " at residue " + std::to_string(s.residue + 1)
                    : "a residue from 1 to " + std::to_string(residues.size()),
         .found = inside ? std::string(1, s.from) : std::to_string(s.residue + 1),
         .remedy = "count from the first residue of this sequence"});
  }
}

/// Wild-type-marginal or masked-marginal effect of a variant from scores of the residues:
/// the sum over its substitutions. For several substitutions `masked` scores hide one residue at a
/// time; `score_masked` hides them together. Errors: plm.136.
inline double score_variant(const residue_scores& scores, const variant& v) {
  check_variant(v, scores.tokens);
  double sum = 0;
  for (const substitution& s : v) sum += scores.substitution(s.residue, alphabet::token_of(s.to));
  return sum;
}

/// The masked-marginal effect (Meier et al. 2021, equation 1) of each variant of a sequence, all of
/// its substitutions hidden together: sum over them of ln p(to | rest) - ln p(from | rest). One
/// forward pass for each set of positions. `tokens` is `<cls>` residues `<eos>`. Errors: plm.136,
/// plm.114.
template <class Model, class Progress = no_progress>
std::vector<double> score_masked(Model& model, std::span<const std::int32_t> tokens,
                                 const std::vector<variant>& variants,
                                 std::size_t tokens_per_batch = 8192, Progress&& report = {}) {
  model.check(logits{});
  const auto residues = tokens.size() < 2 ? tokens.first(0) : tokens.subspan(1, tokens.size() - 2);
  for (const variant& v : variants) check_variant(v, residues);
  // Variants at the same positions share a pass.
  std::vector<std::size_t> order(variants.size());
  std::vector<std::vector<std::size_t>> places(variants.size());
  for (std::size_t i = 0; i < variants.size(); ++i) {
    order[i] = i;
    for (const substitution& s : variants[i]) places[i].push_back(s.residue);
    std::ranges::sort(places[i]);
  }
  std::ranges::stable_sort(order, {}, [&](std::size_t i) { return places[i]; });

  std::vector<double> out(variants.size(), 0.0);
  const std::size_t vocabulary = model.width(logits{});
  collect<double> keep({logits{}});
  auto batch = make_batch(model);
  std::vector<std::int32_t> hidden;
  for (std::size_t first = 0; first < order.size();) {
    batch.clear();
    keep.clear();
    std::vector<std::size_t> pass;  // of every variant in the batch
    std::size_t end = first;
    for (; end < order.size(); ++end) {
      const auto& here = places[order[end]];
      if (end == first || here != places[order[end - 1]]) {
        if (end != first && batch.rows() + tokens.size() > tokens_per_batch) break;
        hidden.assign(tokens.begin(), tokens.end());
        for (const std::size_t r : here) hidden[r + 1] = alphabet::mask;
        batch.add(std::span<const std::int32_t>(hidden));
      }
      pass.push_back(batch.sequences() - 1);
    }
    model.forward(batch, keep);
    for (std::size_t i = first; i < end; ++i) {
      for (const substitution& s : variants[order[i]]) {
        const std::size_t row = batch.first_row(pass[i - first]) + s.residue + 1;
        const auto log_p = log_softmax(keep.states(logits{}).subspan(row * vocabulary, vocabulary));
        out[order[i]] += log_p[static_cast<std::size_t>(alphabet::token_of(s.to))] -
                         log_p[static_cast<std::size_t>(alphabet::token_of(s.from))];
      }
    }
    first = end;
    report(end, order.size());
  }
  return out;
}

}  // namespace plmscope::inline PLMSCOPE_ABI
