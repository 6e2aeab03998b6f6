// SPDX-License-Identifier: MIT
// Trainings by what a model makes of the results: finite differences in double through SAE, model
// and divergence; what a batch holds; a training that lowers the divergence further than one by
// errors alone; resumed ones; what is refused.
#include <tests/devices.hpp>
#include <tests/golden.hpp>
#include <tests/train/interrupted.hpp>
#include <tests/train/random_numbers.hpp>

#include <plmscope/backend/cpu.hpp>
#include <plmscope/backend/reference.hpp>
#include <plmscope/io/uniprot_tsv.hpp>
#include <plmscope/plm/collect.hpp>
#include <plmscope/plm/edit.hpp>
#include <plmscope/plm/esm2.hpp>
#include <plmscope/sae/sae.hpp>
#include <plmscope/sae/sparsifiers/relu.hpp>
#include <plmscope/steer/model_behind.hpp>
#include <plmscope/train/trainer.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace {

using namespace plmscope;
using numbers = std::vector<double>;
using in_double = basic_cpu<double, eigen_gemm>;

const std::vector<std::string> proteins{"MKTAYIAKQR", "", "GSHMLEDPVDAF", "MW", "ACDEFGHIKLMNPQ"};

template <class B>
esm2<B> tiny(B be = B()) {
  return esm2<B>::random({.layers = 3, .d_model = 8, .heads = 2, .feed_forward = 16}, 5, be);
}

template <class Behind>
auto policies(end_to_end<Behind> loss) {
  return trainer{.loss = loss, .dead = aux_k{.alpha = 0}, .dictionary = free_norm{}, .clip = 0};
}

struct outcome {
  double loss = 0;
  std::vector<numbers> gradient;
  numbers divergence;
};

// One step at rate 0 on the first batch.
template <class S, class B>
struct bench {
  using Sae = sae<S, B>;
  esm2<B> model = tiny<B>();
  model_behind<B> behind;
  Sae sparse;
  end_to_end<model_behind<B>> loss;
  const_view<B> rows;

  bench(typename Sae::options o, site at, model_behind_options options,
        end_to_end<model_behind<B>> terms)
      : behind(model, at, proteins, options), sparse(std::move(o)), loss(terms) {
    loss.behind = &behind;
    std::uint64_t stream = 10;
    sparse.parameters().for_each([&](const std::string&, auto& m) {
      sparse.backend().upload(std::span<const double>(random_numbers(5, m.size(), ++stream, 0.4)),
                              m.all());
    });
    rows = behind.next(sparse.backend(), 20);
  }

  outcome step() {
    const auto fit = policies(loss);
    training_run run(sparse, fit);
    run.step(rows, 0.0);
    outcome out;
    run.gradient().for_each([&](const char*, const auto& g) {
      numbers host(g.size());
      sparse.backend().download(const_view<B>(g), std::span<double>(host));
      out.gradient.push_back(host);
    });
    out.loss = run.metrics().loss;
    return out;
  }
};

template <class S>
double against_differences(typename sae<S, reference>::options o, site at,
                           model_behind_options options,
                           end_to_end<model_behind<reference>> terms) {
  bench<S, reference> b(o, at, options, terms);
  const auto want = b.step();
  double largest = 0, worst = 0;
  for (const auto& g : want.gradient) {
    for (const double v : g) largest = std::max(largest, std::abs(v));
  }
  CHECK(largest > 0);
  std::size_t i = 0;
  b.sparse.parameters().for_each([&](const std::string& name, auto& m) {
    CAPTURE(name);
    const numbers& g = want.gradient[i++];
    const std::size_t stride = std::max<std::size_t>(1, m.size() / 12);
    for (std::size_t k = 0; k < m.size(); k += stride) {
      const double was = m.data()[k], h = 1e-5;
      m.data()[k] = was + h;
      const double up = b.step().loss;
      m.data()[k] = was - h;
      const double down = b.step().loss;
      m.data()[k] = was;
      const double numeric = (up - down) / (2 * h);
      worst = std::max(worst, std::abs(g[k] - numeric) / (std::abs(numeric) + 1e-3 * largest));
    }
  });
  return worst;
}

template <class S>
typename sae<S, reference>::options options(S s = {}) {
  typename sae<S, reference>::options o;
  o.d_model = 8, o.features = 20, o.sparsifier = s;
  return o;
}

template <class F>
std::string thrown(const F& f) {
  try {
    f();
  } catch (const error& e) {
    return std::string(e.id());
  }
  return "nothing";
}

}  // namespace

TEST_CASE("gradients through SAE, model and divergence are finite differences") {
  using terms = end_to_end<model_behind<reference>>;
  const terms alone{}, both{.weight = 3, .reconstruction = 0.2};
  const double limit = 2e-5;
  CHECK(against_differences<top_k>(options(top_k{.k = 4}), resid_post{1}, {}, alone) < limit);
  CHECK(against_differences<relu>(options(relu{}), resid_post{0}, {}, alone) < limit);
  CHECK(against_differences<top_k>(options(top_k{.k = 4}), resid_post{0}, {.masked = 0.3}, both) <
        limit);
  CHECK(against_differences<relu>(options(relu{}), resid_pre{1}, {.downstream = 0.5}, both) <
        limit);
  CHECK(against_differences<top_k>(options(top_k{.k = 4}), embeddings{},
                                   {.masked = 0.2, .downstream = 2}, alone) < limit);
  CHECK(against_differences<relu>(options(relu{}), resid_post{2}, {.downstream = 1}, alone) <
        limit);
}

TEST_CASE("the same behind every normaliser, a skip map and lengths in codes") {
  using terms = end_to_end<model_behind<reference>>;
  const terms both{.weight = 2, .reconstruction = 0.3};
  auto o = options(top_k{.k = 4});
  o.normalize = {.kind = normalization::token_layer_norm};
  CHECK(against_differences<top_k>(o, resid_post{1}, {}, both) < 2e-5);
  o.normalize = {.kind = normalization::scalar, .scale = 0.3};
  CHECK(against_differences<top_k>(o, resid_post{1}, {}, both) < 2e-5);
  o.normalize = {.kind = normalization::per_dimension};
  for (int j = 0; j < 8; ++j) {
    o.normalize.mean.push_back(0.1 * j);
    o.normalize.deviation.push_back(0.5 + 0.2 * j);
  }
  CHECK(against_differences<top_k>(o, resid_post{1}, {}, both) < 2e-5);
  o.skip = true;
  CHECK(against_differences<top_k>(o, resid_post{1}, {}, both) < 2e-5);
  o.skip = false, o.lengths = row_lengths::in_codes;
  CHECK(against_differences<top_k>(o, resid_post{1}, {}, both) < 2e-5);
}

TEST_CASE("the same gradient from other kernels") {
  const auto other = [](auto be, double limit) {
    using B = decltype(be);
    bench<top_k, reference> exact(options(top_k{.k = 4}), resid_post{0},
                                  {.masked = 0.3, .downstream = 0.5}, {.reconstruction = 0.1});
    typename sae<top_k, B>::options o;
    o.d_model = 8, o.features = 20, o.sparsifier = {.k = 4};
    bench<top_k, B> same(o, resid_post{0}, {.masked = 0.3, .downstream = 0.5},
                         {.reconstruction = 0.1});
    const auto a = exact.step(), b = same.step();
    CHECK(b.loss == doctest::Approx(a.loss).epsilon(limit));
    for (std::size_t i = 0; i < a.gradient.size(); ++i) {
      CHECK(golden::relative_l2(std::span<const double>(b.gradient[i]),
                                std::span<const double>(a.gradient[i])) < limit);
    }
  };
  other(in_double(), 1e-10);
  other(devices::twice(), 1e-10);
  other(cpu(), 1e-3);
  other(devices::single(), 1e-3);
}

TEST_CASE("the divergence is the formula, of residues or of masked ones; slices change nothing") {
  for (const double masked : {0.0, 0.4}) {
    auto model = tiny<in_double>();
    model_behind<in_double> behind(model, resid_post{1}, proteins, {.masked = masked});
    auto& be = model.backend();
    const auto states = behind.next(be, 1000);
    const std::size_t m = states.rows();
    CHECK(m >= 1000);
    numbers spliced(states.size());
    be.download(states, std::span<double>(spliced));
    matrix<double, in_double> rows(be, m, 8), gradient(be, m, 8);
    be.copy(states, rows.all());
    CHECK(std::abs(behind(be, rows, gradient.all())) < 1e-12);  // its own states
    const auto noise = random_numbers(3, spliced.size(), 1, 0.5);
    for (std::size_t i = 0; i < noise.size(); ++i) spliced[i] += noise[i];
    be.upload(std::span<const double>(spliced), rows.all());
    const double got = behind(be, rows, gradient.all());
    CHECK(got == behind.divergence());
    CHECK(got > 0.01);
    // the same proteins in slices of one sequence
    auto narrow = tiny<in_double>();
    model_behind<in_double> again(narrow, resid_post{1}, proteins, {.masked = masked});
    again.next(be, 1000);
    CHECK(again(be, rows, gradient.all()) == doctest::Approx(got).epsilon(1e-12));
    if (masked > 0) continue;
    // by hand: the pass with edited states
    packed_batch batch;
    std::size_t counted = 0;
    model_behind<in_double> one(model, resid_post{1}, {"MKTAYIAKQR"});
    const auto single = one.next(be, 10);
    CHECK(single.rows() == 10);
    matrix<double, in_double> zero(be, 10, 8), g(be, 10, 8);
    be.fill(zero.all(), 0.25);
    batch.add("MKTAYIAKQR");
    collect<double> clean({logits{}}), edited({logits{}});
    model.forward(batch, clean);
    edits<in_double> edit({set_state(resid_post{1}, numbers(8, 0.25), tokens::residues())});
    model.forward(batch, hooks{edit, edited});
    double want = 0;
    for (std::size_t r = 1; r <= 10; ++r, ++counted) {
      const auto row = [&](auto& c) { return c.states(logits{}).subspan(r * 33, 33); };
      const auto a = row(clean), b = row(edited);
      double sa = 0, sb = 0;
      for (std::size_t t = 0; t < 33; ++t) sa += std::exp(a[t]), sb += std::exp(b[t]);
      for (std::size_t t = 0; t < 33; ++t) {
        want += std::exp(a[t]) / sa * (a[t] - std::log(sa) - b[t] + std::log(sb));
      }
    }
    CHECK(one(be, zero, g.all()) == doctest::Approx(want / 10).epsilon(1e-10));
  }
}

TEST_CASE("batches are whole proteins, every one of them in a pass, others in the next") {
  auto model = tiny<cpu>();
  model_behind<> behind(model, resid_post{0}, proteins, {.seed = 3});
  auto& be = model.backend();
  std::vector<std::size_t> lengths;
  for (int i = 0; i < 8; ++i) lengths.push_back(behind.next(be, 1).rows());
  for (const int pass : {0, 4}) {
    auto sorted = std::vector<std::size_t>(lengths.begin() + pass, lengths.begin() + pass + 4);
    std::sort(sorted.begin(), sorted.end());
    CHECK(sorted == std::vector<std::size_t>{2, 10, 12, 14});
  }
  CHECK(behind.position() == 8);
  behind.seek(be, 3);
  CHECK(behind.next(be, 1).rows() == lengths[3]);
  CHECK(behind.next(be, 100).rows() >= 100);
  CHECK(behind.source().site == "resid_post.0");
}

TEST_CASE("training by divergence predicts better than training by errors, on the bundled model") {
  auto esm = esm2<>::load(golden::repository() / "examples/data/esm2_mini", {}, cpu(2));
  std::vector<std::string> train, test;
  for (const auto& e : read_uniprot_tsv(golden::repository() / "examples/data/uniprot_demo.tsv")) {
    if (e.sequence.size() > 200) continue;
    (train.size() < 48 ? train : test).push_back(e.sequence);
    if (test.size() == 12) break;
  }
  REQUIRE(test.size() == 12);
  const site at = resid_post{esm.layers() / 2};
  const auto fresh = [&] {
    return sae<>({.d_model = esm.d_model(), .features = 256, .sparsifier = {.k = 8}, .seed = 2},
                 esm.backend());
  };
  struct held_out {
    double divergence, error;
  };
  const auto measure = [&](sae<>& model) {
    model_behind<> behind(esm, at, test);
    auto& be = model.backend();
    std::size_t all = 0;
    for (const auto& s : test) all += s.size();
    const auto rows = behind.next(be, all);
    matrix<float, cpu> out(be, rows.rows(), rows.cols()), g(be, rows.rows(), rows.cols());
    model.reconstruct(rows, out.all());
    held_out h{behind(be, out, g.all()), 0};
    matrix<double, cpu> slot(be, 1, 1);
    be.axpy(-1.0f, rows, out);
    be.add_sum_squares(const_view<cpu>(out), slot.all());
    h.error = slot(0, 0) / static_cast<double>(rows.rows());
    return h;
  };
  model_behind<> behind(esm, at, train);
  const adam fast{.lr = 2e-3};
  auto by_errors = fresh();
  trainer{.steps = 120, .batch = 512, .optimizer = fast}(by_errors, behind);
  const auto errors = measure(by_errors);
  const auto tuned_by = [&](auto loss) {
    auto model = fresh();
    trainer{.steps = 60, .batch = 512, .optimizer = fast}(model, behind);
    trainer{
        .steps = 60, .batch = 512, .optimizer = fast, .loss = loss, .bias = start_bias::unchanged}(
        model, behind);
    return measure(model);
  };
  const auto tuned = tuned_by(end_to_end{.behind = &behind});
  const auto both = tuned_by(end_to_end{.behind = &behind, .reconstruction = 1, .balanced = true});
  MESSAGE("KL of held-out proteins, nats per residue: ", errors.divergence, " by errors, ",
          tuned.divergence, " with half of the steps by divergence, ", both.divergence,
          " by both; mean |y - y'|^2 ", errors.error, ", ", tuned.error, ", ", both.error);
  CHECK(both.divergence < 0.9 * errors.divergence);
  CHECK(tuned.divergence < 0.95 * errors.divergence);
}

TEST_CASE("a training that is killed ends with the same bits") {
  const auto proteins_of = [](esm2<>& model) {
    return std::make_unique<model_behind<>>(model, resid_post{0}, proteins,
                                            model_behind_options{.masked = 0.3, .seed = 7});
  };
  const auto train = [&](const std::filesystem::path& folder, std::size_t stop_after) {
    auto model = tiny<cpu>();
    const auto behind = proteins_of(model);
    sae<> sparse({.d_model = 8, .features = 40, .sparsifier = {.k = 3}, .seed = 1},
                 model.backend());
    std::size_t asked = 0;
    const trainer fit{
        .steps = 12,
        .batch = 15,
        .optimizer = adam{.lr = 3e-3},
        .loss = end_to_end{.behind = behind.get(), .reconstruction = 0.1},
        .checkpoints = checkpoint_every{.folder = folder, .steps = 3, .resume = true, .stop = [&] {
                                          return ++asked == stop_after;
                                        }}};
    try {
      fit(sparse, *behind);
    } catch (const error& e) {
      CHECK(e.id() == "train.127");
    }
    const auto& w = sparse.parameters().encoder;
    return std::vector<float>(w.data(), w.data() + w.size());
  };
  const golden::scratch_folder whole, broken;
  const auto want = train(whole / "c", 99);
  train(broken / "c", 5);
  CHECK(train(broken / "c", 4) != want);
  CHECK(train(broken / "c", 99) == want);
}

TEST_CASE("what is refused") {
  auto model = tiny<cpu>();
  CHECK(thrown([&] { model_behind<>(model, resid_post{0}, {}); }) == "acts.101");
  CHECK(thrown([&] { model_behind<>(model, resid_post{0}, {"", ""}); }) == "acts.101");
  CHECK(thrown([&] { model_behind<>(model, resid_post{7}, proteins); }) == "plm.108");
  CHECK(thrown([&] { model_behind<>(model, mlp_act{0}, proteins); }) == "plm.133");
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double v : {-0.1, 1.0, nan}) {
    CHECK(thrown([&] { model_behind<>(model, resid_post{0}, proteins, {.masked = v}); }) ==
          "sae.140");
  }
  for (const double v : {-0.1, nan, std::numeric_limits<double>::infinity()}) {
    CHECK(thrown([&] { model_behind<>(model, resid_post{0}, proteins, {.downstream = v}); }) ==
          "sae.140");
  }
  auto& be = model.backend();
  model_behind<> behind(model, resid_post{0}, proteins);
  matrix<float, cpu> rows(be, 3, 8), g(be, 3, 8);
  CHECK(thrown([&] { behind(be, rows, g.all()); }) == "plm.132");  // before any batch
  behind.next(be, 5);
  CHECK(thrown([&] { behind(be, rows, g.all()); }) == "plm.132");
  sae<> narrow({.d_model = 6, .features = 10, .sparsifier = {.k = 2}});
  sae<> fits({.d_model = 8, .features = 10, .sparsifier = {.k = 2}});
  const trainer<adam, warmup_decay, end_to_end<model_behind<>>> nothing{.steps = 1, .batch = 5};
  CHECK(thrown([&] { nothing(fits, behind); }) == "train.111");
  auto fit = nothing;
  fit.loss.behind = &behind;
  CHECK(thrown([&] { fit(narrow, behind); }).starts_with("sae.10"));
  CHECK(thrown([&] { fit(fits, behind); }) == "nothing");
}
