// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/rules.hpp>
#include <plmscope/io/safetensors_header.hpp>

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace plmscope::inline PLMSCOPE_ABI {

/// In an expected shape: any extent will do.
inline constexpr std::size_t any_extent = static_cast<std::size_t>(-1);

/// Looking up tensors by name in a list that is sorted by name, with the errors of a file that
/// lacks them. `Tensor` has a `name` and a `shape`.
namespace tensor_lookup {

/// The tensor, or nullptr.
template <class Tensor>
const Tensor* find(std::span<const Tensor> sorted, std::string_view name) noexcept {
  const auto at = std::lower_bound(sorted.begin(), sorted.end(), name,
                                   [](const Tensor& t, std::string_view n) { return t.name < n; });
  return at != sorted.end() && at->name == name ? &*at : nullptr;
}

/// The tensor; io.123 lists what the file has when it is missing.
template <class Tensor>
const Tensor& require(std::span<const Tensor> sorted, std::string_view name,
                      const std::string& where) {
  if (const Tensor* t = find(sorted, name)) return *t;
  std::string found = std::to_string(sorted.size()) + " tensors:";
  for (const auto& t : sorted.first(std::min<std::size_t>(8, sorted.size()))) found += " " + t.name;
  if (sorted.size() > 8) found += " ...";
  throw error(rules::safetensors_missing, {.where = where,
                                           .expected = "tensor \"" + std::string(name) + "\"",
                                           .found = std::move(found)});
}

/// The tensor, with the shape expected (`any_extent` matches anything); otherwise io.124.
template <class Tensor>
const Tensor& require(std::span<const Tensor> sorted, std::string_view name,
                      std::span<const std::size_t> shape, const std::string& where) {
  const Tensor& t = require(sorted, name, where);
  const bool same = std::equal(
      shape.begin(), shape.end(), t.shape.begin(), t.shape.end(),
      [](std::size_t want, std::size_t have) { return want == any_extent || want == have; });
  if (same) return t;
  std::string expected = "[";
  for (const std::size_t n : shape) {
    if (expected.size() > 1) expected += ", ";
    expected += n == any_extent ? "any" : std::to_string(n);
  }
  throw error(rules::safetensors_shape, {.where = where + ", tensor \"" + t.name + "\"",
                                         .expected = expected + "]",
                                         .found = shape_text(t.shape)});
}

}  // namespace tensor_lookup
}  // namespace plmscope::inline PLMSCOPE_ABI
