// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/device/elementwise.hpp>
#include <plmscope/backend/primitives.hpp>

#include <cstddef>

namespace plmscope::inline PLMSCOPE_ABI {
namespace device_kernels {

template <class Device, class C, class Packed, class V>
void launch_linear(Device& be, C x, const Packed& w, C bias, V out, epilogue then) {
  using Real = typename V::value_type;
  if (then == epilogue::add) {
    auto sum = be.template scratch<Real>(out.size());
    const V term(sum.get(), out.rows(), out.cols());
    be.runtime().product(x, w, term, Real{0});
    be.each(out, [=] PLMSCOPE_DEVICE(std::size_t r, std::size_t c) {
      const Real v = term.row_data(r)[c];
      out.row_data(r)[c] += bias.empty() ? v : v + bias.data()[c];
    });
    return;
  }
  be.runtime().product(x, w, out, Real{0});
  if (then == epilogue::gelu) {
    be.each(out, [=] PLMSCOPE_DEVICE(std::size_t r, std::size_t c) {
      Real& v = out.row_data(r)[c];
      v = device_kernels::gelu(bias.empty() ? v : v + bias.data()[c]);
    });
  } else if (!bias.empty()) {
    be.add_row(out, bias);
  }
}

}  // namespace device_kernels
}  // namespace plmscope::inline PLMSCOPE_ABI
