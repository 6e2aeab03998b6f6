// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/plm/hook.hpp>
#include <plmscope/plm/rules.hpp>
#include <plmscope/plm/site.hpp>

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// A hook that copies the states of chosen sites to host memory, for all rows of the batch.
/// `esm.forward(batch, keep); keep.states(final_norm{})`. Start a new batch with `clear()`.
///
/// Of `attn_map` the maps of all sequences stand one after another: [H n, n] numbers for each.
template <class Real = float>
class collect {
 public:
  explicit collect(std::vector<site> sites) {
    for (const site& at : sites) {
      if (find(at) == kept_.size()) {
        sites_.push_back(at);
        kept_.emplace_back();
      }
    }
  }

  const std::vector<site>& sites() const noexcept { return sites_; }
  template <class B>
  void operator()(B& be, site at, view<B> states, const batch_slice& rows) {
    const std::size_t i = find(at);
    if (i == kept_.size()) return;
    kept* const to = &kept_[i];
    to->width = states.cols();
    const std::size_t first =
        at.kind() == site_kind::attn_map ? to->values.size() : rows.first_row * states.cols();
    to->values.resize(first + states.size());
    be.download(states, std::span<Real>(to->values).subspan(first));
  }

  /// [rows of the batch, width], row-major. Errors: plm.117.
  std::span<const Real> states(const site& at) const { return require(at).values; }
  std::size_t width(const site& at) const { return require(at).width; }
  void clear() noexcept {
    for (kept& k : kept_) k.values.clear();
  }

 private:
  struct kept {
    std::size_t width = 0;
    std::vector<Real> values;
  };

  // Index of a site, or how many there are.
  std::size_t find(const site& at) const noexcept {
    return static_cast<std::size_t>(std::ranges::find(sites_, at) - sites_.begin());
  }
  const kept& require(const site& at) const {
    const std::size_t i = find(at);
    if (i < kept_.size()) return kept_[i];
    throw error(rules::state_not_kept, {.where = "collect", .found = to_string(at)});
  }

  std::vector<site> sites_;
  std::vector<kept> kept_;  // one per site
};

}  // namespace plmscope::inline PLMSCOPE_ABI
