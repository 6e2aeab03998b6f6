// expect: no suitable user-defined conversion from "plmscope::
// SPDX-License-Identifier: MIT
// A view of host memory is no argument for the GPU: the types say which side each belongs to.
#include <plmscope/backend/cpu.hpp>
#include <plmscope/backend/cuda.cuh>
#include <plmscope/tensor/matrix.hpp>

int main() {
  float numbers[6] = {};
  plmscope::cuda gpu;
#ifdef CONTROL
  plmscope::matrix<float, plmscope::cuda> x(gpu, 2, 3);
  gpu.scale(x, 2.0f);
#else
  gpu.scale(plmscope::view<plmscope::cpu>(numbers, 2, 3), 2.0f);
#endif
  return static_cast<int>(numbers[0]);
}
