// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/rng.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

// Data whose dictionary is known: every row is a sum of few unit directions with positive weights.
namespace planted {

struct options {
  std::size_t d = 24;
  std::size_t directions = 40;
  std::size_t active = 3;
  double noise = 0.01;
  double offset = 0;  ///< length of a constant added to every row
  std::uint64_t seed = 1;
};

/// Unit rows [directions, d].
inline std::vector<double> dictionary(const options& o) {
  const plmscope::rng random(o.seed, 1);
  std::vector<double> w(o.directions * o.d);
  for (std::size_t f = 0; f < o.directions; ++f) {
    double squares = 0;
    for (std::size_t j = 0; j < o.d; ++j) {
      const double v = random.normal(f * o.d + j);
      w[f * o.d + j] = v;
      squares += v * v;
    }
    for (std::size_t j = 0; j < o.d; ++j) w[f * o.d + j] /= std::sqrt(squares);
  }
  return w;
}

/// Row i of the endless data, added to `row`.
inline void draw(const options& o, const std::vector<double>& w, std::uint64_t i, double* row) {
  const plmscope::rng random(o.seed, 2);
  const std::uint64_t base = i * 1024;
  for (std::size_t a = 0; a < o.active; ++a) {
    const std::size_t f = random.below(base + 2 * a, o.directions);
    const double weight = 0.5 + random.uniform(base + 2 * a + 1);
    for (std::size_t j = 0; j < o.d; ++j) row[j] += weight * w[f * o.d + j];
  }
  for (std::size_t j = 0; j < o.d; ++j) {
    row[j] += o.noise * random.normal(base + 128 + j) +
              o.offset / std::sqrt(static_cast<double>(o.d));
  }
}

/// Rows [first, first + m) on the host.
inline std::vector<double> rows(const options& o, std::uint64_t first, std::size_t m) {
  const auto w = dictionary(o);
  std::vector<double> x(m * o.d, 0.0);
  for (std::size_t r = 0; r < m; ++r) draw(o, w, first + r, x.data() + r * o.d);
  return x;
}

/// The reader of the trainer. `limit` rows are repeated without end; 0: always new ones.
template <class B>
class reader {
 public:
  explicit reader(options o, std::size_t limit = 0) : o_(o), w_(dictionary(o)), limit_(limit) {}

  plmscope::const_view<B> next(B& be, std::size_t count) {
    host_.assign(count * o_.d, 0.0);
    for (std::size_t r = 0; r < count; ++r) {
      draw(o_, w_, limit_ == 0 ? at_ + r : (at_ + r) % limit_, host_.data() + r * o_.d);
    }
    at_ += count;
    batch_.reshape(be, count, o_.d);
    be.upload(std::span<const double>(host_), batch_.all());
    return batch_;
  }

  std::size_t position() const { return at_; }
  void seek(B&, std::size_t position) { at_ = position; }
  std::string identity() const {
    return "planted, seed " + std::to_string(o_.seed) + ", limit " + std::to_string(limit_);
  }

 private:
  options o_;
  std::vector<double> w_;
  std::size_t limit_;
  std::uint64_t at_ = 0;
  std::vector<double> host_;
  plmscope::matrix<typename B::real, B> batch_;
};

}  // namespace planted
