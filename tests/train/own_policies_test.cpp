// SPDX-License-Identifier: MIT
// The policies that the documentation writes: they meet their concepts, their gradients are those
// of finite differences, and they train. And every policy of the library meets its concept.
#include <tests/train/own_policies.hpp>
#include <tests/train/planted.hpp>

#include <plmscope/backend/reference.hpp>
#include <plmscope/sae/sparsifiers/relu.hpp>
#include <plmscope/train/state_fields.hpp>

#include <doctest/doctest.h>

#include <string>
#include <vector>

namespace {

using plmscope::const_view;
using plmscope::cpu;
using plmscope::reference;
using numbers = std::vector<double>;

template <class B>
constexpr bool all_meet_their_concepts() {
  using namespace plmscope;
  static_assert(optimizer_for<adam, B> && optimizer_for<signum_schedule_free, B>);
  static_assert(optimizer_for<muon, B> && optimizer_for<averaged<muon>, B>);
  static_assert(loss_for<mean_squared_error, B> && loss_for<mean_error_length, B>);
  static_assert(loss_for<fraction_of_variance_unexplained, B>);
  static_assert(loss_for<squared_error_relative_to_bias, B>);
  static_assert(penalty_for<no_penalty, B> && penalty_for<l1_penalty, B>);
  static_assert(penalty_for<tanh_penalty, B> && penalty_for<p_annealing, B>);
  static_assert(penalty_for<l0_penalty, B> && penalty_for<pre_activation_penalty, B>);
  static_assert(penalty_for<entry_penalty<log_shape, seeking_weight>, B>);
  static_assert(penalty_for<penalties<l1_penalty, pre_activation_penalty>, B>);
  static_assert(penalty_for<orthogonality_penalty, B> && penalty_for<contrastive_penalty, B>);
  static_assert(penalty_for<frequency_penalty<>, B> && penalty_for<firing_frequency_penalty, B>);
  static_assert(loss_for<loss_of_results<B>, B> && loss_for<end_to_end<own::only_count>, B>);
  static_assert(dictionary_for<free_norm, B> && dictionary_for<unit_norm, B>);
  static_assert(dictionary_for<unit_norm_before_step, B>);
  static_assert(dictionary_for<unit_norm_before_forward, B>);
  static_assert(dictionary_for<unit_norm_per_dimension, B> && dictionary_for<archetypal, B>);
  static_assert(plan<full_reconstruction> && plan<matryoshka> && plan<sampled_matryoshka>);
  static_assert(dead_policy_for<aux_k, B> && dead_policy_for<ghost_gradients, B>);
  static_assert(sparsifier_for<own::gained_relu, B>);
  static_assert(optimizer_for<own::momentum_descent, B> && loss_for<own::huber, B>);
  static_assert(penalty_for<entry_penalty<own::root_shape>, B> &&
                penalty_for<own::decoder_decay, B>);
  static_assert(dictionary_for<own::tied, B> && plan<own::doubling>);
  static_assert(dead_policy_for<own::only_count, B>);
  // what is of another kind meets none
  static_assert(!optimizer_for<unit_norm, B> && !loss_for<adam, B> && !penalty_for<unit_norm, B>);
  static_assert(!dictionary_for<adam, B> && !plan<adam> && !dead_policy_for<resampling, B>);
  return true;
}
static_assert(all_meet_their_concepts<cpu>() && all_meet_their_concepts<reference>());

numbers random_numbers(std::size_t n, std::uint64_t stream, double scale, double mean = 0) {
  const plmscope::rng random(11, stream);
  numbers v(n);
  for (std::size_t i = 0; i < n; ++i) v[i] = mean + scale * random.normal(i);
  return v;
}

// One step at rate 0 with the parameters as they are.
template <class Model, class Trainer>
double step(Model& model, const Trainer& fit, const numbers& rows, std::vector<numbers>& gradient) {
  using backend = typename Model::backend_type;
  auto& be = model.backend();
  plmscope::matrix<double, backend> x(be, rows.size() / model.d_model(), model.d_model());
  be.upload(std::span<const double>(rows), x.all());
  plmscope::training_run run(model, fit);
  run.step(x.all(), 0.0);
  gradient.clear();
  run.gradient().for_each([&](const char*, const auto& g) {
    numbers host(g.size());
    be.download(const_view<backend>(g), std::span<double>(host));
    gradient.push_back(host);
  });
  return run.metrics().loss;
}

template <class Sparsifier, class Trainer>
void check_against_differences(Sparsifier sparsify, Trainer fit) {
  fit.clip = 0;
  plmscope::sae<Sparsifier, reference> model(
      {.d_model = 6, .features = 16, .sparsifier = sparsify});
  std::uint64_t stream = 20;
  model.parameters().for_each([&](const char*, auto& m) {
    model.backend().upload(std::span<const double>(random_numbers(m.size(), ++stream, 0.4)),
                           m.all());
  });
  const numbers rows = random_numbers(9 * 6, 1, 1.3, 0.4);
  std::vector<numbers> gradient, ignored;
  step(model, fit, rows, gradient);
  std::size_t i = 0;
  std::size_t tried = 0;
  model.parameters().for_each([&](const std::string& name, auto& m) {
    const numbers& g = gradient[i++];
    double largest = 0;
    for (const double v : g) largest = std::max(largest, std::abs(v));
    CHECK(largest > 0);
    for (std::size_t k = 0; k < m.size(); k += std::max<std::size_t>(1, m.size() / 16)) {
      const double at = m.data()[k];
      const double h = 1e-6;
      m.data()[k] = at + h;
      const double up = step(model, fit, rows, ignored);
      m.data()[k] = at - h;
      const double down = step(model, fit, rows, ignored);
      m.data()[k] = at;
      const double numeric = (up - down) / (2 * h);
      CAPTURE(name);
      CAPTURE(k);
      CHECK(std::abs(g[k] - numeric) < 1e-6 * (std::abs(numeric) + largest));
      ++tried;
    }
  });
  CHECK(tried > 48);
}

}  // namespace

TEST_CASE("a loss, a plan and penalties of one's own: gradients are finite differences") {
  check_against_differences(
      plmscope::relu{},
      plmscope::trainer{.loss = own::huber{.knee = 2},
                        .penalty = plmscope::penalties{plmscope::entry_penalty<own::root_shape>{
                                                           .weight = {.value = 0.1}},
                                                       own::decoder_decay{.weight = 0.3}},
                        .dead = own::only_count{},
                        .dictionary = plmscope::free_norm{},
                        .plan = own::doubling{}});
}
TEST_CASE("a sparsifier with a learned vector of its own: gradients are finite differences") {
  check_against_differences(
      own::gained_relu{},
      plmscope::trainer{.penalty = plmscope::l1_penalty{.weight = {.value = 0.2}},
                        .dead = own::only_count{},
                        .dictionary = plmscope::free_norm{}});
}
TEST_CASE("codes of a sparsifier with a learned vector are the same in training and afterwards") {
  plmscope::sae<own::gained_relu, reference> model({.d_model = 6, .features = 16});
  reference& be = model.backend();
  be.upload(std::span<const double>(random_numbers(16, 3, 0.5)),
            model.parameters().latent[0].values.all());
  plmscope::matrix<double, reference> x(be, 7, 6);
  be.upload(std::span<const double>(random_numbers(42, 4, 1.0)), x.all());
  plmscope::training_run run(model, plmscope::trainer{.dictionary = plmscope::free_norm{}});
  run.step(x.all(), 0.0);
  plmscope::codes<reference> z;
  model.encode(x.all(), z);
  REQUIRE(z.entries() == run.last_codes().entries());
  CHECK(z.entries() > 0);
  for (std::size_t e = 0; e < z.entries(); ++e) {
    CHECK(z.values()[e] == run.last_codes().values()[e]);
  }
}
// Names of what a checkpoint would save.
struct name_list {
  std::vector<std::string> names;
  template <class M>
  void tensor(const std::string& name, M&) {
    names.push_back(name);
  }
  template <class T>
  void number(const std::string& name, T&) {
    names.push_back(name);
  }
  bool has(const std::string& name) const {
    return std::find(names.begin(), names.end(), name) != names.end();
  }
};
TEST_CASE("a checkpoint would save their states") {
  plmscope::sae<own::gained_relu> model({.d_model = 6, .features = 16});
  plmscope::training_run run(model, plmscope::trainer{.optimizer = own::momentum_descent{},
                                                      .penalty = own::decoder_decay{},
                                                      .dead = own::only_count{}});
  name_list saved;
  plmscope::visit_state(saved, "", run);
  CHECK(saved.has("parameters.log_gain"));
  CHECK(saved.has("optimizer.velocity.encoder"));
  CHECK(saved.has("optimizer.velocity.log_gain"));
  CHECK(saved.has("dead.since_fired"));
}
TEST_CASE("all of them train together, and k falls to its goal") {
  planted::reader<cpu> data({.d = 32, .directions = 48});
  plmscope::sae<plmscope::top_k> model({.d_model = 32, .features = 96, .sparsifier = {.k = 3}});
  const plmscope::trainer fit{.steps = 400,
                              .batch = 256,
                              .optimizer = own::momentum_descent{.lr = 0.05},
                              .schedule = plmscope::warmup_decay{.warmup = 20, .decay_start = 300},
                              .loss = own::huber{.knee = 2},
                              .penalty = own::decoder_decay{.weight = 1e-4},
                              .dead = own::only_count{.dead_after = 2000},
                              .dictionary = own::tied{},
                              .plan = own::doubling{},
                              .upkeep = own::falling_k{.goal = 3, .steps = 100}};
  std::vector<double> fvu;
  fit(model, data, [&](const plmscope::training_metrics& m) { fvu.push_back(m.fvu); });
  CHECK(model.sparsifier().k == 3);
  CHECK(fvu.back() < 0.5);
  const auto& p = model.parameters();
  for (std::size_t i = 0; i < p.encoder.size(); ++i) {
    REQUIRE(p.encoder.data()[i] == p.decoder.data()[i]);
  }
}
