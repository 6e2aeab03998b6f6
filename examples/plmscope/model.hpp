// SPDX-License-Identifier: MIT
#pragma once

#include "backend.hpp"

#include <plmscope/plm/any_model.hpp>

#include <filesystem>

/// Whatever model the user named.
using program_model = plmscope::any_model<program_backend>;

/// Opens it on the backend that the flags ask for. Of its own file, because it compiles slowly.
program_model open_model(const std::filesystem::path& name, const common_options& options);
