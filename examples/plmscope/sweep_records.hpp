// SPDX-License-Identifier: MIT
#pragma once

#include "command.hpp"

#include <plmscope/io/durable_folder.hpp>

#include <cstddef>
#include <filesystem>
#include <map>
#include <string>

/// The folder of a sweep, open for one process: its SAEs and `runs.jsonl`, one JSON object a line
/// for every run that is finished, in the order they finished. A record is on the disk, durably,
/// when `put` returns; the file appears whole every time, so that no line is ever half written.
/// Errors: cli.126 for a line that is none of ours, cli.127, io.505.
class sweep_records {
 public:
  static constexpr const char* file_name = "runs.jsonl";

  /// Makes the folder, and those above it.
  explicit sweep_records(const std::filesystem::path& folder);

  /// What is there, without a lock and without making anything.
  static std::map<std::string, json_object> read(const std::filesystem::path& folder);

  const std::filesystem::path& folder() const noexcept { return folder_.path(); }
  /// The record of a run, or nothing.
  const json_object* find(const std::string& run) const;
  /// Adds a record, in place of the run's earlier one; its name is `record["run"]`.
  void put(json_object record);
  /// Removes the checkpoints of a run, which needs them no longer.
  void drop_checkpoints(const std::filesystem::path& checkpoints) const;

 private:
  plmscope::durable_folder<> folder_;
  plmscope::file_descriptor lock_;
  std::vector<json_object> records_;
};

/// SHA-256 of a file. Cost: about 3 s a GB.
std::string file_hash(const std::filesystem::path& file);

/// What differs between what a record says and what is asked for, one `key: .., asked for ..` after
/// another; empty where nothing does.
std::string differences(const json_object& there, const json_object& asked,
                        const std::string& before = "");
