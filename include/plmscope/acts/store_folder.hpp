// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/acts/activation_store.hpp>
#include <plmscope/io/atomic_file.hpp>
#include <plmscope/io/byte_source.hpp>

#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace plmscope::inline PLMSCOPE_ABI {

/// The system calls that write a store; tests replace them by a disk that crashes.
struct store_system : posix_system {
  int mkdir(const char* path, mode_t mode) { return ::mkdir(path, mode); }
};

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
      : folder_(folder), manifest_(manifest), system_(std::move(system)) {
    manifest.check();
    make_folder();
    lock_ = lock(manifest_lock, 1);
    begin();
    lock_ = lock(range.first, range.size());
    // A writer that died between a rename and the directory's fsync left a shard that is there now,
    // but would not be after a power cut.
    sync(folder_);
    remove_temporaries(range);
    present_ = store_detail::shards_in(folder_, manifest_);
  }

  const store_manifest& manifest() const noexcept { return manifest_; }
  /// The shards that were there at the beginning, ascending.
  const std::vector<protein_range>& present() const noexcept { return present_; }
  std::filesystem::path path(protein_range shard) const {
    return folder_ / shard_layout::file_name(shard);
  }

  /// Writes the bytes of a shard; when it returns, they survive a power cut.
  void add(protein_range shard, std::span<const std::byte> bytes) {
    basic_atomic_file<System> file(path(shard), system_);
    file.write(bytes);
    file.commit();
  }

 private:
  // Byte numbers of the lock file stand for proteins; this one, beyond them all, for the manifest.
  static constexpr std::size_t manifest_lock = std::size_t{1} << 40;

  [[noreturn]] void fail(const char* step, int reason) const {
    throw error(rules::store_folder,
                {.where = folder_.string(),
                 .found = std::string(step) + ": " + system_message(reason),
                 .remedy = reason == ENOENT ? "create the folder above it first" : ""});
  }

  void make_folder() {
    if (!folder_.has_filename()) folder_ = folder_.parent_path();
    if (system_.mkdir(folder_.c_str(), 0777) != 0 && errno != EEXIST) fail("mkdir", errno);
    if (!std::filesystem::is_directory(folder_)) fail("mkdir", ENOTDIR);
    sync(folder_.has_parent_path() ? folder_.parent_path() : std::filesystem::path("."));
  }

  // The manifest is the first file of a store. Its lock is ours: a temporary one is abandoned.
  void begin() {
    const auto path = folder_ / store_manifest::file_name;
    const bool exists = std::filesystem::exists(std::filesystem::symlink_status(path));
    for (const auto& name : store_detail::names_in(folder_)) {
      if (name.starts_with(temporary_prefix)) {
        unlink(name);
      } else if (!exists && name != lock_name) {
        throw error(rules::store_folder, {.where = folder_.string(),
                                          .expected = "a new or empty folder, or a store",
                                          .found = name,
                                          .remedy = "choose another folder"});
      }
    }
    if (exists)
      return manifest_.require_same(store_detail::read_manifest(folder_), folder_.string());
    basic_atomic_file<System> file(path, system_);
    file.write(manifest_.to_json());
    file.commit();
  }

  // Temporary files of shards of this range: its lock is ours, so nobody else is writing them.
  void remove_temporaries(protein_range range) {
    for (const auto& name : store_detail::names_in(folder_)) {
      const std::size_t mark = name.rfind(".tmp-");
      if (!name.starts_with('.') || mark == std::string::npos) continue;
      const auto of = store_detail::shard_range(std::string_view(name).substr(1, mark - 1));
      if (of && of->first < range.end && range.first < of->end) unlink(name);
    }
  }

  void unlink(const std::string& name) {
    if (system_.unlink((folder_ / name).c_str()) != 0 && errno != ENOENT) fail("unlink", errno);
  }

  void sync(const std::filesystem::path& directory) {
    const int fd = system_.open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd < 0) fail("open directory", errno);
    int status;
    do {
      status = system_.fsync(fd);
    } while (status != 0 && errno == EINTR);
    const int reason = errno;
    system_.close(fd);
    if (status != 0 && reason != EINVAL) fail("fsync directory", reason);
  }

  // A lock belongs to the open file and goes with it, also when the process is killed.
  file_descriptor lock(std::size_t first, std::size_t count) {
    file_descriptor file;
    do {
      file = file_descriptor(
          ::open((folder_ / lock_name).c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666));
    } while (file.get() < 0 && errno == EINTR);
    if (file.get() < 0) fail("open .lock", errno);
    struct flock region{};
    region.l_type = F_WRLCK;
    region.l_whence = SEEK_SET;
    region.l_start = static_cast<off_t>(first);
    region.l_len = static_cast<off_t>(count);
#if defined(F_OFD_SETLK)
    const int command = first == manifest_lock ? F_OFD_SETLKW : F_OFD_SETLK;
#else
    const int command = first == manifest_lock ? F_SETLKW : F_SETLK;
#endif
    int status;
    do {
      status = ::fcntl(file.get(), command, &region);
    } while (status != 0 && errno == EINTR);
    // Other failures: a file system without locks.
    if (status != 0 && (errno == EAGAIN || errno == EACCES)) {
      throw error(rules::store_locked,
                  {.where = folder_.string(),
                   .found = "another process writes some of proteins " + std::to_string(first) +
                            ":" + std::to_string(first + count),
                   .remedy = "wait for it, or give it and this one disjoint ranges"});
    }
    return file;
  }

  static constexpr std::string_view lock_name = ".lock";
  static constexpr std::string_view temporary_prefix = ".manifest.json.tmp-";

  std::filesystem::path folder_;
  store_manifest manifest_;
  System system_;
  file_descriptor lock_;
  std::vector<protein_range> present_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
