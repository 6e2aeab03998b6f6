// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/plm/site.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Some sites of a model: what a forward pass must show and how far it must run. Asking costs one
/// look-up.
class site_set {
 public:
  site_set() = default;
  /// A range of `site`, in any order, repeats allowed.
  template <class Sites>
  explicit site_set(const Sites& sites) {
    for (const site& at : sites) add(at);
  }

  void add(const site& at) {
    if (at.in_block()) {
      if (blocks_.size() <= at.layer()) blocks_.resize(at.layer() + 1, 0);
      blocks_[at.layer()] |= bit(at);
    } else {
      model_ |= bit(at);
    }
    last_ = empty_ ? at : std::max(last_, at);
    empty_ = false;
  }

  bool empty() const noexcept { return empty_; }
  bool contains(const site& at) const noexcept {
    if (!at.in_block()) return (model_ & bit(at)) != 0;
    return at.layer() < blocks_.size() && (blocks_[at.layer()] & bit(at)) != 0;
  }
  /// The one that a forward pass meets last; `embeddings` for an empty set.
  const site& last() const noexcept { return last_; }

 private:
  static std::uint32_t bit(const site& at) noexcept {
    return std::uint32_t{1} << static_cast<unsigned>(at.kind());
  }

  std::uint32_t model_ = 0;
  std::vector<std::uint32_t> blocks_;
  site last_;
  bool empty_ = true;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
