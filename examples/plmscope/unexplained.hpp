// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <span>
#include <vector>

/// FVU of rows [.., d] that come in pieces: sum |y - x|^2 / sum |x - mean|^2.
class unexplained_share {
 public:
  explicit unexplained_share(std::size_t d) : sum_(d, 0.0) {}

  void add(std::span<const float> rows, std::span<const float> rebuilt) {
    const std::size_t d = sum_.size();
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const double x = static_cast<double>(rows[i]);
      const double e = static_cast<double>(rebuilt[i]) - x;
      sum_[i % d] += x;
      squares_ += x * x;
      unexplained_ += e * e;
    }
    rows_ += rows.size() / d;
  }
  /// 0 where the rows do not vary.
  double value() const {
    double variance = squares_;
    for (const double s : sum_) variance -= s * s / static_cast<double>(rows_);
    return variance > 0 ? unexplained_ / variance : 0;
  }

 private:
  std::vector<double> sum_;  // of each column
  double squares_ = 0;
  double unexplained_ = 0;
  std::size_t rows_ = 0;
};
