// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/sae/parameters.hpp>
#include <plmscope/tensor/codes.hpp>
#include <plmscope/tensor/matrix.hpp>
#include <plmscope/train/dead_latents/aux_k.hpp>
#include <plmscope/train/dead_latents/dead_columns.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// AuxK for a Matryoshka dictionary, level by level (SAELens): the dead latents between two ends
/// reconstruct what the result of the prefix that they end misses. `each.k` and `each.ramp` count
/// within a level; a level without dead latents adds nothing. `ends` are those of the plan.
struct aux_k_by_level {
  aux_k each = {};
  std::vector<std::uint32_t> ends;
  std::int64_t dead_after = each.dead_after;  ///< as in `each`
  bool count_first = each.count_first;
  static constexpr bool detach_residual = true;

  template <class B>
  struct state {
    matrix<std::int64_t, B> since_fired;  ///< [1, F] tokens
    matrix<std::uint32_t, B> ids;         ///< [1, F] dead ones first
    std::vector<aux_k::state<B>> levels;
    dead_columns<B> seen;
    matrix<typename B::real, B> none;

    template <class F>
    void fields(const F& f) {
      f("since_fired", since_fired);
    }
  };
  template <class B>
  using inputs = aux_k::inputs<B>;

  template <class B>
  state<B> start(B& be, const sae_parameters<B>& p) const {
    state<B> s;
    s.since_fired = matrix<std::int64_t, B>(be, 1, p.encoder.rows());
    s.ids = matrix<std::uint32_t, B>(be, 1, p.encoder.rows());
    for (std::size_t l = 0; l < ends.size(); ++l) s.levels.push_back(each.start(be, p));
    return s;
  }

  template <class B>
  void observe(B& be, const codes<B>& z, state<B>& s) const {
    be.count_fired(z, s.since_fired.all(), static_cast<std::int64_t>(z.rows()),
                   static_cast<typename B::real>(each.fired_above));
  }

  /// As in `aux_k`, for all levels at once.
  template <class B>
  bool expect(B& be, std::size_t rows, state<B>& s) const {
    s.seen.clear();
    if (each.alpha == 0) return false;
    return s.seen.expect(be, s.since_fired,
                         each.dead_after - (count_first ? static_cast<std::int64_t>(rows) : 0),
                         rows);
  }
  template <class B>
  void see(B& be, const_view<B> pre, state<B>& s) const {
    s.seen.take(be, pre);
  }

  /// Waits for the device.
  template <class B>
  bool find(B& be, state<B>& s) const {
    if (each.alpha == 0) return false;
    const std::size_t n =
        be.ids_where(const_view<B, std::int64_t>(s.since_fired), each.dead_after, s.ids.all());
    std::vector<std::uint32_t> dead(n);
    be.download(const_view<B, std::uint32_t>(s.ids).col_range(0, n),
                std::span<std::uint32_t>(dead));
    auto from = dead.cbegin();
    for (std::size_t l = 0; l < ends.size(); ++l) {
      const auto to = std::lower_bound(from, dead.cend(), ends[l]);
      s.levels[l].dead_count = static_cast<std::size_t>(to - from);
      be.upload(std::span<const std::uint32_t>(from, to),
                s.levels[l].ids.all().col_range(0, s.levels[l].dead_count));
      from = to;
    }
    return n > 0;
  }

  template <class B>
  void forward(B& be, inputs<B> in, state<B>& s, view<B, double> slot) const {
    for (std::size_t l = 0; l < ends.size(); ++l) {
      if (s.levels[l].dead_count == 0) continue;
      in.residual = in.result->residual(be, l);
      in.seen = &s.seen;
      each.forward(be, in, s.levels[l], slot);
    }
  }

  template <class B>
  const_view<B> residual_pull(const state<B>& s) const {
    return s.none;
  }

  template <class B>
  void backward(B& be, const inputs<B>& in, state<B>& s, sae_parameters<B>& gradient,
                view<B> sums) const {
    for (auto& level : s.levels) {
      if (level.dead_count > 0) each.backward(be, in, level, gradient, sums);
    }
  }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
