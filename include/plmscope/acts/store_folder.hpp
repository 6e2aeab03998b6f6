// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/acts/activation_store.hpp>
#include <plmscope/io/atomic_file.hpp>
#include <plmscope/io/byte_source.hpp>
#include <plmscope/io/durable_folder.hpp>

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// The system calls that write a store.
using store_system = folder_system;

/// The folder of a store, open for adding the shards of a range of proteins. What is there is never
/// changed: a shard appears whole, under its final name, and durably before `add` returns
/// (`basic_atomic_file`). So a writer may die at any moment, or the disk be full: the next one
/// removes its temporary file and finds every shard that was acknowledged. Writers of disjoint
/// ranges may work on one folder at the same time: each locks its range (acts.118), as far as the
/// file system has locks.
///
/// Why there is no list of shards in the manifest: it would have to be rewritten with every shard,
/// by every writer, and would be the one file whose loss loses everything. Errors: acts.109 to
/// acts.112, acts.114 to acts.116, acts.118, io.505 (also for a full disk).
template <class System = store_system>
class basic_store_folder {
 public:
  /// Makes the folder (its parent must exist), or opens the store of the same manifest that is
  /// there.
  basic_store_folder(const std::filesystem::path& folder, const store_manifest& manifest,
                     protein_range range, System system = {})
      : manifest_(checked(manifest)), folder_(folder, rules::store_folder, std::move(system)) {
    lock_ = folder_.lock(manifest_lock, 1, true);
    begin();
    lock_ = lock(range);
    // A writer that died between a rename and the directory's fsync left a shard that is there now,
    // but would not be after a power cut.
    folder_.sync();
    remove_temporaries(range);
    present_ = store_detail::shards_in(folder_.path(), manifest_);
  }

  const store_manifest& manifest() const noexcept { return manifest_; }
  /// The shards that were there at the beginning, ascending.
  const std::vector<protein_range>& present() const noexcept { return present_; }
  std::filesystem::path path(protein_range shard) const {
    return folder_.path() / shard_layout::file_name(shard);
  }

  /// Writes the bytes of a shard; when it returns, they survive a power cut.
  void add(protein_range shard, std::span<const std::byte> bytes) {
    basic_atomic_file<System> file(path(shard), folder_.system());
    file.write(bytes);
    file.commit();
  }

 private:
  // Byte numbers of the lock file stand for proteins; this one, beyond them all, for the manifest.
  static constexpr std::size_t manifest_lock = std::size_t{1} << 40;

  static const store_manifest& checked(const store_manifest& manifest) {
    manifest.check();
    return manifest;
  }

  // The manifest is the first file of a store. Its lock is ours: a temporary one is abandoned.
  void begin() {
    const auto path = folder_.path() / store_manifest::file_name;
    const bool exists = std::filesystem::exists(std::filesystem::symlink_status(path));
    for (const auto& name : folder_.names()) {
      if (folder_.is_temporary(name, store_manifest::file_name)) {
        folder_.unlink(name);
      } else if (!exists && name != folder_.lock_name) {
        throw error(rules::store_folder, {.where = folder_.path().string(),
                                          .expected = "a new or empty folder, or a store",
                                          .found = name,
                                          .remedy = "choose another folder"});
      }
    }
    if (exists) {
      return manifest_.require_same(store_detail::read_manifest(folder_.path()),
                                    folder_.path().string());
    }
    basic_atomic_file<System> file(path, folder_.system());
    file.write(manifest_.to_json());
    file.commit();
  }

  // Temporary files of shards of this range: its lock is ours, so nobody else is writing them.
  void remove_temporaries(protein_range range) {
    for (const auto& name : folder_.names()) {
      const auto of = store_detail::shard_range(folder_.temporary_of(name));
      if (of && of->first < range.end && range.first < of->end) folder_.unlink(name);
    }
  }

  file_descriptor lock(protein_range range) const {
    auto file = folder_.lock(range.first, range.size(), false);
    if (file.get() < 0) {
      throw error(rules::store_locked,
                  {.where = folder_.path().string(),
                   .found = "another process writes some of proteins " +
                            std::to_string(range.first) + ":" + std::to_string(range.end),
                   .remedy = "wait for it, or give it and this one disjoint ranges"});
    }
    return file;
  }

  store_manifest manifest_;
  durable_folder<System> folder_;
  file_descriptor lock_;
  std::vector<protein_range> present_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
