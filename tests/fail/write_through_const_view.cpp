// expect: cannot convert 'view<[...],const float>' to 'view<[...],float>'
// expect (clang): no viable conversion from 'view<[...], const float>' to 'view<[...], float>'
// SPDX-License-Identifier: MIT
// What is only readable cannot be given away as writable.
#include <plmscope/backend/cpu.hpp>

int main() {
  float numbers[6] = {};
  plmscope::cpu backend(1);
#ifdef CONTROL
  plmscope::view<plmscope::cpu> x(numbers, 2, 3);
#else
  plmscope::const_view<plmscope::cpu> x(numbers, 2, 3);
#endif
  backend.scale(x, 2.0f);
}
