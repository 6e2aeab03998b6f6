// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/rules.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace plmscope::inline PLMSCOPE_ABI {

/// What the operating system says about an error number.
inline std::string system_message(int number) { return std::generic_category().message(number); }

/// An open file descriptor that closes itself.
class file_descriptor {
 public:
  file_descriptor() = default;
  explicit file_descriptor(int number) noexcept : number_(number) {}
  file_descriptor(file_descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  file_descriptor& operator=(file_descriptor&& other) noexcept {
    if (this != &other) {
      reset();
      number_ = std::exchange(other.number_, -1);
    }
    return *this;
  }
  ~file_descriptor() { reset(); }

  int get() const noexcept { return number_; }
  int release() noexcept { return std::exchange(number_, -1); }

 private:
  void reset() noexcept {
    if (number_ >= 0) ::close(number_);
    number_ = -1;
  }
  int number_ = -1;
};

/// A regular file open for reading, with the size that the system reports.
/// Directories, FIFOs, sockets and devices are refused (io.502) without blocking on them.
class regular_file {
 public:
  explicit regular_file(const std::filesystem::path& path) : path_(path.string()) {
    do {
      file_ = file_descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    } while (file_.get() < 0 && errno == EINTR);
    if (file_.get() < 0) {
      throw error(rules::file_open, {.where = path_, .found = system_message(errno)});
    }
    const struct stat s = status();
    if (!S_ISREG(s.st_mode)) {
      throw error(rules::file_not_regular, {.where = path_,
                                            .expected = "a regular file",
                                            .found = S_ISDIR(s.st_mode)    ? "a directory"
                                                     : S_ISFIFO(s.st_mode) ? "a FIFO"
                                                                           : "a device or socket"});
    }
    size_ = static_cast<std::size_t>(s.st_size);
  }

  std::size_t size() const noexcept { return size_; }
  int descriptor() const noexcept { return file_.get(); }
  const std::string& path() const noexcept { return path_; }

  /// Fills `out` from byte `offset`. A file that ends earlier is an error (io.503).
  void read(std::size_t offset, std::span<std::byte> out) const {
    while (!out.empty()) {
      const std::size_t chunk = std::min<std::size_t>(out.size(), std::size_t{1} << 30);
      const ssize_t n = ::pread(file_.get(), out.data(), chunk, static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) {
        throw error(rules::file_read, {.where = path_ + ", byte " + std::to_string(offset),
                                       .expected = std::to_string(size_) + " bytes",
                                       .found = n == 0 ? "end of file: it shrank while being read"
                                                       : system_message(errno)});
      }
      out = out.subspan(static_cast<std::size_t>(n));
      offset += static_cast<std::size_t>(n);
    }
  }

  /// Refuses a file whose size changed since it was opened (io.503).
  void check_unchanged() const {
    const auto now = static_cast<std::size_t>(status().st_size);
    if (now != size_) {
      throw error(rules::file_read,
                  {.where = path_,
                   .expected = std::to_string(size_) + " bytes",
                   .found = std::to_string(now) + " bytes: it changed meanwhile"});
    }
  }

 private:
  struct stat status() const {
    struct stat s{};
    if (::fstat(file_.get(), &s) != 0) {
      throw error(rules::file_open, {.where = path_, .found = system_message(errno)});
    }
    return s;
  }

  std::string path_;
  file_descriptor file_;
  std::size_t size_ = 0;
};

/// The bytes of a regular file. Larger than `max_bytes` is an error (io.504) before any allocation.
inline std::vector<std::byte> read_file(
    const std::filesystem::path& path,
    std::size_t max_bytes = std::numeric_limits<std::size_t>::max()) {
  const regular_file file(path);
  if (file.size() > max_bytes) {
    throw error(rules::file_too_large,
                {.where = file.path(),
                 .expected = "at most " + std::to_string(max_bytes) + " bytes",
                 .found = std::to_string(file.size()) + " bytes"});
  }
  std::vector<std::byte> bytes(file.size());
  file.read(0, bytes);
  return bytes;
}

/// A regular file seen through memory, read-only. Pages load when touched, so a model costs no
/// copy. The file must not be truncated while it is mapped: the system would end the process
/// (SIGBUS). Files from untrusted places or network drives are better read with `read_file`.
class mapped_file {
 public:
  explicit mapped_file(const std::filesystem::path& path) {
    const regular_file file(path);
    size_ = file.size();
    if (size_ == 0) return;
    void* address = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.descriptor(), 0);
    if (address == MAP_FAILED) {
      throw error(rules::file_read, {.where = file.path(), .found = system_message(errno)});
    }
    address_ = address;
    try {
      file.check_unchanged();
    } catch (...) {
      unmap();
      throw;
    }
  }
  mapped_file(mapped_file&& other) noexcept
      : address_(std::exchange(other.address_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  mapped_file& operator=(mapped_file&& other) noexcept {
    if (this != &other) {
      unmap();
      address_ = std::exchange(other.address_, nullptr);
      size_ = std::exchange(other.size_, 0);
    }
    return *this;
  }
  ~mapped_file() { unmap(); }

  std::span<const std::byte> bytes() const noexcept {
    return {static_cast<const std::byte*>(address_), size_};
  }

 private:
  void unmap() noexcept {
    if (address_ != nullptr) ::munmap(address_, size_);
    address_ = nullptr;
  }
  void* address_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
