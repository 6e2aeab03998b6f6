// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/rules.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// What a value of a pickle is. `global` is a name such as `torch.FloatStorage`; `object` is what a
/// class or function of such a name was given, never what it would make of it; `persistent` stands
/// for something outside the pickle (a storage of numbers).
enum class pickle_kind : std::uint8_t {
  none,
  boolean,
  integer,
  real,
  big_integer,  ///< beyond 64 bits
  text,
  bytes,
  tuple,
  list,
  set,
  dict,
  global,
  object,
  persistent
};

constexpr std::string_view to_string(pickle_kind kind) noexcept {
  constexpr std::string_view names[]{
      "None",   "a bool",        "an integer", "a float",        "a big integer",
      "a str",  "bytes",         "a tuple",    "a list",         "a set",
      "a dict", "a global name", "an object",  "a persistent id"};
  return names[static_cast<std::size_t>(kind)];
}

/// A scalar, or the index of a node.
struct pickle_cell {
  pickle_kind kind = pickle_kind::none;
  std::uint64_t bits = 0;

  static pickle_cell boolean(bool b) noexcept { return {pickle_kind::boolean, b ? 1u : 0u}; }
  static pickle_cell integer(std::int64_t i) noexcept {
    return {pickle_kind::integer, std::bit_cast<std::uint64_t>(i)};
  }
  static pickle_cell real(double r) noexcept {
    return {pickle_kind::real, std::bit_cast<std::uint64_t>(r)};
  }
  bool has_node() const noexcept { return kind >= pickle_kind::big_integer; }
};

/// What a cell refers to. Nodes are shared as the objects of the pickle were, and may form cycles.
struct pickle_node {
  pickle_kind kind = pickle_kind::none;
  std::string text;  ///< of text and bytes; the name of a global; the class of an object
  std::vector<pickle_cell>
      items;                   ///< of a tuple, list, set; key, value, ... of a dict or an object
  pickle_cell arguments = {};  ///< of an object: a tuple; of a persistent id: the id
  pickle_cell state = {};      ///< what an object or a dict was given afterwards, mostly a dict
};

/// A pickle as data. Trees come from `read_pickle`.
struct pickle_tree {
  std::string where;
  std::vector<pickle_node> nodes;
  pickle_cell root = {};

  const pickle_node& node(pickle_cell c) const noexcept {
    return nodes[static_cast<std::size_t>(c.bits)];
  }
};

/// A value of a pickle, for reading: copies are cheap and keep the tree alive. A value that is not
/// of the type asked for, or lacks the member asked for, is an error (io.168) that says what is
/// there instead.
class pickle_value {
 public:
  /// None.
  pickle_value() : tree_(std::make_shared<const pickle_tree>()) {}
  explicit pickle_value(std::shared_ptr<const pickle_tree> tree)
      : tree_(std::move(tree)), cell_(tree_->root) {}

  pickle_kind kind() const noexcept { return cell_.kind; }
  bool is(pickle_kind kind) const noexcept { return cell_.kind == kind; }

  bool boolean() const {
    require(is(pickle_kind::boolean), "a bool");
    return cell_.bits != 0;
  }
  std::int64_t integer() const {
    require(is(pickle_kind::integer), "an integer");
    return std::bit_cast<std::int64_t>(cell_.bits);
  }
  /// A float or an integer.
  double real() const {
    if (is(pickle_kind::integer)) return static_cast<double>(integer());
    require(is(pickle_kind::real), "a number");
    return std::bit_cast<double>(cell_.bits);
  }
  const std::string& text() const {
    require(is(pickle_kind::text), "a str");
    return node().text;
  }
  /// bytes, or a big integer as Python stores it (little-endian, two's complement).
  const std::string& raw() const {
    require(is(pickle_kind::bytes) || is(pickle_kind::big_integer), "bytes");
    return node().text;
  }
  /// `argparse.Namespace`: the class of an object, or the name of a global.
  const std::string& name() const {
    require(is(pickle_kind::object) || is(pickle_kind::global), "an object or a global name");
    return node().text;
  }
  /// What the class of an object was called with (a tuple), or a persistent id.
  pickle_value arguments() const {
    require(is(pickle_kind::object) || is(pickle_kind::persistent), "an object");
    return at(node().arguments);
  }
  /// The attributes of an object or of a dict (mostly a dict), or None.
  pickle_value state() const { return cell_.has_node() ? at(node().state) : pickle_value(); }

  /// Entries of a tuple, list or set, pairs of a dict or an object, 0 for anything else.
  std::size_t size() const noexcept {
    if (!cell_.has_node()) return 0;
    return is_mapping() ? node().items.size() / 2 : node().items.size();
  }
  pickle_value operator[](std::size_t i) const {
    const bool sequence = is(pickle_kind::tuple) || is(pickle_kind::list) || is(pickle_kind::set);
    require(sequence && i < size(), "at least " + std::to_string(i + 1) + " entries");
    return at(node().items[i]);
  }
  /// Keys and values of a dict (or of an object that is one), in their order.
  std::vector<std::pair<pickle_value, pickle_value>> items() const {
    require(is_mapping(), "a dict");
    std::vector<std::pair<pickle_value, pickle_value>> out;
    const auto& all = node().items;
    for (std::size_t i = 0; i + 1 < all.size(); i += 2)
      out.emplace_back(at(all[i]), at(all[i + 1]));
    return out;
  }
  /// The value of a text key of a dict, or the attribute of an object; nothing where there is none.
  /// As in Python the last of two equal keys counts. Cost: linear.
  std::optional<pickle_value> find(std::string_view key) const {
    if (!is_mapping()) return {};
    if (auto value = find_here(key)) return value;
    const pickle_value attributes = state();
    if (!attributes.is(pickle_kind::dict)) return {};
    return attributes.find_here(key);
  }
  /// The same, where it must be there.
  pickle_value at(std::string_view key) const {
    if (auto value = find(key)) return *std::move(value);
    throw error(rules::pickle_type, {.where = tree_->where,
                                     .expected = "the member \"" + std::string(key) + "\"",
                                     .found = described()});
  }

 private:
  bool is_mapping() const noexcept { return is(pickle_kind::dict) || is(pickle_kind::object); }
  const pickle_node& node() const noexcept { return tree_->node(cell_); }
  pickle_value at(pickle_cell cell) const {
    pickle_value out(tree_);
    out.cell_ = cell;
    return out;
  }
  std::optional<pickle_value> find_here(std::string_view key) const {
    const auto& all = node().items;
    for (std::size_t i = all.size(); i >= 2; i -= 2) {
      if (all[i - 2].kind == pickle_kind::text && tree_->node(all[i - 2]).text == key) {
        return at(all[i - 1]);
      }
    }
    return {};
  }
  void require(bool fits, std::string expected) const {
    if (fits) return;
    throw error(rules::pickle_type,
                {.where = tree_->where, .expected = std::move(expected), .found = described()});
  }
  std::string described() const {
    std::string out(to_string(kind()));
    if (is(pickle_kind::object)) out += " of " + node().text;
    if (is(pickle_kind::global)) out += " " + node().text;
    if (!is_mapping()) return out;
    out += " with";
    std::size_t shown = 0;
    const auto add = [&](const pickle_node& keys) {
      for (std::size_t i = 0; i + 1 < keys.items.size() && shown < 8; i += 2) {
        if (keys.items[i].kind != pickle_kind::text) continue;
        out += " " + tree_->node(keys.items[i]).text.substr(0, 64);
        ++shown;
      }
    };
    add(node());
    if (node().state.kind == pickle_kind::dict) add(tree_->node(node().state));
    return shown == 0 ? out + " no named member" : out;
  }

  std::shared_ptr<const pickle_tree> tree_;
  pickle_cell cell_ = {};
};

}  // namespace plmscope::inline PLMSCOPE_ABI
