// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/primitives.hpp>
#include <plmscope/backend/reference/basic.hpp>
#include <plmscope/backend/reference/prefixes.hpp>
#include <plmscope/backend/reference/transformer.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Naive loops in double precision, one thread: the yardstick of the tests. Slow by design. What
/// each primitive computes is stated in `backend/primitives.hpp`.
class reference {
 public:
  using real = double;
  using mat = view<reference, double>;
  using cmat = view<reference, const double>;
  template <class T>
  using cvec = view<reference, const T>;
  using count = std::size_t;
  static constexpr bool on_host = true;
  static constexpr std::string_view id = "reference";

  template <class T>
  class buffer {
   public:
    buffer() = default;
    explicit buffer(std::size_t n) : data_(n) {}
    T* get() noexcept { return data_.data(); }
    const T* get() const noexcept { return data_.data(); }
    std::size_t size() const noexcept { return data_.size(); }

   private:
    std::vector<T> data_;
  };
  struct packed {
    buffer<double> weights;
    std::size_t n = 0;
    std::size_t k = 0;
    std::size_t rows() const noexcept { return n; }
    std::size_t cols() const noexcept { return k; }
  };

  template <class T>
  buffer<T> allocate(std::size_t n) {
    return buffer<T>(n);
  }
  template <class T>
  void fill(view<reference, T> x, T value) {
    each(x, [&](std::size_t r, std::size_t j) { x(r, j) = value; });
  }
  template <class F>
  void entries(std::size_t rows, std::size_t cols, const F& f) {
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t c = 0; c < cols; ++c) f(r, c);
    }
  }
  template <class T, class U>
  void copy(view<reference, T> from, view<reference, U> to) {
    each(to, [&](std::size_t r, std::size_t j) { to(r, j) = static_cast<U>(from(r, j)); });
  }
  template <class T, class U>
  void upload(std::span<const T> from, view<reference, U> to) {
    each(to,
         [&](std::size_t r, std::size_t j) { to(r, j) = static_cast<U>(from[r * to.cols() + j]); });
  }
  template <class T, class U>
  void download(view<reference, T> from, std::span<U> to) {
    each(from, [&](std::size_t r, std::size_t j) {
      to[r * from.cols() + j] = static_cast<U>(from(r, j));
    });
  }
  void synchronize() noexcept {}
  std::uint64_t available_bytes() const { return 0; }

  packed pack(cmat w) {
    packed p{buffer<double>(w.size()), w.rows(), w.cols()};
    copy(w, mat(p.weights.get(), p.n, p.k));
    return p;
  }
  void unpack(const packed& w, mat out) { copy(cmat(w.weights.get(), w.n, w.k), out); }
  void linear(cmat x, const packed& w, cmat bias, mat out, epilogue then = epilogue::none) {
    gemm_nt(x, cmat(w.weights.get(), w.n, w.k), out, then == epilogue::add ? 1.0 : 0.0);
    if (!bias.empty()) add_row(out, bias);
    if (then == epilogue::gelu) gelu(out);
  }
  void gemm_nt(cmat a, cmat b, mat c, double beta = 0) {
    const auto bt = [&](std::size_t l, std::size_t j) { return b(j, l); };
    naive::gemm(c.rows(), c.cols(), a.cols(), a, bt, c, beta);
  }
  void gemm_nn(cmat a, cmat b, mat c, double beta = 0) {
    naive::gemm(c.rows(), c.cols(), a.cols(), a, b, c, beta);
  }
  void gemm_tn(cmat a, cmat b, mat c, double beta = 0) {
    const auto at = [&](std::size_t i, std::size_t l) { return a(l, i); };
    naive::gemm(c.rows(), c.cols(), a.rows(), at, b, c, beta);
  }

  void add_row(mat x, cmat row, double alpha = 1) {
    each(x, [&](std::size_t r, std::size_t j) { x(r, j) += alpha * row[j]; });
  }
  void scale_columns(mat x, cmat factors) {
    each(x, [&](std::size_t r, std::size_t j) { x(r, j) *= factors[j]; });
  }
  void axpy(double alpha, cmat x, mat y) {
    each(y, [&](std::size_t r, std::size_t j) { y(r, j) += alpha * x(r, j); });
  }
  void scale(mat x, double alpha) {
    each(x, [&](std::size_t r, std::size_t j) { x(r, j) *= alpha; });
  }
  void column_sums(cmat x, mat out) {
    fill(out, 0.0);
    each(x, [&](std::size_t r, std::size_t j) { out[j] += x(r, j); });
  }
  void row_norms(cmat x, mat out) {
    for (std::size_t r = 0; r < x.rows(); ++r) out[r] = naive::norm(x, r);
  }
  void normalize_rows(mat x, double epsilon) {
    for (std::size_t r = 0; r < x.rows(); ++r) {
      const double norm = naive::norm(x, r) + epsilon;
      if (!(norm > 0)) continue;
      for (std::size_t j = 0; j < x.cols(); ++j) x(r, j) /= norm;
    }
  }
  void project_rows(mat g, cmat w, double epsilon) {
    for (std::size_t r = 0; r < g.rows(); ++r) {
      const double norm = naive::norm(w, r) + epsilon;
      if (!(norm > 0)) continue;
      double along = 0;
      for (std::size_t j = 0; j < g.cols(); ++j) along += g(r, j) * w(r, j) / norm;
      for (std::size_t j = 0; j < g.cols(); ++j) g(r, j) -= along * w(r, j) / norm;
    }
  }
  void row_moments(cmat x, mat mean, mat deviation, std::size_t ddof, double epsilon) {
    for (std::size_t r = 0; r < x.rows(); ++r) {
      const auto d = static_cast<double>(x.cols());
      double sum = 0;
      double squares = 0;
      for (std::size_t j = 0; j < x.cols(); ++j) sum += x(r, j);
      mean[r] = x.cols() == 0 ? 0 : sum / d;
      for (std::size_t j = 0; j < x.cols(); ++j) squares += std::pow(x(r, j) - mean[r], 2);
      const double freedom = x.cols() > ddof ? d - static_cast<double>(ddof) : 1;
      deviation[r] = std::sqrt(squares / freedom + epsilon);
    }
  }
  void affine_rows(cmat x, cmat shift, cmat factor, mat out) {
    each(x, [&](std::size_t r, std::size_t j) { out(r, j) = (x(r, j) + shift[r]) * factor[r]; });
  }
  void gather_rows(cmat x, cvec<std::uint32_t> ids, mat out) {
    each(out, [&](std::size_t r, std::size_t j) { out(r, j) = x(ids[r], j); });
  }
  void scatter_rows(cmat x, cvec<std::uint32_t> ids, mat out) {
    for (std::size_t r = 0; r < ids.size(); ++r) {
      copy(x.row_range(x.rows() == 1 ? 0 : r, 1), out.row_range(ids[r], 1));
    }
  }
  void scatter_add_rows(cmat x, cvec<std::uint32_t> ids, mat out) {
    for (std::size_t r = 0; r < ids.size(); ++r) {
      add_row(out.row_range(ids[r], 1), x.row_range(x.rows() == 1 ? 0 : r, 1));
    }
  }
  void reciprocal(double alpha, cmat x, mat out) {
    each(out,
         [&](std::size_t r, std::size_t j) { out(r, j) = x(r, j) == 0 ? 0 : alpha / x(r, j); });
  }
  void row_dots(cmat a, cmat b, mat out) {
    fill(out, 0.0);
    each(a, [&](std::size_t r, std::size_t j) { out[r] += a(r, j) * b(r, j); });
  }
  void column_dots(cmat a, cmat b, mat out) {
    fill(out, 0.0);
    each(a, [&](std::size_t r, std::size_t j) { out[j] += a(r, j) * b(r, j); });
  }
  void weighted_row_sum(cmat w, cmat s, mat out, double alpha) {
    each(w, [&](std::size_t f, std::size_t j) { out[j] += alpha * s[f] * w(f, j); });
  }
  void add_sum(cmat x, view<reference, double> slot) {
    each(x, [&](std::size_t r, std::size_t j) { slot[0] += x(r, j); });
  }
  void add_projected_squares(cmat g, cmat w, double epsilon, view<reference, double> slot) {
    buffer<double> kept = allocate<double>(g.size());
    const mat own(kept.get(), g.rows(), g.cols());
    copy(g, own);
    project_rows(own, w, epsilon);
    add_sum_squares(own, slot);
  }
  void add_sum_squares(cmat x, view<reference, double> slot) {
    each(x, [&](std::size_t r, std::size_t j) { slot[0] += x(r, j) * x(r, j); });
  }
  void clip_factor(cvec<double> sum_squares, double limit, view<reference, double> out) {
    out[0] = std::min(1.0, limit / (std::sqrt(sum_squares[0]) + 1e-6));
  }
  bool all_finite(cmat x) {
    bool finite = true;
    each(x, [&](std::size_t r, std::size_t j) { finite = finite && std::isfinite(x(r, j)); });
    return finite;
  }

  template <class Order = by_value, class Codes>
  void top_k_rows(cmat pre, std::size_t k, Order order, Codes& out) {
    naive::top_k_rows(*this, pre, k, order, out);
  }
  template <class Order = by_value, class Codes>
  void batch_top_n(cmat pre, std::size_t n, Order order, Codes& out, mat last = {}) {
    naive::batch_top_n(*this, pre, n, order, out, last);
  }
  template <class Order = by_value, class Codes>
  void keep_above(cmat pre, cmat bound, Order order, Codes& out) {
    naive::keep_above(*this, pre, bound, order, out);
  }
  template <class Codes>
  void group_max(cmat pre, std::size_t groups, bool zeros, Codes& out) {
    naive::group_max(*this, pre, groups, zeros, out);
  }
  template <class Codes, class F>
  void each_entry(const Codes& z, const F& f) {
    naive::for_entries(z, [&](std::size_t r, std::size_t e, std::size_t feature) {
      f(r, e, static_cast<std::uint32_t>(feature));
    });
  }
  template <class Codes>
  void split_rows(const Codes& z, cvec<std::uint32_t> ends, view<reference, std::int64_t> offsets) {
    naive::split_rows(z, ends, offsets);
  }
  template <class RowLoss>
  void prefix_errors(mat parts, cmat target, cmat bias, cmat shares, const RowLoss& loss,
                     mat rows) {
    naive::prefix_errors(parts, target, bias, shares, loss, rows);
  }
  template <class Codes>
  void decode(const Codes& z, cmat dictionary, cmat bias, mat out) {
    naive::decode(z, dictionary, bias, out);
  }
  template <class Codes, class RowLoss>
  void reconstruct(const Codes& z, cmat dictionary, cmat bias, cmat target, const RowLoss& loss,
                   mat gradient, mat dz, mat rows) {
    naive::reconstruct(z, dictionary, bias, target, loss, gradient, dz, rows);
  }
  template <class Codes>
  void sampled_dot(const Codes& z, cmat gradient, cmat dictionary, mat dz) {
    naive::sampled_dot(z, gradient, dictionary, dz);
  }
  template <class Codes, class Transposed>
  void transpose(const Codes& z, Transposed& out) {
    naive::transpose(*this, z, out);
  }
  template <class Transposed>
  void sparse_backward(const Transposed& t, cmat z, cmat dz, cmat gradient, cmat x, mat d_decoder,
                       mat d_encoder, mat d_bias, double beta = 0) {
    naive::sparse_backward(t, z, dz, gradient, x, d_decoder, d_encoder, d_bias, beta);
  }

  void adam(mat p, cmat g, mat m, mat v, const adam_step<double>& s, cvec<double> factor = {}) {
    naive::adam(p, g, m, v, s, factor.empty() ? 1.0 : factor[0]);
  }
  void adam_unit_rows(mat p, cmat g, mat m, mat v, const adam_step<double>& s,
                      const unit_length_rule& rows, cvec<double> factor = {}) {
    buffer<double> kept = allocate<double>(g.size());
    const mat own(kept.get(), g.rows(), g.cols());
    copy(g, own);
    if (rows.project) project_rows(own, p, rows.projection_epsilon);
    adam(p, own, m, v, s, factor);
    normalize_rows(p, rows.length_epsilon);
  }
  void sign_step(mat p, cmat g, double rate) {
    each(p, [&](std::size_t r, std::size_t j) {
      p(r, j) -= g(r, j) > 0 ? rate : g(r, j) < 0 ? -rate : 0.0;
    });
  }
  template <class Codes>
  void count_fired(const Codes& z, view<reference, std::int64_t> since, std::int64_t tokens,
                   double least) {
    each(since, [&](std::size_t, std::size_t f) { since[f] += tokens; });
    naive::for_entries(z, [&](std::size_t, std::size_t e, std::size_t f) {
      if (std::abs(z.values()[e]) > least) since[f] = 0;
    });
  }
  std::size_t ids_where(cvec<std::int64_t> since, std::int64_t at_least,
                        view<reference, std::uint32_t> out) {
    std::size_t n = 0;
    each(since, [&](std::size_t, std::size_t f) {
      if (since[f] >= at_least) out[n++] = static_cast<std::uint32_t>(f);
    });
    return n;
  }

  void embed(cmat table, cvec<std::uint32_t> tokens, cmat row_scale, mat out) {
    naive::embed(table, tokens, row_scale, out);
  }
  void layer_norm(cmat x, cmat gain, cmat bias, double epsilon, mat out) {
    naive::layer_norm(x, gain, bias, epsilon, out);
  }
  void gelu(mat x) { naive::gelu(x); }
  void silu_gate(cmat gate, cmat up, mat out) { naive::silu_gate(gate, up, out); }
  void rotary(mat q, mat k, std::size_t head_dim, cvec<std::int32_t> positions, cmat cosines,
              cmat sines, double q_scale) {
    naive::rotary(q, k, head_dim, positions, cosines, sines, q_scale);
  }
  void attention(cmat q, cmat k, cmat v, std::size_t head_dim, cvec<std::int64_t> offsets,
                 std::size_t longest, mat out) {
    naive::attention(q, k, v, head_dim, offsets, longest, out);
  }
  void softmax_rows(mat x) { naive::softmax_rows(x); }
  void layer_norm_backward(cmat x, cmat gain, cmat g, double epsilon, mat out) {
    naive::layer_norm_backward(x, gain, g, epsilon, out);
  }
  void gelu_backward(cmat x, mat g) { naive::gelu_backward(x, g); }
  void softmax_backward(cmat p, mat g) { naive::softmax_backward(p, g); }

 private:
  template <class V, class F>
  static void each(V x, const F& f) {
    for (std::size_t r = 0; r < x.rows(); ++r) {
      for (std::size_t j = 0; j < x.cols(); ++j) f(r, j);
    }
  }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
