// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/rng.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/sae/parameters.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

namespace resampling_detail {

struct clear_counter {
  const std::uint32_t* ids;
  std::int64_t* since_fired;
  PLMSCOPE_HD void operator()(std::size_t, std::size_t i) const { since_fired[ids[i]] = 0; }
};

}  // namespace resampling_detail

/// Resampling of dead latents (Bricken et al. 2023, appendix): every `every` steps, latents silent
/// for `dead_after` tokens are pointed at rows of the batch that are reconstructed badly: decoder
/// row x / |x|, encoder row the same times `encoder_scale` and the mean length of living encoder
/// rows, bias 0, optimizer moments of these 0. Rows are drawn without repetition, with probability
/// proportional to |error|^`power`; at most one latent per row and event, lowest ids first. An
/// upkeep policy.
///
/// Cost per event: one forward pass of the batch. Waits for the device then.
struct resampling {
  std::size_t every = 25'000;
  std::size_t first = 0;              ///< step after which the first may come
  std::int64_t dead_after = 500'000;  ///< tokens without firing
  double encoder_scale = 0.2;
  double power = 2;          ///< 1: dictionary_learning draws by |error|
  bool relative = true;      ///< to the mean length of living encoder rows
  bool unit_encoder = true;  ///< x / |x|; else x as it is (dictionary_learning)
  bool centred = true;       ///< rows less the input's bias become directions
  bool reset_moments = true;
  bool clear_counters = true;  ///< a new latent counts as having fired
  std::size_t blocks = 1;      ///< sites in a row: each part is brought to its own length
  std::uint64_t seed = 0;

  template <class B>
  struct state {
    matrix<std::uint32_t, B> ids;

    template <class F>
    void fields(const F&) {}
  };

  template <class Run, class Rows, class State>
  void before_step(Run&, Rows, State&) const {}

  template <class Run, class Rows, class State>
  void after_step(Run& run, Rows x, Rows, State& s) const {
    if (every == 0 || run.steps() < first || run.steps() % every != 0 || run.steps() == 0) return;
    const auto dead = dead_ids(run, s);
    if (dead.empty()) return;
    revive(run, x, dead, draw(run, x, dead.size()));
  }

  /// Ids of the latents that are silent for long, ascending.
  template <class Run, class State>
  std::vector<std::uint32_t> dead_ids(Run& run, State& s) const {
    auto& be = run.backend();
    using backend = typename Run::backend_type;
    const std::size_t features = run.model().features();
    if (s.ids.empty()) s.ids = matrix<std::uint32_t, backend>(be, 1, features);
    const std::size_t n = be.ids_where(
        const_view<backend, std::int64_t>(run.dead_state().since_fired), dead_after, s.ids.all());
    std::vector<std::uint32_t> ids(n);
    be.download(const_view<backend, std::uint32_t>(s.ids).col_range(0, n),
                std::span<std::uint32_t>(ids));
    return ids;
  }

  /// Points the first latents of `dead` at `rows` of x, one each.
  template <class Run, class Rows>
  void revive(Run& run, Rows x, std::vector<std::uint32_t> dead,
              const std::vector<std::uint32_t>& rows) const {
    using backend = typename Run::backend_type;
    using real = typename backend::real;
    auto& be = run.backend();
    auto& model = run.model();
    auto& p = model.parameters();
    const std::size_t n = std::min(dead.size(), rows.size());
    std::vector<double> scale(blocks, encoder_scale);
    for (std::size_t b = 0; b < blocks && relative; ++b) scale[b] *= mean_length(run, dead, b);
    dead.resize(n);
    const auto from =
        centred ? model.centred(x) : (static_cast<void>(model.centred(x)), model.normalized());
    matrix<std::uint32_t, backend> to(be, 1, n), of(be, 1, n);
    be.upload(std::span<const std::uint32_t>(dead), to.all());
    be.upload(std::span<const std::uint32_t>(rows).first(n), of.all());
    const auto ids = const_view<backend, std::uint32_t>(to);
    matrix<real, backend> directions(be, n, model.d_model());
    be.gather_rows(from, const_view<backend, std::uint32_t>(of), directions);
    matrix<real, backend> encoder(be, n, model.d_model());
    if (!unit_encoder) be.copy(const_view<backend>(directions), encoder.all());
    unit_parts(be, directions);
    if (unit_encoder) be.copy(const_view<backend>(directions), encoder.all());
    const std::size_t width = encoder.cols() / blocks;
    for (std::size_t b = 0; b < blocks; ++b) {
      be.scale(encoder.all().col_range(b * width, width), static_cast<real>(scale[b]));
    }
    be.scatter_rows(const_view<backend>(encoder), ids, p.encoder.all());
    if (model.d_out() == model.d_model()) {
      be.scatter_rows(const_view<backend>(directions), ids, p.decoder.all());
    }
    clear(be, p.encoder_bias, ids, true);
    if (reset_moments) forget(run, dead);
    if constexpr (requires { run.optimizer_state().for_each_average([](auto&) {}); }) {
      run.optimizer_state().for_each_average([&](sae_parameters<backend>& mean) {
        renew(be, p.encoder, mean.encoder, ids);
        renew(be, p.decoder, mean.decoder, ids);
        clear(be, mean.encoder_bias, ids, true);
      });
    }
    if (clear_counters) {
      be.entries(1, n,
                 resampling_detail::clear_counter{ids.data(), run.dead_state().since_fired.data()});
    }
  }

  /// Sets the optimizer moments of some latents to 0.
  template <class Run>
  void forget(Run& run, const std::vector<std::uint32_t>& latents) const {
    using backend = typename Run::backend_type;
    auto& be = run.backend();
    matrix<std::uint32_t, backend> to(be, 1, latents.size());
    be.upload(std::span<const std::uint32_t>(latents), to.all());
    const auto ids = const_view<backend, std::uint32_t>(to);
    run.optimizer_state().for_each_moment([&](sae_parameters<backend>& m) {
      clear(be, m.encoder, ids, false);
      clear(be, m.decoder, ids, false);
      clear(be, m.encoder_bias, ids, true);
    });
  }

 private:
  // Mean length of one part of the encoder rows of living latents.
  template <class Run>
  double mean_length(Run& run, const std::vector<std::uint32_t>& dead, std::size_t block) const {
    using backend = typename Run::backend_type;
    auto& be = run.backend();
    const auto& encoder = run.model().parameters().encoder;
    matrix<typename backend::real, backend> lengths(be, 1, encoder.rows());
    const std::size_t width = encoder.cols() / blocks;
    be.row_norms(const_view<backend>(encoder).col_range(block * width, width), lengths);
    std::vector<double> host(encoder.rows());
    be.download(const_view<backend>(lengths), std::span<double>(host));
    double sum = 0;
    std::size_t count = 0;
    for (std::size_t f = 0, d = 0; f < host.size(); ++f) {
      if (d < dead.size() && dead[d] == f) {
        ++d;
        continue;
      }
      sum += host[f];
      ++count;
    }
    return count == 0 ? 1 : sum / static_cast<double>(count);
  }

  template <class B, class M>
  void unit_parts(B& be, M& rows) const {
    using real = typename B::real;
    const std::size_t width = rows.cols() / blocks;
    for (std::size_t b = 0; b < blocks; ++b) {
      be.normalize_rows(rows.all().col_range(b * width, width), real{0});
    }
  }

  // Averages of new latents begin with them.
  template <class B, class M>
  static void renew(B& be, const M& from, M& to, const_view<B, std::uint32_t> ids) {
    matrix<typename B::real, B> rows(be, ids.size(), from.cols());
    be.gather_rows(from, ids, rows);
    be.scatter_rows(const_view<B>(rows), ids, to.all());
  }

  template <class B, class M>
  static void clear(B& be, M& m, const_view<B, std::uint32_t> ids, bool vector) {
    using real = typename B::real;
    if (m.empty()) return;  // not kept by this optimizer
    matrix<real, B> zero(be, 1, vector ? 1 : m.cols());
    const auto to = vector ? view<B>(m.data(), m.cols(), 1) : m.all();
    be.scatter_rows(const_view<B>(zero), ids, to);
  }

  // Rows in the order drawn: keys -log(u) / weight, smallest first (Efraimidis & Spirakis 2006).
  template <class Run, class Rows>
  std::vector<std::uint32_t> draw(Run& run, Rows x, std::size_t n) const {
    using backend = typename Run::backend_type;
    auto& be = run.backend();
    auto& model = run.model();
    matrix<typename backend::real, backend> out(be, x.rows(), model.d_out());
    model.reconstruct(x, out.all());
    be.axpy(typename backend::real{-1}, x, out);
    matrix<typename backend::real, backend> lengths(be, 1, x.rows());
    be.row_norms(const_view<backend>(out), lengths);
    std::vector<double> errors(x.rows());
    be.download(const_view<backend>(lengths), std::span<double>(errors));
    const rng random(seed, 0x4e5 + run.steps());
    std::vector<std::pair<double, std::uint32_t>> keys;
    for (std::size_t r = 0; r < errors.size(); ++r) {
      const double weight = std::pow(errors[r], power);
      if (weight > 0) {
        keys.emplace_back(-std::log(1 - random.uniform(r)) / weight, static_cast<std::uint32_t>(r));
      }
    }
    std::sort(keys.begin(), keys.end());
    std::vector<std::uint32_t> rows;
    for (std::size_t i = 0; i < std::min(n, keys.size()); ++i) rows.push_back(keys[i].second);
    return rows;
  }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
