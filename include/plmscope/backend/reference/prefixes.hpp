// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/reference/basic.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {
namespace naive {

template <class Backend, class C, class Codes>
void group_max(Backend& be, C pre, std::size_t groups, bool zeros, Codes& out) {
  const std::size_t width = pre.cols() / groups;
  for (std::size_t r = 0; r < pre.rows(); ++r) {
    out.reserve_more(be, 1, groups);
    std::size_t end = out.entries();
    for (std::size_t g = 0; g < groups; ++g) {
      std::size_t best = g * width;
      double largest = 0;
      for (std::size_t f = g * width; f < (g + 1) * width; ++f) {
        if (pre(r, f) > largest) largest = pre(r, f), best = f;
      }
      if (largest == 0 && !zeros) continue;
      out.ids()[end] = static_cast<std::uint32_t>(best);
      out.values()[end++] = largest;
    }
    out.offsets()[out.rows() + 1] = static_cast<std::int64_t>(end);
    out.append(1, end - out.entries());
  }
}

template <class Codes, class Ends, class Offsets>
void split_rows(const Codes& z, Ends ends, Offsets offsets) {
  const std::size_t parts = ends.cols();
  for (std::size_t r = 0; r < z.rows(); ++r) {
    for (std::size_t g = 0; g < parts; ++g) {
      std::int64_t at = z.offsets()[r];
      while (g > 0 && at < z.offsets()[r + 1] && z.ids()[at] < ends[g - 1]) ++at;
      offsets[r * parts + g] = at;
    }
  }
  offsets[z.rows() * parts] = z.offsets()[z.rows()];
}

template <class V, class C, class Loss>
void prefix_errors(V parts, C target, C bias, C shares, const Loss& loss, V rows) {
  const std::size_t n = shares.cols();
  const std::size_t d = target.cols();
  for (std::size_t r = 0; r < target.rows(); ++r) {
    std::vector<double> errors(n * d, 0.0);
    for (std::size_t g = 0; g < n; ++g) {
      double squares = 0;
      for (std::size_t j = 0; j < d; ++j) {
        double y = bias.empty() ? 0 : bias[j];
        for (std::size_t h = 0; h <= g; ++h) y += parts(r * n + h, j);
        errors[g * d + j] = y - target(r, j);
        squares += errors[g * d + j] * errors[g * d + j];
      }
      rows(0, r * n + g) = squares;
      rows(1, r * n + g) = shares[g] * loss.value(r, squares);
      rows(2, r * n + g) = shares[g] * loss.slope(r, squares);
    }
    for (std::size_t g = 0; g < n; ++g) {
      for (std::size_t j = 0; j < d; ++j) {
        parts(r * n + g, j) = 0;
        for (std::size_t h = g; h < n; ++h) {
          parts(r * n + g, j) += rows(2, r * n + h) * errors[h * d + j];
        }
      }
    }
  }
}

}  // namespace naive
}  // namespace plmscope::inline PLMSCOPE_ABI
