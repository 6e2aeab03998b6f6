// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/error.hpp>

namespace plmscope::inline PLMSCOPE_ABI {

// One row a line: a test compares these lines with docs/errors.md.
// clang-format off
namespace rules {
inline constexpr error_rule report_residue_outside{"report.101", error_kind::mismatch, "activations of a protein stand at increasing positions inside its sequence"};
inline constexpr error_rule report_not_finite{"report.102", error_kind::numeric, "an activation shown in a report is a finite number"};
inline constexpr error_rule report_span_outside{"report.103", error_kind::mismatch, "an annotation span lies inside its sequence"};
}  // namespace rules
// clang-format on

}  // namespace plmscope
