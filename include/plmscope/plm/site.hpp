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

// Places in the forward pass where states can be read and changed. Blocks are counted from 0.
// Hugging Face's `hidden_states[i]` is `embeddings` for 0, `resid_post{i - 1}` in between and
// `final_norm` for the last (see `hidden_state_site`).

/// After token-dropout rescaling, before block 0. Width d.
struct embeddings {};
/// The residual stream as block `layer` reads it. Width d.
struct resid_pre {
  std::size_t layer = 0;
};
/// The residual stream as block `layer` leaves it, without any layer norm. Width d.
struct resid_post {
  std::size_t layer = 0;
};
/// After the final layer norm: the model's last hidden state. Width d.
struct final_norm {};
/// Scores of the 33 tokens.
struct logits {};

enum class site_kind : std::uint8_t { embeddings, resid_pre, resid_post, final_norm, logits };

/// Any of the places above as one value. Ordered as the forward pass meets them.
class site {
 public:
  constexpr site() noexcept = default;
  constexpr site(plmscope::embeddings) noexcept {}
  constexpr site(plmscope::resid_pre at) noexcept : kind_(site_kind::resid_pre), layer_(at.layer) {}
  constexpr site(plmscope::resid_post at) noexcept
      : kind_(site_kind::resid_post), layer_(at.layer) {}
  constexpr site(plmscope::final_norm) noexcept : kind_(site_kind::final_norm) {}
  constexpr site(plmscope::logits) noexcept : kind_(site_kind::logits) {}

  constexpr site_kind kind() const noexcept { return kind_; }
  /// Block of `resid_pre` and `resid_post`; 0 elsewhere.
  constexpr std::size_t layer() const noexcept { return layer_; }
  constexpr bool in_block() const noexcept {
    return kind_ == site_kind::resid_pre || kind_ == site_kind::resid_post;
  }

  friend constexpr bool operator==(const site&, const site&) noexcept = default;
  friend constexpr std::strong_ordering operator<=>(const site& a, const site& b) noexcept {
    if (const auto by_stage = a.stage() <=> b.stage(); by_stage != 0) return by_stage;
    if (const auto by_layer = a.layer_ <=> b.layer_; by_layer != 0) return by_layer;
    return a.kind_ <=> b.kind_;
  }

 private:
  constexpr int stage() const noexcept {
    if (in_block()) return 1;
    return kind_ == site_kind::embeddings ? 0 : kind_ == site_kind::final_norm ? 2 : 3;
  }
  site_kind kind_ = site_kind::embeddings;
  std::size_t layer_ = 0;
};

namespace site_detail {

inline constexpr std::array<std::string_view, 5> names{"embeddings", "resid_pre", "resid_post",
                                                       "final_norm", "logits"};

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
  return std::string(name) + (name.starts_with("resid") ? ".L" : "");
}

}  // namespace site_detail

/// `embeddings`, `resid_pre.0`, `resid_post.4`, `final_norm`, `logits`.
inline std::string to_string(const site& at) {
  std::string text(site_detail::names[static_cast<std::size_t>(at.kind())]);
  if (at.in_block()) text.append(".").append(std::to_string(at.layer()));
  return text;
}

/// The inverse of `to_string`; anything else is plm.107 with the nearest names.
inline site parse_site(std::string_view text) {
  const std::size_t dot = text.find('.');
  const std::string_view name = text.substr(0, dot);
  std::size_t layer = 0;
  if (dot != std::string_view::npos) {
    const std::string_view digits = text.substr(dot + 1);
    const auto [end, failure] =
        std::from_chars(digits.data(), digits.data() + digits.size(), layer);
    const bool plain = !digits.empty() && failure == std::errc() &&
                       end == digits.data() + digits.size() &&
                       (digits.size() == 1 || digits[0] != '0');
    if (plain && name == site_detail::names[1]) return resid_pre{layer};
    if (plain && name == site_detail::names[2]) return resid_post{layer};
  } else {
    if (name == site_detail::names[0]) return embeddings{};
    if (name == site_detail::names[3]) return final_norm{};
    if (name == site_detail::names[4]) return logits{};
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

}  // namespace plmscope
