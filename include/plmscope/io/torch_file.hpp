// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/pickle_reader.hpp>
#include <plmscope/io/pickle_value.hpp>
#include <plmscope/io/rules.hpp>
#include <plmscope/io/stored_tensor.hpp>
#include <plmscope/io/torch_storage.hpp>
#include <plmscope/io/torch_tensors.hpp>
#include <plmscope/io/zip_archive.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// What a file of torch.save (.pt, .pth, .bin, .ckpt) holds.
struct torch_contents {
  std::vector<stored_tensor> tensors;  ///< by name, see `torch_tensors`
  pickle_value root;                   ///< everything else: numbers, texts, hyper-parameters
};

namespace torch_detail {

// The first pickle of the format before PyTorch 1.6: the number 0x1950a86a20f9469cfc6c.
inline constexpr std::array<unsigned char, 15> legacy_start{
    0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, 0x2e};

[[noreturn]] inline void refuse(const error_rule& rule, const std::string& where,
                                std::string expected, std::string found, std::string remedy = {}) {
  throw error(rule, {.where = where,
                     .expected = std::move(expected),
                     .found = std::move(found),
                     .remedy = std::move(remedy)});
}

}  // namespace torch_detail

/// Whether a file begins as one that `read_torch` reads.
inline bool is_torch(std::span<const std::byte> file) noexcept {
  const auto& start = torch_detail::legacy_start;
  return zip_archive::is_zip(file) ||
         (file.size() >= start.size() && std::memcmp(file.data(), start.data(), start.size()) == 0);
}

namespace torch_detail {

// A zip archive of data.pkl, data/KEY and a few short entries, all in one folder.
inline torch_contents read_zip(std::span<const std::byte> file, const std::string& where) {
  const zip_archive archive(file, where);
  const zip_entry* pickle = nullptr;
  for (const zip_entry& e : archive.entries()) {
    const std::size_t slash = e.name.find('/');
    const std::string_view inside =
        slash == std::string::npos ? "" : std::string_view(e.name).substr(slash + 1);
    if (inside == "constants.pkl" || inside.starts_with("code/")) {
      refuse(rules::torch_unsupported, where, "a file of torch.save", "a TorchScript program",
             "load it with torch.jit.load and save its state_dict()");
    }
    if (inside != "data.pkl") continue;
    if (pickle != nullptr) refuse(rules::torch_layout, where, "one data.pkl", "two");
    pickle = &e;
  }
  if (pickle == nullptr) {
    refuse(rules::torch_layout, where, "an entry FOLDER/data.pkl",
           std::to_string(archive.entries().size()) + " entries without one",
           "this zip archive was not written by torch.save");
  }
  const std::string folder = pickle->name.substr(0, pickle->name.find('/') + 1);
  if (const zip_entry* order = archive.find(folder + "byteorder")) {
    const std::string_view text(reinterpret_cast<const char*>(order->bytes.data()),
                                order->bytes.size());
    if (text != "little") {
      refuse(rules::torch_unsupported, where, "little-endian numbers",
             "byteorder \"" + std::string(text.substr(0, 16)) + "\"");
    }
  }
  const auto storage = [&](const torch_storage_id& id) {
    const std::string name = folder + "data/" + std::string(id.key);
    const zip_entry* e = archive.find(name);
    if (e == nullptr) {
      refuse(rules::torch_storage, where, "the entry \"" + name + "\"", "no such entry",
             "the file is damaged or hostile: fetch it again");
    }
    if (e->bytes.size() != id.bytes) {
      refuse(rules::torch_storage, where + ", entry \"" + name + "\"",
             std::to_string(id.bytes) + " bytes", std::to_string(e->bytes.size()) + " bytes",
             "the file is damaged or hostile: fetch it again");
    }
    return e->bytes;
  };
  pickle_reader reader(pickle->bytes, where + ", " + pickle->name);
  const auto tree = std::make_shared<const pickle_tree>(reader.read());
  if (reader.consumed() != pickle->bytes.size()) {
    refuse(rules::torch_layout, tree->where, "STOP at the end", "more bytes behind it");
  }
  return {torch_tensors(*tree, file.size(), storage).collect(), pickle_value(tree)};
}

// Five pickles (magic number, version, system, the saved value, keys of storages), then every
// storage as its number of entries and the entries.
inline torch_contents read_legacy(std::span<const std::byte> file, const std::string& where) {
  std::size_t at = legacy_start.size();
  const auto next_pickle = [&](const std::string& what) {
    pickle_reader reader(file.subspan(at), where + ", " + what, at);
    auto tree = std::make_shared<const pickle_tree>(reader.read());
    at += reader.consumed();
    return tree;
  };
  const pickle_value version(next_pickle("version"));
  if (!version.is(pickle_kind::integer) || version.integer() != 1001) {
    refuse(rules::torch_unsupported, where, "version 1001 of the format before PyTorch 1.6",
           "another");
  }
  const auto order = pickle_value(next_pickle("system")).find("little_endian");
  if (!order || !order->is(pickle_kind::boolean) || !order->boolean()) {
    refuse(rules::torch_unsupported, where, "little-endian numbers", "another order");
  }
  const auto tree = next_pickle("saved value");
  const pickle_value keys(next_pickle("keys of storages"));

  std::map<std::string, torch_storage_id, std::less<>> declared;
  for (const pickle_node& n : tree->nodes) {
    if (n.kind != pickle_kind::persistent) continue;
    const torch_storage_id id = read_storage_id(*tree, n.arguments);
    const auto [known, added] = declared.emplace(id.key, id);
    if (!added && (known->second.bytes != id.bytes || known->second.type != id.type)) {
      refuse(rules::torch_storage, where + ", storage " + std::string(id.key), "one size and type",
             "two");
    }
  }
  std::map<std::string, std::span<const std::byte>, std::less<>> found;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const std::string& key = keys[i].text();
    const auto id = declared.find(key);
    std::uint64_t entries = 0;
    if (file.size() - at >= 8) std::memcpy(&entries, file.data() + at, 8);
    if (id == declared.end() || file.size() - at < 8 || entries != id->second.entries ||
        file.size() - at - 8 < id->second.bytes) {
      refuse(
          rules::torch_storage, where + ", byte " + std::to_string(at) + ", storage " + key,
          id == declared.end() ? "a storage that a tensor uses"
                               : std::to_string(id->second.entries) + " entries inside the file",
          std::to_string(entries) + " entries, " + std::to_string(file.size() - at) + " bytes left",
          "the file is damaged or hostile: fetch it again");
    }
    found.emplace(key, file.subspan(at + 8, id->second.bytes));
    at += 8 + id->second.bytes;
  }
  if (at != file.size()) {
    refuse(rules::torch_layout, where + ", byte " + std::to_string(at), "the end of the file",
           std::to_string(file.size() - at) + " more bytes");
  }
  const auto storage = [&](const torch_storage_id& id) {
    const auto bytes = found.find(id.key);
    if (bytes == found.end()) {
      refuse(rules::torch_storage, where, "storage " + std::string(id.key), "none of this key");
    }
    return bytes->second;
  };
  return {torch_tensors(*tree, file.size(), storage).collect(), pickle_value(tree)};
}

}  // namespace torch_detail

/// Reads what torch.save wrote, without running anything of it (see `pickle_reader`): the zip
/// archive of PyTorch 1.6 and later, and the older file of several pickles. Tensors point into
/// `file`, which must outlive them; nothing is copied. `where` names the file in errors: io.150 to
/// io.154 for the archive, io.160 to io.167 for the pickle, io.170 to io.175 for the tensors.
inline torch_contents read_torch(std::span<const std::byte> file, const std::string& where) {
  return zip_archive::is_zip(file) ? torch_detail::read_zip(file, where)
                                   : torch_detail::read_legacy(file, where);
}

}  // namespace plmscope::inline PLMSCOPE_ABI
