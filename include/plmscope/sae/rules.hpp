// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/error.hpp>

namespace plmscope::inline PLMSCOPE_ABI {
namespace rules {

inline constexpr error_rule sae_options{"sae.101", error_kind::usage, "an SAE needs d_model > 0 and features > 0"};
inline constexpr error_rule sae_width{"sae.102", error_kind::mismatch, "rows must have the width the SAE was made for"};
inline constexpr error_rule sae_format{"sae.103", error_kind::malformed, "an SAE file holds encoder, decoder and biases of matching shapes"};
inline constexpr error_rule sae_sparsifier{"sae.104", error_kind::mismatch, "an SAE file must be opened with the sparsifier it was trained with"};
inline constexpr error_rule sae_parent{"sae.105", error_kind::mismatch, "an SAE belongs to one model, one site and one normalisation"};
inline constexpr error_rule sae_finite{"sae.106", error_kind::numeric, "parameters of an SAE are finite numbers"};
inline constexpr error_rule normalizer_fit{"sae.107", error_kind::numeric, "a normaliser is fitted on at least two finite rows with some variance"};
inline constexpr error_rule sae_field{"sae.108", error_kind::malformed, "every metadata field of an SAE file is known and well formed"};

inline constexpr error_rule normalizer_shape{"sae.109", error_kind::mismatch, "a normaliser has the numbers its kind and width need"};
inline constexpr error_rule sae_codes{"sae.110", error_kind::mismatch, "codes are decoded by the SAE that made them, into rows of its width"};

inline constexpr error_rule sae_unknown{"sae.111", error_kind::malformed, "a published SAE is in a layout that plmscope reads"};
inline constexpr error_rule sae_not_stated{"sae.112", error_kind::usage, "what the file of an SAE does not say is stated by who opens it"};
inline constexpr error_rule sae_contradicted{"sae.113", error_kind::mismatch, "what is stated of an SAE agrees with its file"};
inline constexpr error_rule sae_not_expressible{"sae.114", error_kind::mismatch, "an SAE that is read computes nothing that plmscope cannot"};
inline constexpr error_rule sae_settings{"sae.115", error_kind::malformed, "the settings of a published SAE are well formed and agree with its tensors"};
inline constexpr error_rule sae_not_exportable{"sae.116", error_kind::mismatch, "SAELens can hold the SAE that is written for it"};
inline constexpr error_rule sae_folder{"sae.117", error_kind::usage, "a folder holds one SAE, or it is said which"};

inline constexpr error_rule sae_behind{"sae.140", error_kind::usage, "what lies behind an SAE is asked with a share of masked residues in [0, 1) and a finite weight of 0 or more"};

}  // namespace rules
}  // namespace plmscope
