// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/reference.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/train/trainer.hpp>

#include <cstddef>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

// Trainings that die between two steps.
namespace interrupted {

struct outcome {
  std::vector<std::vector<unsigned char>> parameters;  // all bits of all of them
  double threshold = 0;                                // of a sparsifier that has one
  plmscope::training_metrics metrics;
};

template <class T>
bool same_bits(const T& a, const T& b) {
  return std::memcmp(&a, &b, sizeof a) == 0;
}

/// Everything but the seconds.
inline bool same(const outcome& a, const outcome& b) {
  const auto &m = a.metrics, &n = b.metrics;
  return a.parameters == b.parameters && same_bits(a.threshold, b.threshold) && m.step == n.step &&
         m.tokens == n.tokens && same_bits(m.loss, n.loss) && same_bits(m.aux_loss, n.aux_loss) &&
         same_bits(m.penalty, n.penalty) && same_bits(m.fvu, n.fvu) && same_bits(m.l0, n.l0) &&
         same_bits(m.cosine, n.cosine) && same_bits(m.dead_share, n.dead_share) &&
         same_bits(m.gradient_norm, n.gradient_norm) && same_bits(m.learning_rate, n.learning_rate);
}

template <class Model>
outcome of(Model& model, const plmscope::training_metrics& metrics) {
  using real = typename Model::real;
  using B = typename Model::backend_type;
  outcome o;
  model.parameters().for_each([&](const char*, auto& p) {
    std::vector<real> host(p.size());
    model.backend().download(plmscope::const_view<B>(p), std::span<real>(host));
    const auto* from = reinterpret_cast<const unsigned char*>(host.data());
    o.parameters.emplace_back(from, from + host.size() * sizeof(real));
  });
  if constexpr (requires { model.sparsifier().threshold; }) {
    o.threshold = model.sparsifier().threshold;
  }
  o.metrics = metrics;
  return o;
}

struct killed {};

/// A reader that kills the training when it is asked for one batch more than `left`.
template <class Reader>
struct mortal {
  Reader& reader;
  std::size_t left;

  template <class B>
  auto next(B& be, std::size_t rows) {
    if (left-- == 0) throw killed();
    return reader.next(be, rows);
  }
  std::size_t position() const { return reader.position(); }
  template <class B>
  void seek(B& be, std::size_t position) {
    reader.seek(be, position);
  }
  std::string identity() const { return reader.identity(); }
};

template <class B>
B backend_with(std::size_t threads) {
  if constexpr (requires(B& be) { be.pool(); })
    return B(threads);
  else
    return B();
}

template <class Model, class Reader, class Trainer>
outcome whole(Model model, Reader reader, const Trainer& fit) {
  const auto last = fit(model, reader);
  return of(model, last);
}

/// The same training with checkpoints.
template <class... P, class Checkpoints>
auto with(const plmscope::trainer<P...>& fit, Checkpoints checkpoints) {
  return plmscope::trainer{.steps = fit.steps,
                           .batch = fit.batch,
                           .optimizer = fit.optimizer,
                           .schedule = fit.schedule,
                           .loss = fit.loss,
                           .penalty = fit.penalty,
                           .dead = fit.dead,
                           .dictionary = fit.dictionary,
                           .plan = fit.plan,
                           .extra = fit.extra,
                           .upkeep = fit.upkeep,
                           .clip = fit.clip,
                           .train_encoder_bias = fit.train_encoder_bias,
                           .bias = fit.bias,
                           .log_every = fit.log_every,
                           .checkpoints = std::move(checkpoints)};
}

/// Killed after every number of batches in `breaks`, each time resumed by a process that knows
/// nothing; `make_model(threads)` with other numbers of threads, `make_reader()`.
template <class MakeModel, class MakeReader, class Trainer>
outcome broken(const MakeModel& make_model, const MakeReader& make_reader, const Trainer& fit,
               const std::filesystem::path& folder, std::size_t every,
               const std::vector<std::size_t>& breaks) {
  const auto saving =
      with(fit, plmscope::checkpoint_every{.folder = folder, .steps = every, .resume = true});
  for (std::size_t i = 0; i <= breaks.size(); ++i) {
    auto model = make_model(1 + i % 3);
    auto reader = make_reader();
    mortal<decltype(reader)> source{reader, i < breaks.size() ? breaks[i] : std::size_t(-1)};
    try {
      const auto last = saving(model, source);
      return of(model, last);
    } catch (const killed&) {
    }
  }
  return {};
}

}  // namespace interrupted
