// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/error.hpp>

namespace plmscope::inline PLMSCOPE_ABI {
namespace rules {

inline constexpr error_rule cli_not_verified{"cli.101", error_kind::mismatch, "a verified model gives the expected states within the limit"};
inline constexpr error_rule backend_not_built{"cli.106", error_kind::usage, "--backend names a backend that this program was built for"};
inline constexpr error_rule cli_names{"cli.105", error_kind::mismatch, "feature names belong to the SAE they were scored for"};

}  // namespace rules
}  // namespace plmscope
