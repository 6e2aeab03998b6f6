// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/sae/parameters.hpp>
#include <plmscope/tensor/codes.hpp>
#include <plmscope/tensor/codes_by_feature.hpp>
#include <plmscope/tensor/codes_view.hpp>
#include <plmscope/tensor/matrix.hpp>
#include <plmscope/train/losses.hpp>
#include <plmscope/train/metrics.hpp>
#include <plmscope/train/plans.hpp>
#include <plmscope/train/rules.hpp>
#include <plmscope/train/whole_results.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

namespace reconstruction_detail {

/// out[i] = 1 / slopes[i parts]; 0 where the slope is 0.
template <class Real>
struct inverse_slope {
  const Real* slopes;
  std::size_t parts;
  Real* out;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t i) const {
    const Real s = slopes[i * parts];
    out[i] = s == Real{0} ? Real{0} : 1 / s;
  }
};

}  // namespace reconstruction_detail

/// The result of a training step, its loss, and what flows back from it: from all latents at once,
/// from prefixes of them (Matryoshka), or measured site by site (crosscoders). Keeps derivatives with
/// respect to each result, [m parts, d], and nothing of size [m, F].
template <class B>
class reconstruction {
 public:
  using real = typename B::real;

  struct inputs {
    std::size_t step;
    const sae_parameters<B>& parameters;
    const_view<B> rows;      ///< [m, d_in] normalised, for the skip map
    const_view<B> target;    ///< [m, d_out]
    const codes<B>& z;
    std::size_t blocks;      ///< sites in a row
    const_view<B> offset = {};  ///< [m, d_out] what results have beside the dictionary's, or empty
    const normalizer* scale = nullptr;  ///< of results, with what it knows of the batch
    typename normalizer::context<B>* context = nullptr;
  };

  explicit reconstruction(B& be) : slot_(be, 1, 1) {}

  /// Fills dz [1, n] with the derivatives of the loss with respect to the values.
  template <class Plan, class Policy, class Loss>
  void run(B& be, const Plan& plan, const inputs& in, const Policy& policy, const Loss& loss,
           view<B> dz) {
    const auto& p = in.parameters;
    m_ = in.target.rows();
    d_ = in.target.cols();
    blocks_ = 1;
    parts_ = 1;
    by_part_used_ = false;
    whole_ = false;
    aim_at(be, in);
    prefix_list list;
    if constexpr (!std::is_same_v<Plan, full_reconstruction>) list = plan(in.step, p.decoder.rows());
    if (list.ends.empty()) {
      g_.reshape(be, m_, d_);
      if constexpr (whole_result<Policy>) {
        as_a_whole(be, policy, in, dz);
      } else if (per_block(policy) && in.blocks > 1) {
        blocks_ = in.blocks;
        block_by_block(be, p, in.z, loss, dz);
      } else {
        figures_.reshape(be, 3, m_);
        be.reconstruct(in.z, p.decoder, p.decoder_bias, aim_, loss, g_, dz, figures_);
      }
    } else if constexpr (!std::is_same_v<Plan, full_reconstruction>) {
      if (per_block(policy) && in.blocks > 1) {
        throw error(rules::train_prefixes, {.expected = "a loss of whole rows",
                                            .found = "a loss of each of " +
                                                     std::to_string(in.blocks) + " sites"});
      }
      static_assert(!whole_result<Policy>,
                    "plmscope: a loss of whole results takes full reconstructions");
      prefixes(be, list, p, in.z, loss, dz);
    }
  }

  /// What the dictionary aims at: the target less the skip map's part and the offset.
  const_view<B> aim() const noexcept { return aim_; }
  /// Derivative with respect to what is added to every result, [m, d].
  const_view<B> bias_pull() const noexcept {
    return {g_.data(), m_, d_, parts_ * d_};
  }
  /// [1, m] losses of the rows (full reconstruction).
  const_view<B> row_losses() const noexcept { return const_view<B>(figures_).row_range(1, 1); }
  /// [1, F] what part of a penalty a latent gets, or empty for all.
  const_view<B> latent_shares() const noexcept {
    return parts_ > 1 && shares_penalty_ ? const_view<B>(latent_shares_) : const_view<B>();
  }

  double loss(B& be) {
    be.fill(slot_.all(), 0.0);
    be.add_sum(const_view<B>(figures_).row_range(1, 1), slot_.all());
    return read(be);
  }

  /// aim - result, [m, d], of the whole dictionary. (Once `add_pull` was called it holds that, too.)
  const_view<B> residual(B& be) { return residual(be, parts_ - 1); }
  /// aim - result of one prefix, counted from 0; valid until the next call. Where results h and later
  /// have shares s and errors e, g_h - g_(h+1) = s_h e_h.
  const_view<B> residual(B& be, std::size_t part) {
    residual_into(be, real{-1}, residual_, part);
    return residual_;
  }

  /// Adds a derivative with respect to the whole result, and pulls all of it back again.
  void add_pull(B& be, const_view<B> pull, const codes<B>& z, const sae_parameters<B>& p,
                view<B> dz) {
    for (std::size_t h = 0; h < parts_; ++h) {
      be.axpy(real{1}, pull, view<B>(g_.data() + h * d_, m_, d_, parts_ * d_));
    }
    if (by_part_used_) {
      be.sampled_dot(split(z), const_view<B>(g_), const_view<B>(p.decoder), dz);
    } else {
      be.sampled_dot(z, const_view<B>(g_), const_view<B>(p.decoder), dz);
    }
  }

  /// Decoder and encoder gradients and the sums of dz [1, F]; dz is with respect to pre-activations.
  void backward(B& be, const codes_by_feature<B>& by_feature, const codes<B>& z, const_view<B> dz,
                const_view<B> centred, sae_parameters<B>& gradient, view<B> sums) {
    const auto values = const_view<B>(z.values(), 1, z.entries());
    if (!by_part_used_) {
      be.sparse_backward(by_feature, values, dz, const_view<B>(g_), centred, gradient.decoder,
                         gradient.encoder, sums);
      return;
    }
    be.sparse_backward(by_part_, values, dz, const_view<B>(g_), const_view<B>(), gradient.decoder,
                       view<B>(), view<B>());
    be.sparse_backward(by_feature, const_view<B>(), dz, const_view<B>(), centred, view<B>(),
                       gradient.encoder, sums);
  }

  /// Figures on the whole result; `target` with the skip map's part in it.
  void figures(B& be, const_view<B> target, training_metrics& out) {
    residual_into(be, real{1}, residual_, parts_ - 1);
    scatter_around_mean(be, target, scratch_, slot_.all());
    const double total = read(be);
    scatter_around_mean(be, const_view<B>(residual_), scratch_, slot_.all());
    const double unexplained = read(be);
    std::vector<double> ee(m_), ey(m_), yy(m_);
    dots(be, residual_, residual_, ee);
    dots(be, residual_, target, ey);
    dots(be, target, target, yy);
    double squares = 0;
    double cosine = 0;
    for (std::size_t r = 0; r < m_; ++r) {
      squares += ee[r];
      const double length = std::sqrt(yy[r]) * std::sqrt(std::max(0.0, yy[r] + 2 * ey[r] + ee[r]));
      cosine += length > 0 ? (yy[r] + ey[r]) / length : 0;
    }
    out.fvu = total > 0 ? squares / total : 0;
    out.explained_variance = total > 0 ? 1 - unexplained / total : 0;
    out.cosine = m_ > 0 ? cosine / static_cast<double>(m_) : 0;
  }

 private:
  template <class Policy>
  static bool per_block(const Policy& policy) {
    if constexpr (requires { policy.per_block; }) return policy.per_block;
    else return false;
  }

  template <class Policy>
  static constexpr bool takes_rows =
      requires(const Policy& p, B& be, const_view<B> x, view<B> g) { p.pull(be, x, x, g); };
  template <class Policy>
  static constexpr bool whole_result =
      takes_rows<Policy> ||
      requires(const Policy& p, B& be, const whole_results<B>& w, view<B> g) { p.pull(be, w, g); };

  template <class Policy>
  void as_a_whole(B& be, const Policy& policy, const inputs& in, view<B> dz) {
    const auto& p = in.parameters;
    whole_ = true;
    result_.reshape(be, m_, d_);
    figures_.reshape(be, 3, 1);
    be.decode(in.z, const_view<B>(p.decoder), const_view<B>(p.decoder_bias), result_.all());
    double loss = 0;
    if constexpr (takes_rows<Policy>) {
      loss = policy.pull(be, const_view<B>(result_), aim_, g_.all());
    } else {
      loss = policy.pull(be, whole_results<B>{result_, aim_, in.target, *in.scale, *in.context,
                                              residual_},
                         g_.all());
    }
    be.fill(figures_.all(), static_cast<real>(loss));
    be.sampled_dot(in.z, const_view<B>(g_), const_view<B>(p.decoder), dz);
  }

  void aim_at(B& be, const inputs& in) {
    aim_ = in.target;
    const bool skips = !in.parameters.skip.empty();
    if (!skips && in.offset.empty()) return;
    rest_.reshape(be, m_, d_);
    be.copy(in.target, rest_.all());
    if (skips) {
      scratch_.reshape(be, m_, d_);
      be.gemm_nt(in.rows, in.parameters.skip, scratch_);
      be.axpy(real{-1}, const_view<B>(scratch_), rest_);
    }
    if (!in.offset.empty()) be.axpy(real{-1}, in.offset, rest_);
    aim_ = rest_;
  }

  template <class Loss>
  void block_by_block(B& be, const sae_parameters<B>& p, const codes<B>& z, const Loss& loss,
                      view<B> dz) {
    const std::size_t width = d_ / blocks_;
    figures_.reshape(be, 3, m_ * blocks_);
    part_dz_.reshape(be, 1, std::max<std::size_t>(dz.cols(), 1));
    for (std::size_t b = 0; b < blocks_; ++b) {
      const auto columns = [&](auto v) { return v.col_range(b * width, width); };
      be.reconstruct(z, columns(const_view<B>(p.decoder)), columns(const_view<B>(p.decoder_bias)),
                     columns(aim_), loss, columns(g_.all()), b == 0 ? dz : part_dz_.all(),
                     figures_.all().col_range(b * m_, m_));
      if (b > 0) be.axpy(real{1}, const_view<B>(part_dz_), dz);
    }
  }

  template <class Loss>
  void prefixes(B& be, const prefix_list& list, const sae_parameters<B>& p, const codes<B>& z,
                const Loss& loss, view<B> dz) {
    parts_ = list.ends.size();
    by_part_used_ = true;
    shares_penalty_ = list.shares_penalty;
    if (list.ends != list_.ends || list.shares != list_.shares) remember(be, list, p.decoder.rows());
    offsets_.reshape(be, 1, m_ * parts_ + 1);
    be.split_rows(z, const_view<B, std::uint32_t>(ends_), offsets_.all());
    g_.reshape(be, m_ * parts_, d_);
    figures_.reshape(be, 3, m_ * parts_);
    be.decode(split(z), const_view<B>(p.decoder), const_view<B>(), g_.all());
    be.prefix_errors(g_.all(), aim_, const_view<B>(p.decoder_bias), const_view<B>(shares_), loss,
                     figures_.all());
    be.sampled_dot(split(z), const_view<B>(g_), const_view<B>(p.decoder), dz);
    be.transpose(split(z), by_part_);
  }

  codes_view<B> split(const codes<B>& z) const {
    return codes_view<B>(z).with_rows(offsets_.data(), m_ * parts_);
  }

  void remember(B& be, const prefix_list& list, std::size_t features) {
    bool good = !list.ends.empty() && list.shares.size() == list.ends.size() &&
                list.ends.back() == features;
    for (std::size_t i = 1; i < list.ends.size(); ++i) good = good && list.ends[i - 1] < list.ends[i];
    if (!good) {
      throw error(rules::train_prefixes,
                  {.expected = "ascending ends up to " + std::to_string(features) +
                               " and a share for each",
                   .found = std::to_string(list.ends.size()) + " ends up to " +
                            std::to_string(list.ends.empty() ? 0 : list.ends.back()) + ", " +
                            std::to_string(list.shares.size()) + " shares"});
    }
    list_ = list;
    ends_ = matrix<std::uint32_t, B>(be, 1, parts_);
    shares_ = matrix<real, B>(be, 1, parts_);
    latent_shares_.reshape(be, 1, features);
    be.upload(std::span<const std::uint32_t>(list.ends), ends_.all());
    be.upload(std::span<const double>(list.shares), shares_.all());
    std::vector<double> each(features, 0.0);
    for (std::size_t g = 0; g < parts_; ++g) {
      for (std::size_t f = 0; f < list.ends[g]; ++f) each[f] += list.shares[g];
    }
    be.upload(std::span<const double>(each), latent_shares_.all());
  }

  // out = sign (result - aim) of one prefix: g_h - g_(h+1) over its slope.
  void residual_into(B& be, real sign, matrix<real, B>& out, std::size_t part) {
    row_work_.reshape(be, 1, m_);
    zeros_.reshape(be, 1, m_);
    be.fill(zeros_.all(), real{0});
    out.reshape(be, m_, d_);
    if (whole_) {
      be.copy(const_view<B>(result_), out.all());
      be.axpy(real{-1}, aim_, out);
      be.scale(out, sign);
      return;
    }
    const std::size_t width = d_ / blocks_;
    const auto of = [&](std::size_t h) {
      return const_view<B>(g_.data() + h * d_, m_, d_, parts_ * d_);
    };
    auto from = of(part);
    if (part + 1 < parts_) {
      scratch_.reshape(be, m_, d_);
      be.copy(from, scratch_.all());
      be.axpy(real{-1}, of(part + 1), scratch_);
      from = scratch_;
    }
    for (std::size_t b = 0; b < blocks_; ++b) {
      const auto slopes = const_view<B>(figures_).row_range(2, 1).col_range(b * m_ * (blocks_ > 1),
                                                                           m_ * parts_);
      be.entries(1, m_, reconstruction_detail::inverse_slope<real>{slopes.data() + part, parts_,
                                                                   row_work_.data()});
      be.scale(row_work_, sign);
      be.affine_rows(from.col_range(b * width, width), const_view<B>(zeros_),
                     const_view<B>(row_work_), out.all().col_range(b * width, width));
    }
  }

  double read(B& be) {
    double v = 0;
    be.download(const_view<B, double>(slot_), std::span<double>(&v, 1));
    return v;
  }
  void dots(B& be, const_view<B> a, const_view<B> b, std::vector<double>& out) {
    be.row_dots(a, b, row_work_);
    be.download(const_view<B>(row_work_), std::span<double>(out));
  }

  std::size_t m_ = 0, d_ = 0;
  std::size_t parts_ = 1;    // results per row
  std::size_t blocks_ = 1;   // parts of a row with losses of their own
  bool by_part_used_ = false;
  bool shares_penalty_ = false;
  bool whole_ = false;       // the loss took the results as a whole
  const_view<B> aim_;
  matrix<real, B> g_;        // [m parts, d]: row i parts + h is of result h
  matrix<real, B> figures_;  // [3, m parts] or [3, m blocks]
  matrix<real, B> result_;   // [m, d], when the loss took them as a whole
  matrix<real, B> residual_, scratch_, rest_, row_work_, zeros_, part_dz_;
  matrix<real, B> shares_, latent_shares_;
  matrix<std::uint32_t, B> ends_;
  matrix<std::int64_t, B> offsets_;
  codes_by_feature<B> by_part_;
  prefix_list list_;
  matrix<double, B> slot_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
