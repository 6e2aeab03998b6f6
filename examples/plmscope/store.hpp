// SPDX-License-Identifier: MIT
#pragma once

#include "command.hpp"

#include <plmscope/acts/store_manifest.hpp>

#include <filesystem>
#include <string>

// What `info`, `verify` and `harvest` say of a store of activations.

/// Whether the path is a folder with the manifest of a store.
bool is_store(const std::filesystem::path& path);

/// Model, sites, numbers and list, as a manifest states them.
void describe_manifest(const plmscope::store_manifest& manifest, json_object& out,
                       std::string& text);

void info_of_store(const std::filesystem::path& path, const common_options& common);
/// Checks every byte of every shard. Errors: cli.107 after a report of all that is wrong.
void verify_store(const std::filesystem::path& path, const common_options& common);

/// "1.3 GB".
std::string size_text(std::size_t bytes);
