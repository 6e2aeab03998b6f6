// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/weights_file.hpp>
#include <plmscope/sae/formats/settings.hpp>
#include <plmscope/sae/rules.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// The file of an SAE that another library wrote, with the settings that lie beside it. Tensors are
/// read with the shape that the caller names (io.123, io.124) and must be finite (`sae_finite`);
/// which were read is remembered.
class published_file {
 public:
  /// Settings are those of `cfg.json`, else `config.json`, and of `config.yaml` in the same folder.
  static published_file open(const std::filesystem::path& path) {
    published_file out(weights_file::open(path));
    const auto folder = path.parent_path();
    out.settings_ = sae_settings::beside(folder / "cfg.json");
    if (out.settings_.empty()) out.settings_ = sae_settings::beside(folder / "config.json");
    out.yaml_ = sae_settings::beside(folder / "config.yaml");
    out.folder_ = folder;
    return out;
  }

  const std::string& where() const noexcept { return file_.where(); }
  const std::filesystem::path& folder() const noexcept { return folder_; }
  const sae_settings& settings() const noexcept { return settings_; }
  const sae_settings& yaml() const noexcept { return yaml_; }
  const pickle_value& root() const noexcept { return file_.root(); }

  /// The first of these beginnings of names under which all these tensors are; what is read next is
  /// read under it.
  bool enter(std::initializer_list<std::string_view> beginnings,
             std::initializer_list<std::string_view> names) {
    for (const std::string_view b : beginnings) {
      if (!std::all_of(names.begin(), names.end(), [&](std::string_view n) {
            return file_.contains(std::string(b) + std::string(n));
          })) {
        continue;
      }
      beginning_ = b;
      return true;
    }
    return false;
  }
  const std::string& beginning() const noexcept { return beginning_; }

  bool has(std::string_view name) const { return file_.contains(full(name)); }
  /// Empty when there is no such tensor.
  std::vector<std::size_t> shape(std::string_view name) const {
    const stored_tensor* t = file_.find(full(name));
    return t == nullptr ? std::vector<std::size_t>{} : t->shape;
  }
  /// Extent `axis` of a tensor that must have `rank` axes and no empty one.
  std::size_t extent(std::string_view name, std::size_t rank, std::size_t axis) const {
    const auto& t = file_.require(full(name));
    if (t.shape.size() == rank && t.elements > 0) return t.shape[axis];
    throw error(rules::sae_settings, {.where = where() + ", tensor \"" + t.name + "\"",
                                      .expected = std::to_string(rank) + " axes, none empty",
                                      .found = shape_text(t.shape)});
  }

  /// Row-major, of exactly this shape.
  std::vector<float> read(std::string_view name, std::initializer_list<std::size_t> shape) {
    const auto& t = file_.require(full(name), shape);
    read_.insert(t.name);
    auto out = file_.read_vector<float>(t);
    const auto bad =
        std::find_if(out.begin(), out.end(), [](float v) { return !std::isfinite(v); });
    if (bad != out.end()) {
      throw error(rules::sae_finite, {.where = where() + ", tensor \"" + t.name + "\", entry " +
                                               std::to_string(bad - out.begin()),
                                      .remedy = "the file is damaged or training diverged"});
    }
    return out;
  }
  /// [rows, cols] of a tensor that is stored [cols, rows].
  std::vector<float> read_transposed(std::string_view name, std::size_t rows, std::size_t cols) {
    const auto stored = read(name, {cols, rows});
    std::vector<float> out(stored.size());
    constexpr std::size_t block = 32;  // both sides stay in the cache
    for (std::size_t r0 = 0; r0 < rows; r0 += block) {
      for (std::size_t c0 = 0; c0 < cols; c0 += block) {
        for (std::size_t r = r0; r < std::min(rows, r0 + block); ++r) {
          for (std::size_t c = c0; c < std::min(cols, c0 + block); ++c) {
            out[r * cols + c] = stored[c * rows + r];
          }
        }
      }
    }
    return out;
  }
  /// Without the check for finite numbers, which some libraries use to say "none".
  std::vector<float> read_raw(std::string_view name, std::initializer_list<std::size_t> shape) {
    const auto& t = file_.require(full(name), shape);
    read_.insert(t.name);
    return file_.read_vector<float>(t);
  }
  /// One number of any type.
  double scalar(std::string_view name) {
    const auto& t = file_.require(full(name), {});
    read_.insert(t.name);
    const bool real = t.type == dtype::f64 || t.type == dtype::f32 || t.type == dtype::f16 ||
                      t.type == dtype::bf16;
    const double v = real ? file_.read_vector<double>(t)[0]
                          : static_cast<double>(file_.read_vector<std::int64_t>(t)[0]);
    if (std::isfinite(v)) return v;
    throw error(rules::sae_finite, {.where = where() + ", tensor \"" + t.name + "\""});
  }
  /// The scalar as a count, where there is one.
  std::optional<std::size_t> count(std::string_view name) {
    if (!has(name)) return {};
    const double v = scalar(name);
    if (v >= 0 && v < 4294967296.0 && v == std::floor(v)) return static_cast<std::size_t>(v);
    throw error(rules::sae_settings, {.where = where() + ", tensor \"" + full(name) + "\"",
                                      .expected = "a whole number below 2^32",
                                      .found = std::to_string(v)});
  }

  /// A vector of counts as a text, for the record; at most 64 are given.
  std::string counts_text(std::string_view name) {
    const auto& t = file_.require(full(name), {any_extent});
    read_.insert(t.name);
    const auto all = file_.read_vector<std::int64_t>(t);
    std::string out;
    for (std::size_t i = 0; i < std::min<std::size_t>(all.size(), 64); ++i) {
      out += (i == 0 ? "" : ", ") + std::to_string(all[i]);
    }
    return all.size() > 64 ? out + ", ..." : out;
  }

  /// Tensors that nothing has read, but for those of an optimiser; at most 12 are named.
  std::string not_read() const {
    std::string out;
    std::size_t n = 0;
    for (const auto& t : file_.tensors()) {
      if (read_.contains(t.name) || t.name.find("optimizer") != std::string::npos) continue;
      if (++n <= 12) out += (out.empty() ? "" : ", ") + t.name.substr(0, 200);
    }
    return n > 12 ? out + " and " + std::to_string(n - 12) + " more" : out;
  }

  const weights_file& weights() const noexcept { return file_; }

 private:
  explicit published_file(weights_file file) : file_(std::move(file)) {}
  std::string full(std::string_view name) const { return beginning_ + std::string(name); }

  weights_file file_;
  sae_settings settings_;
  sae_settings yaml_;
  std::filesystem::path folder_;
  std::string beginning_;
  std::set<std::string, std::less<>> read_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
