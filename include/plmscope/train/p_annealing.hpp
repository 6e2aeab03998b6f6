// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/tensor/codes_view.hpp>
#include <plmscope/tensor/matrix.hpp>
#include <plmscope/train/penalties.hpp>
#include <plmscope/train/step_context.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

namespace penalty_detail {

/// out[e] = z^p, 0 where z is 0.
template <class Real>
struct to_power {
  const Real* values;
  Real* out;
  Real p;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t e, std::uint32_t) const {
    using std::pow;
    out[e] = values[e] > Real{0} ? pow(values[e], p) : Real{0};
  }
};

/// pull[e] += weight d/dz sum z^p, or, with the rows' sums, of (sum z^p)^(1/p).
template <class Real>
struct power_pull {
  const Real* values;
  const Real* row_sums;  ///< null: without the root
  Real* pull;
  Real p;
  Real weight;
  PLMSCOPE_HD void operator()(std::size_t r, std::size_t e, std::uint32_t) const {
    using std::pow;
    const Real z = values[e];
    if (!(z > Real{0})) return;
    const Real slope = pow(z, p - 1);
    pull[e] += weight * (row_sums == nullptr ? p * slope : pow(row_sums[r], 1 / p - 1) * slope);
  }
};

template <class Real>
struct rooted {
  Real* sums;
  Real p;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t r) const {
    using std::pow;
    sums[r] = sums[r] > Real{0} ? pow(sums[r], 1 / p) : Real{0};
  }
};

}  // namespace penalty_detail

/// weight * L_p with L_p = mean over rows of sum_i z_i^p, where p falls from `p_start` to `p_end` in
/// `updates` equal steps between two training steps (Karvonen et al. 2024, "Measuring progress in
/// dictionary learning", section 5). At each update the weight is multiplied by the mean of L_p / L_p'
/// over the last `memory` steps, so that the penalty does not jump. For a gated SAE z_i are the
/// gate's values. Waits for the device once an update was made.
///
/// The gradient p z^(p - 1) grows without bound as z goes to 0: expect rounding to be amplified.
struct p_annealing {
  warmed_weight weight = {};
  double p_start = 1;
  double p_end = 0.2;
  std::size_t first_update = 15'000;
  std::size_t last_update = 80'000;
  std::size_t updates = 10;
  std::size_t memory = 10;
  bool root = false;  ///< L_p = mean of (sum_i z_i^p)^(1/p)

  template <class B>
  struct state {
    using real = typename B::real;
    matrix<real, B> powers, ones, row_sums, row_norms;
    matrix<double, B> slot;
    double factor = 1;               ///< of the weight
    double p = 0;                    ///< 0: not begun
    double next = 0;                 ///< 0: none yet
    std::size_t done = 0;            ///< updates
    matrix<double, B> history;       ///< [2, memory] L_p and L_p' of the last steps, newest last
    std::size_t kept = 0;            ///< of them
    double value = 0;

    template <class F>
    void fields(const F& f) {
      f("factor", factor);
      f("p", p);
      f("next", next);
      f("done", done);
      f("history", history);
      f("kept", kept);
    }
  };

  template <class B>
  void on_values(B& be, step_context<B>& c, state<B>& s) const {
    using real = typename B::real;
    if (s.p == 0) s.p = p_start;
    warmed_weight::state none;
    const double w = weight(be, c, none) * s.factor;
    const double now = measure(be, c, s, s.p);  // leaves the rows' sums of this p
    be.each_entry(c.z, penalty_detail::power_pull<real>{
                           c.penalised.data(), root ? s.row_sums.data() : nullptr,
                           c.penalised_pull.data(), static_cast<real>(s.p),
                           static_cast<real>(w / static_cast<double>(c.rows()))});
    s.value = w * now;
    if (s.next > 0) remember(be, now, measure(be, c, s, s.next), s);
    if (s.done < updates && c.step == update_step(s.done)) advance(be, s);
  }

  template <class B>
  double loss(B&, state<B>& s) const {
    return s.value;
  }

 private:
  std::size_t update_step(std::size_t i) const noexcept {
    if (updates < 2) return first_update;
    return static_cast<std::size_t>(static_cast<double>(first_update) +
                                    static_cast<double>(last_update - first_update) *
                                        static_cast<double>(i) / static_cast<double>(updates - 1));
  }
  double p_of(std::size_t i) const noexcept {
    if (i >= updates || updates < 2) return p_end;
    return p_start + (p_end - p_start) * static_cast<double>(i) / static_cast<double>(updates - 1);
  }

  template <class B>
  void remember(B& be, double now, double next, state<B>& s) const {
    if (s.history.empty()) s.history = matrix<double, B>(be, 2, std::max<std::size_t>(memory, 1));
    const std::size_t n = s.history.cols();
    std::vector<double> h(2 * n);
    be.download(const_view<B, double>(s.history), std::span<double>(h));
    for (std::size_t row = 0; row < 2; ++row) {
      double* const first = h.data() + row * n;
      std::rotate(first, first + 1, first + n);
      first[n - 1] = row == 0 ? now : next;
    }
    be.upload(std::span<const double>(h), s.history.all());
    s.kept = std::min(s.kept + 1, n);
  }

  template <class B>
  void advance(B& be, state<B>& s) const {
    if (s.next > 0 && s.kept > 0) {
      const std::size_t n = s.history.cols();
      std::vector<double> h(2 * n);
      be.download(const_view<B, double>(s.history), std::span<double>(h));
      double a = 0;
      double b = 0;
      for (std::size_t i = n - s.kept; i < n; ++i) a += h[i], b += h[n + i];
      if (b > 0) s.factor *= a / b;
    }
    s.p = p_of(s.done);
    s.next = p_of(s.done + 1);
    ++s.done;
  }

  /// L_p of the batch.
  template <class B>
  double measure(B& be, step_context<B>& c, state<B>& s, double p) const {
    using real = typename B::real;
    s.powers.reshape(be, 1, c.penalised.cols());
    be.each_entry(c.z, penalty_detail::to_power<real>{c.penalised.data(), s.powers.data(),
                                                      static_cast<real>(p)});
    if (s.ones.empty()) {
      s.ones = matrix<real, B>(be, c.features(), 1);
      be.fill(s.ones.all(), real{1});
      s.slot = matrix<double, B>(be, 1, 1);
    }
    matrix<real, B>& sums = p == s.p ? s.row_sums : s.row_norms;
    sums.reshape(be, c.rows(), 1);
    be.decode(codes_view<B>(c.z).with_values(s.powers.data()), const_view<B>(s.ones),
              const_view<B>(), sums.all());
    be.fill(s.slot.all(), 0.0);
    if (root) {
      s.row_norms.reshape(be, c.rows(), 1);
      if (&sums != &s.row_norms) be.copy(const_view<B>(sums), s.row_norms.all());
      be.entries(1, c.rows(), penalty_detail::rooted<real>{s.row_norms.data(),
                                                           static_cast<real>(p)});
      be.add_sum(const_view<B>(s.row_norms), s.slot.all());
    } else {
      be.add_sum(const_view<B>(sums), s.slot.all());
    }
    double v = 0;
    be.download(const_view<B, double>(s.slot), std::span<double>(&v, 1));
    return v / static_cast<double>(c.rows());
  }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
