// expect: view<Backend, T>::operator() [with Backend=plmscope::
// SPDX-License-Identifier: MIT
// The host cannot index memory of the GPU.
#include <plmscope/backend/cuda.cuh>
#include <plmscope/tensor/matrix.hpp>

int main() {
  plmscope::cuda gpu;
  plmscope::matrix<float, plmscope::cuda> x(gpu, 2, 3);
#ifdef CONTROL
  float first[6];
  gpu.download(x.all(), std::span<float>(first));
  return first[0] > 0 ? 1 : 0;
#else
  return x.all()(0, 0) > 0 ? 1 : 0;
#endif
}
