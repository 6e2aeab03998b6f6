// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/error.hpp>

#include <string>

/// The id of the error that f throws, a blank and its text; "no error" where it throws none.
template <class F>
std::string error_of(const F& f) {
  try {
    f();
  } catch (const plmscope::error& e) {
    return std::string(e.id()).append(" ").append(e.what());
  }
  return "no error";
}
