// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/cpu.hpp>
#include <plmscope/core/activation_source.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/plm/esm2_weights.hpp>
#include <plmscope/plm/hook.hpp>
#include <plmscope/plm/packed_batch.hpp>
#include <plmscope/plm/site.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
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

  /// A safetensors file or a folder with model.safetensors; see `esm2_options` and
  /// `load_esm2_weights` for errors.
  static esm2 load(const std::filesystem::path& path, const esm2_options& options = {},
                   Backend be = Backend()) {
    auto weights = load_esm2_weights(be, esm2_checkpoint::open(path, options));
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
  /// Width of the states at a site: 33 for logits, d_model elsewhere.
  std::size_t width(const site& at) const noexcept {
    return at.kind() == site_kind::logits ? config().vocabulary : d_model();
  }
  /// Model and site, as files made from its activations state them.
  activation_source source(const site& at) const {
    return {identity().name, identity().content_hash, to_string(at)};
  }
  Backend& backend() noexcept { return be_; }

  /// Runs the batch through the model, in slices of whole sequences of at most `tokens_per_pass`
  /// tokens (a longer sequence is a slice of its own), and shows the hook every site up to its
  /// `last_site()`; later layers are not computed. Results leave through the hook only. Memory: a
  /// workspace for one slice, kept between calls. Not for several threads at once.
  /// Errors: plm.108 for a site outside of the model, plm.114 for logits without an LM head.
  template <class Hook = no_hook>
  void forward(const packed_batch& batch, Hook&& hook = {}) {
    static_assert(require_hook<std::remove_cvref_t<Hook>, Backend>::value);
    const site last = hook.last_site();
    check(last);
    for (std::size_t first = 0; first < batch.sequences();) {
      std::size_t end = first + 1;
      const std::size_t start = batch.first_row(first);
      while (end < batch.sequences() && batch.first_row(end + 1) - start <= tokens_per_pass_) ++end;
      run(batch, first, end, hook, last);
      first = end;
    }
  }

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
  template <class T>
  using device = matrix<T, Backend>;

  struct rotary_table {
    device<real> cosines;
    device<real> sines;
  };

  template <class Hook>
  void run(const packed_batch& batch, std::size_t first, std::size_t end, Hook& hook,
           const site& last) {
    prepare(batch, first, end);
    const std::size_t rows = tokens_.cols();
    const std::size_t d = d_model();
    const real epsilon = static_cast<real>(config().layer_norm_epsilon);
    const batch_slice slice{first, batch.first_row(first), host_offsets_,
                            batch.tokens().subspan(batch.first_row(first), rows),
                            batch.positions().subspan(batch.first_row(first), rows)};
    // True when the pass ends here.
    const auto reached = [&](const site& at, mat states) {
      if constexpr (!std::is_same_v<std::remove_cvref_t<Hook>, no_hook>) {
        hook(be_, at, states, slice);
      }
      return at == last;
    };

    stream_.reshape(be_, rows, d);
    be_.embed(weights_.tokens, tokens_, scales_, stream_);
    if (reached(embeddings{}, stream_)) return;
    for (std::size_t l = 0; l < layers(); ++l) {
      if (reached(resid_pre{l}, stream_)) return;
      block(weights_.blocks[l], epsilon);
      if (reached(resid_post{l}, stream_)) return;
    }
    normed_.reshape(be_, rows, d);
    be_.layer_norm(stream_, weights_.final_gain, weights_.final_bias, epsilon, normed_);
    if (reached(final_norm{}, normed_)) return;
    be_.linear(normed_, weights_.head, weights_.head_bias, stream_, epilogue::gelu);
    be_.layer_norm(stream_, weights_.head_gain, weights_.head_norm_bias, epsilon, stream_);
    logits_.reshape(be_, rows, config().vocabulary);
    be_.linear(stream_, weights_.decoder, weights_.decoder_bias, logits_);
    static_cast<void>(reached(logits{}, logits_));
  }

  void block(const esm2_block<Backend>& w, real epsilon) {
    const std::size_t rows = stream_.rows();
    const std::size_t d = d_model();
    const std::size_t head_dim = config().head_dim();
    normed_.reshape(be_, rows, d);
    wide_.reshape(be_, rows, std::max(3 * d, config().feed_forward));

    be_.layer_norm(stream_, w.attention_gain, w.attention_bias, epsilon, normed_);
    const mat qkv(wide_.data(), rows, 3 * d);
    be_.linear(normed_, w.qkv, w.qkv_bias, qkv);
    const auto& table = rotary_[w.rotary];
    be_.rotary(qkv.col_range(0, d), qkv.col_range(d, d), head_dim, positions_, table.cosines,
               table.sines, static_cast<real>(1 / std::sqrt(static_cast<double>(head_dim))));
    be_.attention(qkv.col_range(0, d), qkv.col_range(d, d), qkv.col_range(2 * d, d), head_dim,
                  offsets_, longest_, normed_);
    be_.linear(normed_, w.output, w.output_bias, stream_, epilogue::add);

    be_.layer_norm(stream_, w.feed_forward_gain, w.feed_forward_bias, epsilon, normed_);
    const mat hidden(wide_.data(), rows, config().feed_forward);
    be_.linear(normed_, w.expand, w.expand_bias, hidden, epilogue::gelu);
    be_.linear(hidden, w.contract, w.contract_bias, stream_, epilogue::add);
  }

  // Tokens, positions, offsets and scales of sequences [first, end) into backend memory.
  void prepare(const packed_batch& batch, std::size_t first, std::size_t end) {
    const std::size_t start = batch.first_row(first);
    const std::size_t rows = batch.first_row(end) - start;
    host_offsets_.clear();
    host_scales_.assign(rows, real{1});
    longest_ = 0;
    for (std::size_t s = first; s < end; ++s) {
      const std::size_t at = batch.first_row(s) - start;
      host_offsets_.push_back(static_cast<std::int64_t>(at));
      longest_ = std::max(longest_, batch.length(s));
      if (config().token_dropout) {
        batch.embedding_scales(s, std::span<real>(host_scales_).subspan(at, batch.length(s)));
      }
    }
    host_offsets_.push_back(static_cast<std::int64_t>(rows));
    put(batch.tokens().subspan(start, rows), tokens_);
    put(batch.positions().subspan(start, rows), positions_);
    put(std::span<const std::int64_t>(host_offsets_), offsets_);
    put(std::span<const real>(host_scales_), scales_);
    grow_rotary(longest_);
  }

  template <class T>
  void put(std::span<const T> from, device<T>& to) {
    to.reshape(be_, 1, from.size());
    be_.upload(from, to.all());
  }

  // Row p of a table: cosine and sine of p * inv_freq, the angle rounded to the backend's reals.
  void grow_rotary(std::size_t length) {
    for (std::size_t t = 0; t < rotary_.size(); ++t) {
      auto& table = rotary_[t];
      if (table.cosines.rows() >= length) continue;
      const std::size_t rows = std::max<std::size_t>(length, 2 * table.cosines.rows());
      const std::vector<float>& frequencies = weights_.inv_freq[t];
      std::vector<double> cosines;
      std::vector<double> sines;
      for (std::size_t p = 0; p < rows; ++p) {
        for (const float f : frequencies) {
          const real angle = static_cast<real>(p) * static_cast<real>(f);
          cosines.push_back(std::cos(static_cast<double>(angle)));
          sines.push_back(std::sin(static_cast<double>(angle)));
        }
      }
      table.cosines = device<real>(be_, rows, frequencies.size());
      table.sines = device<real>(be_, rows, frequencies.size());
      be_.upload(std::span<const double>(cosines), table.cosines.all());
      be_.upload(std::span<const double>(sines), table.sines.all());
    }
  }

  Backend be_;
  esm2_weights<Backend> weights_;
  std::size_t tokens_per_pass_;
  std::vector<rotary_table> rotary_;  // one per entry of weights_.inv_freq
  std::vector<std::int64_t> host_offsets_;
  std::vector<real> host_scales_;
  std::size_t longest_ = 0;
  device<std::int32_t> tokens_;
  device<std::int32_t> positions_;
  device<std::int64_t> offsets_;
  device<real> scales_;
  device<real> stream_;  // the residual stream, [rows, d]
  device<real> normed_;  // layer norm output, then attention output
  device<real> wide_;    // q, k, v, then the feed-forward activations
  device<real> logits_;
};

}  // namespace plmscope
