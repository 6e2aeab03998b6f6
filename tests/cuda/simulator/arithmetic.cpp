// SPDX-License-Identifier: MIT
// Instructions on numbers. Those that PTX calls approximate are as exact here as the host's
// library.
#include "rounding.hpp"

namespace simulator {
namespace {

template <class T, auto F>
void one(machine&, warp& w, const instruction& in, u32 lanes) {
  const rounding r(in.rounding);
  u64* const d = w.lanes(in.operands[0]);
  const u64* const a = w.lanes(in.operands[1]);
  for_lanes(lanes, [&](u32 l) { set<T>(d, l, finished<T>(F(flushed(get<T>(a, l), in)), in)); });
}
template <class T, auto F>
void two(machine&, warp& w, const instruction& in, u32 lanes) {
  const rounding r(in.rounding);
  u64* const d = w.lanes(in.operands[0]);
  const u64* const a = w.lanes(in.operands[1]);
  const u64* const b = w.lanes(in.operands[2]);
  for_lanes(lanes, [&](u32 l) {
    set<T>(d, l, finished<T>(F(flushed(get<T>(a, l), in), flushed(get<T>(b, l), in)), in));
  });
}
template <class T, auto F>
void three(machine&, warp& w, const instruction& in, u32 lanes) {
  const rounding r(in.rounding);
  u64* const d = w.lanes(in.operands[0]);
  const u64* const a = w.lanes(in.operands[1]);
  const u64* const b = w.lanes(in.operands[2]);
  const u64* const c = w.lanes(in.operands[3]);
  for_lanes(lanes, [&](u32 l) {
    set<T>(d, l,
           finished<T>(
               F(flushed(get<T>(a, l), in), flushed(get<T>(b, l), in), flushed(get<T>(c, l), in)),
               in));
  });
}

// Whole numbers wrap around.
template <class T>
concept whole = std::is_integral_v<T>;
template <whole T>
using bits = std::make_unsigned_t<T>;
constexpr auto sum = []<class T>(T a, T b) {
  if constexpr (whole<T>)
    return static_cast<T>(static_cast<bits<T>>(a) + static_cast<bits<T>>(b));
  else
    return a + b;
};
constexpr auto difference = []<class T>(T a, T b) {
  if constexpr (whole<T>)
    return static_cast<T>(static_cast<bits<T>>(a) - static_cast<bits<T>>(b));
  else
    return a - b;
};
constexpr auto product = []<class T>(T a, T b) {
  if constexpr (whole<T>)
    return static_cast<T>(static_cast<u64>(a) * static_cast<u64>(b));
  else
    return a * b;
};
constexpr auto product_sum = []<class T>(T a, T b, T c) {
  if constexpr (whole<T>)
    return static_cast<T>(static_cast<u64>(a) * static_cast<u64>(b) + static_cast<u64>(c));
  else
    return std::fma(a, b, c);
};
/// By -1 the smallest number wraps, too.
constexpr auto quotient = []<class T>(T a, T b) {
  if constexpr (whole<T>) {
    if (std::is_signed_v<T> && b == static_cast<T>(-1)) return difference(T{0}, a);
    return b == 0 ? static_cast<T>(-1) : static_cast<T>(a / b);
  } else {
    return a / b;
  }
};
constexpr auto remainder_of = []<whole T>(T a, T b) {
  if (std::is_signed_v<T> && b == static_cast<T>(-1)) return T{0};
  return b == 0 ? a : static_cast<T>(a % b);
};
/// Of a number and NaN: the number.
constexpr auto smaller = []<class T>(T a, T b) {
  if constexpr (whole<T>)
    return std::min(a, b);
  else
    return a == b ? (std::signbit(a) ? a : b) : std::fmin(a, b);
};
constexpr auto larger = []<class T>(T a, T b) {
  if constexpr (whole<T>)
    return std::max(a, b);
  else
    return a == b ? (std::signbit(a) ? b : a) : std::fmax(a, b);
};
constexpr auto opposite = []<class T>(T a) {
  if constexpr (whole<T>)
    return difference(T{0}, a);
  else
    return -a;
};
constexpr auto magnitude = []<class T>(T a) {
  if constexpr (whole<T>)
    return a < 0 ? difference(T{0}, a) : a;
  else
    return std::fabs(a);
};
constexpr auto square_root = [](auto a) { return std::sqrt(a); };
constexpr auto inverse = []<class T>(T a) { return T{1} / a; };
constexpr auto power_of_two = [](auto a) { return std::exp2(a); };
constexpr auto with_sign_of = []<class T>(T a, T b) { return std::copysign(b, a); };

// `of<T>()` for the type of an instruction; null where there is none.
template <class Of>
execution for_whole(type t, Of of) {
  switch (t) {
    case type::u_16:
      return of.template operator()<u16>();
    case type::s_16:
      return of.template operator()<s16>();
    case type::u_32:
      return of.template operator()<u32>();
    case type::s_32:
      return of.template operator()<s32>();
    case type::u_64:
      return of.template operator()<u64>();
    case type::s_64:
      return of.template operator()<s64>();
    default:
      return nullptr;
  }
}
template <class Of>
execution for_floats(type t, Of of) {
  return t == type::f_32   ? of.template operator()<float>()
         : t == type::f_64 ? of.template operator()<double>()
                           : nullptr;
}
template <class Of>
execution for_numbers(type t, Of of) {
  const execution f = for_floats(t, of);
  return f != nullptr ? f : for_whole(t, of);
}

/// Products of twice the width, plus c for mad.
template <class T, class Wide>
void wide_product(machine&, warp& w, const instruction& in, u32 lanes) {
  u64* const d = w.lanes(in.operands[0]);
  const u64* const a = w.lanes(in.operands[1]);
  const u64* const b = w.lanes(in.operands[2]);
  const u64* const c = in.operands.size() > 3 ? w.lanes(in.operands[3]) : nullptr;
  for_lanes(lanes, [&](u32 l) {
    const Wide x =
        static_cast<Wide>(static_cast<Wide>(get<T>(a, l)) * static_cast<Wide>(get<T>(b, l)));
    set(d, l, c == nullptr ? x : sum(x, get<Wide>(c, l)));
  });
}

enum relation { equal, unequal, less, at_most, greater, at_least, ordered, unordered };

template <class T>
bool holds(int relation, T a, T b) {
  switch (relation) {
    case equal:
      return a == b;
    case unequal:
      return a < b || a > b;
    case less:
      return a < b;
    case at_most:
      return a <= b;
    case greater:
      return a > b;
    case at_least:
      return a >= b;
    case ordered:
      return a == a && b == b;
    default:
      return a != a || b != b;
  }
}
/// setp.relation{.and|.or|.xor} p|q, a, b{, c}. A relation with u holds of NaN, too: mode + 8.
template <class T>
void compare(machine&, warp& w, const instruction& in, u32 lanes) {
  const operand& to = in.operands[0];
  u64* const p = w.lanes(to.parts.empty() ? to : to.parts[0]);
  u64* const q = to.parts.empty() || to.parts[1].slot < 0 ? nullptr : w.lanes(to.parts[1]);
  const u64* const a = w.lanes(in.operands[1]);
  const u64* const b = w.lanes(in.operands[2]);
  for_lanes(lanes, [&](u32 l) {
    const T x = flushed(get<T>(a, l), in);
    const T y = flushed(get<T>(b, l), in);
    bool yes = holds(in.mode % 8, x, y) || (in.mode >= 8 && (x != x || y != y));
    bool no = !yes;
    if (in.operands.size() > 3) {
      const operand& with = in.operands[3];
      const bool c = (w.lanes(with)[l] != 0) != with.negated;
      yes = in.has("and") ? yes && c : in.has("or") ? yes || c : yes != c;
      no = in.has("and") ? no && c : in.has("or") ? no || c : no != c;
    }
    p[l] = yes;
    if (q != nullptr) q[l] = no;
  });
}

bool decode_comparison(instruction& i) {
  static const std::map<std::string_view, int> relations{
      {"eq", equal},     {"ne", unequal},      {"lt", less},         {"lo", less},
      {"le", at_most},   {"ls", at_most},      {"gt", greater},      {"hi", greater},
      {"ge", at_least},  {"hs", at_least},     {"equ", 8 + equal},   {"neu", 8 + unequal},
      {"ltu", 8 + less}, {"leu", 8 + at_most}, {"gtu", 8 + greater}, {"geu", 8 + at_least},
      {"num", ordered},  {"nan", unordered}};
  const auto r = relations.find(i.words.at(1));
  if (r == relations.end()) return false;
  i.mode = r->second;
  i.run = for_numbers(i.t, []<class T>() -> execution { return compare<T>; });
  return i.run != nullptr;
}

template <auto F>
execution unary(type t) {
  return for_numbers(t, []<class T>() -> execution { return one<T, [](T a) { return F(a); }>; });
}
template <auto F>
execution unary_float(type t) {
  return for_floats(t, []<class T>() -> execution { return one<T, [](T a) { return F(a); }>; });
}
template <auto F>
execution binary(type t) {
  return for_numbers(
      t, []<class T>() -> execution { return two<T, [](T a, T b) { return F(a, b); }>; });
}
template <auto F>
execution binary_whole(type t) {
  return for_whole(t,
                   []<class T>() -> execution { return two<T, [](T a, T b) { return F(a, b); }>; });
}

}  // namespace

bool decode_arithmetic(instruction& i) {
  const std::string& op = i.words[0];
  const type t = i.t;
  i.run = nullptr;
  if (op == "setp") return decode_comparison(i);
  if (i.saturates && t != type::f_32) return false;
  if ((op == "mul" || op == "mad") && i.has("wide")) {
    i.run = t == type::u_32   ? wide_product<u32, u64>
            : t == type::s_32 ? wide_product<s32, s64>
            : t == type::u_16 ? wide_product<u16, u32>
                              : wide_product<s16, s32>;
  } else if (op == "mad" || op == "fma") {
    i.run = for_numbers(t, []<class T>() -> execution {
      return three<T, [](T a, T b, T c) { return product_sum(a, b, c); }>;
    });
  } else {
    static const std::map<std::string_view, execution (*)(type)> others{
        {"add", binary<sum>},
        {"sub", binary<difference>},
        {"mul", binary<product>},
        {"div", binary<quotient>},
        {"rem", binary_whole<remainder_of>},
        {"min", binary<smaller>},
        {"max", binary<larger>},
        {"neg", unary<opposite>},
        {"abs", unary<magnitude>},
        {"sqrt", unary_float<square_root>},
        {"rcp", unary_float<inverse>},
        {"ex2", unary_float<power_of_two>},
        {"copysign", [](type x) {
           return for_floats(x, []<class T>() -> execution {
             return two<T, [](T a, T b) { return with_sign_of(a, b); }>;
           });
         }}};
    if (const auto f = others.find(op); f != others.end()) i.run = f->second(t);
  }
  return i.run != nullptr;
}

}  // namespace simulator
