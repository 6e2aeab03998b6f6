// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/steer/rules.hpp>
#include <plmscope/tensor/host_codes.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

namespace plmscope::inline PLMSCOPE_ABI {

/// A change of one latent in every row: z[latent] = value (clamping; 0 ablates), or z[latent] *=
/// value, or z[latent] += value. Other latents stay: nothing is selected anew.
struct latent_edit {
  enum class action { set, scale, add };

  std::uint32_t latent = 0;
  action what = action::set;
  double value = 0;
};

/// Refuses (steer.101) latents that an SAE of `features` latents does not have, and values that are
/// not finite.
inline void check_latents(std::span<const latent_edit> edits, std::size_t features) {
  for (const latent_edit& e : edits) {
    if (e.latent < features && std::isfinite(e.value)) continue;
    throw error(rules::steer_latent,
                {.where = "latent " + std::to_string(e.latent),
                 .expected = "latents below " + std::to_string(features) + ", finite values",
                 .found = "value " + std::to_string(e.value)});
  }
}

/// Carries out edits in order. A latent that was not active counts as 0; one that becomes 0 leaves
/// the codes. Rows stay sorted by feature.
template <class Real>
void edit_latents(std::span<const latent_edit> edits, host_codes<Real>& z) {
  for (const latent_edit& e : edits) {
    host_codes<Real> out;
    out.features = z.features;
    out.ids.reserve(z.ids.size() + z.rows());
    out.values.reserve(z.ids.size() + z.rows());
    const auto keep = [&](std::uint32_t id, Real value) {
      out.ids.push_back(id);
      out.values.push_back(value);
    };
    for (std::size_t r = 0; r < z.rows(); ++r) {
      auto i = static_cast<std::size_t>(z.offsets[r]);
      const auto end = static_cast<std::size_t>(z.offsets[r + 1]);
      for (; i < end && z.ids[i] < e.latent; ++i) keep(z.ids[i], z.values[i]);
      Real value = 0;
      if (i < end && z.ids[i] == e.latent) value = z.values[i++];
      const auto by = static_cast<Real>(e.value);
      switch (e.what) {
        case latent_edit::action::set:
          value = by;
          break;
        case latent_edit::action::scale:
          value *= by;
          break;
        case latent_edit::action::add:
          value += by;
          break;
      }
      if (value != Real{0}) keep(e.latent, value);
      for (; i < end; ++i) keep(z.ids[i], z.values[i]);
      out.offsets.push_back(static_cast<std::int64_t>(out.ids.size()));
    }
    z = std::move(out);
  }
}

}  // namespace plmscope::inline PLMSCOPE_ABI
