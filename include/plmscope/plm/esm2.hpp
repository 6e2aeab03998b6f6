// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/cpu.hpp>
#include <plmscope/core/activation_source.hpp>
#include <plmscope/core/available_memory.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/plm/esm2_weights.hpp>
#include <plmscope/plm/forward_pass.hpp>
#include <plmscope/plm/hook.hpp>
#include <plmscope/plm/packed_batch.hpp>
#include <plmscope/plm/packed_slice.hpp>
#include <plmscope/plm/rotary.hpp>
#include <plmscope/plm/site.hpp>
#include <plmscope/plm/site_set.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// ESM-2 (Lin et al. 2023, "Evolutionary-scale prediction of atomic-level protein structure with a
/// language model"), the forward pass of the official code to rounding: pre-norm blocks, rotary
/// positions from the stored inv_freq, erf-GELU, token-dropout rescaling, tied LM head. Written in
/// backend primitives, so it runs wherever a backend does.
///
/// The states of a token depend on its own sequence only, bit for bit: not on the other sequences
/// of the batch, their order, the slices, or the number of threads.
template <class Backend = cpu>
class esm2 {
 public:
  using backend_type = Backend;
  using batch_type = packed_batch;
  using real = typename Backend::real;

  /// A folder, a file or a name of the hub, see `model_path`; also `esm2_options` and
  /// `load_esm2_weights` for errors.
  static esm2 load(const std::filesystem::path& path, const esm2_options& options = {},
                   Backend be = Backend()) {
    auto weights = load_esm2_weights(be, esm2_checkpoint::open(path, options));
    release_freed_memory();
    return esm2(std::move(be), std::move(weights), options.tokens_per_pass);
  }
  /// Random numbers in a given shape.
  static esm2 random(const esm2_config& config, std::uint64_t seed = 0, Backend be = Backend()) {
    auto weights = random_esm2_weights(be, config, seed);
    return esm2(std::move(be), std::move(weights));
  }

  esm2(Backend be, esm2_weights<Backend> weights, std::size_t tokens_per_pass = 2048)
      : be_(std::move(be)),
        weights_(std::move(weights)),
        tokens_per_pass_(std::max<std::size_t>(tokens_per_pass, 1)),
        rotary_(weights_.inv_freq.size()) {}

  const esm2_config& config() const noexcept { return weights_.config; }
  const model_identity& identity() const noexcept { return weights_.identity; }
  std::size_t layers() const noexcept { return config().layers; }
  std::size_t d_model() const noexcept { return config().d_model; }
  bool has_head() const noexcept { return weights_.has_head; }
  /// Width of the states at a site: 33 for logits, that of the MLP's hidden layer for `mlp_pre` and
  /// `mlp_act`, d_model elsewhere; 0 for `attn_map`, whose width is the length of the sequence.
  std::size_t width(const site& at) const noexcept {
    switch (at.kind()) {
      case site_kind::logits:
        return config().vocabulary;
      case site_kind::mlp_pre:
      case site_kind::mlp_act:
        return config().feed_forward;
      case site_kind::attn_map:
        return 0;
      default:
        return d_model();
    }
  }
  /// Model and site, as files made from its activations state them.
  activation_source source(const site& at) const {
    return {identity().name, identity().content_hash, to_string(at)};
  }
  Backend& backend() noexcept { return be_; }
  const esm2_weights<Backend>& weights() const noexcept { return weights_; }
  /// What queries are multiplied with: 1 / sqrt(head width).
  real query_scale() const noexcept {
    return static_cast<real>(1 / std::sqrt(static_cast<double>(config().head_dim())));
  }

  /// Runs the batch through the model, in slices of whole sequences of at most `tokens_per_pass`
  /// tokens (a longer sequence is a slice of its own), shows the hook its sites, and stops after
  /// the last of them; a hook without sites costs nothing. Results leave through the hook only.
  /// Memory: a workspace for one slice, kept between calls. Not for several threads at once.
  /// Errors: plm.108 for a site outside of the model, plm.114 for logits without an LM head,
  /// plm.130 for attention maps larger than memory.
  template <class Hook>
  void forward(const packed_batch& batch, Hook&& hook) {
    static_assert(require_hook<std::remove_cvref_t<Hook>, Backend>::value);
    const auto& sites = hook.sites();
    for (const site& at : sites) check(at);
    const site_set wanted(sites);
    if (wanted.empty()) return;
    for_each_slice(batch, tokens_per_pass_, [&](std::size_t first, std::size_t end) {
      prepare(batch, first, end);
      run(hook, wanted);
    });
  }
  void forward(const packed_batch& batch) { forward(batch, no_hook{}); }

  /// Refuses a site that this model does not have (plm.108, plm.114).
  void check(const site& at) const {
    check_site(at, layers());
    if (at.kind() == site_kind::logits && !has_head()) {
      throw error(rules::head_missing,
                  {.where = identity().name,
                   .remedy = "use the checkpoint of EsmForMaskedLM, or ask for final_norm"});
    }
  }

 private:
  using mat = view<Backend, real>;
  using cmat = const_view<Backend>;
  using device = matrix<real, Backend>;

  template <class Hook>
  void run(Hook& hook, const site_set& wanted) {
    const std::size_t rows = slice_.rows();
    const std::size_t d = d_model();
    const real epsilon = static_cast<real>(config().layer_norm_epsilon);
    forward_pass<Backend, Hook> pass{be_, hook, wanted, slice_.shown()};

    stream_.reshape(be_, rows, d);
    be_.embed(weights_.tokens, slice_.tokens(), scales_, stream_);
    if (pass.reached(embeddings{}, stream_)) return;
    for (std::size_t l = 0; l < layers(); ++l) {
      if (attention(l, pass) || feed_forward(l, pass)) return;
    }
    normed_.reshape(be_, rows, d);
    be_.layer_norm(stream_, weights_.final_gain, weights_.final_bias, epsilon, normed_);
    if (pass.reached(final_norm{}, normed_)) return;
    be_.linear(normed_, weights_.head, weights_.head_bias, stream_, epilogue::gelu);
    be_.layer_norm(stream_, weights_.head_gain, weights_.head_norm_bias, epsilon, stream_);
    logits_.reshape(be_, rows, config().vocabulary);
    be_.linear(stream_, weights_.decoder, weights_.decoder_bias, logits_);
    pass.reached(logits{}, logits_);
  }

  // stream += attention of block l. True where the pass ends.
  template <class Pass>
  bool attention(std::size_t l, Pass& pass) {
    const auto& w = weights_.blocks[l];
    const std::size_t rows = stream_.rows();
    const std::size_t d = d_model();
    const std::size_t head_dim = config().head_dim();
    normed_.reshape(be_, rows, d);
    wide_.reshape(be_, rows, std::max(3 * d, config().feed_forward));
    if (pass.reached(resid_pre{l}, stream_)) return true;
    be_.layer_norm(stream_, w.attention_gain, w.attention_bias,
                   static_cast<real>(config().layer_norm_epsilon), normed_);
    if (pass.reached(attn_in{l}, normed_)) return true;

    const mat qkv(wide_.data(), rows, 3 * d);
    const mat q = qkv.col_range(0, d);
    const mat k = qkv.col_range(d, d);
    const mat v = qkv.col_range(2 * d, d);
    be_.linear(normed_, w.qkv, w.qkv_bias, qkv);
    if (pass.reached(attn_query{l}, q) || pass.reached(attn_key{l}, k) ||
        pass.reached(attn_value{l}, v)) {
      return true;
    }
    const auto& table = rotary_[w.rotary];
    be_.rotary(q, k, head_dim, slice_.positions(), table.cosines(), table.sines(), query_scale());
    if (!pass.wants(attn_map{l})) {
      be_.attention(q, k, v, head_dim, slice_.offsets(), slice_.longest(), normed_);
    } else if (attention_by_maps<Backend>(pass, l, config().heads, q, k, v, maps_, normed_)) {
      return true;
    }
    if (pass.reached(attn_ctx{l}, normed_)) return true;
    return add_branch(attn_out{l}, normed_, w.output, w.output_bias, pass) ||
           pass.reached(resid_mid{l}, stream_);
  }

  // stream += MLP of block l. True where the pass ends.
  template <class Pass>
  bool feed_forward(std::size_t l, Pass& pass) {
    const auto& w = weights_.blocks[l];
    be_.layer_norm(stream_, w.feed_forward_gain, w.feed_forward_bias,
                   static_cast<real>(config().layer_norm_epsilon), normed_);
    if (pass.reached(mlp_in{l}, normed_)) return true;
    const mat hidden(wide_.data(), stream_.rows(), config().feed_forward);
    if (pass.wants(mlp_pre{l})) {
      be_.linear(normed_, w.expand, w.expand_bias, hidden);
      if (pass.reached(mlp_pre{l}, hidden)) return true;
      be_.gelu(hidden);
    } else {
      be_.linear(normed_, w.expand, w.expand_bias, hidden, epilogue::gelu);
    }
    if (pass.reached(mlp_act{l}, hidden)) return true;
    return add_branch(mlp_out{l}, hidden, w.contract, w.contract_bias, pass) ||
           pass.reached(resid_post{l}, stream_);
  }

  // stream += x w^T + bias, the sum shown at `at`. The same bits whether it is shown or not.
  template <class Pass>
  bool add_branch(const site& at, cmat x, const typename Backend::packed& w, cmat bias,
                  Pass& pass) {
    if (!pass.wants(at)) {
      be_.linear(x, w, bias, stream_, epilogue::add);
      return false;
    }
    branch_.reshape(be_, stream_.rows(), d_model());
    be_.linear(x, w, bias, branch_);
    if (pass.reached(at, branch_)) return true;
    be_.axpy(real{1}, branch_, stream_);
    return false;
  }

  // Sequences [first, end), with the factors of their embeddings, into backend memory.
  void prepare(const packed_batch& batch, std::size_t first, std::size_t end) {
    const std::size_t start = batch.first_row(first);
    const std::size_t rows = batch.first_row(end) - start;
    if (rows > stream_.rows()) {
      const auto numbers = 3 * d_model() + std::max(3 * d_model(), config().feed_forward);
      require_memory(be_, static_cast<double>(rows) * static_cast<double>(numbers) * sizeof(real),
                     "sequences of " + std::to_string(rows) + " tokens");
    }
    slice_.load(be_, batch, first, end);
    host_scales_.assign(rows, real{1});
    for (std::size_t s = first; config().token_dropout && s < end; ++s) {
      batch.embedding_scales(
          s, std::span<real>(host_scales_).subspan(batch.first_row(s) - start, batch.length(s)));
    }
    scales_.reshape(be_, 1, rows);
    be_.upload(std::span<const real>(host_scales_), scales_.all());
    for (std::size_t t = 0; t < rotary_.size(); ++t) {
      rotary_[t].grow(be_, weights_.inv_freq[t], slice_.longest());
    }
  }

  Backend be_;
  esm2_weights<Backend> weights_;
  std::size_t tokens_per_pass_;
  std::vector<rotary_table<Backend>> rotary_;  // one per entry of weights_.inv_freq
  packed_slice<Backend> slice_;
  std::vector<real> host_scales_;
  device scales_;
  device stream_;  // the residual stream, [rows, d]
  device normed_;  // layer norm output, then attention output
  device wide_;    // q, k, v, then the feed-forward activations
  device branch_;  // what a sub-layer adds to the stream, where a hook looks at it
  device maps_;    // attention of one sequence, where a hook looks at it
  device logits_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
