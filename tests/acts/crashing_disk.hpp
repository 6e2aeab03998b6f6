// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/rng.hpp>
#include <plmscope/io/durable_folder.hpp>

#include "tests/acts/sample_store.hpp"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// A disk that forgets. Calls go through to real files (so that the code under test reads what it
// wrote), and are recorded; `image` then makes the folder that a power cut after any call may
// leave:
//   - everything that an fsync of the file or of the folder covered is there;
//   - of bytes written and not synced, any part may be missing or be something else (torn writes);
//   - of names made, renamed or removed and not synced, any may be missing, in any combination
//     (the file system may order them as it likes).
namespace crashing {

struct operation {
  enum kind_type { mkdir, create, write, sync_file, rename, unlink, sync_folder } kind;
  std::string path;
  std::string to_or_data;  // rename: the new name; write: the bytes
};

struct failure {
  std::size_t at = static_cast<std::size_t>(-1);
  int reason = ENOSPC;
  bool persistent = false;  // also every later call that needs space
};

struct record {
  std::vector<operation> operations;
  failure fault;
  std::size_t calls = 0;
  bool forget_syncs = false;  // a writer without fsync, to show that the test would notice
  std::map<int, std::pair<std::string, bool>> open;  // descriptor: path, whether it is a folder
};

struct disk {
  record* r = nullptr;
  plmscope::folder_system real{};

  bool fails(bool needs_space = true) {
    const std::size_t call = r->calls++;
    const bool now =
        call == r->fault.at || (r->fault.persistent && needs_space && call > r->fault.at);
    if (now) errno = r->fault.reason;
    return now;
  }
  int mkdir(const char* path, mode_t mode) {
    if (fails()) return -1;
    const int status = real.mkdir(path, mode);
    if (status == 0) r->operations.push_back({operation::mkdir, path, {}});
    return status;
  }
  int open(const char* path, int flags, mode_t mode) {
    if (fails((flags & O_CREAT) != 0)) return -1;
    const int fd = real.open(path, flags, mode);
    if (fd < 0) return fd;
    r->open[fd] = {path, (flags & O_DIRECTORY) != 0};
    if ((flags & O_CREAT) != 0) r->operations.push_back({operation::create, path, {}});
    return fd;
  }
  ssize_t write(int fd, const void* data, std::size_t size) {
    if (fails()) return -1;
    // Short writes, as the system may make them.
    const ssize_t n = real.write(fd, data, std::min<std::size_t>(size, 3000));
    if (n > 0) {
      r->operations.push_back(
          {operation::write, r->open[fd].first,
           std::string(static_cast<const char*>(data), static_cast<std::size_t>(n))});
    }
    return n;
  }
  int fsync(int fd) {
    if (fails()) return -1;
    const auto& [path, folder] = r->open[fd];
    if (!r->forget_syncs) {
      r->operations.push_back({folder ? operation::sync_folder : operation::sync_file, path, {}});
    }
    return 0;
  }
  int close(int fd) {
    r->open.erase(fd);
    return real.close(fd);
  }
  int rename(const char* from, const char* to) {
    if (fails(false)) return -1;
    const int status = real.rename(from, to);
    if (status == 0) r->operations.push_back({operation::rename, from, to});
    return status;
  }
  int unlink(const char* path) {
    if (fails(false)) return -1;
    const int status = real.unlink(path);
    if (status == 0) r->operations.push_back({operation::unlink, path, {}});
    return status;
  }
};

/// Writes to `target` what a power cut after the first `count` operations on `source` leaves.
/// `fate` decides what happens to all that was not synced: 0 everything is lost, 1 everything
/// survives (a killed process), 2 names survive and bytes do not, and others mix by chance.
inline void image(const record& log, std::size_t count, std::uint64_t fate,
                  const std::filesystem::path& source, const std::filesystem::path& target) {
  const plmscope::rng random(fate, count);
  std::uint64_t draws = 0;
  const auto survives = [&](bool name) {
    if (fate == 0) return false;
    if (fate == 1) return true;
    if (fate == 2) return name;
    return random.uniform(draws++) < 0.5;
  };
  struct file {
    std::string synced;
    std::vector<std::string> pending;
  };
  std::vector<file> files;                 // by number, as inodes
  std::map<std::string, std::size_t> now;  // names as processes see them
  struct change {
    std::string name;
    std::ptrdiff_t number;  // -1: removed
  };
  std::map<std::string, std::size_t> synced;  // names that a power cut leaves
  std::vector<change> changes;                // since then
  bool folder_made = false, folder_synced = false;
  for (std::size_t i = 0; i < count; ++i) {
    const operation& o = log.operations[i];
    const auto as_change = [](const std::string& name, std::size_t number) {
      return change{name, static_cast<std::ptrdiff_t>(number)};
    };
    switch (o.kind) {
      case operation::mkdir:
        folder_made = true;
        break;
      case operation::create:
        now[o.path] = files.size();
        changes.push_back(as_change(o.path, files.size()));
        files.emplace_back();
        break;
      case operation::write:
        files[now[o.path]].pending.push_back(o.to_or_data);
        break;
      case operation::sync_file: {
        file& f = files[now[o.path]];
        for (const auto& bytes : f.pending) f.synced += bytes;
        f.pending.clear();
        break;
      }
      case operation::rename:
        changes.push_back(as_change(o.to_or_data, now[o.path]));
        changes.push_back({o.path, -1});
        now[o.to_or_data] = now[o.path];
        now.erase(o.path);
        break;
      case operation::unlink:
        changes.push_back({o.path, -1});
        now.erase(o.path);
        break;
      case operation::sync_folder:
        if (o.path == source.string()) {
          synced = now;
          changes.clear();
        } else {
          folder_synced = folder_made;
        }
        break;
    }
  }
  if (!folder_synced && !(folder_made && survives(true))) return;
  std::filesystem::create_directory(target);
  auto names = synced;
  for (const auto& c : changes) {
    if (!survives(true)) continue;
    if (c.number < 0) {
      names.erase(c.name);
    } else {
      names[c.name] = static_cast<std::size_t>(c.number);
    }
  }
  for (const auto& [name, number] : names) {
    std::string bytes = files[number].synced;
    for (const auto& piece : files[number].pending) {
      // Whole, missing at the end, or torn: the length is there, the rest is zeros or old bytes.
      if (survives(false)) {
        bytes += piece;
      } else if (fate > 2 && random.uniform(draws++) < 0.7) {
        const auto kept = static_cast<std::size_t>(random.below(draws++, piece.size() + 1));
        bytes += piece.substr(0, kept) + std::string(piece.size() - kept, '\0');
      } else {
        break;
      }
    }
    sample::put(target / std::filesystem::path(name).filename(), bytes);
  }
}

}  // namespace crashing
