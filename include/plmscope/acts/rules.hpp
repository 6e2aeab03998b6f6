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

inline constexpr error_rule store_request{"acts.105", error_kind::usage, "a store is asked for with sites, numbers and proteins that it can hold"};
inline constexpr error_rule store_range{"acts.106", error_kind::usage, "a range of proteins lies inside the list and holds at least one"};
inline constexpr error_rule store_rows{"acts.107", error_kind::usage, "a shard is given every row of every site once"};
inline constexpr error_rule store_overflow{"acts.108", error_kind::numeric, "an activation fits the number type of the store"};
inline constexpr error_rule store_folder{"acts.109", error_kind::io, "a store is a folder of its own, with a manifest"};
inline constexpr error_rule store_manifest_text{"acts.110", error_kind::malformed, "a store's manifest is a JSON object of texts that hash to its id"};
inline constexpr error_rule store_version{"acts.111", error_kind::mismatch, "a store has the format that this version reads"};
inline constexpr error_rule store_other{"acts.112", error_kind::mismatch, "bytes belong to the store that they are read from or added to"};
inline constexpr error_rule store_site_missing{"acts.113", error_kind::mismatch, "a store holds the site that is asked for"};
inline constexpr error_rule store_shard_shape{"acts.114", error_kind::malformed, "a shard is complete and laid out as its manifest says"};
inline constexpr error_rule store_checksum{"acts.115", error_kind::malformed, "every block of a shard has the checksum it was written with"};
inline constexpr error_rule store_overlap{"acts.116", error_kind::mismatch, "every protein stands in one shard only"};
inline constexpr error_rule store_incomplete{"acts.117", error_kind::mismatch, "a store that is read whole holds every protein of its list"};
inline constexpr error_rule store_locked{"acts.118", error_kind::io, "a range of proteins has one writer at a time"};
inline constexpr error_rule store_space{"acts.119", error_kind::resource, "the disk has room for the store"};

}  // namespace rules
}  // namespace plmscope::inline PLMSCOPE_ABI
