// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/atomic_file.hpp>
#include <plmscope/io/safetensors_header.hpp>
#include <plmscope/io/tensor_convert.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Writes a safetensors file: the same tensors and metadata always give the same bytes. Tensors are
/// laid out by descending size of their numbers, then by name, so every one is aligned; the header
/// is padded with blanks to 8 bytes. The file appears whole or not at all (`atomic_file`).
class safetensors_writer {
 public:
  /// Text kept in `__metadata__`; at most 16 MiB (io.110).
  std::map<std::string, std::string, std::less<>> metadata;

  /// Adds a tensor, row-major. The numbers are borrowed: they must live until `write`. They are
  /// converted to `type` while writing: floating-point numbers to F64, F32, F16 or BF16, integers
  /// to any integer type; a number that does not fit is io.126. A name twice or invalid, a shape
  /// that does not match the data, or a conversion that does not exist is io.129.
  template <class T>
  void add(std::string name, dtype type, std::vector<std::size_t> shape, std::span<const T> data) {
    entry e;
    e.info.name = std::move(name);
    e.info.type = type;
    e.info.shape = std::move(shape);
    check(e.info, data.size());
    bool possible = false;
    tensor_convert::with_stored_type(
        type, [&]<class Stored>() { possible = tensor_convert::convertible<T, Stored>; });
    possible = possible && (type != dtype::boolean || std::is_same_v<T, bool>);
    if (!possible) {
      refuse(e.info.name,
             std::string(dtype_name(dtype_of<T>())) + " as " + std::string(dtype_name(type)));
    }
    e.emit = [data, type](const emit_function& sink, const std::string& where) {
      convert(data, type, sink, where);
    };
    names_.insert(e.info.name);
    entries_.push_back(std::move(e));
  }
  /// Stored as it is in memory.
  template <class T>
  void add(std::string name, std::vector<std::size_t> shape, std::span<const T> data) {
    add(std::move(name), dtype_of<T>(), std::move(shape), data);
  }
  /// Takes the numbers over.
  template <class T>
  void add_owned(std::string name, dtype type, std::vector<std::size_t> shape,
                 std::vector<T> data) {
    auto owner = std::make_shared<const std::vector<T>>(std::move(data));
    add(std::move(name), type, std::move(shape), std::span<const T>(*owner));
    entries_.back().owner = std::move(owner);
  }
  template <class T>
  void add_owned(std::string name, std::vector<std::size_t> shape, std::vector<T> data) {
    add_owned(std::move(name), dtype_of<T>(), std::move(shape), std::move(data));
  }

  std::size_t size() const noexcept { return entries_.size(); }

  /// Writes everything added so far to `path`, streaming: memory is one block beside the data.
  void write(const std::filesystem::path& path) const {
    atomic_file file(path);
    write_to(file);
    file.commit();
  }

  /// The same bytes to `file.write(bytes)`, piece by piece.
  template <class File>
  void write_to(File& file) const {
    emit([&](std::span<const std::byte> bytes) { file.write(bytes); });
  }

  /// The same bytes in memory.
  std::vector<std::byte> to_bytes() const {
    std::vector<std::byte> out;
    emit([&](std::span<const std::byte> bytes) {
      out.insert(out.end(), bytes.begin(), bytes.end());
    });
    return out;
  }

 private:
  using emit_function = std::function<void(std::span<const std::byte>)>;
  struct entry {
    tensor_info info;
    std::function<void(const emit_function&, const std::string& where)> emit;
    std::shared_ptr<const void> owner;
  };

  [[noreturn]] static void refuse(std::string_view name, std::string found) {
    throw error(rules::safetensors_add,
                {.where = "tensor \"" + std::string(name.substr(0, 256)) + "\"",
                 .found = std::move(found)});
  }

  void check(tensor_info& info, std::size_t count) const {
    if (info.name.size() > safetensors_header_parser::max_name_bytes ||
        info.name.find('\0') != std::string::npos || info.name == "__metadata__" ||
        first_invalid_utf8(info.name) != std::string_view::npos) {
      refuse(info.name, "a name that the format forbids");
    }
    if (names_.contains(info.name)) refuse(info.name, "the name for the second time");
    if (entries_.size() == safetensors_header_parser::max_tensors)
      refuse(info.name, "too many tensors");
    bool fits = info.shape.size() <= safetensors_header_parser::max_rank;
    info.elements = 1;
    for (const std::size_t n : info.shape) {
      fits = fits && !__builtin_mul_overflow(info.elements, n, &info.elements);
    }
    if (!fits || info.elements != count) {
      refuse(info.name,
             "shape " + shape_text(info.shape) + " for " + std::to_string(count) + " numbers");
    }
  }

  template <class T>
  static void convert(std::span<const T> data, dtype type, const emit_function& sink,
                      const std::string& where) {
    if (type == dtype_of<T>()) {
      sink(std::as_bytes(data));
      return;
    }
    tensor_convert::with_stored_type(type, [&]<class Stored>() {
      if constexpr (tensor_convert::convertible<T, Stored>) {
        std::vector<Stored> out(std::min(tensor_convert::block, data.size()));
        for (std::size_t first = 0; first < data.size(); first += tensor_convert::block) {
          const std::size_t n = std::min(tensor_convert::block, data.size() - first);
          tensor_convert::read(dtype_of<T>(), std::as_bytes(data.subspan(first, n)),
                               std::span<Stored>(out).first(n), [&] { return where; });
          sink(std::as_bytes(std::span<const Stored>(out).first(n)));
        }
      }
    });
  }

  static void append_text(std::string& json, std::string_view text) {
    json += '"';
    for (const char c : text) {
      if (c == '"' || c == '\\') {
        json += {'\\', c};
      } else if (static_cast<unsigned char>(c) < 0x20) {
        static constexpr char hex[] = "0123456789abcdef";
        json += "\\u00";
        json += {hex[c >> 4], hex[c & 15]};
      } else {
        json += c;
      }
    }
    json += '"';
  }

  std::string header_metadata() const {
    std::string json = "\"__metadata__\":{";
    for (const auto& [key, value] : metadata) {
      if (json.back() == '"') json += ',';
      append_text(json, key);
      json += ':';
      append_text(json, value);
    }
    if (first_invalid_utf8(json) != std::string_view::npos) {
      throw error(rules::safetensors_utf8,
                  {.where = "__metadata__", .found = "an invalid byte sequence"});
    }
    if (json.size() > safetensors_header_parser::max_metadata_bytes) {
      throw error(rules::safetensors_metadata_too_large,
                  {.where = "__metadata__", .found = std::to_string(json.size()) + " bytes"});
    }
    return json + "}";
  }

  // Header and data, in order.
  void emit(const emit_function& sink) const {
    std::vector<const entry*> order;
    for (const entry& e : entries_) order.push_back(&e);
    std::sort(order.begin(), order.end(), [](const entry* a, const entry* b) {
      const unsigned bits_a = dtype_bits(a->info.type);
      const unsigned bits_b = dtype_bits(b->info.type);
      return bits_a != bits_b ? bits_a > bits_b : a->info.name < b->info.name;
    });
    std::string json = "{";
    if (!metadata.empty()) json += header_metadata();
    std::size_t next = 0;
    for (const entry* e : order) {
      if (json.size() > 1) json += ',';
      append_text(json, e->info.name);
      json += ":{\"dtype\":\"";
      json += dtype_name(e->info.type);
      const std::size_t end = next + e->info.elements * dtype_bits(e->info.type) / 8;
      json += "\",\"shape\":" + dense(e->info.shape);
      json += ",\"data_offsets\":" + dense(std::vector<std::size_t>{next, end}) + "}";
      next = end;
    }
    json += '}';
    json.append((8 - json.size() % 8) % 8, ' ');
    const std::uint64_t length = json.size();
    sink(std::as_bytes(std::span(&length, 1)));
    sink(std::as_bytes(std::span(json)));
    for (const entry* e : order) e->emit(sink, "tensor \"" + e->info.name + "\"");
  }

  static std::string dense(const std::vector<std::size_t>& shape) {
    std::string text = shape_text(shape);
    text.erase(std::remove(text.begin(), text.end(), ' '), text.end());
    return text;
  }

  std::vector<entry> entries_;
  std::set<std::string, std::less<>> names_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
