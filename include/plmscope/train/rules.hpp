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

}  // namespace rules
}  // namespace plmscope
