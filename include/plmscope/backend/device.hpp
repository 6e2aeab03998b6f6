// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/device/arriving_count.hpp>
#include <plmscope/backend/device/buffer.hpp>
#include <plmscope/backend/device/elementwise.hpp>
#include <plmscope/backend/device/group.hpp>
#include <plmscope/backend/device/launch_attention.hpp>
#include <plmscope/backend/device/launch_linear.hpp>
#include <plmscope/backend/device/launch_optimizer.hpp>
#include <plmscope/backend/device/launch_select.hpp>
#include <plmscope/backend/device/launch_sparse.hpp>
#include <plmscope/backend/device/launch_sums.hpp>
#include <plmscope/backend/device/launcher.hpp>
#include <plmscope/backend/device/prefixes.hpp>
#include <plmscope/backend/device/rows.hpp>
#include <plmscope/backend/device/softmax.hpp>
#include <plmscope/backend/precision.hpp>
#include <plmscope/backend/primitives.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// The page of primitives for a processor with memory and threads of its own. `Runtime` is what the
/// device can do: memory, launching a kernel, dense products, a scan, a sort (`cuda_runtime`). All
/// work goes to one stream in order; only `download`, `synchronize` and `all_finite` wait for it,
/// and a `count` waits for its number. The value is a handle: copies share stream, memory and
/// workspace.
///
/// What each primitive computes, its shapes and its edge behaviour are stated once, in
/// `backend/primitives.hpp`.
template <class Real, class Runtime>
class basic_device : public device_launcher<Runtime> {
  using launcher = device_launcher<Runtime>;

 public:
  using real = Real;
  template <class T>
  using buffer = device_buffer<T, Runtime>;
  using packed = typename Runtime::template packed<Real>;
  using mat = view<basic_device, Real>;
  using cmat = view<basic_device, const Real>;
  template <class T>
  using cvec = view<basic_device, const T>;

  using count = arriving_count<Runtime>;
  static constexpr bool on_host = false;
  static constexpr std::string_view id = Runtime::id;
  static constexpr std::string_view gemm_name() noexcept { return Runtime::products_name(); }

  explicit basic_device(int device = 0) : launcher(device) {}

  using launcher::allocate;
  using launcher::each;
  using launcher::entries;
  using launcher::launch;
  using launcher::rows;
  using launcher::scratch;

  /// The same device, stream and memory with dense products in another precision, in bf16 those of
  /// attention, too. What was packed keeps the precision it was packed with. Errors: backend.106
  /// for int8.
  basic_device with(product_precision p) const {
    if (p == product_precision::int8) {
      throw error(rules::products_missing, {.where = std::string(id), .found = "int8"});
    }
    basic_device other = *this;
    other.precision_ = p;
    return other;
  }

  // Memory.
  template <class T>
  void fill(view<basic_device, T> x, T value) {
    each(x, [=] PLMSCOPE_DEVICE(std::size_t r, std::size_t c) { x.row_data(r)[c] = value; });
  }
  template <class T, class U>
  void copy(view<basic_device, T> from, view<basic_device, U> to) {
    each(to, [=] PLMSCOPE_DEVICE(std::size_t r, std::size_t c) {
      to.row_data(r)[c] = static_cast<U>(from.row_data(r)[c]);
    });
  }
  template <class T, class U>
  void upload(std::span<const T> from, view<basic_device, U> to) {
    if (to.empty()) return;
    U* const staged = static_cast<U*>(run_->stage(to.size() * sizeof(U)));
    for (std::size_t i = 0; i < to.size(); ++i) staged[i] = static_cast<U>(from[i]);
    run_->to_device(staged, to.data(), to.rows(), to.cols() * sizeof(U), to.stride() * sizeof(U));
  }
  template <class T, class U>
  void download(view<basic_device, T> from, std::span<U> to) {
    using value = std::remove_const_t<T>;
    if (from.empty()) return;
    std::vector<value> staged(from.size());
    run_->to_host(from.data(), staged.data(), from.rows(), from.cols() * sizeof(value),
                  from.stride() * sizeof(value));
    for (std::size_t i = 0; i < staged.size(); ++i) to[i] = static_cast<U>(staged[i]);
  }

  // Dense products.
  packed pack(cmat weight) {
    return packed(run_, weight.data(), weight.rows(), weight.cols(), weight.stride(), precision_);
  }
  void unpack(const packed& w, mat out) { run_->unpack(w, out); }
  void linear(cmat x, const packed& w, cmat bias, mat out, epilogue then = epilogue::none) {
    device_kernels::launch_linear(*this, x, w, bias, out, then);
  }
  void gemm_nt(cmat a, cmat b, mat c, Real beta = 0) {
    run_->product_nt(a, b, c, beta, precision_);
  }
  void gemm_nn(cmat a, cmat b, mat c, Real beta = 0) {
    run_->product_nn(a, b, c, beta, precision_);
  }
  void gemm_tn(cmat a, cmat b, mat c, Real beta = 0) {
    run_->product_tn(a, b, c, beta, precision_);
  }

  // Rows.
  void add_row(mat x, cmat row, Real alpha = 1) {
    each(x, [=] PLMSCOPE_DEVICE(std::size_t r, std::size_t c) {
      x.row_data(r)[c] += alpha * row.data()[c];
    });
  }
  void scale_columns(mat x, cmat factors) {
    each(x, [=] PLMSCOPE_DEVICE(std::size_t r, std::size_t c) {
      x.row_data(r)[c] *= factors.data()[c];
    });
  }
  void axpy(Real alpha, cmat x, mat y) {
    each(y, [=] PLMSCOPE_DEVICE(std::size_t r, std::size_t c) {
      y.row_data(r)[c] += alpha * x.row_data(r)[c];
    });
  }
  void scale(mat x, Real alpha) {
    each(x, [=] PLMSCOPE_DEVICE(std::size_t r, std::size_t c) { x.row_data(r)[c] *= alpha; });
  }
  void column_sums(cmat x, mat out) {
    device_kernels::launch_column_sums(
        *this, x.rows(), out,
        [=] PLMSCOPE_DEVICE(std::size_t r, std::size_t c) { return x.row_data(r)[c]; }, Real{0},
        Real{1});
  }
  void column_dots(cmat a, cmat b, mat out) {
    device_kernels::launch_column_sums(
        *this, a.rows(), out,
        [=] PLMSCOPE_DEVICE(std::size_t r, std::size_t c) {
          return static_cast<double>(a.row_data(r)[c]) * static_cast<double>(b.row_data(r)[c]);
        },
        Real{0}, Real{1});
  }
  void weighted_row_sum(cmat w, cmat s, mat out, Real alpha) {
    device_kernels::launch_column_sums(
        *this, w.rows(), out,
        [=] PLMSCOPE_DEVICE(std::size_t r, std::size_t c) {
          return static_cast<double>(s.data()[r]) * static_cast<double>(w.row_data(r)[c]);
        },
        Real{1}, alpha);
  }
  void row_norms(cmat x, mat out) {
    rows(x.rows(), device_kernels::row_dots<cmat, mat>{x, x, out, true});
  }
  void row_dots(cmat a, cmat b, mat out) {
    rows(a.rows(), device_kernels::row_dots<cmat, mat>{a, b, out, false});
  }
  void normalize_rows(mat x, Real epsilon) {
    rows(x.rows(), device_kernels::normalize_rows<mat, Real>{x, epsilon});
  }
  void project_rows(mat gradient, cmat direction, Real epsilon) {
    rows(gradient.rows(),
         device_kernels::project_rows<mat, cmat, Real>{gradient, direction, epsilon});
  }
  void row_moments(cmat x, mat mean, mat deviation, std::size_t ddof, Real epsilon) {
    rows(x.rows(), device_kernels::row_moments<cmat, mat>{x, mean, deviation, ddof,
                                                          static_cast<double>(epsilon)});
  }
  void affine_rows(cmat x, cmat shift, cmat factor, mat out) {
    each(out, [=] PLMSCOPE_DEVICE(std::size_t r, std::size_t c) {
      out.row_data(r)[c] = (x.row_data(r)[c] + shift.data()[r]) * factor.data()[r];
    });
  }
  void gather_rows(cmat x, cvec<std::uint32_t> ids, mat out) {
    each(out, [=] PLMSCOPE_DEVICE(std::size_t r, std::size_t c) {
      out.row_data(r)[c] = x.row_data(ids.data()[r])[c];
    });
  }
  void scatter_rows(cmat x, cvec<std::uint32_t> ids, mat out) {
    entries(ids.size(), x.cols(), [=] PLMSCOPE_DEVICE(std::size_t r, std::size_t c) {
      out.row_data(ids.data()[r])[c] = x.row_data(x.rows() == 1 ? 0 : r)[c];
    });
  }
  void scatter_add_rows(cmat x, cvec<std::uint32_t> ids, mat out) {
    entries(ids.size(), x.cols(), [=] PLMSCOPE_DEVICE(std::size_t r, std::size_t c) {
      out.row_data(ids.data()[r])[c] += x.row_data(x.rows() == 1 ? 0 : r)[c];
    });
  }
  void reciprocal(Real alpha, cmat x, mat out) {
    each(out, [=] PLMSCOPE_DEVICE(std::size_t r, std::size_t c) {
      const Real v = x.row_data(r)[c];
      out.row_data(r)[c] = v == Real{0} ? Real{0} : alpha / v;
    });
  }
  void add_sum(cmat x, view<basic_device, double> slot) {
    device_kernels::launch_entry_sum(*this, x, slot,
                                     [=] PLMSCOPE_DEVICE(std::size_t r, std::size_t c) {
                                       return static_cast<double>(x.row_data(r)[c]);
                                     });
  }
  void add_sum_squares(cmat x, view<basic_device, double> slot) {
    device_kernels::launch_entry_sum(*this, x, slot,
                                     [=] PLMSCOPE_DEVICE(std::size_t r, std::size_t c) {
                                       const auto v = static_cast<double>(x.row_data(r)[c]);
                                       return v * v;
                                     });
  }
  void add_projected_squares(cmat g, cmat w, Real epsilon, view<basic_device, double> slot) {
    device_kernels::launch_projected_squares(*this, g, w, epsilon, slot);
  }
  void clip_factor(cvec<double> sum_squares, double limit, view<basic_device, double> out) {
    each(out, [=] PLMSCOPE_DEVICE(std::size_t, std::size_t) {
      const double f = limit / (std::sqrt(sum_squares.data()[0]) + 1e-6);
      out.data()[0] = f < 1.0 ? f : 1.0;
    });
  }
  bool all_finite(cmat x) {
    buffer<double> bad = this->template allocate<double>(1);
    device_kernels::launch_entry_sum(*this, x, view<basic_device, double>(bad.get(), 1),
                                     [=] PLMSCOPE_DEVICE(std::size_t r, std::size_t c) {
                                       return device_kernels::finite_bits(x.row_data(r)[c]) ? 0.0
                                                                                            : 1.0;
                                     });
    double n = 0;
    download(view<basic_device, const double>(bad.get(), 1), std::span<double>(&n, 1));
    return n == 0;
  }

  // Selection.
  template <class Order = by_value, class Codes>
  void top_k_rows(cmat pre, std::size_t k, Order, Codes& out) {
    device_kernels::launch_top_k<Order>(*this, pre, k, out);
  }
  template <class Order = by_value, class Codes>
  void batch_top_n(cmat pre, std::size_t n, Order, Codes& out, mat last = {}) {
    device_kernels::launch_batch_top_n<Order>(*this, pre, n, out, last);
  }
  template <class Order = by_value, class Codes>
  void keep_above(cmat pre, cmat bound, Order, Codes& out) {
    device_kernels::launch_keep_above<Order>(*this, pre, bound, out);
  }
  template <class Codes>
  void group_max(cmat pre, std::size_t groups, bool zeros, Codes& out) {
    device_kernels::launch_group_max(*this, pre, groups, zeros, out);
  }

  // Sparse codes.
  template <class Codes, class F>
  void each_entry(const Codes& z, const F& f) {
    launch(z.rows(), 0, device_kernels::each_entry<Real, F>{device_kernels::rows_of(z), f});
  }
  template <class Codes>
  void split_rows(const Codes& z, cvec<std::uint32_t> ends,
                  view<basic_device, std::int64_t> offsets) {
    device_kernels::launch_split_rows(*this, z, ends, offsets);
  }
  template <class RowLoss>
  void prefix_errors(mat parts, cmat target, cmat bias, cmat shares, const RowLoss& loss,
                     mat figures) {
    rows(target.rows(), device_kernels::prefix_errors<Real, cmat, mat, RowLoss>{
                            parts, target, bias, shares, loss, figures});
  }
  template <class Codes>
  void decode(const Codes& z, cmat dictionary, cmat bias, mat out) {
    launch(
        z.rows(), device_kernels::staged_bytes<Real>(),
        device_kernels::decode<Real, cmat, mat>{device_kernels::rows_of(z), dictionary, bias, out});
  }
  template <class Codes, class RowLoss>
  void reconstruct(const Codes& z, cmat dictionary, cmat bias, cmat target, const RowLoss& loss,
                   mat gradient, mat dz, mat row_figures) {
    launch(
        z.rows(), device_kernels::staged_bytes<Real>(),
        device_kernels::reconstruct<Real, cmat, mat, RowLoss>{
            device_kernels::rows_of(z), dictionary, bias, target, loss, gradient, dz, row_figures});
  }
  template <class Codes>
  void sampled_dot(const Codes& z, cmat gradient, cmat dictionary, mat dz) {
    rows(z.rows(), device_kernels::sampled_dot<Real, cmat, mat>{device_kernels::rows_of(z),
                                                                gradient, dictionary, dz});
  }
  template <class Codes, class Transposed>
  void transpose(const Codes& z, Transposed& out) {
    device_kernels::launch_transpose(*this, z, out);
  }
  template <class Transposed>
  void sparse_backward(const Transposed& by_feature, cmat z, cmat dz, cmat gradient, cmat x,
                       mat d_decoder, mat d_encoder, mat d_bias, Real beta = 0) {
    device_kernels::launch_backward(*this, by_feature, z, dz, gradient, x, d_decoder, d_encoder,
                                    d_bias, beta);
  }

  // Optimizer.
  void adam(mat p, cmat g, mat m, mat v, const adam_step<Real>& s, cvec<double> factor = {}) {
    device_kernels::launch_adam(*this, p, g, m, v, s, factor);
  }
  void adam_unit_rows(mat p, cmat g, mat m, mat v, const adam_step<Real>& s,
                      const unit_length_rule& rule, cvec<double> factor = {}) {
    device_kernels::launch_adam_unit_rows(*this, p, g, m, v, s, rule, factor);
  }
  void sign_step(mat p, cmat g, Real rate) { device_kernels::launch_sign_step(*this, p, g, rate); }

  // Latents.
  template <class Codes>
  void count_fired(const Codes& z, view<basic_device, std::int64_t> since, std::int64_t tokens,
                   Real least) {
    each(since, [=] PLMSCOPE_DEVICE(std::size_t, std::size_t f) { since.data()[f] += tokens; });
    const auto codes = device_kernels::rows_of(z);
    const std::size_t row_count = z.rows();
    entries(1, z.entries(), [=] PLMSCOPE_DEVICE(std::size_t, std::size_t e) {
      if (static_cast<std::int64_t>(e) >= codes.offsets[row_count]) return;
      const Real v = codes.values[e];
      if ((v < Real{0} ? -v : v) > least) since.data()[codes.ids[e]] = 0;
    });
  }
  count ids_where(cvec<std::int64_t> since, std::int64_t at_least,
                  view<basic_device, std::uint32_t> out) {
    return device_kernels::launch_ids_where(*this, run_, since, at_least, out);
  }

  // Transformer.
  void embed(cmat table, cvec<std::uint32_t> tokens, cmat row_scale, mat out) {
    each(out, [=] PLMSCOPE_DEVICE(std::size_t r, std::size_t c) {
      out.row_data(r)[c] = row_scale.data()[r] * table.row_data(tokens.data()[r])[c];
    });
  }
  void layer_norm(cmat x, cmat gain, cmat bias, Real epsilon, mat out) {
    rows(x.rows(),
         device_kernels::layer_norm<cmat, mat>{x, gain, bias, out, static_cast<double>(epsilon)});
  }
  void gelu(mat x) {
    each(x, [=] PLMSCOPE_DEVICE(std::size_t r, std::size_t c) {
      x.row_data(r)[c] = device_kernels::gelu(x.row_data(r)[c]);
    });
  }
  void silu_gate(cmat gate, cmat up, mat out) {
    each(out, [=] PLMSCOPE_DEVICE(std::size_t r, std::size_t c) {
      out.row_data(r)[c] = device_kernels::silu(gate.row_data(r)[c]) * up.row_data(r)[c];
    });
  }
  void rotary(mat q, mat k, std::size_t head_dim, cvec<std::int32_t> positions, cmat cosines,
              cmat sines, Real q_scale) {
    const std::size_t half = head_dim / 2;
    if (half == 0) return;
    entries(q.rows(), q.cols() / 2, [=] PLMSCOPE_DEVICE(std::size_t r, std::size_t pair) {
      const auto p = static_cast<std::size_t>(positions.data()[r]);
      const std::size_t c = pair / half * head_dim + pair % half;
      const Real cosine = cosines.row_data(p)[pair % half];
      const Real sine = sines.row_data(p)[pair % half];
      device_kernels::rotate_pair(q.row_data(r), c, half, cosine, sine, q_scale);
      device_kernels::rotate_pair(k.row_data(r), c, half, cosine, sine, Real{1});
    });
  }
  void attention(cmat q, cmat k, cmat v, std::size_t head_dim, cvec<std::int64_t> offsets,
                 std::size_t longest, mat out) {
    device_kernels::launch_attention(*this, q, k, v, head_dim, offsets, longest, out);
  }
  void softmax_rows(mat x) {
    using kernel = device_kernels::softmax_rows<mat>;
    if (!x.empty()) launch(x.rows(), kernel::shared_bytes(), kernel{x});
  }

  // Gradients.
  void layer_norm_backward(cmat x, cmat gain, cmat g, Real epsilon, mat out) {
    rows(x.rows(), device_kernels::layer_norm_backward<cmat, mat>{x, gain, g, out,
                                                                  static_cast<double>(epsilon)});
  }
  void gelu_backward(cmat x, mat g) {
    each(g, [=] PLMSCOPE_DEVICE(std::size_t r, std::size_t c) {
      Real& v = g.row_data(r)[c];
      v = static_cast<Real>(static_cast<double>(v) *
                            device_kernels::gelu_slope(static_cast<double>(x.row_data(r)[c])));
    });
  }
  void softmax_backward(cmat p, mat g) {
    rows(g.rows(), device_kernels::softmax_backward<cmat, mat>{p, g});
  }

 private:
  using launcher::precision_;
  using launcher::run_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
