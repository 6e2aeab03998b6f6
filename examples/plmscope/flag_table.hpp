// SPDX-License-Identifier: MIT
#pragma once

#include "command.hpp"

#include <toml++/toml.h>

#include <string>
#include <vector>

// Tables of a TOML file whose keys are the flags of a subcommand: same names, same values, same
// checks.

/// FILE:LINE:COLUMN.
std::string place_in(const std::string& file, const toml::source_region& at);

/// "a text", "a number", ...
std::string type_of(const toml::node& node);

class flag_table {
 public:
  /// Of `flags` without those named `left_out`; keys of `elsewhere` are read by others.
  explicit flag_table(CLI::App& flags, std::vector<std::string> elsewhere = {},
                      std::vector<std::string> left_out = {});

  /// Sets every key as its flag would. Errors: cli.121 for a key that is no flag, with the nearest
  /// one; cli.122 for a value of another type or one that the flag refuses.
  void read(const toml::table& table, const std::string& file);

  /// What every flag is set to, defaults included where they are known.
  json_object settings() const;

 private:
  CLI::Option& find(const toml::key& key, const std::string& file);

  CLI::App& flags_;
  std::vector<std::string> elsewhere_;
  std::vector<std::string> left_out_;
};
