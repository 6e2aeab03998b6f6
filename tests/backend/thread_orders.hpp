// SPDX-License-Identifier: MIT
#pragma once

#include <tests/devices.hpp>

#include <doctest/doctest.h>

namespace devices {

/// Calls f() with the threads of an emulated device moving in each of its orders. A GPU has its
/// own.
template <class B, class F>
void in_every_order([[maybe_unused]] B& be, const F& f) {
#if defined(__CUDACC__)
  f();
#else
  using emulation::order;
  const order before = be.runtime().schedule;
  for (const order o : {order::ascending, order::descending, order::inside_out}) {
    be.runtime().schedule = o;
    INFO("order ", static_cast<int>(o));
    f();
  }
  be.runtime().schedule = before;
#endif
}

}  // namespace devices
