// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/rng.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

// A reconstruction plan says from which latents the result is built, and how much each of several
// results counts: plan(step, features) gives prefixes of the latents.

/// The first latents up to each end (exclusive, ascending; 0: the bias alone), and the share of the
/// loss that the result built from them has. Without ends it is one result from all latents, with all
/// of the loss.
struct prefix_list {
  std::vector<std::uint32_t> ends;
  std::vector<double> shares;
  bool shares_penalty = false;  ///< a latent's penalty counts as much as the results that it is in
};

/// One result from all latents.
struct full_reconstruction {};

/// Matryoshka (Bussmann et al. 2025, Nabeshima 2024): one result per prefix of the latents, so that
/// early latents must do without later ones. The last end is the number of features and may be left
/// out. Without shares every result counts 1 / n.
struct matryoshka {
  std::vector<std::uint32_t> ends;
  std::vector<double> shares = {};

  prefix_list operator()(std::size_t, std::size_t features) const {
    prefix_list p{ends, shares};
    if (p.ends.empty() || p.ends.back() < features) {
      p.ends.push_back(static_cast<std::uint32_t>(features));
    }
    if (p.shares.empty()) p.shares.assign(p.ends.size(), 1.0 / static_cast<double>(p.ends.size()));
    return p;
  }
};

/// Matryoshka with other prefixes in every step (Nabeshima 2024): `count` - 1 distinct ends drawn with
/// probability proportional to the decrease of 1 - (i / F)^power, and F. All results count alike, and
/// penalties count in each of them. The draw depends on seed and step alone.
struct sampled_matryoshka {
  std::size_t count = 10;
  double power = 0.5;
  std::uint64_t seed = 0;

  prefix_list operator()(std::size_t step, std::size_t features) const {
    const auto n = static_cast<double>(features);
    const rng random(seed, 0x3a7 + step);
    prefix_list p;
    for (std::size_t draw = 0; p.ends.size() + 1 < std::min(count, features); ++draw) {
      // the weights of 0..i sum to (i + 1)^power: invert
      const double u = random.uniform(draw);
      const auto end = static_cast<std::uint32_t>(
          std::min(n - 1, std::floor(n * std::pow(u, 1 / power))));
      if (end > 0 && std::find(p.ends.begin(), p.ends.end(), end) == p.ends.end()) {
        p.ends.push_back(end);
      }
      if (draw > 1000 * count) break;  // few features left to draw
    }
    std::sort(p.ends.begin(), p.ends.end());
    p.ends.push_back(static_cast<std::uint32_t>(features));
    p.shares.assign(p.ends.size(), 1.0 / static_cast<double>(p.ends.size()));
    p.shares_penalty = true;
    return p;
  }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
