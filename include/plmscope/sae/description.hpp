// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/activation_source.hpp>
#include <plmscope/sae/rules.hpp>
#include <plmscope/sae/sae.hpp>

#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace plmscope::inline PLMSCOPE_ABI {

/// An SAE without its numbers and without types: what a file says about it, or what a published one
/// was found to be.
struct sae_description {
  std::size_t d_model = 0;
  std::size_t d_out = 0;
  std::size_t features = 0;
  std::string sparsifier;  ///< its id
  std::map<std::string, std::string> sparsifier_fields;
  plmscope::normalizer normalizer;
  plmscope::normalizer normalize_out;
  input_centring centring = input_centring::decoder_bias;
  bool unit_input = false;
  bool skip = false;
  bool transcodes = false;
  row_lengths lengths = row_lengths::free;
  std::size_t blocks = 1;
  std::uint64_t seed = 0;
  activation_source source;
  std::map<std::string, std::string> training_record;
};

namespace sae_names {

inline constexpr std::array<std::string_view, 3> centring{"decoder_bias", "own_bias", "none"};
inline constexpr std::array<std::string_view, 3> lengths{"free", "in_codes", "rank"};
inline constexpr std::array<std::string_view, 4> normalizer{"none", "scalar", "per_dimension",
                                                            "token_layer_norm"};

}  // namespace sae_names

inline std::string_view name_of(input_centring c) noexcept {
  return sae_names::centring[static_cast<std::size_t>(c)];
}
inline std::string_view name_of(row_lengths l) noexcept {
  return sae_names::lengths[static_cast<std::size_t>(l)];
}

namespace sae_fields {

/// The shortest text that reads back as the same number.
inline std::string text(double v) {
  char out[32];
  const auto end = std::to_chars(out, out + sizeof out, v).ptr;
  return {out, end};
}

/// The whole text as a T: a number but NaN, a bool (0 or 1), or an enumeration by its number.
/// `sae_field` names `where`.
template <class T>
T number(std::string_view from, const std::string& where) {
  using plain = std::conditional_t<std::is_enum_v<T> || std::is_same_v<T, bool>, unsigned, T>;
  plain value{};
  const auto [end, failure] = std::from_chars(from.data(), from.data() + from.size(), value);
  bool good = failure == std::errc() && end == from.data() + from.size();
  if constexpr (std::is_floating_point_v<T>) good = good && !std::isnan(value);
  if constexpr (std::is_same_v<T, bool>) good = good && value <= 1;
  if constexpr (std::is_enum_v<T>) good = good && value < 256;
  if (!good) {
    throw error(rules::sae_field,
                {.where = where, .expected = "a number of its kind", .found = std::string(from)});
  }
  return static_cast<T>(value);
}

/// The sparsifier's fields as texts.
template <class S>
std::map<std::string, std::string> of(S sparsifier) {
  std::map<std::string, std::string> out;
  if constexpr (requires { sparsifier.fields([](std::string_view, auto&) {}); }) {
    sparsifier.fields([&](std::string_view name, auto& value) {
      out[std::string(name)] = text(static_cast<double>(value));
    });
  }
  return out;
}

/// A sparsifier with these fields; those not named keep their defaults. A text that is no number
/// and a name that the sparsifier does not have are `sae_field`.
template <class S>
S make(const std::map<std::string, std::string>& fields, const std::string& where) {
  S s{};
  std::size_t used = 0;
  if constexpr (requires { s.fields([](std::string_view, auto&) {}); }) {
    s.fields([&](std::string_view name, auto& value) {
      const auto at = fields.find(std::string(name));
      if (at == fields.end()) return;
      ++used;
      value = number<std::remove_reference_t<decltype(value)>>(
          at->second, where + ", sparsifier." + std::string(name));
    });
  }
  if (used == fields.size()) return s;
  const auto known = of(S{});
  for (const auto& [name, value] : fields) {
    if (known.contains(name)) continue;
    throw error(rules::sae_field, {.where = where,
                                   .expected = "fields of " + std::string(S::id),
                                   .found = "sparsifier." + name});
  }
  return s;
}

}  // namespace sae_fields

/// What there is to say of an SAE.
template <class S, class B>
sae_description describe_sae(const sae<S, B>& model) {
  const auto& o = model.settings();
  return {.d_model = o.d_model,
          .d_out = o.d_out,
          .features = o.features,
          .sparsifier = std::string(S::id),
          .sparsifier_fields = sae_fields::of(o.sparsifier),
          .normalizer = o.normalize,
          .normalize_out = o.normalize_out,
          .centring = o.centring,
          .unit_input = o.unit_input,
          .skip = o.skip,
          .transcodes = o.transcodes,
          .lengths = o.lengths,
          .blocks = o.blocks,
          .seed = o.seed,
          .source = model.source,
          .training_record = model.training_record};
}

/// An SAE as described, with fresh parameters. Errors: `sae_sparsifier` when it has another
/// sparsifier than S, `sae_field`, and those of the SAE's options.
template <class S, class B>
sae<S, B> sae_as_described(const sae_description& d, const std::string& where, B be = B()) {
  if (d.sparsifier != S::id) {
    throw error(
        rules::sae_sparsifier,
        {.where = where, .expected = "sparsifier " + std::string(S::id), .found = d.sparsifier});
  }
  sae<S, B> model({.d_model = d.d_model,
                   .features = d.features,
                   .sparsifier = sae_fields::make<S>(d.sparsifier_fields, where),
                   .normalize = d.normalizer,
                   .d_out = d.d_out,
                   .normalize_out = d.normalize_out,
                   .centring = d.centring,
                   .unit_input = d.unit_input,
                   .skip = d.skip,
                   .transcodes = d.transcodes,
                   .lengths = d.lengths,
                   .blocks = d.blocks,
                   .seed = d.seed},
                  std::move(be));
  model.source = d.source;
  model.training_record = d.training_record;
  return model;
}

}  // namespace plmscope::inline PLMSCOPE_ABI
