// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/tensor/matrix.hpp>

#include <cstddef>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

namespace plmscope::inline PLMSCOPE_ABI {

namespace state_detail {

template <class T>
inline constexpr bool is_matrix = false;
template <class T, class B>
inline constexpr bool is_matrix<matrix<T, B>> = true;
template <class T>
inline constexpr bool is_tuple = false;
template <class... T>
inline constexpr bool is_tuple<std::tuple<T...>> = true;
template <class T>
inline constexpr bool cannot_be_saved = false;

template <class T>
concept has_fields = requires(T& t) { t.fields([](std::string_view, auto&) {}); };
template <class T>
concept has_for_each = requires(T& t) { t.for_each([](std::string_view, auto&) {}); };

}  // namespace state_detail

/// Shows `archive` every matrix and number of a state: archive.tensor(name, matrix) and
/// archive.number(name, value), with names like `optimizer.m.encoder`. A policy's state tells what
/// it consists of by `template <class F> void fields(const F& f)` that calls f(name, value) for all
/// that the next step depends on: matrices, parameters, numbers, states of other policies.
/// Workspace is left out; a state of workspace alone has `fields` with nothing in it, an empty
/// state none.
template <class Archive, class T>
void visit_state(Archive& archive, const std::string& name, T& value) {
  namespace d = state_detail;
  const auto part = [&](std::string_view field, auto& v) {
    visit_state(archive, name.empty() ? std::string(field) : name + '.' + std::string(field), v);
  };
  if constexpr (d::is_matrix<T>) {
    archive.tensor(name, value);
  } else if constexpr (std::is_arithmetic_v<T>) {
    archive.number(name, value);
  } else if constexpr (d::has_fields<T>) {
    value.fields(part);
  } else if constexpr (d::has_for_each<T>) {
    value.for_each(part);
  } else if constexpr (d::is_tuple<T>) {
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      (part(std::to_string(I), std::get<I>(value)), ...);
    }(std::make_index_sequence<std::tuple_size_v<T>>());
  } else if constexpr (!std::is_empty_v<T>) {
    static_assert(d::cannot_be_saved<T>,
                  "plmscope: a checkpoint cannot save this state: add `template <class F> void "
                  "fields(const F& f)` that calls f(name, value) for every matrix and number that "
                  "the next step depends on (for none, when it is workspace)");
  }
}

}  // namespace plmscope::inline PLMSCOPE_ABI
