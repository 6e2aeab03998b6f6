// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/primitives.hpp>
#include <plmscope/core/view.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// The primitives as the shortest loops that are obviously right. No tile, no thread, no trick:
/// tests hold every other backend against these.
namespace naive {

template <class A, class B, class C, class Real>
void gemm(std::size_t m, std::size_t n, std::size_t k, const A& a, const B& b, C c, Real beta) {
  for (std::size_t i = 0; i < m; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      Real sum = 0;
      for (std::size_t l = 0; l < k; ++l) sum += a(i, l) * b(l, j);
      c(i, j) = beta == Real{0} ? sum : sum + beta * c(i, j);
    }
  }
}

template <class C>
double norm(C x, std::size_t r) {
  double sum = 0;
  for (std::size_t j = 0; j < x.cols(); ++j) sum += x(r, j) * x(r, j);
  return std::sqrt(sum);
}

template <class C, class Order, class Codes, class Backend>
void top_k_rows(Backend& be, C pre, std::size_t k, Order, Codes& out) {
  for (std::size_t r = 0; r < pre.rows(); ++r) {
    std::vector<std::size_t> ids;
    for (std::size_t f = 0; f < pre.cols(); ++f) {
      if (!std::isnan(pre(r, f))) ids.push_back(f);
    }
    std::stable_sort(ids.begin(), ids.end(), [&](std::size_t a, std::size_t b) {
      return Order::key(pre(r, a)) > Order::key(pre(r, b));
    });
    ids.resize(std::min(k, ids.size()));
    std::erase_if(ids, [&](std::size_t f) { return !Order::keep(pre(r, f)); });
    std::sort(ids.begin(), ids.end());
    out.reserve_more(be, 1, ids.size());
    for (std::size_t e = 0; e < ids.size(); ++e) {
      out.ids()[out.entries() + e] = static_cast<std::uint32_t>(ids[e]);
      out.values()[out.entries() + e] = pre(r, ids[e]);
    }
    out.offsets()[out.rows() + 1] = static_cast<std::int64_t>(out.entries() + ids.size());
    out.append(1, ids.size());
  }
}

template <class C, class Order, class Codes, class Backend>
void keep_above(Backend& be, C pre, C bound, Order, Codes& out) {
  for (std::size_t r = 0; r < pre.rows(); ++r) {
    out.reserve_more(be, 1, pre.cols());
    std::size_t end = out.entries();
    for (std::size_t f = 0; f < pre.cols(); ++f) {
      const double a = pre(r, f);
      if (std::isnan(a) || !Order::keep(a)) continue;
      if (!bound.empty() && !(Order::key(a) > bound[bound.cols() == 1 ? 0 : f])) continue;
      out.ids()[end] = static_cast<std::uint32_t>(f);
      out.values()[end++] = a;
    }
    out.offsets()[out.rows() + 1] = static_cast<std::int64_t>(end);
    out.append(1, end - out.entries());
  }
}

template <class C, class Order, class Codes, class V, class Backend>
void batch_top_n(Backend& be, C pre, std::size_t n, Order order, Codes& out, V last) {
  keep_above(be, pre, C(), order, out);
  std::vector<double> keys;
  for (std::size_t e = 0; e < out.entries(); ++e) keys.push_back(Order::key(out.values()[e]));
  std::vector<std::size_t> ranked(keys.size());
  for (std::size_t e = 0; e < ranked.size(); ++e) ranked[e] = e;
  std::stable_sort(ranked.begin(), ranked.end(),
                   [&](std::size_t a, std::size_t b) { return keys[a] > keys[b]; });
  if (!last.empty() && n <= ranked.size()) {
    last[0] = n == 0 ? std::numeric_limits<double>::infinity() : keys[ranked[n - 1]];
  }
  std::vector<bool> stays(keys.size(), false);
  for (std::size_t i = 0; i < std::min(n, ranked.size()); ++i) stays[ranked[i]] = true;
  std::size_t end = 0;
  for (std::size_t r = 0, e = 0; r < out.rows(); ++r) {
    for (; e < static_cast<std::size_t>(out.offsets()[r + 1]); ++e) {
      if (!stays[e]) continue;
      out.ids()[end] = out.ids()[e];
      out.values()[end++] = out.values()[e];
    }
    out.offsets()[r + 1] = static_cast<std::int64_t>(end);
  }
  out.close_up(end);
}

template <class Codes, class F>
void for_entries(const Codes& z, const F& f) {
  for (std::size_t r = 0; r < z.rows(); ++r) {
    for (auto e = static_cast<std::size_t>(z.offsets()[r]);
         e < static_cast<std::size_t>(z.offsets()[r + 1]); ++e) {
      f(r, e, static_cast<std::size_t>(z.ids()[e]));
    }
  }
}

template <class Codes, class C, class V>
void decode(const Codes& z, C dictionary, C bias, V out) {
  for (std::size_t r = 0; r < z.rows(); ++r) {
    for (std::size_t j = 0; j < out.cols(); ++j) out(r, j) = bias.empty() ? 0 : bias[j];
  }
  for_entries(z, [&](std::size_t r, std::size_t e, std::size_t f) {
    for (std::size_t j = 0; j < out.cols(); ++j) out(r, j) += z.values()[e] * dictionary(f, j);
  });
}

template <class Codes, class C, class V>
void sampled_dot(const Codes& z, C gradient, C dictionary, V dz) {
  for_entries(z, [&](std::size_t r, std::size_t e, std::size_t f) {
    dz[e] = 0;
    for (std::size_t j = 0; j < dictionary.cols(); ++j) dz[e] += gradient(r, j) * dictionary(f, j);
  });
}

template <class Codes, class C, class Loss, class V>
void reconstruct(const Codes& z, C dictionary, C bias, C target, const Loss& loss, V gradient,
                 V dz, V rows) {
  decode(z, dictionary, bias, gradient);
  for (std::size_t r = 0; r < z.rows(); ++r) {
    double squares = 0;
    for (std::size_t j = 0; j < target.cols(); ++j) {
      gradient(r, j) -= target(r, j);
      squares += gradient(r, j) * gradient(r, j);
    }
    rows(0, r) = squares;
    rows(1, r) = loss.value(r, squares);
    rows(2, r) = loss.slope(r, squares);
    for (std::size_t j = 0; j < target.cols(); ++j) gradient(r, j) *= rows(2, r);
  }
  sampled_dot(z, C(gradient), dictionary, dz);
}

template <class Backend, class Codes, class Transposed>
void transpose(Backend& be, const Codes& z, Transposed& out) {
  out.reshape(be, z.features(), z.entries());
  std::size_t p = 0;
  for (std::size_t f = 0; f < z.features(); ++f) {
    out.offsets()[f] = static_cast<std::int64_t>(p);
    for_entries(z, [&](std::size_t r, std::size_t e, std::size_t g) {
      if (g != f) return;
      out.rows()[p] = static_cast<std::uint32_t>(r);
      out.entries()[p++] = static_cast<std::uint32_t>(e);
    });
  }
  out.offsets()[z.features()] = static_cast<std::int64_t>(p);
}

template <class Transposed, class C, class V, class Real>
void sparse_backward(const Transposed& t, C z, C dz, C gradient, C x, V d_decoder, V d_encoder,
                     V d_bias, Real beta) {
  const auto start = [&](V v) {
    for (std::size_t r = 0; r < v.rows(); ++r) {
      for (std::size_t j = 0; j < v.cols(); ++j) v(r, j) = beta == Real{0} ? Real{0} : beta * v(r, j);
    }
  };
  start(d_decoder), start(d_encoder), start(d_bias);
  for (std::size_t f = 0; f < t.features(); ++f) {
    for (auto p = static_cast<std::size_t>(t.offsets()[f]);
         p < static_cast<std::size_t>(t.offsets()[f + 1]); ++p) {
      const std::size_t r = t.rows()[p];
      const std::size_t e = t.entries()[p];
      if (!d_decoder.empty()) {
        for (std::size_t j = 0; j < d_decoder.cols(); ++j) d_decoder(f, j) += z[e] * gradient(r, j);
      }
      if (!d_encoder.empty()) {
        for (std::size_t j = 0; j < d_encoder.cols(); ++j) d_encoder(f, j) += dz[e] * x(r, j);
      }
      if (!d_bias.empty()) d_bias[f] += dz[e];
    }
  }
}

template <class V, class C, class Real>
void adam(V p, C g, V m, V v, const adam_step<Real>& s, Real factor) {
  for (std::size_t r = 0; r < p.rows(); ++r) {
    for (std::size_t j = 0; j < p.cols(); ++j) {
      const Real gradient = factor * g(r, j);
      p(r, j) *= 1 - s.decay;
      m(r, j) = s.beta1 * m(r, j) + (1 - s.beta1) * gradient;
      v(r, j) = s.beta2 * v(r, j) + (1 - s.beta2) * gradient * gradient;
      p(r, j) -= s.rate / s.correction1 * m(r, j) /
                 (std::sqrt(v(r, j)) / std::sqrt(s.correction2) + s.epsilon);
    }
  }
}

}  // namespace naive
}  // namespace plmscope
