// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/pickle_value.hpp>
#include <plmscope/io/rules.hpp>
#include <plmscope/io/stored_tensor.hpp>
#include <plmscope/io/torch_storage.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Finds the tensors in the tree of a torch pickle. A tensor is named by the way to it: keys of
/// dicts, attributes of objects and positions in lists, joined by '/'; so a state dict keeps its
/// names and the weights in a training checkpoint are `model_state_dict/encoder.weight`. Offsets,
/// shapes and strides are checked against the storage before a tensor is listed; values that
/// contain themselves, and views that would unfold to many times the file, are refused.
class torch_tensors {
 public:
  static constexpr std::size_t max_depth = 64;
  static constexpr std::size_t max_visits = std::size_t{1} << 22;
  static constexpr std::size_t max_rank = 8;
  static constexpr std::size_t max_name_bytes = 1024;
  /// All views together, in bytes, beside 16 times the file.
  static constexpr std::size_t room = std::size_t{64} << 20;

  /// The bytes of a storage; called once for each tensor.
  using storage_bytes = std::function<std::span<const std::byte>(const torch_storage_id&)>;

  torch_tensors(const pickle_tree& tree, std::size_t file_bytes, storage_bytes storage)
      : tree_(tree), limit_(room + 16 * file_bytes), storage_(std::move(storage)) {}

  /// All tensors, by name.
  std::vector<stored_tensor> collect() {
    open_.assign(tree_.nodes.size(), false);
    visit(tree_.root, "", 0);
    std::sort(found_.begin(), found_.end(),
              [](const stored_tensor& a, const stored_tensor& b) { return a.name < b.name; });
    for (std::size_t i = 1; i < found_.size(); ++i) {
      if (found_[i - 1].name == found_[i].name) {
        fail(rules::torch_name, found_[i].name, "two tensors of this name");
      }
    }
    return std::move(found_);
  }

 private:
  using kind = pickle_kind;

  [[noreturn]] void fail(const error_rule& rule, std::string_view name, std::string found,
                         std::string expected = {}) const {
    throw error(rule, {.where = tree_.where + ", tensor \"" +
                                std::string(name.substr(0, max_name_bytes)) + "\"",
                       .expected = std::move(expected),
                       .found = std::move(found)});
  }

  void visit(pickle_cell cell, const std::string& name, std::size_t depth) {
    if (!cell.has_node() || cell.kind == kind::text || cell.kind == kind::bytes) return;
    if (++visits_ > max_visits) fail(rules::pickle_limit, name, "too many ways to its values");
    const std::size_t index = static_cast<std::size_t>(cell.bits);
    if (open_[index]) fail(rules::pickle_limit, name, "a value that contains itself");
    if (depth > max_depth) fail(rules::pickle_limit, name, "values nested more than 64 deep");
    const pickle_node& node = tree_.node(cell);
    if (cell.kind == kind::object && rebuilt(cell, name)) return;
    open_[index] = true;
    if (cell.kind == kind::dict || cell.kind == kind::object) {
      for (std::size_t i = 0; i + 1 < node.items.size(); i += 2) {
        visit(node.items[i + 1], join(name, key_text(node.items[i], i / 2)), depth + 1);
      }
      if (cell.kind == kind::object) visit_state(node.state, name, depth);
    } else if (cell.kind == kind::list || cell.kind == kind::tuple || cell.kind == kind::set) {
      for (std::size_t i = 0; i < node.items.size(); ++i) {
        if (node.items[i].has_node()) {
          visit(node.items[i], join(name, std::to_string(i)), depth + 1);
        }
      }
    }
    open_[index] = false;
  }
  // The attributes of an object: a dict, or a tuple of dicts where the class has slots.
  void visit_state(pickle_cell state, const std::string& name, std::size_t depth) {
    if (state.kind == kind::dict) {
      visit(state, name, depth + 1);
    } else if (state.kind == kind::tuple) {
      for (const pickle_cell part : tree_.node(state).items) {
        if (part.kind == kind::dict) visit(part, name, depth + 1);
      }
    }
  }

  // Longer names are refused where a tensor bears one; here they only must not grow.
  static std::string join(const std::string& path, std::string_view key) {
    std::string out = path;
    if (!path.empty()) out += '/';
    out += key.substr(0, max_name_bytes + 1);
    if (out.size() > max_name_bytes) out.resize(max_name_bytes + 1);
    return out;
  }
  std::string key_text(pickle_cell key, std::size_t position) const {
    if (key.kind == kind::text) return tree_.node(key).text.substr(0, max_name_bytes + 1);
    if (key.kind == kind::integer) return std::to_string(std::bit_cast<std::int64_t>(key.bits));
    return "#" + std::to_string(position);
  }

  // Lists the tensor that an object describes; false where it describes something else.
  bool rebuilt(pickle_cell object, const std::string& name) {
    std::string_view callee = tree_.node(object).text;
    pickle_cell arguments = tree_.node(object).arguments;
    for (int wrapped = 0; wrapped < 4; ++wrapped) {
      if (arguments.kind != kind::tuple) return false;
      const auto& given = tree_.node(arguments).items;
      if (callee.starts_with("torch._utils._rebuild_tensor")) {
        add(name, callee, given);
        return true;
      }
      if (callee.starts_with("torch._utils._rebuild_parameter")) {
        if (given.empty() || given[0].kind != kind::object) {
          fail(rules::torch_tensor, name, "a parameter without tensor");
        }
        callee = tree_.node(given[0]).text;
        arguments = tree_.node(given[0]).arguments;
      } else if (callee == "torch._tensor._rebuild_from_type_v2") {
        if (given.size() < 3 || given[0].kind != kind::global) {
          fail(rules::torch_tensor, name, "a typed tensor without its parts");
        }
        callee = tree_.node(given[0]).text;
        arguments = given[2];
      } else {
        return false;
      }
    }
    fail(rules::torch_tensor, name, "a tensor wrapped in more than four layers");
  }

  std::size_t count(pickle_cell cell, const std::string& name, std::string_view what) const {
    const auto value = std::bit_cast<std::int64_t>(cell.bits);
    if (cell.kind != kind::integer || value < 0) {
      fail(rules::torch_tensor, name,
           std::string(what) + " " +
               (cell.kind == kind::integer ? std::to_string(value)
                                           : std::string(to_string(cell.kind))),
           "whole numbers from 0 on");
    }
    return static_cast<std::size_t>(value);
  }
  std::vector<std::size_t> counts(pickle_cell cell, const std::string& name,
                                  std::string_view what) const {
    if (cell.kind != kind::tuple && cell.kind != kind::list) {
      fail(rules::torch_tensor, name, std::string(to_string(cell.kind)), "a tuple of numbers");
    }
    const auto& items = tree_.node(cell).items;
    if (items.size() > max_rank) {
      fail(rules::torch_tensor, name, std::to_string(items.size()) + " dimensions", "at most 8");
    }
    std::vector<std::size_t> out;
    for (const pickle_cell item : items) out.push_back(count(item, name, what));
    return out;
  }

  // (storage, offset, shape, strides, requires_grad, hooks, ...), where version 3 adds the dtype.
  void add(const std::string& name, std::string_view callee,
           const std::vector<pickle_cell>& given) {
    const bool typed_here = callee.ends_with("_v3");
    if (given.size() < (typed_here ? 7u : 4u) || given[0].kind != kind::persistent) {
      fail(rules::torch_tensor, name, "other arguments than torch.save writes");
    }
    if (name.size() > max_name_bytes || name.find('\0') != std::string::npos) {
      fail(rules::torch_name, name.substr(0, 64), std::to_string(name.size()) + " bytes");
    }
    refuse_lazy_views(name, given);
    const torch_storage_id storage = read_storage_id(tree_, tree_.node(given[0]).arguments);
    stored_tensor t{.name = name.empty() ? "tensor" : name,
                    .type = tensor_type(name, storage, typed_here ? given[6] : pickle_cell{}),
                    .shape = counts(given[2], name, "extent"),
                    .strides = counts(given[3], name, "stride"),
                    .bytes = storage_(storage)};
    place(t, count(given[1], name, "offset"), storage.bytes);
    found_.push_back(std::move(t));
  }

  // Conjugated and negated views would need arithmetic.
  void refuse_lazy_views(const std::string& name, const std::vector<pickle_cell>& given) const {
    const pickle_cell last = given.back();
    if (last.kind != kind::dict) return;
    const auto& items = tree_.node(last).items;
    for (std::size_t i = 0; i + 1 < items.size(); i += 2) {
      if (items[i + 1].kind == kind::boolean && items[i + 1].bits != 0) {
        fail(rules::torch_unsupported, name, "a view marked " + key_text(items[i], i / 2));
      }
    }
  }

  dtype tensor_type(const std::string& name, const torch_storage_id& storage,
                    pickle_cell scalar) const {
    if (scalar.kind != kind::global) {
      if (!storage.type) fail(rules::torch_storage, name, "an untyped storage without a dtype");
      return *storage.type;
    }
    const std::string& text = tree_.node(scalar).text;
    const auto row = std::find_if(torch_storages::types.begin(), torch_storages::types.end(),
                                  [&](const auto& r) { return r.scalar == text; });
    if (row == torch_storages::types.end()) fail(rules::torch_storage, name, "dtype " + text);
    if (storage.type && *storage.type != row->type) {
      fail(rules::torch_storage, name, "dtype " + text + " in a storage of another");
    }
    return row->type;
  }

  // Checks that the view lies inside its storage and cuts `bytes` to it. Nothing is multiplied or
  // added before it is known to fit.
  void place(stored_tensor& t, std::size_t offset, std::size_t available) {
    const std::size_t size = dtype_bits(t.type) / 8;
    const std::size_t entries = available / size;
    if (t.shape.size() != t.strides.size()) {
      fail(rules::torch_tensor, t.name, std::to_string(t.strides.size()) + " strides",
           std::to_string(t.shape.size()) + " for shape " + shape_text(t.shape));
    }
    bool fits = true;
    bool row_major = true;
    std::size_t last = 0;
    for (std::size_t d = t.shape.size(); d-- > 0;) {
      const std::size_t n = t.shape[d];
      std::size_t reach = 0;
      row_major = row_major && (n == 1 || t.strides[d] == t.elements);
      fits = fits && !__builtin_mul_overflow(n == 0 ? 0 : n - 1, t.strides[d], &reach) &&
             !__builtin_add_overflow(last, reach, &last) &&
             !__builtin_mul_overflow(t.elements, n, &t.elements);
    }
    std::size_t end = offset;
    if (t.elements > 0) {
      fits = fits && !__builtin_add_overflow(offset, last, &end) &&
             !__builtin_add_overflow(end, std::size_t{1}, &end);
    }
    if (!fits || end > entries) {
      fail(rules::torch_tensor, t.name,
           "offset " + std::to_string(offset) + ", shape " + shape_text(t.shape) + ", strides " +
               shape_text(t.strides),
           "inside a storage of " + std::to_string(entries) + " entries");
    }
    std::size_t bytes = 0;
    if (__builtin_mul_overflow(t.elements, size, &bytes) || bytes > limit_) {
      fail(rules::torch_too_large, t.name, "views that unfold to more than 16 times the file");
    }
    limit_ -= bytes;
    if (row_major || t.elements <= 1) t.strides.clear();
    t.bytes = t.bytes.subspan(offset * size, t.elements == 0 ? 0 : (end - offset) * size);
  }

  const pickle_tree& tree_;
  std::size_t limit_;
  storage_bytes storage_;
  std::vector<bool> open_;
  std::vector<stored_tensor> found_;
  std::size_t visits_ = 0;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
