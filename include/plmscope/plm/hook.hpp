// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/plm/site.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>

namespace plmscope::inline PLMSCOPE_ABI {

/// Which rows a hook is shown. A forward pass runs over slices of the batch (whole sequences, in
/// order); row r of the states is token r of the slice. All spans are host memory and end with the
/// call.
struct batch_slice {
  std::size_t first_sequence = 0;  ///< of the whole batch
  std::size_t first_row = 0;       ///< of the whole batch
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
concept has_last_site = requires(const H& h) {
  { h.last_site() } -> std::convertible_to<site>;
};

}  // namespace hook_concepts

/// Code that reads or changes states during a forward pass on backend B. It is called at every site
/// from `embeddings` to `last_site()`, once per slice of the batch, and the pass stops there:
///
///   struct zero_block_two {
///     plmscope::site last_site() const { return plmscope::logits{}; }
///     template <class B>
///     void operator()(B& be, plmscope::site at, plmscope::view<B> states,
///                     const plmscope::batch_slice&) {
///       if (at == plmscope::resid_post{2}) be.fill(states, typename B::real{0});
///     }
///   };
///
/// At `final_norm` the states are what the LM head reads; changes at `logits` change what later
/// hooks see. The views die with the call. Calls come from one thread, in order.
template <class H, class B>
concept hook_for = hook_concepts::has_call<H, B> && hook_concepts::has_last_site<H>;

/// The sentences a user reads when a hook does not fit; one per requirement.
template <class H, class B>
struct require_hook {
  static_assert(hook_concepts::has_call<H, B>,
                "plmscope: a hook is called at every site: add `template <class B> void "
                "operator()(B& be, plmscope::site at, plmscope::view<B> states, "
                "const plmscope::batch_slice& rows)`");
  static_assert(hook_concepts::has_last_site<H>,
                "plmscope: a hook says how far the pass must run: add "
                "`plmscope::site last_site() const { return plmscope::resid_post{4}; }`");
  static constexpr bool value = true;
};

/// Nothing at all: the calls are compiled away. `until` ends the pass early.
struct no_hook {
  site until = logits{};

  constexpr site last_site() const noexcept { return until; }
  template <class B>
  constexpr void operator()(B&, site, view<B>, const batch_slice&) const noexcept {}
};

/// Several hooks in order, as one; each sees what those before it left, and nothing beyond its own
/// last site. Holds references to lvalues and owns temporaries: `hooks{edit, keep}`.
template <class... Hooks>
class hooks {
  static_assert(sizeof...(Hooks) > 0, "plmscope: hooks{...} needs at least one hook");

 public:
  explicit hooks(Hooks&&... all) : all_(std::forward<Hooks>(all)...) {}

  site last_site() const {
    return std::apply([](const auto&... h) { return std::max({site(h.last_site())...}); }, all_);
  }
  template <class B>
  void operator()(B& be, site at, view<B> states, const batch_slice& rows) {
    const auto call = [&](auto& h) {
      static_assert(require_hook<std::remove_cvref_t<decltype(h)>, B>::value);
      if (at <= h.last_site()) h(be, at, states, rows);
    };
    std::apply([&](auto&... h) { (call(h), ...); }, all_);
  }

 private:
  std::tuple<Hooks...> all_;
};

template <class... Hooks>
hooks(Hooks&&...) -> hooks<Hooks...>;

}  // namespace plmscope
