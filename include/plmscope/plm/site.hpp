// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/plm/rules.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// The places in the forward pass where states can be read and changed, in the order in which the
/// pass meets them; those from `resid_pre` to `resid_post` exist once per block.
///
///   h = resid_pre
///   attn_in = norm(h);  q, k, v = attn_query, attn_key, attn_value = linear maps of attn_in
///   attn_map = softmax(rotated q k^T / sqrt(head width))          attn_ctx = attn_map v
///   attn_out = linear(attn_ctx)                                   resid_mid = h + attn_out
///   mlp_in = norm(resid_mid);  mlp_pre = linear(mlp_in);  mlp_act = gelu(mlp_pre)
///   mlp_out = linear(mlp_act)                                     resid_post = resid_mid + mlp_out
enum class site_kind : std::uint8_t {
  embeddings,
  resid_pre,
  attn_in,
  attn_query,
  attn_key,
  attn_value,
  attn_map,
  attn_ctx,
  attn_out,
  resid_mid,
  mlp_in,
  mlp_pre,
  mlp_act,
  mlp_out,
  resid_post,
  final_norm,
  logits
};

/// A place of the whole model.
template <site_kind Kind>
struct model_site {};
/// A place in block `layer`, counted from 0.
template <site_kind Kind>
struct block_site {
  std::size_t layer = 0;
};

// Hugging Face's `hidden_states[i]` is `embeddings` for 0, `resid_post{i - 1}` in between and
// `final_norm` for the last (see `hidden_state_site`). Width d unless said.

/// After token-dropout rescaling, before block 0.
using embeddings = model_site<site_kind::embeddings>;
/// The residual stream as the block reads it: block 0 the embeddings, block l what l - 1 left.
using resid_pre = block_site<site_kind::resid_pre>;
/// After the layer norm before attention: what queries, keys and values are maps of.
using attn_in = block_site<site_kind::attn_in>;
/// Queries, heads side by side, with bias, before scaling and rotation.
using attn_query = block_site<site_kind::attn_query>;
/// Keys, before rotation.
using attn_key = block_site<site_kind::attn_key>;
using attn_value = block_site<site_kind::attn_value>;
/// Attention probabilities. Shown once per sequence: of n tokens and H heads, [H n, n], row h n + i
/// the weights of query i of head h. Asking for it takes H n^2 numbers of memory, and attention is
/// then computed from it, so states behind it agree with those of other passes to rounding only.
using attn_map = block_site<site_kind::attn_map>;
/// Mixed values, heads side by side: what the output projection of attention reads.
using attn_ctx = block_site<site_kind::attn_ctx>;
/// What attention adds to the residual stream, bias included.
using attn_out = block_site<site_kind::attn_out>;
/// The residual stream between attention and MLP.
using resid_mid = block_site<site_kind::resid_mid>;
/// After the layer norm before the MLP.
using mlp_in = block_site<site_kind::mlp_in>;
/// Hidden layer of the MLP before the GELU. Width 4 d in every published ESM-2.
using mlp_pre = block_site<site_kind::mlp_pre>;
/// Hidden layer of the MLP after the GELU: the model's "neurons". Width as `mlp_pre`.
using mlp_act = block_site<site_kind::mlp_act>;
/// What the MLP adds to the residual stream, bias included.
using mlp_out = block_site<site_kind::mlp_out>;
/// The residual stream as the block leaves it, without any layer norm.
using resid_post = block_site<site_kind::resid_post>;
/// After the final layer norm: the model's last hidden state.
using final_norm = model_site<site_kind::final_norm>;
/// Scores of the 33 tokens.
using logits = model_site<site_kind::logits>;

/// Any of these places as one value, ordered as the forward pass meets them.
class site {
 public:
  constexpr site() noexcept = default;
  template <site_kind Kind>
  constexpr site(model_site<Kind>) noexcept : kind_(Kind) {}
  template <site_kind Kind>
  constexpr site(block_site<Kind> at) noexcept : kind_(Kind), layer_(at.layer) {}
  /// `layer` is ignored for a place of the whole model.
  constexpr site(site_kind kind, std::size_t layer) noexcept
      : kind_(kind), layer_(in_block() ? layer : 0) {}

  constexpr site_kind kind() const noexcept { return kind_; }
  /// Block of a site in a block; 0 elsewhere.
  constexpr std::size_t layer() const noexcept { return layer_; }
  constexpr bool in_block() const noexcept {
    return kind_ >= site_kind::resid_pre && kind_ <= site_kind::resid_post;
  }

  friend constexpr bool operator==(const site&, const site&) noexcept = default;
  friend constexpr std::strong_ordering operator<=>(const site& a, const site& b) noexcept {
    if (const auto by_stage = a.stage() <=> b.stage(); by_stage != 0) return by_stage;
    if (const auto by_layer = a.layer_ <=> b.layer_; by_layer != 0) return by_layer;
    return a.kind_ <=> b.kind_;
  }

 private:
  constexpr int stage() const noexcept {
    return kind_ < site_kind::resid_pre ? 0 : kind_ > site_kind::resid_post ? 2 : 1;
  }
  site_kind kind_ = site_kind::embeddings;
  std::size_t layer_ = 0;
};

namespace site_detail {

inline constexpr std::array<std::string_view, 17> names{
    "embeddings", "resid_pre", "attn_in",    "attn_query", "attn_key", "attn_value",
    "attn_map",   "attn_ctx",  "attn_out",   "resid_mid",  "mlp_in",   "mlp_pre",
    "mlp_act",    "mlp_out",   "resid_post", "final_norm", "logits"};

/// Levenshtein distance.
inline std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t change = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({change, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

inline std::string shown(std::string_view name) {
  const auto kind = static_cast<site_kind>(std::ranges::find(names, name) - names.begin());
  return std::string(name) + (site(kind, 0).in_block() ? ".L" : "");
}

}  // namespace site_detail

/// `embeddings`, `resid_post.4`, `mlp_act.0`, `final_norm`, `logits`.
inline std::string to_string(const site& at) {
  std::string text(site_detail::names[static_cast<std::size_t>(at.kind())]);
  if (at.in_block()) text.append(".").append(std::to_string(at.layer()));
  return text;
}

/// The inverse of `to_string`; anything else is plm.107 with the nearest names.
inline site parse_site(std::string_view text) {
  const std::size_t dot = text.find('.');
  const std::string_view name = text.substr(0, dot);
  const auto found = std::ranges::find(site_detail::names, name);
  if (found != site_detail::names.end()) {
    const site at(static_cast<site_kind>(found - site_detail::names.begin()), 0);
    if (!at.in_block() && dot == std::string_view::npos) return at;
    if (at.in_block() && dot != std::string_view::npos) {
      const std::string_view digits = text.substr(dot + 1);
      std::size_t layer = 0;
      const auto [end, failure] =
          std::from_chars(digits.data(), digits.data() + digits.size(), layer);
      const bool plain = !digits.empty() && failure == std::errc() &&
                         end == digits.data() + digits.size() &&
                         (digits.size() == 1 || digits[0] != '0');
      if (plain) return site(at.kind(), layer);
    }
  }
  auto near = site_detail::names;
  const std::string asked(name.substr(0, 64));
  std::ranges::stable_sort(near, {}, [&](std::string_view candidate) {
    return site_detail::edit_distance(asked, candidate);
  });
  throw error(rules::site_name,
              {.where = std::string("\"").append(text.substr(0, 64)).append("\""),
               .remedy = "nearest: " + site_detail::shown(near[0]) + ", " +
                         site_detail::shown(near[1]) + " (L: a block, counted from 0)"});
}

/// Refuses (plm.108) a block that a model of `layers` blocks does not have.
inline void check_site(const site& at, std::size_t layers) {
  if (!at.in_block() || at.layer() < layers) return;
  throw error(rules::site_range, {.where = to_string(at),
                                  .expected = "a block from 0 to " + std::to_string(layers - 1),
                                  .found = std::to_string(at.layer())});
}

/// The site of Hugging Face's `hidden_states[index]` and fair-esm's `representations[index]`, for a
/// model of `layers` blocks; index in [0, layers].
inline site hidden_state_site(std::size_t index, std::size_t layers) {
  if (index == 0) return embeddings{};
  if (index < layers) return resid_post{index - 1};
  if (index == layers) return final_norm{};
  throw error(rules::site_range, {.where = "hidden state " + std::to_string(index),
                                  .expected = "0 to " + std::to_string(layers)});
}

}  // namespace plmscope::inline PLMSCOPE_ABI
