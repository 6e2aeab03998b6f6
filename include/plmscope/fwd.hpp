// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <cstddef>

namespace plmscope::inline PLMSCOPE_ABI {

template <class Backend, class T>
class view;
template <class T, class Backend>
class matrix;
template <class Backend>
class codes;
struct eigen_gemm;
template <class Real, class Gemm>
class basic_cpu;
template <class Backend>
class esm2;
template <class Backend>
class esmc;

/// The default backend: single precision on the processor, products by Eigen.
using cpu = basic_cpu<float, eigen_gemm>;

}  // namespace plmscope
