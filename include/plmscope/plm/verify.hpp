// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/safetensors.hpp>
#include <plmscope/plm/collect.hpp>
#include <plmscope/plm/esm2.hpp>
#include <plmscope/plm/packed_batch.hpp>
#include <plmscope/plm/rules.hpp>
#include <plmscope/plm/site.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
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
  std::vector<double> states;  ///< embeddings, resid_post.0 ..., final_norm: layers + 1 numbers
  double logits = 0;

  /// The largest; NaN if any is NaN.
  double worst() const noexcept {
    double result = logits;
    for (const double s : states) result = verify_detail::worse(result, s);
    return result;
  }
};

struct verification {
  std::vector<verified_sequence> sequences;

  double worst() const noexcept {
    double result = 0;
    for (const auto& s : sequences) result = verify_detail::worse(result, s.worst());
    return result;
  }
  /// Largest error of hidden state i over the sequences.
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
  std::vector<double> hidden;           ///< [layers + 1, kept, d_model]; the last after final norm
  std::vector<double> logits;           ///< [kept, 33]
};

/// Reads the sequences of a file with `KEY.tokens` [n], `KEY.positions` [kept], `KEY.hidden`
/// [layers + 1, kept, d] and `KEY.logits` [kept, 33] for every KEY; other tensors are ignored.
/// Errors: plm.115 where a part is missing or a position lies outside, plm.116 where the shapes
/// belong to another model.
inline std::vector<expected_sequence> read_expected(const safetensors_file& file,
                                                    std::size_t layers, std::size_t d_model) {
  constexpr std::string_view ending = ".tokens";
  std::vector<expected_sequence> out;
  for (const tensor_info& t : file.tensors()) {
    if (!t.name.ends_with(ending)) continue;
    const std::string key = t.name.substr(0, t.name.size() - ending.size());
    const tensor_info* parts[3]{};
    const char* const names[3]{".positions", ".hidden", ".logits"};
    for (std::size_t i = 0; i < 3; ++i) {
      parts[i] = file.find(key + names[i]);
      if (parts[i] == nullptr) {
        throw error(rules::expected_layout, {.where = file.where(), .expected = key + names[i]});
      }
    }
    expected_sequence s{.key = key,
                        .tokens = file.read_vector<std::int32_t>(t),
                        .positions = file.read_vector<std::int32_t>(*parts[0]),
                        .hidden = {},
                        .logits = {}};
    const std::size_t kept = s.positions.size();
    const std::vector<std::size_t> hidden_shape{layers + 1, kept, d_model};
    const std::vector<std::size_t> logits_shape{kept, alphabet::size};
    if (parts[1]->shape != hidden_shape || parts[2]->shape != logits_shape) {
      throw error(rules::expected_model,
                  {.where = file.where() + ", sequence " + key,
                   .expected = "hidden " + shape_text(hidden_shape) + ", logits " +
                               shape_text(logits_shape),
                   .found = "hidden " + shape_text(parts[1]->shape) + ", logits " +
                            shape_text(parts[2]->shape),
                   .remedy = "give the expected file that was made with this model"});
    }
    for (const std::int32_t p : s.positions) {
      if (p < 0 || static_cast<std::size_t>(p) >= s.tokens.size()) {
        throw error(rules::expected_layout,
                    {.where = file.where() + ", " + key + ".positions",
                     .expected = "rows below " + std::to_string(s.tokens.size()),
                     .found = std::to_string(p)});
      }
    }
    s.hidden = file.read_vector<double>(*parts[1]);
    s.logits = file.read_vector<double>(*parts[2]);
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
/// logits. In float an exact implementation stays below 3e-6; a recomputed inv_freq gives 5e-5 and
/// more.
template <class Backend>
verification verify(esm2<Backend>& model, const safetensors_file& file) {
  using real = typename Backend::real;
  const std::size_t layers = model.layers();
  const auto expected = read_expected(file, layers, model.d_model());
  packed_batch batch;
  for (const auto& s : expected) batch.add(std::span<const std::int32_t>(s.tokens));
  std::vector<site> sites;
  for (std::size_t i = 0; i <= layers; ++i) sites.push_back(hidden_state_site(i, layers));
  sites.push_back(logits{});
  collect<real> keep(sites);
  model.forward(batch, keep);

  verification result;
  for (std::size_t s = 0; s < expected.size(); ++s) {
    const auto& e = expected[s];
    const std::size_t first = batch.first_row(s);
    verified_sequence v{.key = e.key, .tokens = e.tokens.size(), .states = {}, .logits = 0};
    const std::size_t each = e.positions.size() * model.d_model();
    for (std::size_t i = 0; i <= layers; ++i) {
      v.states.push_back(verify_detail::relative_l2(
          keep.states(sites[i]), model.d_model(), first, std::span<const std::int32_t>(e.positions),
          std::span<const double>(e.hidden).subspan(i * each, each)));
    }
    v.logits = verify_detail::relative_l2(keep.states(logits{}), alphabet::size, first,
                                          std::span<const std::int32_t>(e.positions),
                                          std::span<const double>(e.logits));
    result.sequences.push_back(std::move(v));
  }
  return result;
}

template <class Backend>
verification verify(esm2<Backend>& model, const std::filesystem::path& expected) {
  return verify(model, safetensors_file::open(expected));
}

}  // namespace plmscope::inline PLMSCOPE_ABI
