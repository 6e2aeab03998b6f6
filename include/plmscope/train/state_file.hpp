// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/crc32c.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/io/safetensors.hpp>
#include <plmscope/io/safetensors_writer.hpp>
#include <plmscope/io/sha256.hpp>
#include <plmscope/tensor/matrix.hpp>
#include <plmscope/train/rules.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

// The file of a training's state: safetensors, every matrix a tensor [rows, cols], every number a
// tensor [1], all with the type and the bits they have in memory. The metadata hold texts,
// `format`, for every tensor NAME its CRC-32C as `crc32c.NAME`, and `checksum`, a SHA-256 over all
// these and the names, types and shapes: no changed bit stays unseen.

namespace state_detail {

inline constexpr std::string_view format = "plmscope.training.1";

using text_map = std::map<std::string, std::string, std::less<>>;

inline std::string checksum(const text_map& metadata, const text_map& tensors) {
  sha256 hash;
  const auto feed = [&](std::string_view s) {
    hash.update(std::uint64_t{s.size()});
    hash.update(s);
  };
  for (const auto* map : {&metadata, &tensors}) {
    for (const auto& [key, value] : *map) {
      if (key == "checksum") continue;
      feed(key);
      feed(value);
    }
    feed("");
  }
  return hash.hex();
}

inline std::string type_and_shape(dtype type, const std::vector<std::size_t>& shape) {
  return std::string(dtype_name(type)) + ' ' + shape_text(shape);
}

/// The type a number is stored as.
template <class T>
using stored_as = std::conditional_t<std::is_same_v<T, bool>, std::uint8_t, T>;

}  // namespace state_detail

/// Collects a state (an archive of `visit_state`) for its file. Host memory is borrowed until the
/// file is written; that of a device is downloaded.
template <class B>
class state_writer {
 public:
  explicit state_writer(B& be) : be_(be) {}

  template <class T>
  void tensor(const std::string& name, const matrix<T, B>& m) {
    const std::vector<std::size_t> shape{m.rows(), m.cols()};
    if constexpr (B::on_host) {
      const std::span<const T> numbers(m.data(), m.size());
      note<T>(name, shape, std::as_bytes(numbers));
      file_.add(name, shape, numbers);
    } else {
      std::vector<T> host(m.size());
      be_.download(const_view<B, T>(m), std::span<T>(host));
      note<T>(name, shape, std::as_bytes(std::span<const T>(host)));
      file_.add_owned(name, shape, std::move(host));
    }
  }
  template <class T>
  void number(const std::string& name, T value) {
    using stored = state_detail::stored_as<T>;
    std::vector<stored> one{static_cast<stored>(value)};
    note<stored>(name, {1}, std::as_bytes(std::span<const stored>(one)));
    file_.add_owned(name, {1}, std::move(one));
  }
  /// A text of the metadata.
  void text(const std::string& key, std::string value) { file_.metadata[key] = std::move(value); }

  /// The file; afterwards nothing is added.
  const safetensors_writer& finish() {
    file_.metadata["format"] = state_detail::format;
    file_.metadata["checksum"] = state_detail::checksum(file_.metadata, tensors_);
    return file_;
  }

 private:
  template <class T>
  void note(const std::string& name, const std::vector<std::size_t>& shape,
            std::span<const std::byte> bytes) {
    file_.metadata["crc32c." + name] = std::to_string(crc32c(bytes));
    tensors_[name] = state_detail::type_and_shape(dtype_of<T>(), shape);
  }

  B& be_;
  safetensors_writer file_;
  state_detail::text_map tensors_;
};

/// A state's file, every bit of it checked when it is opened. Errors: `checkpoint_damaged`
/// (train.124), those of `safetensors_file`, io.501 to io.503.
class state_file {
 public:
  explicit state_file(const std::filesystem::path& path) : file_(safetensors_file::open(path)) {
    if (const std::string found = text("format"); found != state_detail::format) {
      damaged("metadata", "format " + std::string(state_detail::format),
              found.empty() ? "none" : found);
    }
    state_detail::text_map tensors;
    for (const auto& t : file_.tensors()) {
      tensors[t.name] = state_detail::type_and_shape(t.type, t.shape);
    }
    const std::string sum = state_detail::checksum(file_.metadata(), tensors);
    if (text("checksum") != sum) damaged("metadata", "checksum " + text("checksum"), sum);
    for (const auto& t : file_.tensors()) {
      const std::string want = text("crc32c." + t.name);
      const std::string crc = std::to_string(crc32c(file_.bytes(t)));
      if (crc != want) damaged("tensor " + t.name, "CRC-32C " + want, crc);
    }
  }

  const std::string& where() const noexcept { return file_.where(); }
  /// A text of the metadata, or nothing.
  std::string text(std::string_view key) const {
    const auto at = file_.metadata().find(key);
    return at == file_.metadata().end() ? std::string() : at->second;
  }
  const safetensors_file::metadata_map& metadata() const noexcept { return file_.metadata(); }
  const safetensors_file& tensors() const noexcept { return file_; }

 private:
  [[noreturn]] void damaged(const std::string& what, std::string expected,
                            std::string found) const {
    throw error(rules::checkpoint_damaged, {.where = file_.where() + ", " + what,
                                            .expected = std::move(expected),
                                            .found = std::move(found),
                                            .remedy = "the disk or a copy damaged it; remove it"});
  }

  safetensors_file file_;
};

/// Puts a file's numbers into a state (an archive of `visit_state`). A tensor that is missing, of
/// another type or of another shape, or left over at `finish`, is `checkpoint_state` (train.126). A
/// matrix that is still empty takes the shape it had.
template <class B>
class state_reader {
 public:
  state_reader(B& be, const state_file& from) : be_(be), from_(from), file_(from.tensors()) {}

  template <class T>
  void tensor(const std::string& name, matrix<T, B>& m) {
    const tensor_info& t = find<T>(name);
    const bool fits =
        t.shape.size() == 2 && (m.empty() || (t.shape[0] == m.rows() && t.shape[1] == m.cols()));
    if (!fits) {
      refuse(name, "shape " + shape_text(std::vector{m.rows(), m.cols()}), shape_text(t.shape));
    }
    if (m.empty()) m.reshape(be_, t.shape[0], t.shape[1]);
    if (m.empty()) return;
    be_.upload(std::span<const T>(bits<T>(t)), m.all());
  }
  template <class T>
  void number(const std::string& name, T& value) {
    const tensor_info& t = find<state_detail::stored_as<T>>(name);
    if (t.elements != 1) refuse(name, "one number", shape_text(t.shape));
    value = static_cast<T>(bits<state_detail::stored_as<T>>(t)[0]);
  }

  void finish() const {
    for (const auto& t : file_.tensors()) {
      if (!seen_.contains(t.name)) refuse(t.name, "no such state", shape_text(t.shape));
    }
  }

 private:
  template <class T>
  const tensor_info& find(const std::string& name) {
    const tensor_info* const t = file_.find(name);
    if (t == nullptr) refuse(name, "a tensor", "none");
    if (t->type != dtype_of<T>()) {
      refuse(name, std::string(dtype_name(dtype_of<T>())), std::string(dtype_name(t->type)));
    }
    seen_.insert(name);
    return *t;
  }
  // As stored: a conversion could change a NaN.
  template <class T>
  std::vector<T> bits(const tensor_info& t) const {
    std::vector<T> out(t.elements);
    if (!out.empty()) std::memcpy(out.data(), file_.bytes(t).data(), out.size() * sizeof(T));
    return out;
  }
  [[noreturn]] void refuse(const std::string& name, std::string expected, std::string found) const {
    throw error(rules::checkpoint_state,
                {.where = from_.where() + ", " + name,
                 .expected = std::move(expected),
                 .found = std::move(found),
                 .remedy = "resume with the model and the policies of the run that was stopped"});
  }

  B& be_;
  const state_file& from_;
  const safetensors_file& file_;
  std::set<std::string, std::less<>> seen_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
