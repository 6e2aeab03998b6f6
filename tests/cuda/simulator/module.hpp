// SPDX-License-Identifier: MIT
// What nvcc wrote for the device, decoded: PTX ISA 9.0, the part of it that our kernels, CUB's and
// Thrust's use. Anything else is refused by name when a program starts.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace simulator {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using s16 = std::int16_t;
using s32 = std::int32_t;
using s64 = std::int64_t;

/// Types of PTX. Untyped bits are read as unsigned ones.
enum class type : u8 {
  none,
  pred,
  u_8,
  s_8,
  u_16,
  s_16,
  u_32,
  s_32,
  u_64,
  s_64,
  bf_16,
  f_32,
  f_64
};

constexpr u32 bytes_of(type t) {
  switch (t) {
    case type::pred:
    case type::u_8:
    case type::s_8:
      return 1;
    case type::u_16:
    case type::s_16:
    case type::bf_16:
      return 2;
    case type::u_64:
    case type::s_64:
    case type::f_64:
      return 8;
    default:
      return 4;
  }
}
inline float from_bf16(u32 bits) { return std::bit_cast<float>(bits << 16); }
constexpr bool is_signed(type t) {
  return t == type::s_8 || t == type::s_16 || t == type::s_32 || t == type::s_64;
}
/// All ones in the bits of a type; a predicate has one.
constexpr u64 ones(type t) {
  return t == type::pred ? 1 : bytes_of(t) == 8 ? ~u64{0} : (u64{1} << (8 * bytes_of(t))) - 1;
}
type type_of(std::string_view name);  ///< none for what is no type

/// Where generic addresses of a block's own memory begin. Addresses of global memory are elsewhere.
inline constexpr u64 shared_base = 0x6e0000000000;
inline constexpr u64 local_base = 0x6d0000000000;
inline constexpr u64 window = u64{1} << 24;

/// A register of 64 bits per lane; constants and special registers have one, too.
struct operand {
  int slot = -1;               ///< -1: `_`, a result that nobody wants
  bool negated = false;        ///< !%p
  s64 offset = 0;              ///< of an address
  std::vector<operand> parts;  ///< {a, b, ..}, or d|p
};

struct machine;
struct warp;
struct instruction;
/// Does it for the lanes of a mask.
using execution = void (*)(machine&, warp&, const instruction&, u32 lanes);

struct instruction {
  enum class kind : u8 { plain, branch, leave, barrier, collective };
  execution run = nullptr;
  kind what = kind::plain;
  type t = type::none;     ///< of the result
  type from = type::none;  ///< of what is converted
  char space = 0;          ///< g, s, l, p, or 0 for generic addresses
  char rounding = 'n';
  bool ordered = false;  ///< volatile, relaxed, ..: meant to meet other threads
  bool orders = false;   ///< lanes that meet here see what the others did to memory
  bool flushes = false;  ///< .ftz
  bool saturates = false;
  int mode = 0;  ///< what `run` makes of it
  u32 vector = 1;
  int guard = -1;  ///< slot of @p
  bool guard_negated = false;
  int mask = -1;     ///< slot of the lanes that have to meet; -1: all 32
  int barrier = -1;  ///< slots of a barrier's number and of how many threads it expects
  int expected = -1;
  int target = -1;  ///< of a branch
  std::vector<operand> operands;
  std::vector<std::string> words;  ///< the opcode, split at its dots
  std::string text;

  bool has(std::string_view word) const {
    return std::find(words.begin(), words.end(), word) != words.end();
  }
};

struct parameter {
  std::string name;
  u32 offset;
  u32 bytes;
};

struct function {
  std::string name;
  std::vector<parameter> parameters;
  u32 parameter_bytes = 0;
  u32 most_threads = 1024;
  int target = 0;  ///< 90 for sm_90
  u32 slots = 0;
  std::vector<std::pair<int, u64>> constants;
  std::vector<std::pair<int, std::string>> specials;  ///< %tid.x and the like
  u32 shared_bytes = 0;
  bool short_entries = false;  ///< of 2 bytes in shared memory
  u32 local_bytes = 0;         ///< of a thread
  std::vector<instruction> code;
};

/// A variable outside of functions. `address` is where it lies; of no size: dynamic shared memory.
struct variable {
  std::string name;
  char space = 0;
  u32 align = 1;
  u64 bytes = 0;
  u64 address = 0;
  std::vector<u8> initial;
};

struct module {
  std::map<std::string, std::unique_ptr<function>, std::less<>> functions;
  std::map<std::string, variable, std::less<>> variables;
};

/// Adds what a PTX text holds. Throws std::runtime_error for what it does not know.
void read_ptx(std::string_view text, module& into);

/// Sets `run` and what it needs from the words; throws for an unknown instruction. In pieces, each
/// of which says whether it knows one.
void decode(instruction& i);
bool decode_arithmetic(instruction& i);
bool decode_conversion(instruction& i);
bool decode_bits(instruction& i);
bool decode_memory(instruction& i);
bool decode_exchange(instruction& i);

}  // namespace simulator
