// SPDX-License-Identifier: MIT
#pragma once

#include "command.hpp"

#include <plmscope/plm/site.hpp>
#include <plmscope/sae/formats/published_sae.hpp>

#include <filesystem>
#include <optional>
#include <string>

// Files of SAEs, ours and others', for the commands that take one.

/// Adds the flags for what a published SAE's file does not say.
void add_stated_flags(CLI::App& command, plmscope::stated_sae& stated);

/// What an SAE is, as text and as JSON.
void describe_sae_text(const plmscope::sae_description& d, json_object& out, std::string& text);

/// The site whose states an SAE reads. Errors: cli.129 for a crosscoder, which reads several; plm.107
/// for a site without a name.
plmscope::site site_read_by(const plmscope::sae_description& d, const std::filesystem::path& file);

/// The same for an SAE whose results go back to where its rows came from; cli.129 for a transcoder,
/// too.
plmscope::site site_rebuilt_by(const plmscope::sae_description& d,
                               const std::filesystem::path& file);

/// Whether a path is an SAE that another library wrote; if so says what it is, or what must be
/// stated before it can be read.
bool describe_published(const std::filesystem::path& path, const plmscope::stated_sae& stated,
                        json_object& out, std::string& text);
