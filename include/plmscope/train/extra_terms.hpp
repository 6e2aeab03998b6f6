// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/sae/parameters.hpp>
#include <plmscope/sae/selection.hpp>
#include <plmscope/tensor/codes.hpp>
#include <plmscope/tensor/codes_by_feature.hpp>
#include <plmscope/tensor/matrix.hpp>
#include <plmscope/train/step_context.hpp>

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// No further reconstruction beside the main one.
struct no_extra_term {
  template <class B>
  struct state {};
  template <class... Arguments>
  void clear(Arguments&&...) const {}
  template <class... Arguments>
  void select(Arguments&&...) const {}
  template <class... Arguments>
  void reconstruct(Arguments&&...) const {}
  template <class... Arguments>
  void backward(Arguments&&...) const {}
  template <class Codes, class State>
  const Codes& fired(const Codes& z, State&) const {
    return z;
  }
  template <class B, class State>
  double loss(B&, State&) const {
    return 0;
  }
};

/// Multi-TopK (Gao et al. 2024, section 4.4): further reconstructions from other numbers of latents,
/// selected from the same pre-activations, so that codes stay good when k is changed later. One level
/// of 4 k and weight 1/8 is the paper's; ascending levels below k give nested codes
/// (hierarchical TopK). For sparsifiers with a `k`.
struct multi_top_k {
  struct level {
    double factor = 4;        ///< of k
    double weight = 1.0 / 8;  ///< of the main loss
  };
  std::vector<level> levels = {{}};
  bool reaches_encoder = true;
  bool decides_fired = false;  ///< the first level's latents count as fired

  template <class B>
  struct list {
    codes<B> z;
    codes_by_feature<B> by_feature;
    matrix<typename B::real, B> g, dz, rows;
  };
  template <class B>
  struct state {
    std::vector<list<B>> lists;
    matrix<typename B::real, B> bias;
    matrix<double, B> slot;

    template <class F>
    void fields(const F&) {}
  };

  template <class B>
  void clear(B& be, std::size_t features, state<B>& s) const {
    s.lists.resize(levels.size());
    for (auto& l : s.lists) l.z.clear(be, features);
  }

  template <class B, class S>
  void select(B& be, const S& sparsify, const_view<B> pre, const selection<B>& in,
              state<B>& s) const {
    for (std::size_t i = 0; i < levels.size(); ++i) {
      S other = sparsify;
      other.k = static_cast<decltype(other.k)>(levels[i].factor * static_cast<double>(other.k));
      select_rows(be, other, pre, in, s.lists[i].z);
    }
  }

  template <class B, class Loss>
  void reconstruct(B& be, const sae_parameters<B>& p, const_view<B> target, const Loss& loss,
                   state<B>& s) const {
    using real = typename B::real;
    for (std::size_t i = 0; i < levels.size(); ++i) {
      if (levels[i].weight == 0) continue;
      auto& l = s.lists[i];
      Loss scaled = loss;
      scaled.scale *= static_cast<real>(levels[i].weight);
      l.g.reshape(be, target.rows(), target.cols());
      l.rows.reshape(be, 3, target.rows());
      l.dz.reshape(be, 1, std::max<std::size_t>(l.z.entries(), 1));
      be.reconstruct(l.z, p.decoder, p.decoder_bias, target, scaled, l.g, l.dz, l.rows);
    }
  }

  /// Adds to the gradients; `sums` [1, F] are the sums over rows of the derivatives with respect to
  /// pre-activations.
  template <class B>
  void backward(B& be, const step_context<B>& c, sae_parameters<B>& gradient, view<B> sums,
                state<B>& s) const {
    using real = typename B::real;
    for (std::size_t i = 0; i < levels.size(); ++i) {
      if (levels[i].weight == 0) continue;
      auto& l = s.lists[i];
      be.transpose(l.z, l.by_feature);
      be.sparse_backward(l.by_feature, const_view<B>(l.z.values(), 1, l.z.entries()),
                         const_view<B>(l.dz), const_view<B>(l.g), c.centred, gradient.decoder,
                         reaches_encoder ? gradient.encoder.all() : view<B>(),
                         reaches_encoder ? sums : view<B>(), real{1});
      s.bias.reshape(be, 1, l.g.cols());
      be.column_sums(l.g, s.bias);
      be.axpy(real{1}, s.bias, gradient.decoder_bias);
      if (!gradient.skip.empty()) be.gemm_tn(l.g, c.rows_in, gradient.skip, real{1});
    }
  }

  template <class Codes, class B>
  const Codes& fired(const Codes& z, state<B>& s) const {
    return decides_fired && !s.lists.empty() ? s.lists.front().z : z;
  }

  template <class B>
  double loss(B& be, state<B>& s) const {
    if (s.slot.empty()) s.slot = matrix<double, B>(be, 1, 1);
    be.fill(s.slot.all(), 0.0);
    for (const auto& l : s.lists) {
      if (!l.rows.empty()) be.add_sum(const_view<B>(l.rows).row_range(1, 1), s.slot.all());
    }
    double value = 0;
    be.download(const_view<B, double>(s.slot), std::span<double>(&value, 1));
    return value;
  }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
