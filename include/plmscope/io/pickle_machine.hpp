// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/pickle_names.hpp>
#include <plmscope/io/pickle_value.hpp>
#include <plmscope/io/rules.hpp>
#include <plmscope/io/utf8.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// The stack, the memo and the growing tree of a pickle while it is read. Every operation checks
/// what it finds; a name is text that is compared with `pickle_names`, and a call makes a node that
/// describes it. Bounds: 2 million nodes, 16 million entries in all.
class pickle_machine {
 public:
  using kind = pickle_kind;
  static constexpr std::size_t max_nodes = std::size_t{1} << 21;
  static constexpr std::size_t max_cells = std::size_t{1} << 24;
  static constexpr std::size_t max_name_bytes = 256;

  explicit pickle_machine(std::string where) { tree_.where = std::move(where); }

  /// The byte that errors name.
  void at(std::size_t position) noexcept { position_ = position; }

  [[noreturn]] void fail(const error_rule& rule, std::string found,
                         std::string expected = {}) const {
    throw error(rule, {.where = tree_.where + ", byte " + std::to_string(position_),
                       .expected = std::move(expected),
                       .found = std::move(found),
                       .remedy = "load it where you trust it and save the tensors as safetensors"});
  }

  /// The tree, when STOP is reached.
  pickle_tree finish() {
    if (stack_.size() != 1 || !marks_.empty()) {
      fail(rules::pickle_stack, std::to_string(stack_.size()) + " values at STOP", "one");
    }
    tree_.root = stack_.back();
    return std::move(tree_);
  }

  void push(pickle_cell cell) {
    charge(1);
    stack_.push_back(cell);
  }
  void push_text(kind k, std::string_view text) {
    if (k == kind::text && first_invalid_utf8(text) != std::string_view::npos) {
      fail(rules::pickle_text, "a str that is no UTF-8");
    }
    add(k).text = text;
  }
  void push_items(kind k, std::vector<pickle_cell> items) { add(k).items = std::move(items); }
  void mark() {
    charge(1);
    marks_.push_back(stack_.size());
  }

  pickle_cell pop() {
    if (stack_.size() <= floor()) fail(rules::pickle_stack, "an empty stack", "a value");
    const pickle_cell c = stack_.back();
    stack_.pop_back();
    return c;
  }
  // What was pushed since the last mark.
  std::vector<pickle_cell> pop_marked() {
    if (marks_.empty()) fail(rules::pickle_stack, "none", "a mark");
    const auto from = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    std::vector<pickle_cell> out(from, stack_.end());
    stack_.erase(from, stack_.end());
    marks_.pop_back();
    return out;
  }
  std::vector<pickle_cell> pop_last(std::size_t n) {
    std::vector<pickle_cell> out(n);
    for (std::size_t i = n; i-- > 0;) out[i] = pop();
    return out;
  }

  void append(std::vector<pickle_cell> items, kind wanted) {
    const pickle_cell target = top();
    if (target.kind != wanted) refuse_target(target, to_string(wanted));
    auto& all = node(target).items;
    all.insert(all.end(), items.begin(), items.end());
  }
  void set_items(std::vector<pickle_cell> pairs) {
    const pickle_cell target = top();
    if (target.kind != kind::dict && target.kind != kind::object) refuse_target(target, "a dict");
    if (pairs.size() % 2 != 0) fail(rules::pickle_stack, "a key without value", "pairs");
    auto& all = node(target).items;
    all.insert(all.end(), pairs.begin(), pairs.end());
  }
  /// Remembers the top of the stack; indices count up in what is written by pickle.
  void put(std::size_t index) {
    if (index >= max_nodes) {
      fail(rules::pickle_memo, "memo index " + std::to_string(index),
           "below " + std::to_string(max_nodes));
    }
    if (index >= memo_.size()) memo_.resize(index + 1);
    memo_[index] = {true, top()};
  }
  void put_next() { put(memo_.size()); }
  void get(std::size_t index) {
    if (index >= memo_.size() || !memo_[index].written) {
      fail(rules::pickle_memo, "memo index " + std::to_string(index) + ", never written");
    }
    push(memo_[index].value);
  }

  /// The last two texts are module and name.
  void global_of_stack() {
    const auto names = pop_last(2);
    if (names[0].kind != kind::text || names[1].kind != kind::text) {
      fail(rules::pickle_stack, "no two texts", "the name of a class");
    }
    const std::string module = node(names[0]).text;
    const std::string name = node(names[1]).text;
    push_global(module, name);
  }
  void push_global(std::string_view module, std::string_view name) {
    const auto plain = [](std::string_view text) {
      bool ok = !text.empty() && text.size() <= max_name_bytes;
      for (const char c : text) {
        const auto u = static_cast<unsigned char>(c);
        ok = ok && u > 0x20 && u != 0x7f;
      }
      return ok && first_invalid_utf8(text) == std::string_view::npos;
    };
    if (!plain(module) || !plain(name)) fail(rules::pickle_text, "no name of a module or class");
    std::string full = std::string(module).append(".").append(name);
    if (pickle_names::acts(module, name)) {
      throw error(rules::pickle_forbidden,
                  {.where = tree_.where + ", byte " + std::to_string(position_),
                   .found = "the name " + full + "; nothing was run",
                   .remedy = "this file would run commands in a program that trusts it: delete it "
                             "and tell where you had it from"});
    }
    add(kind::global).text = std::move(full);
  }

  /// A call of a name, as `pickle_names` says.
  void reduce() {
    const pickle_cell arguments = pop();
    const pickle_cell callee = pop();
    if (callee.kind != kind::global || arguments.kind != kind::tuple) {
      fail(rules::pickle_call, std::string(to_string(callee.kind)), "a name and a tuple");
    }
    const std::string name = node(callee).text;
    charge(node(arguments).items.size());
    const auto given = node(arguments).items;
    const auto listed = [&](std::size_t i) {
      return i < given.size() && (given[i].kind == kind::list || given[i].kind == kind::tuple);
    };
    const auto gives = pickle_names::meaning_of(name);
    bool fits = true;
    switch (gives) {
      case pickle_names::meaning::dict: {
        std::vector<pickle_cell> pairs;
        if (listed(0)) {
          charge(2 * node(given[0]).items.size());
          for (const pickle_cell& pair : node(given[0]).items) {
            fits = fits && (pair.kind == kind::list || pair.kind == kind::tuple) &&
                   node(pair).items.size() == 2;
            if (fits) pairs.insert(pairs.end(), node(pair).items.begin(), node(pair).items.end());
          }
        }
        add(kind::dict).items = std::move(pairs);
        break;
      }
      case pickle_names::meaning::set:
      case pickle_names::meaning::tuple: {
        fits = given.empty() || listed(0);
        std::vector<pickle_cell> items;
        if (fits && !given.empty()) {
          charge(node(given[0]).items.size());
          items = node(given[0]).items;
        }
        add(gives == pickle_names::meaning::set ? kind::set : kind::tuple).items = std::move(items);
        break;
      }
      case pickle_names::meaning::bytes:
        fits = given.size() == 2 && given[0].kind == kind::text;
        if (fits) push_latin1(node(given[0]).text);
        break;
      case pickle_names::meaning::description:
        push_object(name, arguments);
        break;
      case pickle_names::meaning::unknown:
        fail(rules::pickle_call, "a call of " + name + "; it was not made",
             "what rebuilds tensors and plain values");
    }
    if (!fits) fail(rules::pickle_call, "a call of " + name + " with other arguments");
  }

  /// What an object was given after it was made.
  void build() {
    const pickle_cell state = pop();
    const pickle_cell target = top();
    if (target.kind != kind::object && target.kind != kind::dict)
      refuse_target(target, "an object");
    node(target).state = state;
  }
  /// An object of a class: always a description.
  void new_object() {
    const pickle_cell arguments = pop();
    const pickle_cell type = pop();
    if (type.kind != kind::global || arguments.kind != kind::tuple) {
      refuse_target(type, "a class and a tuple");
    }
    push_object(node(type).text, arguments);
  }

  /// Something outside the pickle, by its id.
  void persistent() {
    const pickle_cell id = pop();
    add(kind::persistent).arguments = id;
  }

 private:
  struct memo_entry {
    bool written = false;
    pickle_cell value = {};
  };

  void charge(std::size_t cells) {
    cells_ += cells;
    if (cells_ > max_cells) {
      fail(rules::pickle_limit, "more entries", std::to_string(max_cells) + " entries at most");
    }
  }
  pickle_node& add(kind k) {
    push({k, tree_.nodes.size()});
    if (tree_.nodes.size() == max_nodes) {
      fail(rules::pickle_limit, "more values", std::to_string(max_nodes) + " values at most");
    }
    tree_.nodes.push_back({.kind = k, .text = {}, .items = {}});
    return tree_.nodes.back();
  }
  void push_object(std::string name, pickle_cell arguments) {
    charge(name.size() / sizeof(pickle_cell));
    pickle_node& made = add(kind::object);
    made.text = std::move(name);
    made.arguments = arguments;
  }
  pickle_node& node(pickle_cell c) { return tree_.nodes[static_cast<std::size_t>(c.bits)]; }
  std::size_t floor() const noexcept { return marks_.empty() ? 0 : marks_.back(); }
  pickle_cell& top() {
    if (stack_.size() <= floor()) fail(rules::pickle_stack, "an empty stack", "a value");
    return stack_.back();
  }
  [[noreturn]] void refuse_target(pickle_cell target, std::string_view expected) const {
    fail(rules::pickle_stack, std::string(to_string(target.kind)), std::string(expected));
  }

  // Bytes that protocol 2 wrote as a str with the same code points.
  void push_latin1(std::string text) {
    charge(text.size());
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
      const auto lead = static_cast<unsigned char>(text[i]);
      if (lead < 0x80) {
        out += text[i];
      } else if (lead <= 0xc3) {
        const auto low = static_cast<unsigned char>(text[++i]);
        out += static_cast<char>(((lead & 3u) << 6) | (low & 0x3fu));
      } else {
        fail(rules::pickle_text, "bytes with a code point above 255");
      }
    }
    add(kind::bytes).text = std::move(out);
  }

  pickle_tree tree_;
  std::vector<pickle_cell> stack_;
  std::vector<std::size_t> marks_;
  std::vector<memo_entry> memo_;
  std::size_t cells_ = 0;
  std::size_t position_ = 0;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
