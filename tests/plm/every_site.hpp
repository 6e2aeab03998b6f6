// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/plm/site.hpp>

#include <cstddef>
#include <vector>

// The sites of a model of any kind.
namespace every_site {

using plmscope::site;
using plmscope::site_kind;

/// Every site with a state per token, in the order of the pass.
inline std::vector<site> of(std::size_t layers) {
  std::vector<site> all{plmscope::embeddings{}};
  for (std::size_t l = 0; l < layers; ++l) {
    for (auto k = site_kind::resid_pre; k <= site_kind::resid_post;
         k = static_cast<site_kind>(static_cast<int>(k) + 1)) {
      if (k != site_kind::attn_map) all.push_back(site(k, l));
    }
  }
  all.push_back(plmscope::final_norm{});
  all.push_back(plmscope::logits{});
  return all;
}

/// Whether two sites are of the queries, keys and values of one block: later in the order, but not
/// computed from each other.
inline bool beside(const site& a, const site& b) {
  const auto is_input = [](const site& s) {
    return s.kind() >= site_kind::attn_query && s.kind() <= site_kind::attn_value;
  };
  return a != b && a.layer() == b.layer() && is_input(a) && is_input(b);
}

}  // namespace every_site
