// SPDX-License-Identifier: MIT
#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

// What every subcommand shares: its flags, where results go, and the bundled data.

using json_object = nlohmann::ordered_json;

struct common_options {
  bool as_json = false;
  bool dry_run = false;
  std::size_t threads = 0;  // 0: all that the process may use
  std::uint64_t seed = 1;
  std::string backend = "cpu";     // decided before parsing, see other_backend.hpp
  std::string precision = "fp32";  // of products on a GPU

  std::size_t thread_count() const;
};

/// Adds --json, --threads, --seed, --dry-run, --backend and --precision, and an example to the end of --help.
void add_common(CLI::App& command, common_options& options, const std::string& example);

/// Results on stdout: the object with --json, else the text.
void print_result(const common_options& options, const json_object& object, const std::string& text);

/// The folder of the bundled model and proteins (PLMSCOPE_BUNDLE, else where the sources are).
std::filesystem::path bundled(const std::string& name);

/// NaN and infinities become null.
json_object number_or_null(double value);

// One function a file; each adds its subcommand and its work.
void add_info(CLI::App& app);
void add_convert(CLI::App& app);
void add_verify(CLI::App& app);
void add_embed(CLI::App& app);
void add_contacts(CLI::App& app);
void add_score(CLI::App& app);
void add_harvest(CLI::App& app);
void add_merge(CLI::App& app);
void add_train(CLI::App& app);
void add_sweep(CLI::App& app);
void add_concepts(CLI::App& app);
void add_fidelity(CLI::App& app);
void add_ask(CLI::App& app);
void add_demo(CLI::App& app);
