// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/error.hpp>

namespace plmscope::inline PLMSCOPE_ABI {
namespace rules {

// clang-format off
inline constexpr error_rule acts_no_proteins{"acts.101", error_kind::usage, "activations are read from at least one protein"};
inline constexpr error_rule acts_site{"acts.102", error_kind::usage, "rows for training are read at a site with a state per residue"};
inline constexpr error_rule acts_not_finite{"acts.103", error_kind::numeric, "activations are finite numbers"};
inline constexpr error_rule acts_buffer{"acts.104", error_kind::usage, "a shuffle buffer holds at least two batches"};
// clang-format on

}  // namespace rules
}  // namespace plmscope::inline PLMSCOPE_ABI
