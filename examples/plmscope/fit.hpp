// SPDX-License-Identifier: MIT
#pragma once

#include "row_feed.hpp"
#include "training.hpp"

#include <cstddef>

/// Fits the normaliser on the first rows, trains what the options say, and fills source and
/// training record. The rows hold the sites of the options side by side; of a transcoder the last
/// `target_width` columns are the target's.
trained fit_sae(program_backend& be, row_feed rows, const training_options& options,
                const common_options& common, std::size_t target_width = 0);
