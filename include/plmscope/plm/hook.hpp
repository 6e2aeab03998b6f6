// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/plm/site.hpp>

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <ranges>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Which rows a hook is shown. A forward pass runs over slices of the batch (whole sequences, in
/// order); row r of the states is token r of the slice. All spans are host memory and end with the
/// call.
struct batch_slice {
  std::size_t first_sequence = 0;         ///< of the whole batch
  std::size_t first_row = 0;              ///< of the whole batch
  std::span<const std::int64_t> offsets;  ///< within the slice: sequences + 1 entries from 0
  std::span<const std::int32_t> tokens;
  std::span<const std::int32_t> positions;

  std::size_t sequences() const noexcept { return offsets.size() - 1; }
  std::size_t rows() const noexcept { return tokens.size(); }
};

namespace hook_concepts {

template <class H, class B>
concept has_call = requires(H& h, B& be, site at, view<B> states, const batch_slice& rows) {
  h(be, at, states, rows);
};

template <class H>
concept has_sites = requires(const H& h) {
  requires std::ranges::input_range<decltype(h.sites())>;
  requires std::convertible_to<std::ranges::range_value_t<decltype(h.sites())>, site>;
};

}  // namespace hook_concepts

/// Code that reads or changes states during a forward pass on backend B. It names its sites, is
/// called at each of them once per slice of the batch, and the pass runs no further than the last:
///
///   struct zero_block_two {
///     std::vector<plmscope::site> sites() const { return {plmscope::resid_post{2}}; }
///     template <class B>
///     void operator()(B& be, plmscope::site, plmscope::view<B> states,
///                     const plmscope::batch_slice&) {
///       be.fill(states, typename B::real{0});
///     }
///   };
///
/// What it writes is what the rest of the pass reads: at `final_norm` the LM head, at `attn_in` all
/// of queries, keys and values; at `logits` what later hooks are shown. Reading changes nothing, at
/// every site but `attn_map` not one bit. `attn_map` is shown once per sequence, `rows` then being
/// that sequence alone. The views die with the call. Calls come from one thread, in order.
template <class H, class B>
concept hook_for = hook_concepts::has_call<H, B> && hook_concepts::has_sites<H>;

/// The sentences a user reads when a hook does not fit; one per requirement.
template <class H, class B>
struct require_hook {
  static_assert(hook_concepts::has_call<H, B>,
                "plmscope: a hook is called at its sites: add `template <class B> void "
                "operator()(B& be, plmscope::site at, plmscope::view<B> states, "
                "const plmscope::batch_slice& rows)`");
  static_assert(hook_concepts::has_sites<H>,
                "plmscope: a hook names its sites: add `std::vector<plmscope::site> sites() const "
                "{ return {plmscope::resid_post{4}}; }`");
  static constexpr bool value = true;
};

/// Shows nothing to nobody: the pass runs as far as `until` and its results are lost. For
/// measuring.
struct no_hook {
  site until = logits{};

  std::array<site, 1> sites() const noexcept { return {until}; }
  template <class B>
  constexpr void operator()(B&, site, view<B>, const batch_slice&) const noexcept {}
};

/// Several hooks in order, as one; each is called at its own sites and sees what those before it
/// left. Holds references to lvalues and owns temporaries: `hooks{edit, keep}`.
template <class... Hooks>
class hooks {
  static_assert(sizeof...(Hooks) > 0, "plmscope: hooks{...} needs at least one hook");

 public:
  explicit hooks(Hooks&&... all) : all_(std::forward<Hooks>(all)...) {}

  std::vector<site> sites() const {
    std::vector<site> out;
    const auto append = [&](const auto& h) {
      for (const site& at : h.sites()) out.push_back(at);
    };
    std::apply([&](const auto&... h) { (append(h), ...); }, all_);
    return out;
  }
  template <class B>
  void operator()(B& be, site at, view<B> states, const batch_slice& rows) {
    const auto call = [&](auto& h) {
      static_assert(require_hook<std::remove_cvref_t<decltype(h)>, B>::value);
      const auto& own = h.sites();
      if (std::ranges::find(own, at) != std::ranges::end(own)) h(be, at, states, rows);
    };
    std::apply([&](auto&... h) { (call(h), ...); }, all_);
  }

 private:
  std::tuple<Hooks...> all_;
};

template <class... Hooks>
hooks(Hooks&&...) -> hooks<Hooks...>;

}  // namespace plmscope::inline PLMSCOPE_ABI
