// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {
namespace naive {

template <class Table, class Tokens, class Out>
void embed(Table table, Tokens tokens, Table row_scale, Out out) {
  for (std::size_t r = 0; r < out.rows(); ++r) {
    const auto token = static_cast<std::size_t>(tokens[r]);
    for (std::size_t j = 0; j < out.cols(); ++j) out(r, j) = row_scale[r] * table(token, j);
  }
}

template <class X, class Out>
void layer_norm(X x, X gain, X bias, double epsilon, Out out) {
  const auto d = static_cast<double>(x.cols());
  for (std::size_t r = 0; r < x.rows(); ++r) {
    double mean = 0;
    double variance = 0;
    for (std::size_t j = 0; j < x.cols(); ++j) mean += x(r, j) / d;
    for (std::size_t j = 0; j < x.cols(); ++j) variance += (x(r, j) - mean) * (x(r, j) - mean) / d;
    for (std::size_t j = 0; j < x.cols(); ++j) {
      out(r, j) = (x(r, j) - mean) / std::sqrt(variance + epsilon) * gain[j] +
                  (bias.empty() ? 0.0 : bias[j]);
    }
  }
}

template <class V>
void gelu(V x) {
  for (std::size_t r = 0; r < x.rows(); ++r) {
    for (std::size_t j = 0; j < x.cols(); ++j) x(r, j) *= std::erfc(-x(r, j) / std::sqrt(2.0)) / 2;
  }
}

template <class X, class Out>
void silu_gate(X gate, X up, Out out) {
  for (std::size_t r = 0; r < out.rows(); ++r) {
    for (std::size_t j = 0; j < out.cols(); ++j) {
      out(r, j) = gate(r, j) / (1 + std::exp(-gate(r, j))) * up(r, j);
    }
  }
}

template <class V, class Positions, class Table>
void rotary(V q, V k, std::size_t head_dim, Positions positions, Table cosines, Table sines,
            double q_scale) {
  const std::size_t half = head_dim / 2;
  for (std::size_t r = 0; r < q.rows(); ++r) {
    const auto at = static_cast<std::size_t>(positions[r]);
    for (std::size_t c = 0; c < q.cols(); ++c) {
      if (c % head_dim >= half) continue;
      const double cosine = cosines(at, c % head_dim);
      const double sine = sines(at, c % head_dim);
      for (V x : {q, k}) {
        const double scale = x.data() == q.data() ? q_scale : 1.0;
        const double a = x(r, c) * scale;
        const double b = x(r, c + half) * scale;
        x(r, c) = a * cosine - b * sine;
        x(r, c + half) = b * cosine + a * sine;
      }
    }
  }
}

template <class X, class Offsets, class Out>
void attention(X q, X k, X v, std::size_t head_dim, Offsets offsets, std::size_t, Out out) {
  for (std::size_t s = 0; s + 1 < offsets.size(); ++s) {
    const auto first = static_cast<std::size_t>(offsets[s]);
    const auto last = static_cast<std::size_t>(offsets[s + 1]);
    for (std::size_t column = 0; column < out.cols(); column += head_dim) {
      for (std::size_t i = first; i < last; ++i) {
        std::vector<double> weight(last - first);
        for (std::size_t j = first; j < last; ++j) {
          for (std::size_t c = column; c < column + head_dim; ++c) {
            weight[j - first] += q(i, c) * k(j, c);
          }
        }
        const double top = *std::max_element(weight.begin(), weight.end());
        double total = 0;
        for (double& w : weight) total += w = std::exp(w - top);
        for (std::size_t c = column; c < column + head_dim; ++c) {
          out(i, c) = 0;
          for (std::size_t j = first; j < last; ++j)
            out(i, c) += weight[j - first] / total * v(j, c);
        }
      }
    }
  }
}

template <class V>
void softmax_rows(V x) {
  for (std::size_t r = 0; r < x.rows(); ++r) {
    double top = -INFINITY;
    double total = 0;
    for (std::size_t j = 0; j < x.cols(); ++j) top = std::max(top, x(r, j));
    for (std::size_t j = 0; j < x.cols(); ++j) total += x(r, j) = std::exp(x(r, j) - top);
    for (std::size_t j = 0; j < x.cols(); ++j) x(r, j) /= total;
  }
}

/// Through the Jacobian of the normalised values u: du_i / dx_j = (delta_ij - 1 / d - u_i u_j / d)
/// / s.
template <class X, class V>
void layer_norm_backward(X x, X gain, X g, double epsilon, V out) {
  const auto d = static_cast<double>(x.cols());
  for (std::size_t r = 0; r < x.rows(); ++r) {
    double mean = 0;
    double variance = 0;
    for (std::size_t j = 0; j < x.cols(); ++j) mean += x(r, j) / d;
    for (std::size_t j = 0; j < x.cols(); ++j) variance += (x(r, j) - mean) * (x(r, j) - mean) / d;
    const double s = std::sqrt(variance + epsilon);
    std::vector<double> sums(x.cols(), 0.0);
    for (std::size_t j = 0; j < x.cols(); ++j) {
      for (std::size_t i = 0; i < x.cols(); ++i) {
        const double u = (x(r, i) - mean) / s;
        const double w = (x(r, j) - mean) / s;
        sums[j] += gain[i] * g(r, i) * ((i == j ? 1.0 : 0.0) - 1 / d - u * w / d) / s;
      }
    }
    for (std::size_t j = 0; j < x.cols(); ++j) out(r, j) = sums[j];
  }
}

template <class X, class V>
void gelu_backward(X x, V g) {
  for (std::size_t r = 0; r < g.rows(); ++r) {
    for (std::size_t j = 0; j < g.cols(); ++j) {
      const double v = x(r, j);
      g(r, j) *= std::erfc(-v / std::sqrt(2.0)) / 2 +
                 v * std::exp(-v * v / 2) / std::sqrt(2 * std::acos(-1.0));
    }
  }
}

template <class X, class V>
void softmax_backward(X p, V g) {
  for (std::size_t r = 0; r < g.rows(); ++r) {
    double along = 0;
    for (std::size_t j = 0; j < g.cols(); ++j) along += p(r, j) * g(r, j);
    for (std::size_t j = 0; j < g.cols(); ++j) g(r, j) = p(r, j) * (g(r, j) - along);
  }
}

}  // namespace naive
}  // namespace plmscope::inline PLMSCOPE_ABI
