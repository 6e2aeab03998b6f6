// SPDX-License-Identifier: MIT
#include <plmscope/backend/cpu/gemm_onednn.hpp>
#include <plmscope/plmscope.hpp>

#include <iostream>

int main() {
  plmscope::basic_cpu<float, plmscope::onednn_gemm> backend(1);
  const float a[2] = {3.0f, 4.0f};
  float c[1] = {0.0f};
  using device = decltype(backend);
  backend.gemm_nt(plmscope::const_view<device>(a, 1, 2), plmscope::const_view<device>(a, 1, 2),
                  plmscope::view<device>(c, 1, 1));
  std::cout << backend.gemm_name() << ": " << c[0] << '\n';
  return c[0] == 25.0f ? 0 : 1;
}
