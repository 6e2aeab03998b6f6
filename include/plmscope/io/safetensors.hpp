// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/byte_source.hpp>
#include <plmscope/io/safetensors_header.hpp>
#include <plmscope/io/sha256.hpp>
#include <plmscope/io/tensor_convert.hpp>
#include <plmscope/io/tensor_lookup.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// A safetensors file, every invariant of the format checked before the first number is handed out:
/// header inside the file, valid UTF-8 and JSON, known dtypes, sizes that follow from dtype and
/// shape without overflow, tensors that tile the data section without hole, overlap or rest.
/// Errors io.101 to io.122 name the byte offset and the tensor. NaN and infinity are legal numbers
/// of the format; `check_finite` looks for them. Copies share the bytes and are cheap; const use
/// from several threads is fine.
class safetensors_file {
 public:
  using metadata_map = std::map<std::string, std::string, std::less<>>;

  /// Maps the file into memory: nothing is copied until numbers are read, and the file must not be
  /// truncated meanwhile (see `mapped_file`).
  static safetensors_file open(const std::filesystem::path& path) {
    auto map = std::make_shared<mapped_file>(path);
    const auto bytes = map->bytes();
    return {path.string(), bytes, std::move(map)};
  }

  /// Reads the file into memory: for small files, network drives and files that others may change.
  static safetensors_file read_whole(const std::filesystem::path& path) {
    return parse(read_file(path), path.string());
  }

  /// Takes bytes; `where` stands for the file in errors.
  static safetensors_file parse(std::vector<std::byte> bytes, std::string where = "memory") {
    auto owner = std::make_shared<std::vector<std::byte>>(std::move(bytes));
    const std::span<const std::byte> view(*owner);
    return {std::move(where), view, std::move(owner)};
  }

  /// Reads bytes that `owner` keeps alive.
  static safetensors_file view(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                               std::string where) {
    return {std::move(where), bytes, std::move(owner)};
  }

  /// The path, or the `where` of `parse`.
  const std::string& where() const noexcept { return where_; }
  const metadata_map& metadata() const noexcept { return header_->metadata; }
  /// All tensors, by name.
  std::span<const tensor_info> tensors() const noexcept { return header_->tensors; }
  std::vector<std::string> names() const {
    std::vector<std::string> out;
    for (const auto& t : tensors()) out.push_back(t.name);
    return out;
  }

  /// The tensor, or nullptr.
  const tensor_info* find(std::string_view name) const noexcept {
    return tensor_lookup::find(tensors(), name);
  }
  bool contains(std::string_view name) const noexcept { return find(name) != nullptr; }

  /// The tensor; io.123 lists what the file has when it is missing.
  const tensor_info& require(std::string_view name) const {
    return tensor_lookup::require(tensors(), name, where_);
  }

  /// The tensor, with the shape expected (`any_extent` matches anything); otherwise io.124.
  const tensor_info& require(std::string_view name, std::span<const std::size_t> shape) const {
    return tensor_lookup::require(tensors(), name, shape, where_);
  }
  const tensor_info& require(std::string_view name,
                             std::initializer_list<std::size_t> shape) const {
    return require(name, std::span<const std::size_t>(shape.begin(), shape.size()));
  }

  /// The stored bytes, row-major, little-endian; not necessarily aligned.
  std::span<const std::byte> bytes(const tensor_info& t) const noexcept {
    return data_.subspan(t.begin, t.end - t.begin);
  }

  /// The tensor's numbers without a copy, when it is stored as T and lies aligned for it.
  template <class T>
  std::optional<std::span<const T>> view_as(const tensor_info& t) const noexcept {
    const std::byte* const at = bytes(t).data();
    if (t.type != dtype_of<T>() || reinterpret_cast<std::uintptr_t>(at) % alignof(T) != 0)
      return {};
    return std::span<const T>(reinterpret_cast<const T*>(at), t.elements);
  }

  /// Converts a tensor into `out`, which has exactly its number of entries (io.128).
  /// float and double read F64, F32, F16 and BF16; integers read integers and BOOL, range-checked
  /// (io.126); float16 and bfloat16 read only themselves. Anything else is io.125. Misaligned data
  /// is fine.
  template <class T>
  void read(const tensor_info& t, std::span<T> out) const {
    if (out.size() != t.elements) {
      throw error(
          rules::safetensors_destination,
          {.where = where_ + ", tensor \"" + t.name + "\"",
           .expected = std::to_string(t.elements) + " entries, shape " + shape_text(t.shape),
           .found = std::to_string(out.size())});
    }
    tensor_convert::read(t.type, bytes(t), out,
                         [&] { return where_ + ", tensor \"" + t.name + "\""; });
  }
  template <class T>
  void read(std::string_view name, std::span<T> out) const {
    read(require(name), out);
  }
  /// With the shape checked first.
  template <class T>
  void read(std::string_view name, std::initializer_list<std::size_t> shape,
            std::span<T> out) const {
    read(require(name, shape), out);
  }

  template <class T>
  std::vector<T> read_vector(const tensor_info& t) const {
    std::vector<T> out(t.elements);
    read(t, std::span<T>(out));
    return out;
  }
  template <class T>
  std::vector<T> read_vector(std::string_view name) const {
    return read_vector<T>(require(name));
  }
  template <class T>
  std::vector<T> read_vector(std::string_view name,
                             std::initializer_list<std::size_t> shape) const {
    return read_vector<T>(require(name, shape));
  }

  /// Refuses NaN and infinity in any floating-point tensor, naming tensor and entry (io.127).
  void check_finite() const {
    for (const auto& t : tensors()) {
      if (const auto bad = tensor_convert::first_not_finite(t.type, bytes(t))) {
        throw error(rules::safetensors_not_finite,
                    {.where = where_ + ", tensor \"" + t.name + "\", entry " + std::to_string(*bad),
                     .found = "NaN or infinity"});
      }
    }
  }

  /// SHA-256 over every tensor's name, dtype, shape and bytes, in the order of names: the same for
  /// two files that hold the same tensors, whatever their layout and metadata. Reads the whole
  /// file.
  std::string content_hash() const {
    sha256 hash;
    hash.update(std::uint64_t{tensors().size()});
    for (const auto& t : tensors()) {
      hash.update(std::uint64_t{t.name.size()});
      hash.update(std::string_view(t.name));
      hash.update(std::uint64_t{dtype_name(t.type).size()});
      hash.update(dtype_name(t.type));
      hash.update(std::uint64_t{t.shape.size()});
      for (const std::size_t n : t.shape) hash.update(std::uint64_t{n});
      hash.update(bytes(t));
    }
    return hash.hex();
  }

 private:
  static constexpr std::size_t max_header_bytes = 100'000'000;

  safetensors_file(std::string where, std::span<const std::byte> file,
                   std::shared_ptr<const void> owner)
      : where_(std::move(where)), owner_(std::move(owner)) {
    if (file.size() < 8) {
      throw error(rules::safetensors_too_small,
                  {.where = where_, .found = std::to_string(file.size()) + " bytes"});
    }
    std::uint64_t length = 0;
    std::memcpy(&length, file.data(), 8);
    if (length > file.size() - 8) {
      throw error(rules::safetensors_header_length,
                  {.where = where_ + ", byte 0",
                   .expected = "at most " + std::to_string(file.size() - 8) + " bytes",
                   .found = std::to_string(length),
                   .remedy = "the file is truncated or no safetensors file"});
    }
    if (length > max_header_bytes) {
      throw error(rules::safetensors_header_too_large,
                  {.where = where_, .found = std::to_string(length) + " bytes"});
    }
    if (length < 2) {
      throw error(rules::safetensors_header_empty,
                  {.where = where_, .found = std::to_string(length) + " bytes"});
    }
    const std::string_view json(reinterpret_cast<const char*>(file.data() + 8), length);
    data_ = file.subspan(8 + length);
    auto header = safetensors_header_parser(json, where_, 8).parse();
    check_tiling(header.tensors);
    std::sort(header.tensors.begin(), header.tensors.end(),
              [](const tensor_info& a, const tensor_info& b) { return a.name < b.name; });
    header_ = std::make_shared<const safetensors_header>(std::move(header));
  }

  // Sorted by offset the tensors begin at 0, touch each other and end where the file ends.
  void check_tiling(std::vector<tensor_info>& tensors) const {
    std::sort(tensors.begin(), tensors.end(), [](const tensor_info& a, const tensor_info& b) {
      return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
    });
    const auto fail = [&](const error_rule& rule, const std::string& name, std::size_t expected,
                          std::size_t found) {
      throw error(rule, {.where = where_ + (name.empty() ? "" : ", tensor \"" + name + "\""),
                         .expected = "data byte " + std::to_string(expected),
                         .found = "data byte " + std::to_string(found),
                         .remedy = "the file is damaged or hostile: fetch it again"});
    };
    std::size_t next = 0;
    for (const auto& t : tensors) {
      if (t.begin < next) fail(rules::safetensors_overlap, t.name, next, t.begin);
      if (t.begin > next) fail(rules::safetensors_hole, t.name, next, t.begin);
      if (t.end > data_.size()) fail(rules::safetensors_truncated, t.name, data_.size(), t.end);
      next = t.end;
    }
    if (next != data_.size()) fail(rules::safetensors_trailing, "", next, data_.size());
  }

  std::string where_;
  std::shared_ptr<const void> owner_;
  std::span<const std::byte> data_;
  std::shared_ptr<const safetensors_header> header_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
