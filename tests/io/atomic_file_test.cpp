// SPDX-License-Identifier: MIT
#include <plmscope/io/atomic_file.hpp>

#include "tests/golden.hpp"
#include "tests/io/error_id.hpp"

#include <doctest/doctest.h>

#include <cerrno>
#include <string>
#include <vector>

using namespace plmscope;

namespace {

struct crash {};

enum class fault { none, error, interrupted, short_write, zero_write, crash };

// Passes calls on, except call number `at`, which goes wrong. `names` records what was called.
struct faulty_system {
  struct state {
    std::size_t at = 0;
    fault kind = fault::none;
    int reason = EIO;
    std::size_t calls = 0;
    std::vector<std::string> names;
  };
  state* s;
  posix_system real{};

  bool fails(const char* name) {
    s->names.emplace_back(name);
    const bool now = s->calls++ == s->at;
    if (!now || s->kind == fault::none) return false;
    if (s->kind == fault::crash) throw crash{};
    errno = s->kind == fault::interrupted ? EINTR : s->reason;
    return s->kind == fault::error || s->kind == fault::interrupted;
  }
  int open(const char* path, int flags, mode_t mode) {
    return fails("open") ? -1 : real.open(path, flags, mode);
  }
  ssize_t write(int fd, const void* data, std::size_t size) {
    const bool here = s->calls == s->at;
    if (fails("write")) return -1;
    if (here && s->kind == fault::zero_write) return 0;
    if (here && s->kind == fault::short_write) size = (size + 1) / 2;
    return real.write(fd, data, size);
  }
  int fsync(int fd) { return fails("fsync") ? -1 : real.fsync(fd); }
  int close(int fd) {
    const int status = real.close(fd);
    return fails("close") ? -1 : status;
  }
  int rename(const char* from, const char* to) {
    return fails("rename") ? -1 : real.rename(from, to);
  }
  int unlink(const char* path) { return fails("unlink") ? -1 : real.unlink(path); }
};

std::string content(const std::filesystem::path& path) {
  const auto bytes = read_file(path);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::size_t files_in(const std::filesystem::path& folder) {
  const std::filesystem::directory_iterator all(folder);
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

// Writes "new" in two pieces; returns the error id, `accepted`, or `crash`.
std::string save(const std::filesystem::path& path, faulty_system::state& s) {
  try {
    return error_id([&] {
      basic_atomic_file<faulty_system> file(path, {&s});
      file.write("ne");
      file.write("w");
      file.commit();
    });
  } catch (const crash&) {
    return "crash";
  }
}

}  // namespace

TEST_CASE("the order of calls makes the file durable") {
  const golden::scratch_folder folder;
  faulty_system::state s;
  CHECK(save(folder / "f", s) == "accepted");
  CHECK(s.names == std::vector<std::string>{"open", "write", "write", "fsync", "close", "rename",
                                            "open", "fsync", "close"});
  CHECK(content(folder / "f") == "new");
}

TEST_CASE("any fault at any call leaves the old file or the new one, whole") {
  for (const bool existing : {false, true}) {
    for (const fault kind :
         {fault::error, fault::interrupted, fault::short_write, fault::zero_write, fault::crash}) {
      for (const int reason : {EIO, ENOSPC}) {
        for (std::size_t at = 0; at < 9; ++at) {
          const golden::scratch_folder folder;
          if (existing) write_file_atomically(folder / "f", "old");
          faulty_system::state s{.at = at, .kind = kind, .reason = reason, .calls = 0, .names = {}};
          const std::string outcome = save(folder / "f", s);
          CAPTURE(existing);
          CAPTURE(static_cast<int>(kind));
          CAPTURE(at);
          const bool there = std::filesystem::exists(folder / "f");
          const std::string found = there ? content(folder / "f") : "absent";
          CHECK((found == "new" || found == (existing ? "old" : "absent")));
          // Success is only said when the new file is there; nothing is left beside it.
          if (outcome == "accepted") CHECK(found == "new");
          if (outcome == "io.505" || outcome == "accepted")
            CHECK(files_in(folder.path()) == (there ? 1 : 0));
          if (kind == fault::interrupted || kind == fault::short_write)
            CHECK(outcome == "accepted");
          if (kind == fault::error && at < 8) CHECK(outcome == "io.505");
          if (kind == fault::zero_write && (at == 1 || at == 2)) CHECK(outcome == "io.505");
        }
      }
    }
  }
}

TEST_CASE("without commit nothing remains and the old file stays") {
  const golden::scratch_folder folder;
  write_file_atomically(folder / "f", "old");
  {
    atomic_file file(folder / "f");
    file.write("half");
    CHECK(files_in(folder.path()) == 2);
  }
  CHECK(files_in(folder.path()) == 1);
  CHECK(content(folder / "f") == "old");
}

TEST_CASE("a committed file takes no more") {
  const golden::scratch_folder folder;
  atomic_file file(folder / "f");
  file.commit();
  CHECK(error_id([&] { file.write("x"); }) == "io.505");
  CHECK(error_id([&] { file.commit(); }) == "io.505");
  CHECK(content(folder / "f").empty());
}

TEST_CASE("links are followed, and only regular files are replaced") {
  const golden::scratch_folder folder;
  std::filesystem::create_directory(folder / "d");
  write_file_atomically(folder / "d/real", "old");
  std::filesystem::create_symlink("d/real", folder / "link");
  write_file_atomically(folder / "link", "new");
  CHECK(std::filesystem::is_symlink(folder / "link"));
  CHECK(content(folder / "d/real") == "new");
  CHECK(error_id([&] { write_file_atomically(folder / "d", "x"); }) == "io.502");
  CHECK(error_id([&] { write_file_atomically("/dev/null", "x"); }) == "io.502");
  CHECK(error_id([&] { write_file_atomically(folder / "absent/f", "x"); }) == "io.505");
  CHECK(error_id([&] { write_file_atomically(folder / "d/", "x"); }) == "io.502");
  CHECK(error_id([&] { write_file_atomically("", "x"); }) == "io.502");
  const std::string long_name(250, 'n');
  write_file_atomically(folder / long_name, "x");
  CHECK(content(folder / long_name) == "x");
}

TEST_CASE("a full disk is reported as such") {
  faulty_system::state s{.at = 1, .kind = fault::error, .reason = ENOSPC, .calls = 0, .names = {}};
  const golden::scratch_folder folder;
  const std::string text = error_text([&] {
    basic_atomic_file<faulty_system> file(folder / "f", {&s});
    file.write("x");
  });
  CHECK(text.find("write: No space left on device") != std::string::npos);
  CHECK(text.find("free some space") != std::string::npos);
}
