// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/error.hpp>

namespace plmscope::inline PLMSCOPE_ABI {
namespace rules {

inline constexpr error_rule cli_not_verified{"cli.101", error_kind::mismatch, "a verified model gives the expected states within the limit"};
inline constexpr error_rule backend_not_built{"cli.106", error_kind::usage, "--backend names a backend that this program was built for"};
inline constexpr error_rule cli_names{"cli.105", error_kind::mismatch, "feature names belong to the SAE they were scored for"};
inline constexpr error_rule cli_store_damaged{"cli.107", error_kind::malformed, "a verified store has every protein, undamaged"};
inline constexpr error_rule cli_train_input{"cli.108", error_kind::usage, "training reads a model and proteins, or a store"};
inline constexpr error_rule cli_verify_input{"cli.110", error_kind::usage, "verification reads a model and expected states, or a store"};
inline constexpr error_rule cli_range{"cli.109", error_kind::usage, "a range reads A:B, a part I/N"};
inline constexpr error_rule cli_option{"cli.112", error_kind::usage, "options of a training fit each other"};
inline constexpr error_rule sweep_text{"cli.120", error_kind::malformed, "a sweep file is TOML, in UTF-8"};
inline constexpr error_rule sweep_key{"cli.121", error_kind::malformed, "a sweep file has the keys that it needs and no other"};
inline constexpr error_rule sweep_value{"cli.122", error_kind::malformed, "a value of a sweep file has the type and range of its key"};
inline constexpr error_rule sweep_name{"cli.123", error_kind::malformed, "names in a sweep are plain, and each stands for one thing"};
inline constexpr error_rule sweep_size{"cli.124", error_kind::malformed, "a sweep has a run, and no more than can be meant"};
inline constexpr error_rule sweep_other{"cli.125", error_kind::mismatch, "a run of a sweep's folder is the one that is asked for"};
inline constexpr error_rule sweep_records{"cli.126", error_kind::malformed, "a sweep's runs.jsonl has one run a line"};
inline constexpr error_rule sweep_folder{"cli.127", error_kind::io, "the folder of a sweep can be written, by one process at a time"};
inline constexpr error_rule cli_sites{"cli.128", error_kind::usage, "the sites of one training are different ones of one width"};
inline constexpr error_rule cli_autoencoder{"cli.129", error_kind::mismatch, "a command gets an SAE of a kind that it can measure"};
inline constexpr error_rule cli_picture{"cli.111", error_kind::usage, "one picture shows one sequence"};

}  // namespace rules
}  // namespace plmscope
