// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/error.hpp>

namespace plmscope::inline PLMSCOPE_ABI {
namespace rules {

inline constexpr error_rule cli_not_verified{"cli.101", error_kind::mismatch, "a verified model gives the expected states within the limit"};
inline constexpr error_rule cli_file_kind{"cli.102", error_kind::malformed, "`info` knows ESM-2 weights, SAEs and other safetensors files"};
inline constexpr error_rule cli_sequence{"cli.103", error_kind::usage, "a sequence consists of amino acid letters"};
inline constexpr error_rule cli_output{"cli.104", error_kind::usage, "an output names a file or folder that may be written"};
inline constexpr error_rule cli_names{"cli.105", error_kind::mismatch, "feature names belong to the SAE they were scored for"};

}  // namespace rules
}  // namespace plmscope
