// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/precision.hpp>
#include <plmscope/core/rng.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Moves named tensors into a backend. `Read` is called as read(name, shape, span<real>): a model
/// file, or `random_tensors`.
template <class Backend, class Read>
class weight_filler {
 public:
  using real = typename Backend::real;
  using vector = matrix<real, Backend>;
  using names = std::vector<std::string>;

  weight_filler(Backend& be, const Read& read) : be_(be), read_(read) {}

  vector row(const std::string& name, std::size_t n) { return stacked({name}, n, 0); }
  vector table(const std::string& name, std::size_t rows, std::size_t cols) {
    return stacked({name}, rows, cols);
  }
  typename Backend::packed weight(const names& parts, std::size_t rows, std::size_t cols) {
    return be_.pack(stacked(parts, rows, cols));
  }
  /// In single precision whatever the backend multiplies in: for the last product of a head, a
  /// thousandth of the work, whose rounding nothing averages.
  typename Backend::packed exact_weight(const vector& w) {
    if constexpr (requires { be_.with(product_precision::fp32); }) {
      return be_.with(product_precision::fp32).pack(w);
    } else {
      return be_.pack(w);
    }
  }
  /// Tensors of the same shape under each other. cols == 0: vectors, end to end in one row.
  vector stacked(const names& parts, std::size_t rows, std::size_t cols) {
    const std::size_t each = rows * (cols == 0 ? 1 : cols);
    host_.resize(parts.size() * each);
    std::size_t at = 0;
    for (const std::string& name : parts) {
      const std::span<real> part(host_.data() + at * each, each);
      if (cols == 0) {
        read_(name, {rows}, part);
      } else {
        read_(name, {rows, cols}, part);
      }
      ++at;
    }
    vector out = cols == 0 ? vector(be_, 1, host_.size()) : vector(be_, at * rows, cols);
    be_.upload(std::span<const real>(host_), out.all());
    return out;
  }

 private:
  Backend& be_;
  const Read& read_;
  std::vector<real> host_;
};

/// Numbers for a model that was never trained: gains near 1, the rest spread by fan-in. A tensor's
/// numbers depend on the seed and on how many were read before it; every backend gets the same.
class random_tensors {
 public:
  explicit random_tensors(std::uint64_t seed) : seed_(seed) {}

  template <class Real>
  void operator()(std::string_view name, std::initializer_list<std::size_t> shape,
                  std::span<Real> out) const {
    const rng random(seed_, ++stream_);
    const bool gain = shape.size() == 1 && name.ends_with("weight");
    const double fan_in = shape.size() == 2 ? static_cast<double>(*(shape.begin() + 1)) : 12.0;
    const double spread = std::sqrt(12.0 / fan_in);
    for (std::size_t i = 0; i < out.size(); ++i) {
      const double u = spread * (random.uniform(i) - 0.5);
      out[i] = static_cast<Real>(static_cast<float>(gain ? 1.0 + 0.1 * u : 0.3 * u));
    }
  }

 private:
  std::uint64_t seed_;
  mutable std::uint64_t stream_ = 0;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
