// SPDX-License-Identifier: MIT
// What an instruction's words mean.
#include "module.hpp"

namespace simulator {
namespace {

/// What may stand in an opcode beside types. A word that is missing here is refused with its
/// instruction, and so is whatever it would have meant.
bool knows(const std::string& op, const std::string& word) {
  constexpr std::string_view floats = " rn rz rm rp ftz sat approx full ";
  constexpr std::string_view places = " global shared local param const ";
  static const std::map<std::string_view, std::string> words{
      {"abs", " ftz "},
      {"add", std::string(floats)},
      {"atom", std::string(places) + "add relaxed gpu cta sys "},
      {"bar", " sync red warp popc and or aligned "},
      {"barrier", " sync red popc and or aligned cta "},
      {"bmsk", " clamp "},
      {"bra", " uni "},
      {"cvt", std::string(floats) + "rni rzi rmi rpi bf16x2 "},
      {"cvta", std::string(places) + "to "},
      {"div", std::string(floats)},
      {"ex2", " approx ftz "},
      {"fence", " sc acq_rel cta gpu sys "},
      {"fma", std::string(floats)},
      {"ld", std::string(places) + "v2 v4 nc volatile relaxed acquire weak cta gpu sys "},
      {"mad", " lo wide "},
      {"match", " sync any all "},
      {"max", " ftz "},
      {"membar", " cta gl sys "},
      {"min", " ftz "},
      {"mma", " sync aligned m16n8k16 row col "},
      {"mul", std::string(floats) + "lo wide "},
      {"neg", " ftz "},
      {"rcp", std::string(floats)},
      {"setp", " eq ne lt le gt ge lo ls hi hs equ neu ltu leu gtu geu num nan and or xor ftz "},
      {"shfl", " sync up down bfly idx "},
      {"sqrt", std::string(floats)},
      {"st", std::string(places) + "v2 v4 volatile relaxed release weak cta gpu sys "},
      {"sub", std::string(floats)},
      {"vote", " sync ballot all any uni "}};
  const auto i = words.find(op);
  return i != words.end() && i->second.find(" " + word + " ") != std::string::npos;
}

}  // namespace

type type_of(std::string_view name) {
  static const std::map<std::string_view, type> types{
      {"pred", type::pred}, {"b8", type::u_8},     {"u8", type::u_8},   {"s8", type::s_8},
      {"b16", type::u_16},  {"u16", type::u_16},   {"s16", type::s_16}, {"b32", type::u_32},
      {"u32", type::u_32},  {"s32", type::s_32},   {"b64", type::u_64}, {"u64", type::u_64},
      {"s64", type::s_64},  {"bf16", type::bf_16}, {"f32", type::f_32}, {"f64", type::f_64}};
  const auto i = types.find(name);
  return i == types.end() ? type::none : i->second;
}

void decode(instruction& i) {
  const auto refuse_it = [&] { throw std::runtime_error("unknown instruction " + i.text); };
  for (std::size_t k = 1; k < i.words.size(); ++k) {
    if (type_of(i.words[k]) == type::none && !knows(i.words[0], i.words[k])) refuse_it();
  }
  for (const std::string& word : i.words) {
    const type t = type_of(word);
    if (t == type::none) continue;
    if (i.t == type::none) {
      i.t = t;
    } else if (i.from == type::none) {
      i.from = t;
    }
  }
  i.flushes = i.has("ftz");
  i.saturates = i.has("sat");
  i.rounding = i.has("rz") ? 'z' : i.has("rm") ? 'm' : i.has("rp") ? 'p' : 'n';
  if (!decode_memory(i) && !decode_exchange(i) && !decode_bits(i) && !decode_conversion(i) &&
      !decode_arithmetic(i)) {
    refuse_it();
  }
  // Only loads and atomics say that nobody wants their result.
  if (!i.operands.empty() && i.words[0] != "ld" && i.words[0] != "atom") {
    const operand& d = i.operands[0];
    if (d.parts.empty() ? d.slot < 0 : d.parts[0].slot < 0 && i.words[0] != "mov") refuse_it();
  }
}

}  // namespace simulator
