// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/primitives.hpp>
#include <plmscope/core/error.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/sae/rules.hpp>
#include <plmscope/sae/selection.hpp>
#include <plmscope/sae/sparsifiers/levels.hpp>
#include <plmscope/tensor/codes.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Codes of a few learned levels (the Q-SAE of Fel's overcomplete, an experiment without a paper):
/// z = max(0, Q(a)), where all latents share q levels Q_j that begin evenly spaced from 0 to 1 and
///
///   Q(a) = the level nearest to a (of equally near ones the first), or, with `soft`,
///   Q(a) = sum_j p_j Q_j,   p = softmax(-(a - Q_j)^2).
///
/// Where z > 0, dL/dz reaches the levels exactly, and the pre-activation as if z were max(0, a)
/// (straight-through; Bengio et al. 2013), with `soft` through p besides. A level at or below 0
/// means that a latent is silent: it has no gradient and stays where it is. Sparse codes want a
/// penalty, as with `relu`; with `soft` hardly a value is 0, and a batch takes the memory of all
/// [m, F] codes.
///
/// Cost: of `relu`; in training q more passes over the entries, with `soft` q^2 exponentials an
/// entry. Errors: `sae_options` for row lengths that act on codes and for other numbers of levels
/// than 2 to 256.
struct quantised {
  static constexpr std::string_view id = "quantised";
  std::size_t levels = 4;
  bool soft = false;

  template <class F>
  void fields(const F& f) {
    f("levels", levels);
    f("soft", soft);
  }

  template <class Options>
    requires requires(const Options& o) { o.lengths; }
  void check(const Options& o) const {
    const auto refuse = [](const std::string& expected, const std::string& found) {
      throw error(rules::sae_options, {.where = "quantised", .expected = expected, .found = found});
    };
    if (levels < 2 || levels > 256) refuse("2 to 256 levels", std::to_string(levels));
    using lengths = std::remove_cvref_t<decltype(o.lengths)>;
    if (o.lengths != lengths::free) refuse("free row lengths", "lengths that act on codes");
  }

  template <class Options, class Add>
  void matrices(const Options&, const Add& add) const {
    add("levels", std::size_t{1}, levels, false);
  }
  template <class B>
  void start(B& be, sae_parameters<B>& p) const {
    std::vector<double> even(levels);
    for (std::size_t j = 0; j < levels; ++j) {
      even[j] = static_cast<double>(j) / static_cast<double>(levels - 1);
    }
    be.upload(std::span<const double>(even), p.latent[0].values.all());
  }

  template <class B>
  struct state {
    using real = typename B::real;
    matrix<real, B> bound;  ///< [1, 1] below it all is silent
    matrix<real, B> raw;    ///< [1, n] a of the entries
    matrix<real, B> pull;   ///< [1, n] dL/dz where z > 0
    matrix<real, B> part, sums;
    matrix<double, B> slots;

    template <class F>
    void fields(const F&) {}
  };
  template <class B>
  state<B> start(B& be) const {
    state<B> s;
    s.bound = matrix<typename B::real, B>(be, 1, 1);
    s.slots = matrix<double, B>(be, 1, levels);
    return s;
  }

  template <class B>
  void select(B& be, const_view<B> pre, const selection<B>& in, codes<B>& out) const {
    matrix<typename B::real, B> bound(be, 1, 1);
    keep(be, pre, in, bound, out);
  }
  template <class B>
  void candidates(B& be, const_view<B> pre, const selection<B>& in, codes<B>& out,
                  state<B>& s) const {
    keep(be, pre, in, s.bound, out);
  }

  template <class B>
  void activate(B& be, const sae_parameters<B>& p, codes<B>& z) const {
    be.each_entry(z, levels_detail::quantise<typename B::real>{table(p), z.values(), soft});
  }
  template <class B>
  void activate(B& be, const sae_parameters<B>& p, codes<B>& z, state<B>& s) const {
    s.raw.reshape(be, 1, z.entries());
    be.copy(const_view<B>(z.values(), 1, z.entries()), s.raw.all());
    activate(be, p, z);
  }

  /// dz becomes da; what reaches the levels is kept for `add_gradient`.
  template <class B, class Context>
  void pull(B& be, Context& c, state<B>& s) const {
    s.pull.reshape(be, 1, c.z.entries());
    be.each_entry(c.z, levels_detail::straight_through<typename B::real>{
                           table(c.parameters), s.raw.data(), c.z.values(), c.dz.data(),
                           s.pull.data(), soft});
  }
  template <class B, class Context>
  void add_gradient(B& be, Context& c, sae_parameters<B>& gradient, state<B>& s) const {
    using real = typename B::real;
    s.part.reshape(be, 1, c.z.entries());
    s.sums.reshape(be, 1, c.features());
    be.fill(s.slots.all(), 0.0);
    for (std::size_t j = 0; j < levels; ++j) {
      be.each_entry(c.z, levels_detail::to_level<real>{table(c.parameters), s.raw.data(),
                                                       s.pull.data(), s.part.data(), j, soft});
      be.sparse_backward(c.by_feature, const_view<B>(), const_view<B>(s.part), const_view<B>(),
                         const_view<B>(), view<B>(), view<B>(), s.sums.all());
      be.add_sum(const_view<B>(s.sums), s.slots.all().col_range(j, 1));
    }
    be.copy(const_view<B, double>(s.slots), gradient.latent[0].values.all());
  }

 private:
  template <class B>
  static levels_detail::table<typename B::real> table(const sae_parameters<B>& p) {
    return {p.latent[0].values.data(), p.latent[0].values.cols()};
  }

  template <class B>
  void keep(B& be, const_view<B> pre, const selection<B>& in, matrix<typename B::real, B>& bound,
            codes<B>& out) const {
    be.entries(1, 1,
               levels_detail::silence<typename B::real>{table(in.parameters), bound.data(), soft});
    be.keep_above(pre, const_view<B>(bound), by_raw_value{}, out);
  }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
