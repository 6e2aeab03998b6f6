// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/error.hpp>

namespace plmscope::inline PLMSCOPE_ABI {
namespace rules {

inline constexpr error_rule train_options{"train.101", error_kind::usage, "training needs steps > 0 and a batch of at least two rows"};
inline constexpr error_rule train_not_finite{"train.102", error_kind::numeric, "losses and parameters stay finite during training"};
inline constexpr error_rule train_no_rows{"train.103", error_kind::usage, "the reader must deliver rows"};
inline constexpr error_rule train_loss_space{"train.104", error_kind::usage, "a loss at the scale of the activations needs the normaliser `none` or `token_layer_norm`"};
inline constexpr error_rule train_prefixes{"train.105", error_kind::usage, "prefixes of a dictionary ascend to its width, with a share of the loss each"};
inline constexpr error_rule train_own_parameters{"train.106", error_kind::usage, "a sparsifier with parameters of its own is not trained with lengths in codes"};
inline constexpr error_rule train_k{"train.110", error_kind::usage, "a k that falls ends above 0"};
inline constexpr error_rule train_behind{"train.111", error_kind::usage, "an end-to-end loss is told what lies behind the SAE"};
inline constexpr error_rule train_thresholds{"train.112", error_kind::usage, "a penalty below thresholds is for sparsifiers that learn one for each latent"};

// Checkpoints.
inline constexpr error_rule checkpoint_options{"train.120", error_kind::usage, "checkpoints need a folder, an interval and a number to keep"};
inline constexpr error_rule checkpoint_folder_failed{"train.121", error_kind::io, "checkpoints live in a folder of their own"};
inline constexpr error_rule checkpoint_there{"train.122", error_kind::usage, "a training that does not resume begins without checkpoints"};
inline constexpr error_rule checkpoint_locked{"train.123", error_kind::io, "a folder of checkpoints has one training at a time"};
inline constexpr error_rule checkpoint_damaged{"train.124", error_kind::malformed, "a checkpoint has the bits it was written with"};
inline constexpr error_rule checkpoint_other{"train.125", error_kind::mismatch, "a training is resumed as it began"};
inline constexpr error_rule checkpoint_state{"train.126", error_kind::mismatch, "a checkpoint holds the state of its policies, no more and no less"};
inline constexpr error_rule training_stopped{"train.127", error_kind::interrupted, "a training that is asked to stop saves its state"};

}  // namespace rules
}  // namespace plmscope
