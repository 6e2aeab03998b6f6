// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/byte_source.hpp>
#include <plmscope/io/rules.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <limits>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

namespace plmscope::inline PLMSCOPE_ABI {

/// How far a gzip file may expand: `free_bytes`, and beyond them `ratio` times what was read.
/// Annotated protein text compresses about 4 to 15 times, a bomb 1,000 times.
struct expansion_limit {
  std::size_t ratio = 200;
  std::size_t free_bytes = std::size_t{64} << 20;
};

/// Reads the content of a file from beginning to end, decompressing it when it begins with the gzip
/// magic (the name does not matter). Members behind each other are one content. Bytes behind the
/// last member that are no member are ignored and reported by `trailing_garbage`. A missing end is
/// io.506, a wrong checksum or structure io.507, a bomb io.508. Regular files, pipes, and `-` for
/// standard input are read; directories and devices are refused (io.502).
class content_reader {
 public:
  explicit content_reader(const std::filesystem::path& path, expansion_limit limit = {})
      : name_(path == "-" ? "standard input" : path.string()), limit_(limit) {
    buffer_.resize(std::size_t{1} << 17);
    if (path == "-") {
      standard_input_ = true;
    } else {
      open(path);
    }
    start();
  }

  /// Reads bytes in memory; `name` stands for the file in errors.
  content_reader(std::string bytes, std::string name, expansion_limit limit = {})
      : name_(std::move(name)), limit_(limit), buffer_(bytes.begin(), bytes.end()) {
    end_ = buffer_.size();
    at_end_ = true;
    start();
  }

  content_reader(content_reader&&) noexcept = default;
  content_reader& operator=(content_reader&&) noexcept = default;

  const std::string& name() const noexcept { return name_; }
  bool compressed() const noexcept { return inflate_ != nullptr; }
  bool trailing_garbage() const noexcept { return trailing_garbage_; }

  /// Fills the front of `out` and returns how much; 0 only at the end.
  std::size_t read(std::span<char> out) {
    if (out.empty() || finished_) return 0;
    return compressed() ? read_compressed(out) : read_plain(out);
  }

 private:
  struct inflate_state {
    inflate_state() {
      if (inflateInit2(&stream, 15 + 16) != Z_OK) throw std::bad_alloc();
    }
    inflate_state(const inflate_state&) = delete;
    inflate_state& operator=(const inflate_state&) = delete;
    ~inflate_state() { inflateEnd(&stream); }
    z_stream stream{};
  };

  void open(const std::filesystem::path& path) {
    do {
      file_ = file_descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    } while (file_.get() < 0 && errno == EINTR);
    struct stat s{};
    if (file_.get() < 0 || ::fstat(file_.get(), &s) != 0) {
      throw error(rules::file_open, {.where = name_, .found = system_message(errno)});
    }
    if (!S_ISREG(s.st_mode) && !S_ISFIFO(s.st_mode)) {
      throw error(rules::file_not_regular,
                  {.where = name_,
                   .expected = "a regular file or a pipe",
                   .found = S_ISDIR(s.st_mode) ? "a directory" : "a device or socket"});
    }
    const int flags = ::fcntl(file_.get(), F_GETFL);
    if (flags >= 0) ::fcntl(file_.get(), F_SETFL, flags & ~O_NONBLOCK);
  }

  void start() {
    need(2);
    if (is_magic()) inflate_ = std::make_unique<inflate_state>();
  }

  bool is_magic() const noexcept {
    return end_ - begin_ >= 2 && static_cast<unsigned char>(buffer_[begin_]) == 0x1f &&
           static_cast<unsigned char>(buffer_[begin_ + 1]) == 0x8b;
  }

  // Makes at least `count` (small) bytes available unless the file ends before.
  void need(std::size_t count) {
    while (end_ - begin_ < count && !at_end_) {
      if (begin_ > 0) {
        std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
        end_ -= begin_;
        begin_ = 0;
      }
      const ssize_t n = ::read(standard_input_ ? STDIN_FILENO : file_.get(), buffer_.data() + end_,
                               buffer_.size() - end_);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) throw error(rules::file_read, {.where = name_, .found = system_message(errno)});
      at_end_ = n == 0;
      end_ += static_cast<std::size_t>(n);
    }
  }

  std::size_t read_plain(std::span<char> out) {
    need(1);
    const std::size_t n = std::min(out.size(), end_ - begin_);
    if (n > 0) std::memcpy(out.data(), buffer_.data() + begin_, n);
    begin_ += n;
    return n;
  }

  std::size_t read_compressed(std::span<char> out) {
    z_stream& z = inflate_->stream;
    z.next_out = reinterpret_cast<Bytef*>(out.data());
    const std::size_t room = std::min<std::size_t>(out.size(), std::numeric_limits<uInt>::max());
    z.avail_out = static_cast<uInt>(room);
    while (z.avail_out == room) {
      need(1);
      if (begin_ == end_) {
        throw error(rules::gzip_truncated,
                    {.where = name_ + ", byte " + std::to_string(compressed_bytes_),
                     .found = "the end of the file",
                     .remedy = "the download was cut off: fetch the file again"});
      }
      z.next_in = reinterpret_cast<Bytef*>(buffer_.data() + begin_);
      z.avail_in = static_cast<uInt>(end_ - begin_);
      const int status = ::inflate(&z, Z_NO_FLUSH);
      const std::size_t used = end_ - begin_ - z.avail_in;
      begin_ += used;
      compressed_bytes_ += used;
      if (status == Z_MEM_ERROR) throw std::bad_alloc();
      if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR) {
        throw error(rules::gzip_corrupt,
                    {.where = name_ + ", byte " + std::to_string(compressed_bytes_),
                     .found = z.msg != nullptr ? z.msg : "damaged data",
                     .remedy = "fetch the file again"});
      }
      if (status == Z_STREAM_END && !next_member()) break;
    }
    const std::size_t produced = room - z.avail_out;
    expanded_bytes_ += produced;
    if (expanded_bytes_ > limit_.free_bytes && expanded_bytes_ / limit_.ratio > compressed_bytes_) {
      throw error(rules::gzip_expansion,
                  {.where = name_,
                   .expected = "at most " + std::to_string(limit_.ratio) + " times its size",
                   .found = std::to_string(expanded_bytes_) + " bytes out of " +
                            std::to_string(compressed_bytes_)});
    }
    return produced;
  }

  bool next_member() {
    need(2);
    if (is_magic()) {
      inflateReset(&inflate_->stream);
      return true;
    }
    finished_ = true;
    trailing_garbage_ = begin_ != end_;
    return false;
  }

  std::string name_;
  expansion_limit limit_;
  std::vector<char> buffer_;  // raw bytes [begin_, end_)
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  file_descriptor file_;
  bool standard_input_ = false;
  bool at_end_ = false;    // of the raw bytes
  bool finished_ = false;  // of the content
  bool trailing_garbage_ = false;
  std::unique_ptr<inflate_state> inflate_;
  std::size_t compressed_bytes_ = 0;
  std::size_t expanded_bytes_ = 0;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
