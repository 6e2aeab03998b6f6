// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/atomic_file.hpp>
#include <plmscope/io/durable_folder.hpp>
#include <plmscope/io/safetensors_writer.hpp>
#include <plmscope/train/rules.hpp>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// A folder of checkpoints, open for one training: a file `step-N.safetensors` for each, N the
/// number of steps done. A checkpoint is one file, so that it is there or not: written under
/// another name, synced, renamed, and the folder synced (`basic_atomic_file`). When `add` returns,
/// it survives a power cut; only then are older ones removed. The newest file is found by its
/// number, there is no list that could be lost. Errors: train.121, train.123, io.505.
template <class System = folder_system>
class checkpoint_folder {
 public:
  explicit checkpoint_folder(const std::filesystem::path& folder, System system = {})
      : folder_(folder, rules::checkpoint_folder_failed, std::move(system)),
        lock_(folder_.lock(0, 1, false)) {
    if (lock_.get() < 0) {
      throw error(rules::checkpoint_locked, {.where = folder_.path().string(),
                                             .found = "another process trains here",
                                             .remedy = "wait for it, or choose another folder"});
    }
    // A training that died between a rename and the sync left a checkpoint that a power cut would
    // take away; and temporary files are nobody's now.
    folder_.sync();
    for (const auto& name : folder_.names()) {
      if (step_of(folder_.temporary_of(name))) folder_.unlink(name);
    }
  }

  static std::string file_name(std::size_t step) {
    const std::string digits = std::to_string(step);
    return "step-" + std::string(digits.size() < 12 ? 12 - digits.size() : 0, '0') + digits +
           ".safetensors";
  }
  std::filesystem::path path(std::size_t step) const { return folder_.path() / file_name(step); }
  const std::filesystem::path& path() const noexcept { return folder_.path(); }

  /// The steps of all checkpoints, ascending.
  std::vector<std::size_t> steps() const {
    std::vector<std::size_t> out;
    for (const auto& name : folder_.names()) {
      if (const auto step = step_of(name)) out.push_back(*step);
    }
    std::ranges::sort(out);
    return out;
  }

  /// Writes a checkpoint, then removes all but it and the newest `keep` - 1 before it. Those after
  /// it are of a future that did not last: the run had to begin before them.
  void add(std::size_t step, const safetensors_writer& state, std::size_t keep) {
    basic_atomic_file<System> file(path(step), folder_.system());
    state.write_to(file);
    file.commit();
    std::size_t kept = 0;
    const auto all = steps();
    for (auto at = all.rbegin(); at != all.rend(); ++at) {
      if (*at > step || ++kept > keep) folder_.unlink(file_name(*at));
    }
  }

 private:
  // The step in a name that `file_name` makes; nothing for any other name.
  static std::optional<std::size_t> step_of(std::string_view name) {
    constexpr std::string_view prefix = "step-";
    if (!name.starts_with(prefix)) return std::nullopt;
    std::size_t step = 0;
    const auto read = std::from_chars(name.data() + prefix.size(), name.data() + name.size(), step);
    if (read.ec != std::errc() || file_name(step) != name) return std::nullopt;
    return step;
  }

  durable_folder<System> folder_;
  file_descriptor lock_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
