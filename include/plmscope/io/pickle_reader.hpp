// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/pickle_machine.hpp>
#include <plmscope/io/pickle_value.hpp>
#include <plmscope/io/rules.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Reads a pickle as data: the opcodes that torch.save writes (protocols 2 to 5, without buffers)
/// build a tree of plain values, and a name such as `os.system` is text that is compared, never
/// looked up. Nothing is called, imported or run, whatever the file says. Refused by name: other
/// opcodes (io.161), names that act on the system (io.166), calls of unknown functions (io.167).
/// Bounds: 64 MiB of pickle and those of `pickle_machine`; the nesting of values is not followed
/// here, so depth costs nothing.
class pickle_reader {
 public:
  static constexpr std::size_t max_bytes = std::size_t{64} << 20;

  /// Reads from the front of `bytes`, which may go on after the pickle. `where` names file and
  /// part; `base` is the offset of `bytes` in it.
  pickle_reader(std::span<const std::byte> bytes, std::string where, std::size_t base = 0)
      : bytes_(bytes.first(std::min(bytes.size(), max_bytes))),
        cut_(bytes.size() > max_bytes),
        base_(base),
        machine_(std::move(where)) {}

  pickle_tree read() {
    for (;;) {
      machine_.at(base_ + at_);
      const auto op = take_number<std::uint8_t>();
      if (op == '.') return machine_.finish();
      if (!constant(op) && !container(op) && !reference(op)) fail_opcode(op);
    }
  }
  /// The length of the pickle that was read.
  std::size_t consumed() const noexcept { return at_; }

 private:
  using kind = pickle_kind;

  [[noreturn]] void fail_opcode(unsigned char op) const {
    constexpr char hex[] = "0123456789abcdef";
    std::string found = "opcode 0x";
    found += {hex[op >> 4], hex[op & 15]};
    switch (op) {
      case 0x82:
      case 0x83:
      case 0x84:
        found += " (EXT: a name from a registry)";
        break;
      case 0x96:
      case 0x97:
      case 0x98:
        found += " (a buffer of protocol 5)";
        break;
      case 'i':
      case 'o':
        found += " (an instance of protocol 0)";
        break;
      default:
        break;
    }
    machine_.fail(rules::pickle_opcode, std::move(found),
                  "what torch.save writes with protocol 2, 3 or 4");
  }

  std::string_view take(std::size_t n) {
    if (n > bytes_.size() - at_) {
      if (cut_) machine_.fail(rules::pickle_limit, "a pickle of more than 64 MiB");
      machine_.fail(rules::pickle_truncated, std::to_string(bytes_.size() - at_) + " bytes left",
                    std::to_string(n) + " bytes");
    }
    const auto* from = reinterpret_cast<const char*>(bytes_.data() + at_);
    at_ += n;
    return {from, n};
  }
  template <class T>
  T take_number() {
    T value;
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }
  // A line of text up to '\n', as GLOBAL has two of them.
  std::string_view take_line() {
    const auto* from = reinterpret_cast<const char*>(bytes_.data() + at_);
    const std::string_view rest(from,
                                std::min(bytes_.size() - at_, pickle_machine::max_name_bytes + 1));
    const std::size_t n = rest.find('\n');
    if (n == std::string_view::npos) machine_.fail(rules::pickle_text, "a name without end");
    at_ += n + 1;
    return rest.substr(0, n);
  }

  // Scalars, texts and bytes: what carries its value with it.
  bool constant(unsigned char op) {
    switch (op) {
      case 0x80: {  // PROTO
        const unsigned protocol = take_number<std::uint8_t>();
        if (protocol >= 2 && protocol <= 5) return true;
        machine_.fail(rules::pickle_opcode, "protocol " + std::to_string(protocol), "2 to 5");
      }
      case 0x95:  // FRAME: a length that says nothing new
        take(8);
        return true;
      case 'N':
        machine_.push({});
        return true;
      case 0x88:
      case 0x89:
        machine_.push(pickle_cell::boolean(op == 0x88));
        return true;
      case 'J':
        return integer(take_number<std::int32_t>());
      case 'K':
        return integer(take_number<std::uint8_t>());
      case 'M':
        return integer(take_number<std::uint16_t>());
      case 0x8a:  // LONG1
        return long_integer(take(take_number<std::uint8_t>()));
      case 'G': {  // BINFLOAT is big-endian
        const auto bits = __builtin_bswap64(take_number<std::uint64_t>());
        machine_.push(pickle_cell::real(std::bit_cast<double>(bits)));
        return true;
      }
      case 0x8c:  // texts; U and T are those of Python 2
      case 'U':
        return text(kind::text, take_number<std::uint8_t>());
      case 'X':
      case 'T':
        return text(kind::text, take_number<std::uint32_t>());
      case 0x8d:
        return text(kind::text, take_number<std::uint64_t>());
      case 'C':
        return text(kind::bytes, take_number<std::uint8_t>());
      case 'B':
        return text(kind::bytes, take_number<std::uint32_t>());
      default:
        return false;
    }
  }

  // Tuples, lists, sets and dicts.
  bool container(unsigned char op) {
    switch (op) {
      case '(':
        machine_.mark();
        return true;
      case ')':
        return items(kind::tuple, {});
      case ']':
        return items(kind::list, {});
      case '}':
        return items(kind::dict, {});
      case 0x8f:
        return items(kind::set, {});
      case 't':
        return items(kind::tuple, machine_.pop_marked());
      case 0x85:
      case 0x86:
      case 0x87:
        return items(kind::tuple, machine_.pop_last(op - 0x84u));
      case 0x91:  // FROZENSET
        return items(kind::set, machine_.pop_marked());
      case 'a':
        machine_.append(machine_.pop_last(1), kind::list);
        return true;
      case 'e':
        machine_.append(machine_.pop_marked(), kind::list);
        return true;
      case 0x90:  // ADDITEMS
        machine_.append(machine_.pop_marked(), kind::set);
        return true;
      case 's':
        machine_.set_items(machine_.pop_last(2));
        return true;
      case 'u':
        machine_.set_items(machine_.pop_marked());
        return true;
      default:
        return false;
    }
  }

  // The memo, names, and what is made of them.
  bool reference(unsigned char op) {
    switch (op) {
      case 'q':
        machine_.put(take_number<std::uint8_t>());
        return true;
      case 'r':
        machine_.put(take_number<std::uint32_t>());
        return true;
      case 0x94:  // MEMOIZE
        machine_.put_next();
        return true;
      case 'h':
        machine_.get(take_number<std::uint8_t>());
        return true;
      case 'j':
        machine_.get(take_number<std::uint32_t>());
        return true;
      case 'c': {
        const std::string_view module = take_line();
        machine_.push_global(module, take_line());
        return true;
      }
      case 0x93:
        machine_.global_of_stack();
        return true;
      case 'R':
        machine_.reduce();
        return true;
      case 0x81:
        machine_.new_object();
        return true;
      case 'b':
        machine_.build();
        return true;
      case 'Q':
        machine_.persistent();
        return true;
      default:
        return false;
    }
  }

  bool integer(std::int64_t value) {
    machine_.push(pickle_cell::integer(value));
    return true;
  }
  // Little-endian, two's complement.
  bool long_integer(std::string_view digits) {
    if (digits.size() > 8) {
      machine_.push_text(kind::big_integer, digits);
      return true;
    }
    const bool negative = !digits.empty() && (static_cast<unsigned char>(digits.back()) & 0x80u);
    std::uint64_t value = negative ? ~std::uint64_t{0} : 0;
    if (!digits.empty()) std::memcpy(&value, digits.data(), digits.size());
    return integer(std::bit_cast<std::int64_t>(value));
  }
  bool text(kind k, std::uint64_t length) {
    machine_.push_text(k, take(length));
    return true;
  }
  bool items(kind k, std::vector<pickle_cell> cells) {
    machine_.push_items(k, std::move(cells));
    return true;
  }

  std::span<const std::byte> bytes_;
  bool cut_;
  std::size_t base_;
  std::size_t at_ = 0;
  pickle_machine machine_;
};

/// Reads a pickle that fills `bytes` up to its STOP and must end there.
inline pickle_value read_pickle(std::span<const std::byte> bytes, const std::string& where) {
  pickle_reader reader(bytes, where);
  auto tree = std::make_shared<const pickle_tree>(reader.read());
  if (reader.consumed() != bytes.size()) {
    throw error(rules::pickle_truncated,
                {.where = where,
                 .expected = "STOP at byte " + std::to_string(bytes.size() - 1),
                 .found = "STOP at byte " + std::to_string(reader.consumed() - 1)});
  }
  return pickle_value(std::move(tree));
}

}  // namespace plmscope::inline PLMSCOPE_ABI
