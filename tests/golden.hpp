// SPDX-License-Identifier: MIT
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <limits>
#include <locale>
#include <random>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

// Reference data for tests: where it lies, how to walk it, how to state a result, how to skip.
//
//   TEST_CASE("hidden states equal the official implementation") {
//     for (const auto& path : golden::files("esm2_synthetic", ".expected.safetensors")) {
//       const double worst = ...;
//       golden::report(path, worst, 3e-6);   // prints the line and fails above the limit
//     }
//   }
namespace golden {

/// The root of the reference data: the environment's PLMSCOPE_DATA, else `../shared/data` beside
/// the repository.
inline std::filesystem::path root() {
  const char* set = std::getenv("PLMSCOPE_DATA");
  return set != nullptr && *set != '\0' ? set : PLMSCOPE_TEST_DATA_DEFAULT;
}

/// The repository (for files that are committed with the tests).
inline std::filesystem::path repository() { return PLMSCOPE_SOURCE_DIR; }

/// Why the running test case skipped; tests/main.cpp counts a case that set it as skipped.
inline std::string& skip_reason() {
  static std::string reason;
  return reason;
}

/// Says that the running test case (all of it or the rest) cannot be done here. Return after it. A
/// case that has checked something already still counts as passed.
inline void skip(std::string_view reason) {
  skip_reason() = reason;
  std::cout << "skipped: " << reason << std::endl;
}

/// The files below `root()/folder` (all depths) whose names end with `suffix`, sorted; "" is every
/// file. An absent folder skips the test case and gives an empty list; a folder that is there
/// without one such file fails it, because a walk over nothing shows nothing.
inline std::vector<std::filesystem::path> files(std::string_view folder, std::string_view suffix) {
  const std::filesystem::path where = root() / folder;
  std::vector<std::filesystem::path> found;
  if (!std::filesystem::is_directory(where)) {
    skip("no reference data at " + where.string() + " (PLMSCOPE_DATA names another root)");
    return found;
  }
  for (const auto& entry : std::filesystem::recursive_directory_iterator(
           where, std::filesystem::directory_options::follow_directory_symlink)) {
    if (entry.is_regular_file() && entry.path().filename().string().ends_with(suffix)) {
      found.push_back(entry.path());
    }
  }
  std::ranges::sort(found);
  INFO("no file named *", suffix, " in ", where.string());
  CHECK_FALSE(found.empty());
  return found;
}

/// The folders directly in `root()/folder` that hold a file called `marker`, sorted; absent and
/// empty as in `files`.
inline std::vector<std::filesystem::path> folders(std::string_view folder,
                                                  std::string_view marker) {
  std::vector<std::filesystem::path> found;
  for (const auto& path : files(folder, marker)) {
    if (path.filename() == marker) found.push_back(path.parent_path());
  }
  return found;
}

/// The one line per set of reference data, and its check: fails unless `worst <= limit`, so a NaN
/// fails too.
inline void report(const std::filesystem::path& path, double worst, double limit) {
  std::ostringstream line;
  line.imbue(std::locale::classic());
  const std::filesystem::path inside = path.lexically_relative(root());
  const bool below = !inside.empty() && *inside.begin() != "..";
  line << "golden " << (below ? inside : path).string() << " worst " << worst << " limit " << limit
       << '\n';
  std::cout << line.str() << std::flush;
  INFO(line.str());
  CHECK(worst <= limit);
}

/// |a - b| / |b| in double precision; infinite where the lengths differ, NaN where an entry is NaN.
/// Two vectors of zeros are equal; against a zero reference the plain norm of `a` is given.
template <class A, class B>
double relative_l2(std::span<const A> a, std::span<const B> b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double difference = 0.0;
  double reference = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double x = static_cast<double>(a[i]);
    const double y = static_cast<double>(b[i]);
    difference += (x - y) * (x - y);
    reference += y * y;
  }
  return reference > 0.0 ? std::sqrt(difference / reference) : std::sqrt(difference);
}

/// The larger of two errors, where NaN is the largest of all (std::max would lose it).
inline double worse(double a, double b) { return a >= b || std::isnan(a) ? a : b; }

/// Equal lengths and equal bytes: NaN equals itself, 0 is not -0.
template <class T>
bool same_bits(std::span<const T> a, std::span<const T> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

/// NAME.model.safetensors of a NAME.something beside it.
inline std::filesystem::path model_of(const std::filesystem::path& beside) {
  const std::string name = beside.filename().string();
  return beside.parent_path() / (name.substr(0, name.find('.')) + ".model.safetensors");
}

/// A fresh folder that goes away with the value.
class scratch_folder {
 public:
  scratch_folder()
      : path_(std::filesystem::temp_directory_path() /
              ("plmscope-test-" + std::to_string(std::random_device{}()) + "-" +
               std::to_string(std::random_device{}()))) {
    std::filesystem::create_directories(path_);
  }
  scratch_folder(const scratch_folder&) = delete;
  scratch_folder& operator=(const scratch_folder&) = delete;
  ~scratch_folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const noexcept { return path_; }
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

}  // namespace golden
