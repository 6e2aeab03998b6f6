// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/dtype.hpp>
#include <plmscope/io/json_reader.hpp>
#include <plmscope/io/rules.hpp>

#include <algorithm>
#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// One tensor of a file: bytes [begin, end) of its data section.
struct tensor_info {
  std::string name;
  dtype type = dtype::f32;
  std::vector<std::size_t> shape;  ///< empty: one number
  std::size_t begin = 0;
  std::size_t end = 0;
  std::size_t elements = 1;  ///< the product of the shape
};

struct safetensors_header {
  std::vector<tensor_info> tensors;  ///< in the order of the header, not yet checked against data
  std::map<std::string, std::string, std::less<>> metadata;
};

/// A shape as text: `[3, 4]`.
template <class Sizes>
inline std::string shape_text(const Sizes& shape) {
  std::string out = "[";
  for (const auto n : shape) {
    if (out.size() > 1) out += ", ";
    out += std::to_string(n);
  }
  return out + "]";
}

/// Reads the JSON of a safetensors header: exactly the grammar of the format, so two levels of
/// objects whose values are texts and lists of whole numbers, no recursion. Everything else is
/// refused with the byte offset in the file. Cost: linear, memory about that of the header.
class safetensors_header_parser {
 public:
  static constexpr std::size_t max_tensors = std::size_t{1} << 20;
  static constexpr std::size_t max_metadata_bytes = std::size_t{16} << 20;
  static constexpr std::size_t max_name_bytes = 1024;
  static constexpr std::size_t max_rank = 8;

  /// `where` names the file; `base` is the offset of `json` in it.
  safetensors_header_parser(std::string_view json, std::string_view where, std::size_t base)
      : json_(json, where, base,
              {.syntax = rules::safetensors_json,
               .encoding = rules::safetensors_utf8,
               .number = rules::safetensors_number}) {}

  safetensors_header parse() {
    json_.check_encoding();
    safetensors_header header;
    std::unordered_set<std::string> seen;
    json_.object([&](std::string key) {
      if (!seen.insert(key).second) {
        json_.fail(rules::safetensors_duplicate_key, key, "the key " + quoted(key) + " twice");
      }
      if (key == "__metadata__") {
        metadata(header);
        return;
      }
      check_name(key);
      if (header.tensors.size() == max_tensors) {
        json_.fail(rules::safetensors_too_many, key, "more");
      }
      header.tensors.push_back(tensor(std::move(key)));
    });
    json_.finish();
    return header;
  }

 private:
  static std::string quoted(std::string_view name) { return '"' + std::string(name) + '"'; }

  void metadata(safetensors_header& header) {
    const std::size_t from = json_.position();
    if (json_.next() != '{') {
      json_.fail(rules::safetensors_metadata, "", json_.here(), "an object of texts");
    }
    json_.object([&](std::string key) {
      if (json_.next() != '"') {
        json_.fail(rules::safetensors_metadata, "", json_.here(), "a text for " + quoted(key));
      }
      std::string value = json_.text();
      if (json_.position() - from > max_metadata_bytes) {
        json_.fail(rules::safetensors_metadata_too_large, "", "more");
      }
      if (!header.metadata.emplace(key, std::move(value)).second) {
        json_.fail(rules::safetensors_duplicate_key, "",
                   "the metadata key " + quoted(key) + " twice");
      }
    });
  }

  void check_name(std::string_view name) const {
    if (name.size() > max_name_bytes) {
      json_.fail(rules::safetensors_name, name.substr(0, 64),
                 std::to_string(name.size()) + " bytes");
    }
    if (name.find('\0') != std::string_view::npos) {
      json_.fail(rules::safetensors_name, "", "a NUL in the name");
    }
  }

  tensor_info tensor(std::string name) {
    tensor_info info;
    info.name = std::move(name);
    bool has_type = false;
    bool has_shape = false;
    bool has_offsets = false;
    json_.object([&](const std::string& key) {
      bool* const seen = key == "dtype"          ? &has_type
                         : key == "shape"        ? &has_shape
                         : key == "data_offsets" ? &has_offsets
                                                 : nullptr;
      if (seen == nullptr) {
        json_.fail(rules::safetensors_json, info.name, "the key " + quoted(key.substr(0, 64)),
                   "dtype, shape and data_offsets");
      }
      if (*seen)
        json_.fail(rules::safetensors_duplicate_key, info.name,
                   "the key " + quoted(key) + " twice");
      *seen = true;
      if (seen == &has_type) {
        read_type(info);
      } else if (seen == &has_shape) {
        read_shape(info);
      } else {
        json_.take('[', info.name);
        info.begin = json_.number(info.name);
        json_.take(',', info.name);
        info.end = json_.number(info.name);
        json_.take(']', info.name);
      }
    });
    if (!has_type || !has_shape || !has_offsets) {
      json_.fail(rules::safetensors_json, info.name, "a tensor without all three",
                 "dtype, shape and data_offsets");
    }
    check_size(info);
    return info;
  }

  void read_type(tensor_info& info) {
    const std::string name = json_.text();
    const auto row = std::find_if(dtype_table.begin(), dtype_table.end(),
                                  [&](const dtype_row& r) { return r.name == name; });
    if (row == dtype_table.end()) {
      json_.fail(rules::safetensors_dtype, info.name, quoted(name.substr(0, 64)),
                 "for example F32");
    }
    info.type = row->type;
  }

  void read_shape(tensor_info& info) {
    json_.take('[', info.name);
    if (json_.take_if(']')) return;
    do {
      if (info.shape.size() == max_rank) json_.fail(rules::safetensors_rank, info.name, "more");
      info.shape.push_back(json_.number(info.name));
    } while (json_.take_if(','));
    json_.take(']', info.name);
  }

  // The product is never formed before it is known to fit: [2^32, 2^32] must not become 0.
  void check_size(tensor_info& info) const {
    std::size_t bits = 0;
    bool fits = true;
    info.elements = 1;
    for (const std::size_t n : info.shape) {
      fits = fits && !__builtin_mul_overflow(info.elements, n, &info.elements);
    }
    fits = fits && !__builtin_mul_overflow(info.elements,
                                           static_cast<std::size_t>(dtype_bits(info.type)), &bits);
    if (!fits)
      json_.fail(rules::safetensors_overflow, info.name, "shape " + shape_text(info.shape));
    if (bits % 8 != 0) {
      json_.fail(rules::safetensors_misaligned, info.name, std::to_string(bits) + " bits");
    }
    if (info.begin > info.end) {
      json_.fail(rules::safetensors_offsets, info.name,
                 shape_text(std::vector<std::size_t>{info.begin, info.end}));
    }
    if (info.end - info.begin != bits / 8) {
      json_.fail(rules::safetensors_size, info.name,
                 std::to_string(info.end - info.begin) + " bytes",
                 std::to_string(bits / 8) + " bytes for " + std::string(dtype_name(info.type)) +
                     " " + shape_text(info.shape));
    }
  }

  json_reader json_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
