// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/error.hpp>

#include <string>

/// The id of the plmscope::error that `action` throws, or `accepted`.
template <class Action>
std::string error_id(const Action& action) {
  try {
    action();
  } catch (const plmscope::error& e) {
    return std::string(e.id());
  }
  return "accepted";
}

/// The whole message of the plmscope::error that `action` throws, or nothing.
template <class Action>
std::string error_text(const Action& action) {
  try {
    action();
  } catch (const plmscope::error& e) {
    return e.what();
  }
  return {};
}
