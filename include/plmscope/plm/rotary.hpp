// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Cosines and sines of rotary positions (Su et al. 2021): row p holds those of p inv_freq, the
/// angle rounded to `Angle` as the official code of a model does, the functions of it exact.
template <class Backend, class Angle = typename Backend::real>
class rotary_table {
 public:
  using real = typename Backend::real;

  /// Makes sure of rows for positions below `length`. `sign` -1 turns the other way round.
  void grow(Backend& be, std::span<const float> inv_freq, std::size_t length, double sign = 1) {
    if (cosines_.rows() >= length) return;
    const std::size_t rows = std::max(length, 2 * cosines_.rows());
    std::vector<double> cosines;
    std::vector<double> sines;
    for (std::size_t p = 0; p < rows; ++p) {
      for (const float f : inv_freq) {
        const Angle angle = static_cast<Angle>(p) * static_cast<Angle>(f);
        cosines.push_back(std::cos(static_cast<double>(angle)));
        sines.push_back(sign * std::sin(static_cast<double>(angle)));
      }
    }
    cosines_ = matrix<real, Backend>(be, rows, inv_freq.size());
    sines_ = matrix<real, Backend>(be, rows, inv_freq.size());
    be.upload(std::span<const double>(cosines), cosines_.all());
    be.upload(std::span<const double>(sines), sines_.all());
  }

  const_view<Backend> cosines() const noexcept { return cosines_; }
  const_view<Backend> sines() const noexcept { return sines_; }

 private:
  matrix<real, Backend> cosines_;  // [positions, head_dim / 2]
  matrix<real, Backend> sines_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
