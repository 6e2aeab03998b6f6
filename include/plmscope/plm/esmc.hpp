// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/cpu.hpp>
#include <plmscope/core/activation_source.hpp>
#include <plmscope/core/available_memory.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/plm/esmc_alphabet.hpp>
#include <plmscope/plm/esmc_weights.hpp>
#include <plmscope/plm/forward_pass.hpp>
#include <plmscope/plm/hook.hpp>
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

/// ESM-C (EvolutionaryScale 2024, "ESM Cambrian"), the forward pass of the official code to
/// rounding: pre-norm blocks, layer norms on queries and keys, rotary positions, SwiGLU, branches
/// divided by sqrt(layers / 36), a head of its own. No token dropout: `<mask>` is a token like any
/// other. Written in backend primitives, so it runs wherever a backend does.
///
/// All sites, with these meanings: `attn_query` and `attn_key` stand after their layer norms,
/// `mlp_pre` is gate and up side by side, `attn_out` and `mlp_out` are already divided. The
/// official code before 2026 numbers `hidden_states[i]` = `resid_post{i}`, the later one
/// `hidden_states[i]` = `resid_pre{i}` and, last, `final_norm`.
///
/// The states of a token depend on its own sequence only, bit for bit: not on the other sequences
/// of the batch, their order, the slices, or the number of threads.
template <class Backend = cpu>
class esmc {
 public:
  using backend_type = Backend;
  using batch_type = esmc_batch;
  using real = typename Backend::real;

  /// A safetensors file or a folder with model.safetensors; see `esmc_checkpoint::open` and
  /// `load_esmc_weights` for errors.
  static esmc load(const std::filesystem::path& path, const esmc_options& options = {},
                   Backend be = Backend()) {
    auto weights = load_esmc_weights(be, esmc_checkpoint::open(path, options), options.rotary);
    release_freed_memory();
    return esmc(std::move(be), std::move(weights), options.tokens_per_pass);
  }
  /// Random numbers in a given shape.
  static esmc random(const esmc_config& config, std::uint64_t seed = 0, Backend be = Backend()) {
    auto weights = random_esmc_weights(be, config, seed);
    return esmc(std::move(be), std::move(weights));
  }

  esmc(Backend be, esmc_weights<Backend> weights, std::size_t tokens_per_pass = 2048)
      : be_(std::move(be)), weights_(std::move(weights)), tokens_per_pass_(tokens_per_pass) {}

  const esmc_config& config() const noexcept { return weights_.config; }
  const model_identity& identity() const noexcept { return weights_.identity; }
  std::size_t layers() const noexcept { return config().layers; }
  std::size_t d_model() const noexcept { return config().d_model; }
  bool has_head() const noexcept { return weights_.has_head; }
  /// Width of the states at a site: 64 for logits; for `mlp_pre` gate and up side by side, for
  /// `mlp_act` their product; d_model elsewhere; 0 for `attn_map`, whose width is the sequence's
  /// length.
  std::size_t width(const site& at) const noexcept {
    switch (at.kind()) {
      case site_kind::logits:
        return config().vocabulary;
      case site_kind::mlp_pre:
        return 2 * config().feed_forward;
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

  /// Runs the batch through the model, in slices of whole sequences of at most `tokens_per_pass`
  /// tokens (a longer sequence is a slice of its own), shows the hook its sites, and stops after
  /// the last of them. Results leave through the hook only. Memory: a workspace for one slice, kept
  /// between calls. Not for several threads at once. Errors: plm.108 for a site outside of the
  /// model, plm.114 for logits without a head, plm.130 for what does not fit into memory.
  template <class Hook>
  void forward(const esmc_batch& batch, Hook&& hook) {
    static_assert(require_hook<std::remove_cvref_t<Hook>, Backend>::value);
    const auto& sites = hook.sites();
    for (const site& at : sites) check(at);
    const site_set wanted(sites);
    if (wanted.empty()) return;
    for_each_slice(batch, tokens_per_pass_, [&](std::size_t first, std::size_t end) {
      slice_.load(be_, batch, first, end);
      run(hook, wanted);
    });
  }
  void forward(const esmc_batch& batch) { forward(batch, no_hook{}); }

  /// Refuses a site that this model does not have (plm.108, plm.114).
  void check(const site& at) const {
    check_site(at, layers());
    if (at.kind() == site_kind::logits && !has_head()) {
      throw error(rules::head_missing, {.where = identity().name, .remedy = "ask for final_norm"});
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
    const auto numbers = 3 * d + std::max(3 * d, 3 * config().feed_forward);
    if (rows > stream_.rows()) {
      require_memory(be_, static_cast<double>(rows) * static_cast<double>(numbers) * sizeof(real),
                     "sequences of " + std::to_string(rows) + " tokens");
    }
    forward_pass<Backend, Hook> pass{be_, hook, wanted, slice_.shown()};
    rotary_.grow(be_, weights_.inv_freq, slice_.longest());
    stream_.reshape(be_, rows, d);
    normed_.reshape(be_, rows, d);
    branch_.reshape(be_, rows, d);
    wide_.reshape(be_, rows, std::max(3 * d, 2 * config().feed_forward));

    be_.gather_rows(weights_.tokens, slice_.tokens(), stream_);
    if (pass.reached(embeddings{}, stream_)) return;
    for (std::size_t l = 0; l < layers(); ++l) {
      if (attention(l, pass) || feed_forward(l, pass)) return;
    }
    norm(stream_, weights_.final_gain, {}, normed_);
    if (pass.reached(final_norm{}, normed_)) return;
    be_.linear(normed_, weights_.head, weights_.head_bias, branch_, epilogue::gelu);
    norm(branch_, weights_.head_gain, weights_.head_norm_bias, branch_);
    logits_.reshape(be_, rows, config().vocabulary);
    be_.linear(branch_, weights_.decoder, weights_.decoder_bias, logits_);
    pass.reached(logits{}, logits_);
  }

  // stream += attention(norm(stream)) Wo^T / divisor. True where the pass ends.
  template <class Pass>
  bool attention(std::size_t l, Pass& pass) {
    const auto& w = weights_.blocks[l];
    const std::size_t d = d_model();
    const std::size_t head_dim = config().head_dim();
    if (pass.reached(resid_pre{l}, stream_)) return true;
    norm(stream_, w.attention_gain, w.attention_bias, normed_);
    if (pass.reached(attn_in{l}, normed_)) return true;
    const mat qkv(wide_.data(), slice_.rows(), 3 * d);
    be_.linear(normed_, w.qkv, {}, qkv);
    const mat q = qkv.col_range(0, d);
    const mat k = qkv.col_range(d, d);
    const mat v = qkv.col_range(2 * d, d);
    norm(q, w.query_gain, {}, q);  // over the whole width, before the heads part
    norm(k, w.key_gain, {}, k);
    if (pass.reached(attn_query{l}, q) || pass.reached(attn_key{l}, k) ||
        pass.reached(attn_value{l}, v)) {
      return true;
    }
    be_.rotary(q, k, head_dim, slice_.positions(), rotary_.cosines(), rotary_.sines(),
               static_cast<real>(1 / std::sqrt(static_cast<double>(head_dim))));
    if (!pass.wants(attn_map{l})) {
      be_.attention(q, k, v, head_dim, slice_.offsets(), slice_.longest(), normed_);
    } else if (attention_by_maps<Backend>(pass, l, config().heads, q, k, v, maps_, normed_)) {
      return true;
    }
    if (pass.reached(attn_ctx{l}, normed_)) return true;
    be_.linear(normed_, w.output, {}, branch_);
    return add_branch(attn_out{l}, pass) || pass.reached(resid_mid{l}, stream_);
  }

  // stream += (silu(gate) * up) Wd^T / divisor with gate, up = norm(stream) Wgu^T.
  template <class Pass>
  bool feed_forward(std::size_t l, Pass& pass) {
    const auto& w = weights_.blocks[l];
    const std::size_t wide = config().feed_forward;
    norm(stream_, w.feed_forward_gain, w.feed_forward_bias, normed_);
    if (pass.reached(mlp_in{l}, normed_)) return true;
    const mat gate_up(wide_.data(), slice_.rows(), 2 * wide);
    be_.linear(normed_, w.gate_up, {}, gate_up);
    if (pass.reached(mlp_pre{l}, gate_up)) return true;
    gated_.reshape(be_, slice_.rows(), wide);
    be_.silu_gate(gate_up.col_range(0, wide), gate_up.col_range(wide, wide), gated_);
    if (pass.reached(mlp_act{l}, gated_)) return true;
    be_.linear(gated_, w.down, {}, branch_);
    return add_branch(mlp_out{l}, pass) || pass.reached(resid_post{l}, stream_);
  }

  template <class Pass>
  bool add_branch(const site& at, Pass& pass) {
    be_.scale(branch_, branch_scale());
    if (pass.reached(at, branch_)) return true;
    be_.axpy(real{1}, branch_, stream_);
    return false;
  }

  void norm(cmat x, cmat gain, cmat bias, mat out) {
    be_.layer_norm(x, gain, bias, static_cast<real>(config().layer_norm_epsilon), out);
  }
  real branch_scale() const noexcept { return static_cast<real>(1 / config().branch_divisor()); }

  Backend be_;
  esmc_weights<Backend> weights_;
  std::size_t tokens_per_pass_;
  packed_slice<Backend> slice_;
  // Angles are rounded to float whatever the backend's numbers are: that is part of the model.
  rotary_table<Backend, float> rotary_;
  device stream_;  // the residual stream, [rows, d]
  device normed_;  // layer norm output, then mixed values
  device branch_;  // what a block's branch adds
  device wide_;    // q, k, v, then gate and up
  device gated_;   // silu(gate) * up
  device maps_;    // attention of one sequence, where a hook looks at it
  device logits_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
