// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/plm/esm2.hpp>
#include <plmscope/plm/hook.hpp>
#include <plmscope/plm/packed_batch.hpp>
#include <plmscope/plm/rotary.hpp>
#include <plmscope/plm/rules.hpp>
#include <plmscope/plm/site.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// A hook that takes the gradient of a scalar of the logits with respect to the residual stream at
/// a site (`embeddings`, `resid_pre`, `resid_post`): the reverse pass through the LM head and the
/// blocks above. `Objective` names the scalar:
///
///   double operator()(std::span<const Real> logits, const batch_slice& rows,
///                     std::span<Real> gradient)
///
/// gets the logits of a slice, [rows, 33], fills their gradient (zero before the call) and returns
/// its share of the scalar. One that also looks at the states that blocks above the site leave has
///
///   double at_states(Backend& be, site at, const_view<Backend> states, const batch_slice& rows,
///                    view<Backend> gradient)
///
/// which adds to the gradient [rows, d] and returns its share, last block first. Edits placed before the hook (`hooks{edits, gradient}`) count as the
/// state they leave; edits above the site are not differentiated through.
///
/// Of every block above the site only its input is kept; the rest is computed again. Cost: about
/// three forward passes above the site. Memory: one [rows, d] per block above, and two attention
/// maps of the longest sequence. The model must outlive the hook.
template <class Backend, class Objective>
class logit_gradient {
 public:
  using real = typename Backend::real;

  /// Errors: plm.133 for a site off the residual stream, plm.108, plm.114.
  logit_gradient(const esm2<Backend>& model, site at, Objective objective)
      : model_(&model), objective_(std::move(objective)), rotary_(model.weights().inv_freq.size()) {
    model.check(at);
    model.check(logits{});
    const bool before = at.kind() == site_kind::resid_pre;
    if (!before && at.kind() != site_kind::embeddings && at.kind() != site_kind::resid_post) {
      throw error(rules::gradient_site, {.where = to_string(at)});
    }
    first_block_ = at.kind() == site_kind::resid_post ? at.layer() + 1 : at.layer();
    sites_.push_back(at);
    for (std::size_t l = first_block_; l < model.layers(); ++l) sites_.push_back(resid_post{l});
    sites_.push_back(logits{});
    kept_.resize(sites_.size() - 1);
  }

  const std::vector<site>& sites() const noexcept { return sites_; }

  void operator()(Backend& be, site at, view<Backend> states, const batch_slice& slice) {
    if (slice.first_sequence == 0 && at == sites_.front()) {
      value_ = 0;
      gradient_.clear();
    }
    if (at.kind() != site_kind::logits) {
      auto& to = kept_[at == sites_.front() ? 0 : at.layer() + 1 - first_block_];
      to.reshape(be, states.rows(), states.cols());
      be.copy(const_view<Backend>(states), to.all());
      return;
    }
    through_head(be, states, slice);
    prepare(be, slice);
    for (std::size_t l = model_->layers(); l-- > first_block_;) {
      if constexpr (sees_states) {
        value_ += objective_.at_states(be, resid_post{l}, cmat(kept_[l + 1 - first_block_]), slice,
                                       stream_.all());
      }
      through_block(be, l, slice);
    }
    const std::size_t old = gradient_.size();
    gradient_.resize(old + stream_.size());
    be.download(const_view<Backend>(stream_), std::span<real>(gradient_).subspan(old));
  }

  /// The scalar, over the whole batch.
  double value() const noexcept { return value_; }
  /// Its gradient with respect to the states of the site, [rows of the batch, d].
  std::span<const real> gradient() const noexcept { return gradient_; }

 private:
  using mat = view<Backend, real>;
  using cmat = const_view<Backend>;
  using device = matrix<real, Backend>;
  static constexpr bool sees_states = requires(Objective& o, Backend& be, site at, cmat states,
                                               const batch_slice& slice, mat gradient) {
    { o.at_states(be, at, states, slice, gradient) } -> std::convertible_to<double>;
  };

  real epsilon() const noexcept { return static_cast<real>(model_->config().layer_norm_epsilon); }

  /// out[m, k] = g[m, n] w[n, k]: the way back through a linear map.
  void back(Backend& be, cmat g, const typename Backend::packed& w, mat out) {
    plain_.reshape(be, w.rows(), w.cols());
    be.unpack(w, plain_);
    be.gemm_nn(g, plain_, out);
  }

  // stream_ = gradient with respect to what the last block left.
  void through_head(Backend& be, cmat scores, const batch_slice& slice) {
    const auto& w = model_->weights();
    const std::size_t d = model_->d_model();
    const std::size_t rows = scores.rows();
    std::vector<real> host(scores.size());
    std::vector<real> slopes(scores.size(), real{0});
    be.download(scores, std::span<real>(host));
    value_ += objective_(std::span<const real>(host), slice, std::span<real>(slopes));
    device g(be, rows, scores.cols());
    be.upload(std::span<const real>(slopes), g.all());

    const cmat last = kept_.back();
    normed_.reshape(be, rows, d);
    be.layer_norm(last, w.final_gain, w.final_bias, epsilon(), normed_);
    hidden_.reshape(be, rows, d);  // before the GELU
    be.linear(normed_, w.head, w.head_bias, hidden_);
    normed_.reshape(be, rows, d);  // after it
    be.copy(cmat(hidden_), normed_.all());
    be.gelu(normed_);
    branch_.reshape(be, rows, d);
    be.gemm_nn(g, w.tokens, branch_);
    be.layer_norm_backward(normed_, w.head_gain, branch_, epsilon(), branch_);
    be.gelu_backward(hidden_, branch_);
    back(be, branch_, w.head, normed_);
    stream_.reshape(be, rows, d);
    be.layer_norm_backward(last, w.final_gain, normed_, epsilon(), stream_);
  }

  void prepare(Backend& be, const batch_slice& slice) {
    std::size_t longest = 0;
    for (std::size_t s = 0; s < slice.sequences(); ++s) {
      longest =
          std::max(longest, static_cast<std::size_t>(slice.offsets[s + 1] - slice.offsets[s]));
    }
    for (std::size_t t = 0; t < rotary_.size(); ++t) {
      rotary_[t].onwards.grow(be, model_->weights().inv_freq[t], longest);
      rotary_[t].backwards.grow(be, model_->weights().inv_freq[t], longest, -1);
    }
    positions_.reshape(be, 1, slice.rows());
    be.upload(slice.positions, positions_.all());
  }

  // stream_: from the gradient after block l to that before it. x is the block's input.
  void through_block(Backend& be, std::size_t l, const batch_slice& slice) {
    const auto& w = model_->weights().blocks[l];
    const auto& config = model_->config();
    const std::size_t rows = stream_.rows();
    const std::size_t d = config.d_model;
    const cmat x = kept_[l - first_block_];

    qkv_.reshape(be, rows, 3 * d);
    normed_.reshape(be, rows, d);
    be.layer_norm(x, w.attention_gain, w.attention_bias, epsilon(), normed_);
    be.linear(normed_, w.qkv, w.qkv_bias, qkv_);
    const auto third = [&](device& m, std::size_t i) { return m.all().col_range(i * d, d); };
    const auto& table = rotary_[w.rotary];
    be.rotary(third(qkv_, 0), third(qkv_, 1), config.head_dim(), positions_,
              table.onwards.cosines(), table.onwards.sines(), model_->query_scale());
    branch_.reshape(be, rows, d);
    mix(be, slice, normed_);
    be.copy(x, branch_.all());  // becomes the stream between attention and MLP
    be.linear(normed_, w.output, w.output_bias, branch_, epilogue::add);

    // MLP.
    be.layer_norm(branch_, w.feed_forward_gain, w.feed_forward_bias, epsilon(), normed_);
    hidden_.reshape(be, rows, config.feed_forward);
    be.linear(normed_, w.expand, w.expand_bias, hidden_);
    wide_.reshape(be, rows, config.feed_forward);
    back(be, stream_, w.contract, wide_);
    be.gelu_backward(hidden_, wide_);
    back(be, wide_, w.expand, normed_);
    be.layer_norm_backward(branch_, w.feed_forward_gain, normed_, epsilon(), normed_);
    be.axpy(real{1}, normed_, stream_);

    // Attention.
    back(be, stream_, w.output, normed_);
    d_qkv_.reshape(be, rows, 3 * d);
    mix_backward(be, slice, normed_);
    be.rotary(third(d_qkv_, 0), third(d_qkv_, 1), config.head_dim(), positions_,
              table.backwards.cosines(), table.backwards.sines(), model_->query_scale());
    back(be, d_qkv_, w.qkv, normed_);
    be.layer_norm_backward(x, w.attention_gain, normed_, epsilon(), normed_);
    be.axpy(real{1}, normed_, stream_);
  }

  // f(rows of the slice, number of tokens, columns of the head in a [rows, d]) for every head.
  template <class F>
  void for_heads(const batch_slice& slice, const F& f) const {
    for (std::size_t s = 0; s < slice.sequences(); ++s) {
      const auto first = static_cast<std::size_t>(slice.offsets[s]);
      const auto n = static_cast<std::size_t>(slice.offsets[s + 1]) - first;
      for (std::size_t h = 0; h < model_->config().heads; ++h) {
        f([first, n, column = h * model_->config().head_dim(), width = model_->config().head_dim()](
              auto x) { return x.row_range(first, n).col_range(column, width); },
          n);
      }
    }
  }

  // map_ = softmax(q k^T) of one head.
  template <class Head>
  void attend(Backend& be, const Head& head, std::size_t n) {
    const std::size_t d = model_->d_model();
    map_.reshape(be, n, n);
    be.gemm_nt(head(cmat(qkv_).col_range(0, d)), head(cmat(qkv_).col_range(d, d)), map_);
    be.softmax_rows(map_);
  }

  void mix(Backend& be, const batch_slice& slice, mat out) {
    const std::size_t d = model_->d_model();
    for_heads(slice, [&](const auto& head, std::size_t n) {
      attend(be, head, n);
      be.gemm_nn(map_, head(cmat(qkv_).col_range(2 * d, d)), head(out));
    });
  }

  // d_qkv_ from the gradient with respect to the mixed values: with c = p v,
  // dv = p^T dc, dp = dc v^T, ds = p o (dp - <p, dp>), dq = ds k, dk = ds^T q.
  void mix_backward(Backend& be, const batch_slice& slice, cmat g) {
    const std::size_t d = model_->d_model();
    const auto part = [&](device& m, std::size_t i) { return m.all().col_range(i * d, d); };
    for_heads(slice, [&](const auto& head, std::size_t n) {
      attend(be, head, n);
      d_map_.reshape(be, n, n);
      be.gemm_nt(head(g), head(cmat(part(qkv_, 2))), d_map_);
      be.gemm_tn(map_, head(g), head(part(d_qkv_, 2)));
      be.softmax_backward(map_, d_map_);
      be.gemm_nn(d_map_, head(cmat(part(qkv_, 1))), head(part(d_qkv_, 0)));
      be.gemm_tn(d_map_, head(cmat(part(qkv_, 0))), head(part(d_qkv_, 1)));
    });
  }

  struct rotations {
    rotary_table<Backend> onwards;
    rotary_table<Backend> backwards;
  };

  const esm2<Backend>* model_;
  Objective objective_;
  std::vector<site> sites_;
  std::size_t first_block_ = 0;
  double value_ = 0;
  std::vector<real> gradient_;
  std::vector<device> kept_;  // the site, then what each block above left
  std::vector<rotations> rotary_;
  matrix<std::int32_t, Backend> positions_;
  device stream_, normed_, branch_, hidden_, wide_, qkv_, d_qkv_, map_, d_map_, plain_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
