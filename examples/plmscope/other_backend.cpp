// SPDX-License-Identifier: MIT
#include "other_backend.hpp"

#include "rules.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>

namespace {

#if defined(__CUDACC__)
constexpr std::string_view own = "cuda";
#else
constexpr std::string_view own = "cpu";
#endif

/// What --backend says last; empty when it is not given.
std::string_view asked_for(int argc, char** argv) {
  std::string_view found;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--") break;
    if (word == "--backend" && i + 1 < argc) found = argv[i + 1];
    if (word.starts_with("--backend=")) found = word.substr(10);
  }
  return found;
}

}  // namespace

void run_other_backend(int argc, char** argv) {
  const std::string_view asked = asked_for(argc, argv);
  if (asked == own || (asked != "cpu" && asked != "cuda"))
    return;  // unknown names: the parser says
  std::error_code failed;
  auto self = std::filesystem::read_symlink("/proc/self/exe", failed);
  if (failed) self = argv[0];
  const auto other = self.parent_path() / (asked == "cuda" ? "plmscope-cuda" : "plmscope");
  if (std::filesystem::exists(other)) execv(other.c_str(), argv);
  throw plmscope::error(
      plmscope::rules::backend_not_built,
      {.where = other.string(),
       .found = std::filesystem::exists(other) ? std::strerror(errno) : "no such program",
       .remedy = asked == "cuda"
                     ? "build on a machine with nvcc 13 (./run doctor says what is missing)"
                     : "build the program for the processor: ./run plmscope --version"});
}
