// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/error.hpp>

namespace plmscope::inline PLMSCOPE_ABI {
namespace rules {

// clang-format off
inline constexpr error_rule activations_offsets{"eval.101", error_kind::malformed, "row offsets start at 0, never fall and end at the number of entries"};
inline constexpr error_rule activations_feature{"eval.102", error_kind::malformed, "feature ids ascend within a row and are below the number of features"};
inline constexpr error_rule activations_value{"eval.103", error_kind::numeric, "activations are finite"};
inline constexpr error_rule activations_proteins{"eval.104", error_kind::mismatch, "every protein has one row per residue"};
inline constexpr error_rule split_proteins{"eval.105", error_kind::mismatch, "split, labels and activations are about the same proteins"};
inline constexpr error_rule split_share{"eval.106", error_kind::usage, "the held-out share lies between 0 and 1, ends excluded"};
inline constexpr error_rule threshold_order{"eval.107", error_kind::usage, "a threshold grid has 1 to 250 finite entries that ascend"};
inline constexpr error_rule cluster_limits{"eval.108", error_kind::usage, "identity and coverage limits lie between 0 and 1"};
inline constexpr error_rule eval_too_large{"eval.109", error_kind::resource, "an evaluation holds fewer than 2^32 residues and features, a protein fewer than 2^16"};
inline constexpr error_rule fidelity_no_residue{"eval.130", error_kind::usage, "fidelity is measured on at least one protein with a residue"};
inline constexpr error_rule fidelity_share{"eval.131", error_kind::usage, "the share of masked residues lies above 0 and is at most 1"};
inline constexpr error_rule fidelity_site{"eval.132", error_kind::mismatch, "fidelity needs an SAE that gives back states of its site, one for each token"};
inline constexpr error_rule fidelity_not_finite{"eval.133", error_kind::numeric, "states, reconstructions and logits are finite numbers"};
inline constexpr error_rule fidelity_positions{"eval.134", error_kind::mismatch, "given masks are one list for each protein and name its residues, once each"};
inline constexpr error_rule fidelity_compared{"eval.135", error_kind::mismatch, "two SAEs are compared on the same proteins, by the same definition and masks"};
// clang-format on

}  // namespace rules
}  // namespace plmscope::inline PLMSCOPE_ABI
