// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/error.hpp>
#include <plmscope/io/atomic_file.hpp>
#include <plmscope/io/byte_source.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace plmscope::inline PLMSCOPE_ABI {

/// The system calls that write a folder; tests replace them by a disk that crashes.
struct folder_system : posix_system {
  int mkdir(const char* path, mode_t mode) { return ::mkdir(path, mode); }
};

/// The names in a folder, sorted. A failure is the rule that is given.
inline std::vector<std::string> names_in(const std::filesystem::path& folder,
                                         const error_rule& rule) {
  std::vector<std::string> names;
  std::error_code failure;
  for (auto at = std::filesystem::directory_iterator(folder, failure);
       !failure && at != std::filesystem::directory_iterator(); at.increment(failure)) {
    names.push_back(at->path().filename().string());
  }
  if (failure) throw error(rule, {.where = folder.string(), .found = failure.message()});
  std::ranges::sort(names);
  return names;
}

/// A folder of files that appear whole, under their final names, and are never changed
/// (`basic_atomic_file`): made when it is not there (its parent must be), with its name durable;
/// locked against a second writer as far as the file system has locks; cleared of what a writer
/// that died left. A failing call is the rule that is given, with the system's reason.
template <class System = folder_system>
class durable_folder {
 public:
  durable_folder(const std::filesystem::path& path, const error_rule& rule, System system = {})
      : path_(path), rule_(rule), system_(std::move(system)) {
    if (!path_.has_filename()) path_ = path_.parent_path();
    if (system_.mkdir(path_.c_str(), 0777) != 0 && errno != EEXIST) fail("mkdir", errno);
    if (!std::filesystem::is_directory(path_)) fail("mkdir", ENOTDIR);
    sync(path_.has_parent_path() ? path_.parent_path() : std::filesystem::path("."));
  }

  const std::filesystem::path& path() const noexcept { return path_; }
  System& system() noexcept { return system_; }
  std::vector<std::string> names() const { return names_in(path_, rule_); }

  /// Until it returns, a name that was made, changed or removed may be lost by a power cut.
  void sync() { sync(path_); }

  /// A name that is not there is no failure.
  void unlink(const std::string& name) {
    if (system_.unlink((path_ / name).c_str()) != 0 && errno != ENOENT) fail("unlink", errno);
  }

  /// Whether a name is that of the temporary file of an atomic write of `of`.
  static bool is_temporary(std::string_view name, std::string_view of) {
    return name.starts_with('.') && name.substr(1).starts_with(of) &&
           name.substr(1 + of.size()).starts_with(".tmp-");
  }
  /// What an atomic write was to become, by the name of its temporary file; empty for other names.
  static std::string_view temporary_of(std::string_view name) {
    const std::size_t mark = name.rfind(".tmp-");
    if (!name.starts_with('.') || mark == std::string_view::npos) return {};
    return name.substr(1, mark - 1);
  }

  /// Locks numbers [first, first + count) of the folder; a lock belongs to what is returned and
  /// goes with it, also when the process is killed. `wait` for another writer, or return nothing.
  file_descriptor lock(std::size_t first, std::size_t count, bool wait) const {
    file_descriptor file;
    do {
      file = file_descriptor(
          ::open((path_ / lock_name).c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666));
    } while (file.get() < 0 && errno == EINTR);
    if (file.get() < 0) fail("open .lock", errno);
    struct flock region{};
    region.l_type = F_WRLCK;
    region.l_whence = SEEK_SET;
    region.l_start = static_cast<off_t>(first);
    region.l_len = static_cast<off_t>(count);
#if defined(F_OFD_SETLK)
    const int command = wait ? F_OFD_SETLKW : F_OFD_SETLK;
#else
    const int command = wait ? F_SETLKW : F_SETLK;
#endif
    int status;
    do {
      status = ::fcntl(file.get(), command, &region);
    } while (status != 0 && errno == EINTR);
    // Other failures: a file system without locks.
    if (status != 0 && (errno == EAGAIN || errno == EACCES)) return {};
    return file;
  }

  static constexpr std::string_view lock_name = ".lock";

 private:
  [[noreturn]] void fail(const char* step, int reason) const {
    throw error(rule_, {.where = path_.string(),
                        .found = std::string(step) + ": " + system_message(reason),
                        .remedy = reason == ENOENT ? "create the folder above it first" : ""});
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

  std::filesystem::path path_;
  error_rule rule_;
  System system_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
