// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/sae/parameters.hpp>
#include <plmscope/tensor/codes.hpp>
#include <plmscope/tensor/codes_by_feature.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <algorithm>
#include <cstddef>
#include <span>

namespace plmscope::inline PLMSCOPE_ABI {

/// No further reconstruction beside the main one.
struct no_extra_term {
  template <class B>
  struct state {};
  template <class Sae, class Rows, class State>
  void select(Sae&, Rows, State&) const {}
  template <class... Arguments>
  void reconstruct(Arguments&&...) const {}
  template <class B, class State>
  void backward(B&, sae_parameters<B>&, State&) const {}
  template <class Codes, class State>
  const Codes& fired(const Codes& z, State&) const {
    return z;
  }
  template <class B, class State>
  double loss(B&, State&) const {
    return 0;
  }
};

/// Multi-TopK as sparsify trains it: a second reconstruction from factor * k latents, weight times
/// the main loss, whose gradient reaches decoder and decoder bias only (Gao et al. 2024, section
/// 4.4, lets it reach the encoder too). The wider selection decides which latents have fired.
struct multi_top_k_decoder_only {
  std::size_t factor = 4;
  double weight = 1.0 / 8;

  template <class B>
  struct state {
    codes<B> z;
    codes_by_feature<B> by_feature;
    matrix<typename B::real, B> g, dz, rows, bias;
    matrix<double, B> slot;
  };

  template <class Sae, class Rows, class State>
  void select(Sae& model, Rows centred, State& s) const {
    auto wider = model.sparsifier();
    wider.k *= factor;
    model.select(centred, wider, s.z);
  }

  template <class B, class Loss>
  void reconstruct(B& be, const sae_parameters<B>& p, const_view<B> target, Loss loss,
                   state<B>& s) const {
    using real = typename B::real;
    loss.scale *= static_cast<real>(weight);
    s.g.reshape(be, target.rows(), target.cols());
    s.rows.reshape(be, 3, target.rows());
    s.dz.reshape(be, 1, std::max<std::size_t>(s.z.entries(), 1));
    be.reconstruct(s.z, p.decoder, p.decoder_bias, target, loss, s.g, s.dz, s.rows);
  }

  template <class B>
  void backward(B& be, sae_parameters<B>& gradient, state<B>& s) const {
    using real = typename B::real;
    be.transpose(s.z, s.by_feature);
    be.sparse_backward(s.by_feature, const_view<B>(s.z.values(), 1, s.z.entries()), s.dz, s.g,
                       const_view<B>(s.g), gradient.decoder, view<B>(), view<B>(), real{1});
    s.bias.reshape(be, 1, s.g.cols());
    be.column_sums(s.g, s.bias);
    be.axpy(real{1}, s.bias, gradient.decoder_bias);
  }

  template <class Codes, class B>
  const Codes& fired(const Codes&, state<B>& s) const {
    return s.z;
  }

  template <class B>
  double loss(B& be, state<B>& s) const {
    if (s.slot.empty()) s.slot = matrix<double, B>(be, 1, 1);
    be.fill(s.slot.all(), 0.0);
    be.add_sum(const_view<B>(s.rows).row_range(1, 1), s.slot.all());
    double value = 0;
    be.download(s.slot.all(), std::span<double>(&value, 1));
    return value;
  }
};

}  // namespace plmscope
