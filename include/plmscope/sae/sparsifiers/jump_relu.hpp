// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/primitives.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/sae/rules.hpp>
#include <plmscope/sae/selection.hpp>
#include <plmscope/sae/sparsifiers/jump_kernels.hpp>
#include <plmscope/tensor/codes.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <array>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>

namespace plmscope::inline PLMSCOPE_ABI {

/// JumpReLU: z = a where a > theta, with one learned threshold per latent (Rajamanoharan et al. 2024,
/// "Jumping ahead", eq. 7). Thresholds have pseudo-gradients through a kernel K of width epsilon:
///   dL/dtheta = -sum_rows (theta / epsilon) K((a - theta) / epsilon) dL/dz     (eq. 11)
///   dL0/dtheta = -(1 / epsilon) K((a - theta) / epsilon)                       (eq. 12)
/// The thresholds themselves are learned: Adam moves theta = e^u by about theta * rate a step, which
/// for small thresholds is nothing at all.
///
/// Training keeps the entries above theta - epsilon / 2 in the list, those below theta with value 0:
/// the window needs no second pass. Cost: one pass over the pre-activations.
struct jump_relu {
  static constexpr std::string_view id = "jump_relu";
  static constexpr std::array<std::string_view, 1> vectors{"threshold"};
  double bandwidth = 1e-3;          ///< epsilon, at the scale of the pre-activations
  double initial_threshold = 1e-3;
  jump_kernel kernel = jump_kernel::rectangle;
  bool log_thresholds = false;      ///< the parameters are log(theta) (files, peers)
  bool reaches_input = false;       ///< the window's gradient flows into a as well (Conerly 2025)
  bool clamp_at_zero = true;        ///< thresholds below 0 become 0 before each step

  // Defects of published trainers, to reproduce them.
  bool l0_of_values = false;  ///< K of L0 at z instead of a (dictionary_learning): half a window
  bool relu_first = false;    ///< a is a ReLU, whose zeros lie in the window (matryoshka_sae)
  bool without_chain = false; ///< d/dtheta is taken for d/dlog(theta) (matryoshka_sae)

  template <class B>
  struct state {
    using real = typename B::real;
    matrix<real, B> theta;   ///< [1, F]
    matrix<real, B> bound;   ///< [1, F] lower edge of the window
    matrix<real, B> raw;     ///< [1, n] a of the entries
    matrix<real, B> pull;    ///< [1, n] contributions to dL/dtheta
    matrix<real, B> value_pull;  ///< [1, n] dL/dz, for `relu_first`
    matrix<real, B> sums;    ///< [1, F]
    const_view<B> latent_slope;  ///< of this step, from `pull`

    template <class F>
    void fields(const F&) {}
  };

  template <class B>
  void start(B& be, sae_parameters<B>& p) const {
    be.fill(p.latent[0].values.all(),
            static_cast<typename B::real>(log_thresholds ? std::log(initial_threshold)
                                                         : initial_threshold));
  }
  template <class B>
  state<B> start(B&) const {
    return {};
  }

  template <class B>
  void select(B& be, const_view<B> pre, const selection<B>& in, codes<B>& out) const {
    if (!log_thresholds) {
      be.keep_above(pre, const_view<B>(in.parameters.latent[0].values), by_raw_value{}, out);
      return;
    }
    matrix<typename B::real, B> theta(be, 1, pre.cols());
    thresholds(be, in.parameters, theta);
    be.keep_above(pre, const_view<B>(theta), by_raw_value{}, out);
  }

  template <class B>
  void before_step(B& be, sae_parameters<B>& p) const {
    if (!clamp_at_zero || log_thresholds) return;
    auto& theta = p.latent[0].values;
    be.entries(1, theta.cols(), jump_detail::not_below_zero<typename B::real>{theta.data()});
  }

  template <class B>
  void candidates(B& be, const_view<B> pre, const selection<B>& in, codes<B>& out,
                  state<B>& s) const {
    using real = typename B::real;
    if (out.rows() == 0) {
      s.theta.reshape(be, 1, pre.cols());
      s.bound.reshape(be, 1, pre.cols());
      thresholds(be, in.parameters, s.theta);
      be.entries(1, pre.cols(),
                 jump_detail::lower_edge<real>{s.theta.data(), s.bound.data(),
                                               static_cast<real>(bandwidth), relu_first});
    }
    if (relu_first) {
      be.keep_above(pre, const_view<B>(s.bound), by_value{}, out);
    } else {
      be.keep_above(pre, const_view<B>(s.bound), by_raw_value{}, out);
    }
  }

  /// Pre-activations of the list become values.
  template <class B>
  void activate(B& be, const sae_parameters<B>&, codes<B>& z, state<B>& s) const {
    using real = typename B::real;
    s.raw.reshape(be, 1, z.entries());
    be.copy(const_view<B>(z.values(), 1, z.entries()), s.raw.all());
    be.each_entry(z, jump_detail::jump<real>{z.values(), s.theta.data()});
  }

  /// dz becomes da; contributions to the thresholds' gradients are kept for `add_gradient`.
  template <class B, class Context>
  void pull(B& be, Context& c, state<B>& s) const {
    using real = typename B::real;
    s.pull.reshape(be, 1, c.z.entries());
    s.latent_slope = c.latent_slope;
    if (relu_first) {
      s.value_pull.reshape(be, 1, c.z.entries());
      be.copy(const_view<B>(c.dz), s.value_pull.all());
    }
    be.each_entry(c.z, jump_detail::pull_back<real>{
                           s.raw.data(), s.theta.data(), c.dz.data(), s.pull.data(),
                           {c.l0_slope.data(), c.latent_slope.data()},
                           static_cast<real>(bandwidth), kernel,
                           reaches_input, l0_of_values});
  }
  template <class B, class Context>
  void add_gradient(B& be, Context& c, sae_parameters<B>& gradient, state<B>& s) const {
    using real = typename B::real;
    const std::size_t features = s.theta.cols();
    s.sums.reshape(be, 1, features);
    if (relu_first) {
      // Zeros of the ReLU in the window: all entries that are not in the list. Their dL/dz sum to
      // <sum of g, w> less the list's.
      matrix<real, B> all(be, 1, c.g.cols());
      be.column_sums(c.g, all);
      be.gemm_nt(all, c.parameters.decoder, s.sums);
      matrix<real, B> listed(be, 1, features);
      be.sparse_backward(c.by_feature, const_view<B>(), const_view<B>(s.value_pull), const_view<B>(),
                         const_view<B>(), view<B>(), view<B>(), listed.all());
      be.axpy(real{-1}, listed, s.sums);
    } else {
      be.fill(s.sums.all(), real{0});
    }
    be.entries(1, features,
               jump_detail::unlisted<real>{s.sums.data(), s.theta.data(), c.active.data(),
                                           {c.l0_slope.data(), s.latent_slope.data()},
                                           static_cast<real>(bandwidth), kernel,
                                           static_cast<real>(c.target.rows()), relu_first,
                                           l0_of_values});
    be.sparse_backward(c.by_feature, const_view<B>(), const_view<B>(s.pull), const_view<B>(),
                       const_view<B>(), view<B>(), view<B>(), s.sums.all(), real{1});
    if (log_thresholds && !without_chain) be.scale_columns(s.sums, s.theta);
    be.copy(const_view<B>(s.sums), gradient.latent[0].values.all());
  }

  template <class F>
  void fields(const F& f) {
    f("log_thresholds", log_thresholds);
    f("bandwidth", bandwidth);
    f("initial_threshold", initial_threshold);
    f("kernel", kernel);
    f("reaches_input", reaches_input);
    f("clamp_at_zero", clamp_at_zero);
    f("l0_of_values", l0_of_values);
    f("relu_first", relu_first);
    f("without_chain", without_chain);
  }

  void check(std::size_t) const {
    if (kernel >= jump_kernel::rectangle && kernel <= jump_kernel::epanechnikov && bandwidth > 0) {
      return;
    }
    throw error(rules::sae_options, {.where = "jump_relu",
                                     .expected = "a known kernel and a bandwidth above 0",
                                     .found = "kernel " + std::to_string(static_cast<int>(kernel)) +
                                              ", bandwidth " + std::to_string(bandwidth)});
  }

  /// out = theta, [1, F].
  template <class B>
  void thresholds(B& be, const sae_parameters<B>& p, matrix<typename B::real, B>& out) const {
    be.copy(const_view<B>(p.latent[0].values), out.all());
    if (log_thresholds) {
      be.entries(1, out.cols(), jump_detail::exponential<typename B::real>{out.data()});
    }
  }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
