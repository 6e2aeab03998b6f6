// expect: cannot convert 'view<device,[...]>' to 'view<plmscope::
// expect (clang): no viable conversion from 'view<device, [...]>' to 'view<basic_cpu<
// SPDX-License-Identifier: MIT
// A view of memory that belongs to one backend is no argument for another one.
#include <plmscope/backend/cpu.hpp>

// A backend whose memory this processor cannot read.
struct device {
  using real = float;
  static constexpr bool on_host = false;
};

int main() {
  float numbers[6] = {};
  plmscope::cpu backend(1);
#ifdef CONTROL
  plmscope::view<plmscope::cpu> x(numbers, 2, 3);
#else
  plmscope::view<device> x(numbers, 2, 3);
#endif
  backend.scale(x, 2.0f);
}
