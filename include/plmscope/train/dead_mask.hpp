// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <cstddef>
#include <cstdint>

namespace plmscope::inline PLMSCOPE_ABI {

/// out[f] = 1 for latents silent for at least `dead_after` tokens, else 0.
template <class Real>
struct dead_mask {
  const std::int64_t* since_fired;
  std::int64_t dead_after;
  Real* out;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t f) const {
    out[f] = since_fired[f] >= dead_after ? Real{1} : Real{0};
  }
};

/// out[e] = 1 for entries with a value, else 0.
template <class Real>
struct is_active {
  const Real* values;
  Real* out;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t e, std::uint32_t) const {
    out[e] = values[e] != Real{0} ? Real{1} : Real{0};
  }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
