// SPDX-License-Identifier: MIT
#include <plmscope/plmscope.hpp>

#include <iostream>

int main() {
  plmscope::cpu backend(1);
  plmscope::matrix<float, plmscope::cpu> x(backend, 3, 5);
  plmscope::matrix<float, plmscope::cpu> sums(backend, 1, 5);
  backend.fill(x.all(), 2.0f);
  backend.column_sums(x, sums);
  std::cout << "plmscope " << PLMSCOPE_VERSION_MAJOR << '.' << PLMSCOPE_VERSION_MINOR
            << ", sum of a column " << sums(0, 4) << '\n';
  return sums(0, 4) == 6.0f ? 0 : 1;
}
