// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/byte_source.hpp>
#include <plmscope/io/json_reader.hpp>
#include <plmscope/io/rules.hpp>
#include <plmscope/io/stored_tensor.hpp>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// `model.safetensors.index.json` or `pytorch_model.bin.index.json`: which file of a model in
/// several holds which tensor.
struct shard_index {
  std::map<std::string, std::string, std::less<>> file_of;  ///< by tensor
  std::vector<std::string> shards;                          ///< every file once, by name

  /// Refuses a shard with a tensor that the index places elsewhere or nowhere (io.145).
  void check_shard(const std::filesystem::path& index, const std::string& shard,
                   std::span<const stored_tensor> tensors) const {
    for (const stored_tensor& t : tensors) {
      const auto place = file_of.find(t.name);
      if (place == file_of.end()) fail(index, t.name, "an entry of the index", "in " + shard);
      if (place->second != shard) fail(index, t.name, "in " + place->second, "in " + shard);
    }
  }
  /// Refuses shards that, together and sorted by name, lack a tensor of the index (io.145).
  void check_complete(const std::filesystem::path& index,
                      std::span<const stored_tensor> tensors) const {
    std::size_t i = 0;
    for (const auto& [tensor, shard] : file_of) {
      if (i == tensors.size() || tensors[i].name != tensor) {
        fail(index, tensor, "in " + shard, "not there");
      }
      ++i;
    }
  }

 private:
  [[noreturn]] static void fail(const std::filesystem::path& index, const std::string& tensor,
                                std::string expected, std::string found) {
    throw error(rules::shard_mismatch, {.where = index.string() + ", tensor \"" + tensor + "\"",
                                        .expected = std::move(expected),
                                        .found = std::move(found),
                                        .remedy = "fetch index and shards of one revision"});
  }
};

/// Reads an index: the object `weight_map` of tensor names to file names; whatever else it has is
/// passed over. Names that lead out of the folder and tensors named twice are refused (io.143), as
/// are shards that do not lie beside the index (io.144 names them all).
inline shard_index read_shard_index(const std::filesystem::path& path) {
  constexpr std::size_t max_bytes = std::size_t{100'000'000};
  constexpr std::size_t max_shards = 4096;
  const auto bytes = read_file(path, max_bytes);
  const std::string where = path.string();
  json_reader json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, where);
  shard_index out;
  bool has_map = false;
  const auto plain = [](std::string_view name) {
    const auto fine = [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
             c == '.' || c == '_' || c == '-';
    };
    return !name.empty() && name.size() <= 128 && name.front() != '.' &&
           std::all_of(name.begin(), name.end(), fine) && !name.ends_with(".index.json");
  };
  json.check_encoding();
  json.object([&](const std::string& key) {
    if (key != "weight_map") return json.skip_value();
    if (std::exchange(has_map, true)) json.fail(rules::shard_index, "", "weight_map twice");
    json.object([&](std::string tensor) {
      if (json.next() != '"') json.fail(rules::shard_index, tensor, json.here(), "a file name");
      std::string file = json.text();
      if (!plain(file)) {
        json.fail(rules::shard_index, tensor, "\"" + file.substr(0, 128) + "\"",
                  "a plain file name");
      }
      if (!out.file_of.emplace(tensor, std::move(file)).second) {
        json.fail(rules::shard_index, tensor, "the tensor twice");
      }
    });
  });
  json.finish();
  for (const auto& [tensor, file] : out.file_of) out.shards.push_back(file);
  std::sort(out.shards.begin(), out.shards.end());
  out.shards.erase(std::unique(out.shards.begin(), out.shards.end()), out.shards.end());
  if (out.shards.empty() || out.shards.size() > max_shards) {
    throw error(rules::shard_index, {.where = where,
                                     .expected = "an object weight_map of 1 to 4,096 files",
                                     .found = std::to_string(out.shards.size()) + " files"});
  }
  std::string missing;
  for (const std::string& shard : out.shards) {
    std::error_code ignored;
    if (!std::filesystem::is_regular_file(path.parent_path() / shard, ignored)) {
      missing += missing.empty() ? shard : ", " + shard;
    }
  }
  if (!missing.empty()) {
    throw error(
        rules::shard_missing,
        {.where = where, .found = "missing: " + missing, .remedy = "fetch the whole folder again"});
  }
  return out;
}

}  // namespace plmscope::inline PLMSCOPE_ABI
