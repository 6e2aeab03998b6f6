// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/byte_source.hpp>
#include <plmscope/io/rules.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace plmscope::inline PLMSCOPE_ABI {

/// The system calls of a promised write, as a type: tests replace it to inject faults. All return
/// what the calls of the same name return and leave errno.
struct posix_system {
  int open(const char* path, int flags, mode_t mode) { return ::open(path, flags, mode); }
  ssize_t write(int fd, const void* data, std::size_t size) { return ::write(fd, data, size); }
  int fsync(int fd) { return ::fsync(fd); }
  int close(int fd) { return ::close(fd); }
  int rename(const char* from, const char* to) { return ::rename(from, to); }
  int unlink(const char* path) { return ::unlink(path); }
};

/// A file that appears whole or not at all, also after a power cut: written to a temporary name in
/// the same directory, synced, closed, renamed, and the directory synced. Until `commit` returns,
/// the old file (if any) is untouched; a `commit` that throws leaves either the old file or the new
/// one, complete. Without `commit` nothing remains. A symbolic link is followed; a path that names
/// something other than a regular file (a directory, /dev/null) is refused (io.502). All other
/// failures are io.505 with the system's reason.
template <class System = posix_system>
class basic_atomic_file {
 public:
  explicit basic_atomic_file(const std::filesystem::path& path, System system = {})
      : system_(std::move(system)), target_(resolve(path)) {
    // A random name that exists is somebody else's file: try the next one.
    std::random_device random;
    for (int attempt = 0; attempt < 16; ++attempt) {
      const std::uint64_t tag = (std::uint64_t{random()} << 32) | random();
      temporary_ = target_.parent_path() / ("." + target_.filename().string().substr(0, 200) +
                                            ".tmp-" + std::to_string(tag));
      do {
        fd_ = system_.open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
      } while (fd_ < 0 && errno == EINTR);
      if (fd_ >= 0) return;
      if (errno != EEXIST) break;
    }
    fail("create");
  }
  basic_atomic_file(const basic_atomic_file&) = delete;
  basic_atomic_file& operator=(const basic_atomic_file&) = delete;
  ~basic_atomic_file() { discard(); }

  void write(std::span<const std::byte> bytes) {
    if (fd_ < 0) {
      errno = EBADF;
      fail("write");
    }
    while (!bytes.empty()) {
      const ssize_t n = system_.write(fd_, bytes.data(),
                                      std::min<std::size_t>(bytes.size(), std::size_t{1} << 30));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) {
        if (n == 0) errno = ENOSPC;
        discard_and_fail("write");
      }
      bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
  }
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }

  /// Makes the file appear under its name, durably. Once.
  void commit() {
    if (fd_ < 0) {
      errno = EBADF;
      fail("commit");
    }
    // A failed fsync is not retried: the kernel may have dropped the pages already.
    if (sync(fd_) != 0) discard_and_fail("fsync");
    const int closed = system_.close(std::exchange(fd_, -1));
    if (closed != 0 && errno != EINTR) discard_and_fail("close");
    int renamed;
    do {
      renamed = system_.rename(temporary_.c_str(), target_.c_str());
    } while (renamed != 0 && errno == EINTR);
    if (renamed != 0) discard_and_fail("rename");
    temporary_.clear();
    sync_directory();
  }

 private:
  static std::filesystem::path resolve(const std::filesystem::path& path) {
    std::error_code status;
    std::filesystem::path target = path;
    if (std::filesystem::exists(path, status)) {
      if (!std::filesystem::is_regular_file(path, status)) {
        throw error(rules::file_not_regular, {.where = path.string(),
                                              .expected = "a new name or a regular file to replace",
                                              .found = "something else",
                                              .remedy = "choose another output path"});
      }
      if (std::filesystem::is_symlink(path, status)) {
        const auto real = std::filesystem::canonical(path, status);
        if (!status) target = real;
      }
    }
    if (!target.has_filename()) {
      throw error(rules::file_not_regular,
                  {.where = path.string(), .expected = "a file name", .found = "none"});
    }
    if (!target.has_parent_path()) target = std::filesystem::path(".") / target;
    return target;
  }

  int sync(int fd) {
    int status;
    do {
      status = system_.fsync(fd);
    } while (status != 0 && errno == EINTR);
    return status;
  }

  void sync_directory() {
    int directory;
    do {
      directory =
          system_.open(target_.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    } while (directory < 0 && errno == EINTR);
    if (directory < 0) fail("open directory");
    const int status = sync(directory);
    const int reason = errno;
    system_.close(directory);
    errno = reason;
    // Some file systems cannot sync directories and say EINVAL; there is nothing more to do.
    if (status != 0 && errno != EINVAL) fail("fsync directory");
  }

  void discard() noexcept {
    if (fd_ >= 0) system_.close(std::exchange(fd_, -1));
    if (!temporary_.empty()) system_.unlink(temporary_.c_str());
    temporary_.clear();
  }

  [[noreturn]] void discard_and_fail(const char* step) {
    const int reason = errno;
    discard();
    errno = reason;
    fail(step);
  }

  [[noreturn]] void fail(const char* step) {
    const int reason = errno;
    // The name was made, but not used: nothing to remove.
    if (fd_ < 0) temporary_.clear();
    throw error(rules::file_write, {.where = target_.string(),
                                    .found = std::string(step) + ": " + system_message(reason),
                                    .remedy = reason == ENOSPC || reason == EDQUOT
                                                  ? "free some space or choose another disk"
                                              : reason == ENOENT ? "create the directory first"
                                                                 : ""});
  }

  System system_;
  std::filesystem::path target_;
  std::filesystem::path temporary_;
  int fd_ = -1;
};

using atomic_file = basic_atomic_file<>;

/// Writes a whole file by `atomic_file`.
inline void write_file_atomically(const std::filesystem::path& path,
                                  std::span<const std::byte> bytes) {
  atomic_file file(path);
  file.write(bytes);
  file.commit();
}
inline void write_file_atomically(const std::filesystem::path& path, std::string_view text) {
  write_file_atomically(path, std::as_bytes(std::span(text)));
}

}  // namespace plmscope::inline PLMSCOPE_ABI
