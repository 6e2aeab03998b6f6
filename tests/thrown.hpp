// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/error.hpp>

#include <string>

/// The id of the error that f throws, or "nothing".
template <class F>
std::string id_thrown(const F& f) {
  try {
    f();
  } catch (const plmscope::error& e) {
    return std::string(e.id());
  }
  return "nothing";
}
