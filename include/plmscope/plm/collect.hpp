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
template <class Real = float>
class collect {
 public:
  explicit collect(std::vector<site> sites) {
    for (const site& at : sites) {
      if (find(at) == nullptr) kept_.push_back({at, 0, {}});
    }
  }

  site last_site() const {
    return kept_.empty() ? site() : std::ranges::max_element(kept_, {}, &kept::at)->at;
  }
  template <class B>
  void operator()(B& be, site at, view<B> states, const batch_slice& rows) {
    kept* const to = find(at);
    if (to == nullptr) return;
    to->width = states.cols();
    const std::size_t first = rows.first_row * states.cols();
    to->values.resize(first + states.size());
    be.download(states, std::span<Real>(to->values).subspan(first));
  }

  std::vector<site> sites() const {
    std::vector<site> all;
    for (const kept& k : kept_) all.push_back(k.at);
    return all;
  }
  /// [rows of the batch, width], row-major. Errors: plm.117.
  std::span<const Real> states(const site& at) const { return require(at).values; }
  std::size_t width(const site& at) const { return require(at).width; }
  void clear() noexcept {
    for (kept& k : kept_) k.values.clear();
  }

 private:
  struct kept {
    site at;
    std::size_t width;
    std::vector<Real> values;
  };

  const kept* find(const site& at) const noexcept {
    const auto i = std::ranges::find(kept_, at, &kept::at);
    return i == kept_.end() ? nullptr : &*i;
  }
  kept* find(const site& at) noexcept {
    const auto i = std::ranges::find(kept_, at, &kept::at);
    return i == kept_.end() ? nullptr : &*i;
  }
  const kept& require(const site& at) const {
    if (const kept* k = find(at)) return *k;
    throw error(rules::state_not_kept, {.where = "collect", .found = to_string(at)});
  }

  std::vector<kept> kept_;
};

}  // namespace plmscope
