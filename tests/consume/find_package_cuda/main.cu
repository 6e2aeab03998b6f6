// SPDX-License-Identifier: MIT
// A foreign GPU program: the sum of squares of some numbers. Without a GPU it says so.
#include <plmscope/cuda.cuh>

#include <iostream>
#include <span>

int main() try {
  plmscope::cuda be;
  plmscope::matrix<float, plmscope::cuda> x(be, 3, 5);
  plmscope::matrix<double, plmscope::cuda> sum(be, 1, 1);
  be.fill(x.all(), 2.0f);
  be.add_sum_squares(x, sum.all());
  double found = 0;
  be.download(sum.all(), std::span<double>(&found, 1));
  std::cout << "sum of squares " << found << '\n';
  return found == 60 ? 0 : 1;
} catch (const plmscope::error& e) {
  std::cout << "skipped: " << e.what() << '\n';
  return e.id() == "backend.101" ? 0 : 1;
}
