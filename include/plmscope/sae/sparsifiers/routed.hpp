// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/primitives.hpp>
#include <plmscope/core/error.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/sae/row_encoder.hpp>
#include <plmscope/sae/rules.hpp>
#include <plmscope/sae/sparsifiers/routing.hpp>
#include <plmscope/tensor/codes.hpp>
#include <plmscope/tensor/codes_by_feature.hpp>
#include <plmscope/tensor/codes_view.hpp>
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

/// Switch SAE (Mudide et al. 2024, "Efficient dictionary learning with switch sparse autoencoders")
/// and mixtures of SAEs (BioNeMo): the latents stand in `experts` equal blocks, and a router
/// chooses the blocks whose encoders see a row. With n the normalised row,
///
///   p = softmax(W_r (n - b_r)),   z_i = g_e relu(a_i)   on the k largest a_i of each chosen block
///   e,
///
/// where g_e = p_e, or p_e over the sum of the chosen ones with `share_gates`. The defaults are the
/// paper's: one block, a bias b_r. BioNeMo has .chosen = 2, .router_bias = false, .share_gates =
/// true, .block_biases = true.
///
/// Gradients reach the router through the gates of the chosen blocks and through two terms of its
/// own, which are in the training's loss: `balance` n sum_e f_e P_e with n blocks, f_e the share of
/// rows that chose e, held constant, and P_e the mean of p_e (3 beside errors averaged over
/// dimensions, in the paper's code), and -`entropy` times the mean entropy of p (BioNeMo).
///
/// Cost: of the encoder, chosen / experts of the dense product; of a batch one wait for the device
/// per tile. The pre-activations of a tile still take [rows, F] numbers. AuxK does not know of
/// gates.
struct routed {
  static constexpr std::string_view id = "routed";
  std::size_t k = 64;       ///< latents of each chosen block
  std::size_t experts = 8;  ///< blocks; divides the features
  std::size_t chosen = 1;   ///< blocks of a row
  bool router_bias = true;
  bool share_gates = false;
  /// Block e is centred by a bias b_e and adds g_e b_e to the result; the decoder's bias stays 0.
  bool block_biases = false;
  double balance = 3;
  double entropy = 0;

  template <class F>
  void fields(const F& f) {
    f("k", k);
    f("experts", experts);
    f("chosen", chosen);
    f("router_bias", router_bias);
    f("share_gates", share_gates);
    f("block_biases", block_biases);
    f("balance", balance);
    f("entropy", entropy);
  }

  template <class Options>
    requires requires(const Options& o) { o.features; }
  void check(const Options& o) const {
    const auto refuse = [](const std::string& expected, const std::string& found) {
      throw error(rules::sae_options, {.where = "routed", .expected = expected, .found = found});
    };
    if (experts < 2 || o.features % experts != 0) {
      refuse("two or more blocks that divide " + std::to_string(o.features),
             std::to_string(experts));
    }
    if (k == 0) refuse("at least one latent of a block", "k = 0");
    if (chosen == 0 || chosen > experts) {
      refuse("1 to " + std::to_string(experts) + " chosen blocks", std::to_string(chosen));
    }
    using lengths = std::remove_cvref_t<decltype(o.lengths)>;
    if (o.lengths != lengths::free) refuse("free row lengths", "lengths that act on codes");
    using centring = std::remove_cvref_t<decltype(o.centring)>;
    if (block_biases && (o.centring != centring::none || o.unit_input || o.transcodes)) {
      refuse("block biases on rows that nothing else centres, and results of the same site",
             "another bias, unit lengths or a transcoder");
    }
  }

  /// add(name, rows, cols, random): what it learns beside the dictionary. A router of zeros would
  /// send all rows to the first blocks.
  template <class Options, class Add>
  void matrices(const Options& o, const Add& add) const {
    add("router", experts, o.d_model, true);
    if (router_bias) add("router_bias", std::size_t{1}, o.d_model, false);
    if (block_biases) add("block_bias", experts, o.d_model, false);
  }

  /// The bias that a training begins with, in the decoder's bias, goes to the router, too, and to
  /// the blocks, where they have biases.
  template <class B>
  void take_bias(B& be, sae_parameters<B>& p) const {
    using real = typename B::real;
    if (router_bias) be.copy(const_view<B>(p.decoder_bias), p.latent[1].values.all());
    if (!block_biases) return;
    be.fill(p.latent.back().values.all(), real{0});
    be.add_row(p.latent.back().values, p.decoder_bias);
    be.fill(p.decoder_bias.all(), real{0});
  }

  template <class B>
  struct state {
    using real = typename B::real;
    matrix<real, B> p, chosen, gates;  ///< [m, experts] of the batch last encoded
    matrix<real, B> raw;               ///< [1, n] values before their gates
    matrix<real, B> pre, gathered, block, shift, offset;
    matrix<real, B> used, loss, slope, to_gate, d_gates, ones, sums;
    matrix<std::uint32_t, B> ends;
    matrix<std::int64_t, B> parts;
    codes<B> routes, found;
    codes_by_feature<B> by_block;

    template <class F>
    void fields(const F&) {}
  };

  template <class B>
  void encode(B& be, const encoder_input<B>& in, codes<B>& out, state<B>& s) const {
    using real = typename B::real;
    const std::size_t m = in.rows.rows();
    probabilities(be, in, s);
    s.chosen.reshape(be, m, experts);
    be.fill(s.chosen.all(), real{0});
    const std::size_t tile = in.tile * (experts / chosen);
    for (std::size_t first = 0; first < m; first += tile) {
      encode_tile(be, in, first, std::min(tile, m - first), out, s);
    }
    s.gates.reshape(be, m, experts);
    be.entries(1, m,
               routing::gate_rows<real>{s.p.data(), s.chosen.data(), experts, share_gates,
                                        s.gates.data()});
    s.raw.reshape(be, 1, out.entries());
    be.each_entry(out, routing::open_gates<real>{out.values(), s.gates.data(), experts,
                                                 out.features() / experts, s.raw.data()});
  }

  /// sum_e g_e b_e, [m, d].
  template <class B>
  const_view<B> offset(B& be, const sae_parameters<B>& p, state<B>& s) const {
    if (!block_biases) return {};
    s.offset.reshape(be, s.gates.rows(), p.decoder.cols());
    be.gemm_nn(s.gates, p.latent.back().values, s.offset.all());
    return s.offset;
  }

  /// The router's own terms; their values are added to `slot`.
  template <class B, class Context, class Loss>
  void reconstruct(B& be, Context&, const Loss&, view<B, double> slot, state<B>& s) const {
    using real = typename B::real;
    const std::size_t m = s.p.rows();
    s.used.reshape(be, 1, experts);
    s.loss.reshape(be, m, experts);
    s.slope.reshape(be, m, experts);
    be.column_sums(s.chosen, s.used);
    be.entries(m, experts,
               routing::balance_loss<real>{s.p.data(), s.used.data(), m, experts, balance, entropy,
                                           s.loss.data(), s.slope.data()});
    be.add_sum(const_view<B>(s.loss), slot);
  }

  template <class B, class Context>
  void pull(B& be, Context& c, state<B>& s) const {
    using real = typename B::real;
    const std::size_t m = c.rows();
    s.to_gate.reshape(be, 1, c.z.entries());
    be.each_entry(
        c.z, routing::close_gates<real>{s.raw.data(), s.gates.data(), experts,
                                        c.features() / experts, c.dz.data(), s.to_gate.data()});
    sum_by_block(be, c, s);
    if (block_biases) be.gemm_nt(c.g, c.parameters.latent.back().values, s.d_gates, real{1});
    be.entries(1, m,
               routing::pull_gates<real>{s.p.data(), s.chosen.data(), s.gates.data(),
                                         s.slope.data(), experts, share_gates, s.d_gates.data()});
    be.softmax_backward(s.p, s.d_gates);
  }

  template <class B, class Context>
  void add_gradient(B& be, Context& c, sae_parameters<B>& gradient, state<B>& s) const {
    using real = typename B::real;
    const auto& own = c.parameters.latent;
    be.gemm_tn(s.d_gates, c.rows_in, gradient.latent[0].values);
    if (router_bias) {
      s.sums.reshape(be, 1, experts);
      be.column_sums(s.d_gates, s.sums);
      be.scale(s.sums, real{-1});
      be.gemm_tn(s.sums, own[1].values, gradient.latent[0].values, real{1});
      be.fill(gradient.latent[1].values.all(), real{0});
      be.weighted_row_sum(own[0].values, s.sums, gradient.latent[1].values.all(), real{1});
    }
    if (block_biases) add_bias_gradient(be, c, gradient, s);
  }

 private:
  template <class B>
  void probabilities(B& be, const encoder_input<B>& in, state<B>& s) const {
    using real = typename B::real;
    const auto& own = in.parameters.latent;
    s.p.reshape(be, in.rows.rows(), experts);
    be.gemm_nt(in.rows, own[0].values, s.p);
    if (router_bias) {
      s.shift.reshape(be, 1, experts);
      be.gemm_nt(own[1].values, own[0].values, s.shift);
      be.add_row(s.p, s.shift, real{-1});
    }
    be.softmax_rows(s.p);
  }

  // A block's encoder sees the rows that chose it. Pre-activations stand in the order of the
  // routes: a row for every block of a row, by row, then block.
  template <class B>
  void encode_tile(B& be, const encoder_input<B>& in, std::size_t first, std::size_t rows,
                   codes<B>& out, state<B>& s) const {
    using real = typename B::real;
    const auto& p = in.parameters;
    const std::size_t width = p.encoder.rows() / experts;
    const const_view<B> centred = in.centred.row_range(first, rows);
    s.routes.clear(be, experts);
    be.top_k_rows(const_view<B>(s.p).row_range(first, rows), chosen, by_raw_value{}, s.routes);
    be.each_entry(s.routes, routing::mark<real>{s.chosen.data() + first * experts, experts});
    be.transpose(s.routes, s.by_block);
    std::vector<std::int64_t> ends(experts + 1);
    be.download(const_view<B, std::int64_t>(s.by_block.offsets(), ends.size()),
                std::span<std::int64_t>(ends));
    s.pre.reshape(be, s.routes.entries(), width);
    be.fill(s.pre.all(), real{0});  // never kept
    for (std::size_t e = 0; e < experts; ++e) {
      const auto begin = static_cast<std::size_t>(ends[e]);
      const std::size_t count = static_cast<std::size_t>(ends[e + 1]) - begin;
      if (count == 0) continue;
      s.gathered.reshape(be, count, centred.cols());
      s.block.reshape(be, count, width);
      be.gather_rows(centred, const_view<B, std::uint32_t>(s.by_block.rows() + begin, count),
                     s.gathered.all());
      if (block_biases) {
        be.add_row(s.gathered, const_view<B>(p.latent.back().values).row_range(e, 1), real{-1});
      }
      be.gemm_nt(s.gathered, const_view<B>(p.encoder).row_range(e * width, width), s.block);
      be.add_row(s.block, const_view<B>(p.encoder_bias).col_range(e * width, width));
      be.scatter_rows(s.block, const_view<B, std::uint32_t>(s.by_block.entries() + begin, count),
                      s.pre.all());
    }
    s.found.clear(be, width);
    be.top_k_rows(const_view<B>(s.pre), k, by_value{}, s.found);
    out.reserve_more(be, rows, s.found.entries());
    std::int64_t* const end = out.offsets() + out.rows();
    be.each_entry(s.found, routing::join_entries<real>{s.found.values(), s.routes.ids(), width, end,
                                                       out.ids(), out.values()});
    be.entries(1, rows, routing::join_rows{s.found.offsets(), s.routes.offsets(), end});
    out.append(rows, s.found.entries());
  }

  // d_gates[i, e] = sum of to_gate over the entries of row i in block e
  template <class B, class Context>
  void sum_by_block(B& be, Context& c, state<B>& s) const {
    using real = typename B::real;
    const std::size_t m = c.rows();
    if (s.ends.empty()) {
      std::vector<std::uint32_t> host(experts);
      for (std::size_t e = 0; e < experts; ++e) {
        host[e] = static_cast<std::uint32_t>((e + 1) * (c.features() / experts));
      }
      s.ends = matrix<std::uint32_t, B>(be, 1, experts);
      be.upload(std::span<const std::uint32_t>(host), s.ends.all());
      s.ones = matrix<real, B>(be, c.features(), 1);
      be.fill(s.ones.all(), real{1});
    }
    s.parts.reshape(be, 1, m * experts + 1);
    s.d_gates.reshape(be, m, experts);
    be.split_rows(c.z, const_view<B, std::uint32_t>(s.ends), s.parts.all());
    be.decode(
        codes_view<B>(c.z).with_values(s.to_gate.data()).with_rows(s.parts.data(), m * experts),
        const_view<B>(s.ones), const_view<B>(), view<B>(s.d_gates.data(), m * experts, 1));
  }

  // Of a_i = w_i (n - b_e) + .. and of what b_e adds to the result; n - b_e also takes from dw_i.
  template <class B, class Context>
  void add_bias_gradient(B& be, Context& c, sae_parameters<B>& gradient, state<B>& s) const {
    using real = typename B::real;
    const std::size_t width = c.features() / experts;
    const const_view<B> bias = c.parameters.latent.back().values;
    auto& to = gradient.latent.back().values;
    be.gemm_tn(s.gates, c.g, to);
    s.sums.reshape(be, 1, c.features());
    be.sparse_backward(c.by_feature, const_view<B>(), const_view<B>(c.dz), const_view<B>(),
                       const_view<B>(), view<B>(), view<B>(), s.sums.all());
    be.scale(s.sums, real{-1});
    for (std::size_t e = 0; e < experts; ++e) {
      const const_view<B> sums = const_view<B>(s.sums).col_range(e * width, width);
      be.weighted_row_sum(const_view<B>(c.parameters.encoder).row_range(e * width, width), sums,
                          to.all().row_range(e, 1), real{1});
      be.gemm_tn(sums, bias.row_range(e, 1), gradient.encoder.all().row_range(e * width, width),
                 real{1});
    }
    be.fill(gradient.decoder_bias.all(), real{0});
  }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
