// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/safetensors.hpp>
#include <plmscope/plm/alphabet.hpp>
#include <plmscope/plm/collect.hpp>
#include <plmscope/plm/language_model.hpp>
#include <plmscope/plm/rules.hpp>
#include <plmscope/plm/site.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

namespace verify_detail {

/// The larger error, where NaN is the largest of all.
inline double worse(double a, double b) noexcept { return a >= b || std::isnan(a) ? a : b; }

}  // namespace verify_detail

/// Relative L2 error |ours - expected| / |expected| over the kept rows of one sequence.
struct verified_sequence {
  std::string key;
  std::size_t tokens = 0;
  std::vector<double> states;  ///< one number for each of `verification::sites`
  double logits = 0;

  /// The largest; NaN if any is NaN.
  double worst() const noexcept {
    double result = logits;
    for (const double s : states) result = verify_detail::worse(result, s);
    return result;
  }
};

struct verification {
  std::vector<site> sites;  ///< compared hidden states: embeddings, resid_post.0 ..., final_norm
  std::vector<verified_sequence> sequences;

  double worst() const noexcept {
    double result = 0;
    for (const auto& s : sequences) result = verify_detail::worse(result, s.worst());
    return result;
  }
  /// Largest error at sites[i] over the sequences.
  double worst_state(std::size_t i) const noexcept {
    double result = 0;
    for (const auto& s : sequences) result = verify_detail::worse(result, s.states[i]);
    return result;
  }
  double worst_logits() const noexcept {
    double result = 0;
    for (const auto& s : sequences) result = verify_detail::worse(result, s.logits);
    return result;
  }
};

/// One sequence of an expected file: the official implementation's numbers, kept at some rows.
struct expected_sequence {
  std::string key;
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> positions;  ///< kept rows
  std::vector<double> hidden;           ///< [layers + 1, kept, d_model]
  std::vector<double> normed;           ///< after the final norm [kept, d_model]; empty where the
                                        ///< last of `hidden` is that
  std::vector<double> logits;           ///< [kept, vocabulary]
};

/// Reads the sequences of a file with `KEY.tokens` [n], `KEY.positions` [kept], `KEY.hidden`
/// [layers + 1, kept, d] and `KEY.logits` [kept, vocabulary] for every KEY; other tensors are
/// ignored. With `KEY.embeddings` [kept, d] that is the state after the final norm and the last of
/// `KEY.hidden` the one before (ESM-C's files); without, the last of `KEY.hidden` (ESM-2's).
/// Errors: plm.115 where a part is missing or a position lies outside, plm.116 where the shapes
/// belong to another model.
inline std::vector<expected_sequence> read_expected(const safetensors_file& file,
                                                    std::size_t layers, std::size_t d_model,
                                                    std::size_t vocabulary = alphabet::size) {
  constexpr std::string_view ending = ".tokens";
  std::vector<expected_sequence> out;
  for (const tensor_info& t : file.tensors()) {
    if (!t.name.ends_with(ending)) continue;
    const std::string key = t.name.substr(0, t.name.size() - ending.size());
    const auto part = [&](const char* name) -> const tensor_info& {
      if (const tensor_info* found = file.find(key + name)) return *found;
      throw error(rules::expected_layout, {.where = file.where(), .expected = key + name});
    };
    const auto shaped = [&](const char* name, const std::vector<std::size_t>& shape) {
      const tensor_info& found = part(name);
      if (found.shape != shape) {
        throw error(rules::expected_model,
                    {.where = file.where() + ", " + key + name,
                     .expected = shape_text(shape),
                     .found = shape_text(found.shape),
                     .remedy = "give the expected file that was made with this model"});
      }
      return file.read_vector<double>(found);
    };
    expected_sequence s{.key = key,
                        .tokens = file.read_vector<std::int32_t>(t),
                        .positions = file.read_vector<std::int32_t>(part(".positions")),
                        .hidden = {},
                        .normed = {},
                        .logits = {}};
    const std::size_t kept = s.positions.size();
    s.hidden = shaped(".hidden", {layers + 1, kept, d_model});
    s.logits = shaped(".logits", {kept, vocabulary});
    if (file.contains(key + ".embeddings")) s.normed = shaped(".embeddings", {kept, d_model});
    for (const std::int32_t p : s.positions) {
      if (p < 0 || static_cast<std::size_t>(p) >= s.tokens.size()) {
        throw error(rules::expected_layout,
                    {.where = file.where() + ", " + key + ".positions",
                     .expected = "rows below " + std::to_string(s.tokens.size()),
                     .found = std::to_string(p)});
      }
    }
    if (!out.empty() && out.back().normed.empty() != s.normed.empty()) {
      throw error(rules::expected_layout,
                  {.where = file.where(),
                   .expected = (s.normed.empty() ? key : out.back().key) + ".embeddings"});
    }
    out.push_back(std::move(s));
  }
  if (out.empty()) {
    throw error(rules::expected_layout, {.where = file.where(), .found = "no tensor KEY.tokens"});
  }
  return out;
}

namespace verify_detail {

/// Kept rows of `ours` [rows, width] from `first_row` against `expected` [kept, width].
template <class Real>
double relative_l2(std::span<const Real> ours, std::size_t width, std::size_t first_row,
                   std::span<const std::int32_t> positions, std::span<const double> expected) {
  double difference = 0;
  double norm = 0;
  for (std::size_t i = 0; i < positions.size(); ++i) {
    const std::size_t row = first_row + static_cast<std::size_t>(positions[i]);
    for (std::size_t j = 0; j < width; ++j) {
      const double e = expected[i * width + j];
      const double delta = static_cast<double>(ours[row * width + j]) - e;
      difference += delta * delta;
      norm += e * e;
    }
  }
  return std::sqrt(difference) / (norm > 0 ? std::sqrt(norm) : 1.0);
}

}  // namespace verify_detail

/// Runs every sequence of an expected file (made by the official implementation, one sequence at a
/// time) through the model, all in one packed batch, and compares every hidden state and the
/// logits. In float an exact implementation stays below 3e-6; a recomputed inv_freq of ESM-2 gives
/// 5e-5 and more. Beyond what every model has, this one has `layers()` and `d_model()`.
template <class Model>
verification verify(Model& model, const safetensors_file& file) {
  static_assert(require_language_model<Model>::value);
  using real = typename Model::backend_type::real;
  const std::size_t layers = model.layers();
  const std::size_t d = model.d_model();
  const auto expected = read_expected(file, layers, d, model.width(logits{}));
  auto batch = make_batch(model);
  for (const auto& s : expected) batch.add(std::span<const std::int32_t>(s.tokens));
  verification result;
  result.sites.push_back(embeddings{});
  const bool raw = !expected.front().normed.empty();
  for (std::size_t l = 0; l < layers; ++l) {
    if (raw || l + 1 < layers) result.sites.push_back(resid_post{l});
  }
  result.sites.push_back(final_norm{});
  std::vector<site> sites = result.sites;
  sites.push_back(logits{});
  collect<real> keep(sites);
  model.forward(batch, keep);

  for (std::size_t s = 0; s < expected.size(); ++s) {
    const auto& e = expected[s];
    const auto compare = [&](const site& at, std::span<const double> with) {
      return verify_detail::relative_l2(keep.states(at), keep.width(at), batch.first_row(s),
                                        std::span<const std::int32_t>(e.positions), with);
    };
    verified_sequence v{.key = e.key, .tokens = e.tokens.size(), .states = {}, .logits = 0};
    const std::size_t each = e.positions.size() * d;
    for (std::size_t i = 0; i < result.sites.size(); ++i) {
      v.states.push_back(compare(
          result.sites[i], i > layers ? std::span<const double>(e.normed)
                                      : std::span<const double>(e.hidden).subspan(i * each, each)));
    }
    v.logits = compare(logits{}, e.logits);
    result.sequences.push_back(std::move(v));
  }
  return result;
}

template <class Model>
verification verify(Model& model, const std::filesystem::path& expected) {
  return verify(model, safetensors_file::open(expected));
}

}  // namespace plmscope::inline PLMSCOPE_ABI
