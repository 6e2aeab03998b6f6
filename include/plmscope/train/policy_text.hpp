// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/sha256.hpp>

#include <charconv>
#include <concepts>
#include <cstddef>
#include <ranges>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

namespace plmscope::inline PLMSCOPE_ABI {

namespace policy_detail {

template <class T>
constexpr const char* signature() noexcept {
  return __PRETTY_FUNCTION__;
}

/// The name of a type as the compiler spells it, without the tag of the instruction set.
template <class T>
std::string type_name() {
  const auto spelled = [](std::string_view s) {
    const std::size_t from = s.find("T = ") + 4;
    return std::string(s.substr(from, s.rfind(']') - from));
  };
  const std::string known = spelled(signature<sha256>());
  const std::string tagged = known.substr(0, known.rfind("sha256"));
  std::string name = spelled(signature<T>());
  for (std::size_t at; tagged != "plmscope::" && (at = name.find(tagged)) != std::string::npos;) {
    name.replace(at, tagged.size(), "plmscope::");
  }
  return name;
}

// Members of a plain struct are counted by how many values initialise it.
struct any_value {
  template <class T>
  operator T() const;
};
template <class Derived>
struct any_base {
  template <class T>
    requires(std::is_base_of_v<T, Derived> && !std::is_same_v<T, Derived>)
  operator T() const;
};
template <class T, class Any, std::size_t... I>
consteval bool takes(std::index_sequence<I...>) {
  return requires { T{(static_cast<void>(I), Any{})...}; };
}
template <class T, class Any, std::size_t N>
consteval std::size_t longest() {
  if constexpr (N == 0 || takes<T, Any>(std::make_index_sequence<N>()))
    return N;
  else
    return longest<T, Any, N - 1>();
}
inline constexpr std::size_t most_members = 20;
template <class T>
inline constexpr std::size_t members =
    longest<T, any_value, most_members + 2>() - longest<T, any_base<T>, 3>();

/// The members as a tuple of references.
template <class T>
auto members_of(const T& t) {
  constexpr std::size_t n = members<T>;
  static_assert(n > 0 && n <= most_members,
                "plmscope: a policy with more than 20 fields needs `template <class F> void "
                "settings(const F& f) const` that calls f(value) for every field");
  // clang-format off
  if constexpr (n == 1) { auto& [a] = t; return std::tie(a); }
  else if constexpr (n == 2) { auto& [a, b] = t; return std::tie(a, b); }
  else if constexpr (n == 3) { auto& [a, b, c] = t; return std::tie(a, b, c); }
  else if constexpr (n == 4) { auto& [a, b, c, d] = t; return std::tie(a, b, c, d); }
  else if constexpr (n == 5) { auto& [a, b, c, d, e] = t; return std::tie(a, b, c, d, e); }
  else if constexpr (n == 6) { auto& [a, b, c, d, e, f] = t; return std::tie(a, b, c, d, e, f); }
  else if constexpr (n == 7) { auto& [a, b, c, d, e, f, g] = t; return std::tie(a, b, c, d, e, f, g); }
  else if constexpr (n == 8) { auto& [a, b, c, d, e, f, g, h] = t; return std::tie(a, b, c, d, e, f, g, h); }
  else if constexpr (n == 9) { auto& [a, b, c, d, e, f, g, h, i] = t; return std::tie(a, b, c, d, e, f, g, h, i); }
  else if constexpr (n == 10) { auto& [a, b, c, d, e, f, g, h, i, j] = t; return std::tie(a, b, c, d, e, f, g, h, i, j); }
  else if constexpr (n == 11) { auto& [a, b, c, d, e, f, g, h, i, j, k] = t; return std::tie(a, b, c, d, e, f, g, h, i, j, k); }
  else if constexpr (n == 12) { auto& [a, b, c, d, e, f, g, h, i, j, k, l] = t; return std::tie(a, b, c, d, e, f, g, h, i, j, k, l); }
  else if constexpr (n == 13) { auto& [a, b, c, d, e, f, g, h, i, j, k, l, m] = t; return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m); }
  else if constexpr (n == 14) { auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, o] = t; return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, o); }
  else if constexpr (n == 15) { auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, o, p] = t; return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, o, p); }
  else if constexpr (n == 16) { auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, o, p, q] = t; return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, o, p, q); }
  else if constexpr (n == 17) { auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, o, p, q, r] = t; return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, o, p, q, r); }
  else if constexpr (n == 18) { auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, o, p, q, r, s] = t; return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, o, p, q, r, s); }
  else if constexpr (n == 19) { auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, o, p, q, r, s, u] = t; return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, o, p, q, r, s, u); }
  else { auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, o, p, q, r, s, u, v] = t; return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, o, p, q, r, s, u, v); }
  // clang-format on
}

template <class T>
concept has_settings = requires(const T& t) { t.settings([](const auto&) {}); };
template <class T>
inline constexpr bool is_tuple = false;
template <class... T>
inline constexpr bool is_tuple<std::tuple<T...>> = true;
template <class T>
inline constexpr bool cannot_be_told = false;

}  // namespace policy_detail

/// A policy and what it is set to, as text: its type, then its fields in braces, numbers in the
/// shortest form that gives them back. Two policies with equal texts do the same. Plain structs are
/// taken apart by themselves (at most 20 fields, all in one class); any other needs
/// `template <class F> void settings(const F& f) const` that calls f(value) for every field. Long
/// lists are told by their length and SHA-256.
template <class T>
std::string policy_text(const T& value) {
  namespace d = policy_detail;
  if constexpr (std::is_same_v<T, bool>) {
    return value ? "true" : "false";
  } else if constexpr (std::is_enum_v<T>) {
    return policy_text(static_cast<std::underlying_type_t<T>>(value));
  } else if constexpr (std::is_arithmetic_v<T>) {
    char text[64];
    return {text, std::to_chars(text, text + sizeof text, value).ptr};
  } else if constexpr (std::convertible_to<const T&, std::string_view>) {
    return '"' + std::string(std::string_view(value)) + '"';
  } else {
    std::string text;
    std::size_t count = 0;
    const auto add = [&](const auto& part) {
      if (count++ > 0) text += ", ";
      text += policy_text(part);
    };
    if constexpr (std::ranges::range<const T>) {
      for (const auto& v : value) add(v);
      if (count <= 16) return '[' + text + ']';
      sha256 hash;
      hash.update(std::string_view(text));
      return '[' + std::to_string(count) + " of " + hash.hex() + ']';
    } else if constexpr (d::is_tuple<T>) {
      std::apply([&](const auto&... v) { (add(v), ...); }, value);
      return '(' + text + ')';
    } else if constexpr (d::has_settings<T>) {
      value.settings(add);
      return d::type_name<T>() + '{' + text + '}';
    } else if constexpr (std::is_empty_v<T>) {
      return d::type_name<T>();
    } else if constexpr (std::is_aggregate_v<T>) {
      std::apply([&](const auto&... v) { (add(v), ...); }, d::members_of(value));
      return d::type_name<T>() + '{' + text + '}';
    } else {
      static_assert(
          d::cannot_be_told<T>,
          "plmscope: a checkpoint records what a policy is set to, and this type does not "
          "tell: add `template <class F> void settings(const F& f) const` that calls "
          "f(value) for every field");
    }
  }
}

}  // namespace plmscope::inline PLMSCOPE_ABI
