// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/byte_source.hpp>
#include <plmscope/io/pickle_value.hpp>
#include <plmscope/io/safetensors.hpp>
#include <plmscope/io/sha256.hpp>
#include <plmscope/io/shard_index.hpp>
#include <plmscope/io/stored_tensor.hpp>
#include <plmscope/io/tensor_lookup.hpp>
#include <plmscope/io/torch_file.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Named tensors in any file that weights come in: safetensors, what torch.save wrote (.pt, .pth,
/// .bin, .ckpt), or the `.index.json` of a model in several such files. The first bytes decide, not
/// the name. Files are mapped into memory read-only: several processes that open the same one share
/// its pages, and numbers are copied when they are read. Copies are cheap; const use from several
/// threads is fine. Files must not be truncated meanwhile (see `mapped_file`).
class weights_file {
 public:
  /// Errors: io.142 for anything else (named, where it is a known kind), io.101 to io.122 for
  /// safetensors, io.143 to io.145 for an index, io.150 to io.175 for torch files.
  static weights_file open(const std::filesystem::path& path) {
    if (path.filename().string().ends_with(".index.json")) return open_sharded(path);
    auto map = std::make_shared<const mapped_file>(path);
    const auto bytes = map->bytes();
    return read(bytes, path.string(), std::move(map));
  }

  /// Reads a file (not an index) from memory; `where` stands for it in errors.
  static weights_file parse(std::vector<std::byte> bytes, std::string where = "memory") {
    auto owner = std::make_shared<const std::vector<std::byte>>(std::move(bytes));
    const std::span<const std::byte> view(*owner);
    return read(view, std::move(where), std::move(owner));
  }

  const std::string& where() const noexcept { return where_; }
  /// All tensors, by name.
  std::span<const stored_tensor> tensors() const noexcept { return *tensors_; }
  /// Everything else that a torch file holds: numbers, texts, hyper-parameters; None for others.
  const pickle_value& root() const noexcept { return root_; }
  /// What a safetensors file says beside its tensors; empty for others.
  const safetensors_file::metadata_map& metadata() const noexcept { return metadata_; }

  /// The tensor, or nullptr.
  const stored_tensor* find(std::string_view name) const noexcept {
    return tensor_lookup::find(tensors(), name);
  }
  bool contains(std::string_view name) const noexcept { return find(name) != nullptr; }
  /// The tensor; io.123 lists what the file has when it is missing.
  const stored_tensor& require(std::string_view name) const {
    return tensor_lookup::require(tensors(), name, where_);
  }
  /// The tensor, with the shape expected (`any_extent` matches anything); otherwise io.124.
  const stored_tensor& require(std::string_view name,
                               std::initializer_list<std::size_t> shape) const {
    return tensor_lookup::require(tensors(), name, std::span(shape.begin(), shape.size()), where_);
  }

  /// Converts a tensor into `out`, in row-major order; see `read_tensor`.
  template <class T>
  void read(const stored_tensor& t, std::span<T> out) const {
    read_tensor(t, out, where_);
  }
  template <class T>
  std::vector<T> read_vector(const stored_tensor& t) const {
    std::vector<T> out(t.elements);
    read(t, std::span<T>(out));
    return out;
  }
  template <class T>
  std::vector<T> read_vector(std::string_view name) const {
    return read_vector<T>(require(name));
  }

  /// Refuses NaN and infinity in any floating-point tensor, naming tensor and entry (io.127).
  void check_finite() const {
    for (const stored_tensor& t : tensors()) check_finite(t);
  }
  void check_finite(const stored_tensor& t) const {
    if (const auto bad = first_not_finite(t)) {
      throw error(rules::safetensors_not_finite,
                  {.where = where_ + ", tensor \"" + t.name + "\", entry " + std::to_string(*bad),
                   .found = "NaN or infinity"});
    }
  }

  /// SHA-256 over every tensor's name, dtype, shape and numbers in row-major order, in the order of
  /// names: what `safetensors_file::content_hash` gives, for every kind of file. So a model has one
  /// hash whether it lies in one file or in shards, and however its views were stored. Files that
  /// name the same weights differently (fair-esm's and Hugging Face's), or that hold a tensor more,
  /// have different hashes. Reads everything.
  std::string content_hash() const {
    sha256 hash;
    hash.update(std::uint64_t{tensors().size()});
    for (const stored_tensor& t : tensors()) {
      hash.update(std::uint64_t{t.name.size()});
      hash.update(std::string_view(t.name));
      hash.update(std::uint64_t{dtype_name(t.type).size()});
      hash.update(dtype_name(t.type));
      hash.update(std::uint64_t{t.shape.size()});
      for (const std::size_t n : t.shape) hash.update(std::uint64_t{n});
      for_each_block(t, [&](std::size_t, std::span<const std::byte> bytes) {
        hash.update(bytes);
        return true;
      });
    }
    return hash.hex();
  }

 private:
  weights_file(std::string where, std::vector<stored_tensor> tensors,
               std::vector<std::shared_ptr<const void>> owners)
      : where_(std::move(where)),
        owners_(std::move(owners)),
        tensors_(std::make_shared<const std::vector<stored_tensor>>(std::move(tensors))) {}

  static weights_file read(std::span<const std::byte> bytes, std::string where,
                           std::shared_ptr<const void> owner) {
    if (is_torch(bytes)) {
      torch_contents contents = read_torch(bytes, where);
      weights_file out(std::move(where), std::move(contents.tensors), {std::move(owner)});
      out.root_ = std::move(contents.root);
      return out;
    }
    refuse_known(bytes, where);
    const auto file = safetensors_file::view(bytes, std::move(owner), where);
    std::vector<stored_tensor> tensors;
    for (const tensor_info& t : file.tensors()) {
      tensors.push_back({.name = t.name,
                         .type = t.type,
                         .shape = t.shape,
                         .strides = {},
                         .bytes = file.bytes(t),
                         .elements = t.elements});
    }
    weights_file out(std::move(where), std::move(tensors),
                     {std::make_shared<const safetensors_file>(file)});
    out.metadata_ = file.metadata();
    return out;
  }

  static weights_file open_sharded(const std::filesystem::path& index) {
    const shard_index map = read_shard_index(index);
    std::vector<stored_tensor> tensors;
    std::vector<std::shared_ptr<const void>> owners;
    for (const std::string& shard : map.shards) {
      const weights_file part = open(index.parent_path() / shard);
      map.check_shard(index, shard, part.tensors());
      tensors.insert(tensors.end(), part.tensors().begin(), part.tensors().end());
      owners.insert(owners.end(), part.owners_.begin(), part.owners_.end());
    }
    std::sort(tensors.begin(), tensors.end(),
              [](const stored_tensor& a, const stored_tensor& b) { return a.name < b.name; });
    map.check_complete(index, tensors);
    return {index.string(), std::move(tensors), std::move(owners)};
  }

  // What people give by mistake, or what another program would be needed for.
  static void refuse_known(std::span<const std::byte> bytes, const std::string& where) {
    struct known {
      std::size_t at;
      std::string_view start;
      std::string_view name;
      std::string_view remedy;
    };
    constexpr std::string_view fetch = "fetch the file itself, for example with hf download";
    constexpr std::string_view convert = "save the tensors as safetensors where it can be read";
    constexpr std::array<known, 9> all{{
        {0, "version https://git-lfs", "a pointer of git LFS, not the file it stands for", fetch},
        {0, "<!DOCTYPE", "a web page", fetch},
        {0, "<!doctype", "a web page", fetch},
        {0, "<html", "a web page", fetch},
        {0, "GGUF", "a GGUF file", convert},
        {0, "\x89HDF", "an HDF5 file", convert},
        {0, "\x1f\x8b", "a gzip file", "unpack it first"},
        {0, "\x80\x02", "a pickle that torch.save did not write", convert},
        {257, "ustar", "a tar archive (PyTorch before 0.1.10)", convert},
    }};
    const auto* const text = reinterpret_cast<const char*>(bytes.data());
    for (const known& k : all) {
      if (bytes.size() < k.at + k.start.size()) continue;
      if (std::string_view(text + k.at, k.start.size()) != k.start) continue;
      throw error(rules::weights_format,
                  {.where = where, .found = std::string(k.name), .remedy = std::string(k.remedy)});
    }
  }

  std::string where_;
  std::vector<std::shared_ptr<const void>> owners_;
  std::shared_ptr<const std::vector<stored_tensor>> tensors_;
  pickle_value root_;
  safetensors_file::metadata_map metadata_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
