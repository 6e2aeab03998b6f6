// expect: Backend::on_host
// SPDX-License-Identifier: MIT
// Memory of a device is not read by the host.
#include <plmscope/core/view.hpp>

struct device {
  using real = float;
#ifdef CONTROL
  static constexpr bool on_host = true;
#else
  static constexpr bool on_host = false;
#endif
};

int main() {
  float numbers[6] = {};
  const plmscope::view<device> x(numbers, 2, 3);
  return static_cast<int>(x(1, 2));
}
