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
inline constexpr error_rule site_name{"plm.107", error_kind::usage, "a site is embeddings, resid_pre.L, resid_post.L, final_norm or logits"};
inline constexpr error_rule site_range{"plm.108", error_kind::mismatch, "a site lies inside the model"};
inline constexpr error_rule model_missing{"plm.109", error_kind::io, "a model is a safetensors file or a folder with model.safetensors"};
inline constexpr error_rule model_architecture{"plm.110", error_kind::mismatch, "the file must hold an ESM-2 model with Hugging Face tensor names"};
inline constexpr error_rule model_heads{"plm.111", error_kind::mismatch, "the width of a model is a whole number of heads of even width"};
inline constexpr error_rule inv_freq_missing{"plm.112", error_kind::mismatch, "rotary inv_freq is read from the model file, never recomputed silently"};
inline constexpr error_rule decoder_not_tied{"plm.113", error_kind::mismatch, "lm_head.decoder.weight equals the token embeddings"};
inline constexpr error_rule head_missing{"plm.114", error_kind::mismatch, "logits need a model file with an LM head"};
inline constexpr error_rule expected_layout{"plm.115", error_kind::malformed, "an expected file holds KEY.tokens, KEY.positions, KEY.hidden and KEY.logits per sequence"};
inline constexpr error_rule expected_model{"plm.116", error_kind::mismatch, "an expected file belongs to a model of the same depth and width"};
inline constexpr error_rule state_not_kept{"plm.117", error_kind::usage, "a state is read at a site that was asked for"};
inline constexpr error_rule config_number{"plm.118", error_kind::malformed, "config.json states plain numbers and booleans"};
inline constexpr error_rule esmc_architecture{"plm.150", error_kind::mismatch, "the file must hold an ESM-C model under one of its three sets of tensor names"};
inline constexpr error_rule config_text{"plm.151", error_kind::malformed, "config.json is one JSON object"};
inline constexpr error_rule config_model{"plm.152", error_kind::mismatch, "config.json describes the tensors beside it"};
inline constexpr error_rule site_not_shown{"plm.153", error_kind::mismatch, "states are read where the model shows them"};
inline constexpr error_rule batch_model{"plm.154", error_kind::usage, "a batch is run by the kind of model that it was made for"};
// clang-format on

}  // namespace rules
}  // namespace plmscope
