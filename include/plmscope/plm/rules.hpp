// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/error.hpp>

namespace plmscope::inline PLMSCOPE_ABI {

/// The rules of the plm layer: tokens, batches, sites, models.
namespace rules {

// clang-format off
inline constexpr error_rule unknown_letter{"plm.101", error_kind::malformed, "every letter of a sequence must be in the alphabet"};
inline constexpr error_rule unknown_token_text{"plm.102", error_kind::malformed, "'<' in a sequence opens <mask> or <unk>"};
inline constexpr error_rule batch_empty_sequence{"plm.103", error_kind::usage, "a sequence in a batch has at least one token"};
inline constexpr error_rule batch_token{"plm.104", error_kind::usage, "a token lies in the alphabet"};
inline constexpr error_rule batch_all_masked{"plm.105", error_kind::usage, "a sequence has at least one token that is not <mask>"};
inline constexpr error_rule batch_length{"plm.106", error_kind::resource, "a sequence has at most 16,777,216 tokens (positions are exact in float up to there)"};
inline constexpr error_rule site_name{"plm.107", error_kind::usage, "a site is embeddings, final_norm, logits, or a place in a block such as resid_post.L"};
inline constexpr error_rule site_range{"plm.108", error_kind::mismatch, "a site lies inside the model"};
inline constexpr error_rule model_missing{"plm.109", error_kind::io, "a model is a weights file, a folder with one, or a name of the hub"};
inline constexpr error_rule model_architecture{"plm.110", error_kind::mismatch, "the file must hold an ESM-2 model with the tensor names of Hugging Face or fair-esm"};
inline constexpr error_rule model_heads{"plm.111", error_kind::mismatch, "the width of a model is a whole number of heads of even width"};
inline constexpr error_rule inv_freq_missing{"plm.112", error_kind::mismatch, "rotary inv_freq is read from the model file, never recomputed silently"};
inline constexpr error_rule decoder_not_tied{"plm.113", error_kind::mismatch, "lm_head.decoder.weight equals the token embeddings"};
inline constexpr error_rule head_missing{"plm.114", error_kind::mismatch, "logits need a model file with an LM head"};
inline constexpr error_rule expected_layout{"plm.115", error_kind::malformed, "an expected file holds KEY.tokens, KEY.positions, KEY.hidden and KEY.logits per sequence"};
inline constexpr error_rule expected_model{"plm.116", error_kind::mismatch, "an expected file belongs to a model of the same depth and width"};
inline constexpr error_rule state_not_kept{"plm.117", error_kind::usage, "a state is read at a site that was asked for"};
inline constexpr error_rule config_number{"plm.118", error_kind::malformed, "config.json states plain numbers and booleans"};
inline constexpr error_rule model_not_cached{"plm.119", error_kind::io, "a model that is named as on the hub has been fetched before"};
inline constexpr error_rule contact_head_missing{"plm.120", error_kind::mismatch, "contacts need a model with a contact head"};
inline constexpr error_rule memory{"plm.130", error_kind::resource, "what a pass needs must fit into the memory that is free"};
inline constexpr error_rule edit_position{"plm.131", error_kind::usage, "an edit names positions that its sequences have"};
inline constexpr error_rule edit_shape{"plm.132", error_kind::mismatch, "an edit brings one row, or one for every chosen token, of the site's width"};
inline constexpr error_rule gradient_site{"plm.133", error_kind::usage, "gradients are taken at a state of the residual stream: embeddings, resid_pre.L or resid_post.L"};
inline constexpr error_rule variant_text{"plm.135", error_kind::malformed, "a variant is written like A24G, several substitutions joined by ':'"};
inline constexpr error_rule variant_residue{"plm.136", error_kind::mismatch, "a variant names the residues that the sequence has"};
inline constexpr error_rule window_size{"plm.137", error_kind::usage, "a window is longer than what it shares with its neighbour"};
inline constexpr error_rule esmc_architecture{"plm.150", error_kind::mismatch, "the file must hold an ESM-C model under one of its three sets of tensor names"};
inline constexpr error_rule config_text{"plm.151", error_kind::malformed, "config.json is one JSON object"};
inline constexpr error_rule config_model{"plm.152", error_kind::mismatch, "config.json describes the tensors beside it"};
inline constexpr error_rule batch_model{"plm.154", error_kind::usage, "a batch is run by the kind of model that it was made for"};
// clang-format on

}  // namespace rules
}  // namespace plmscope::inline PLMSCOPE_ABI
