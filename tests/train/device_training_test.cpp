// SPDX-License-Identifier: MIT
// Training on a device: what the host may not do meanwhile, and the same bits again.
#include <tests/devices.hpp>
#include <tests/train/planted.hpp>

#include <plmscope/backend/cpu.hpp>
#include <plmscope/sae/sae.hpp>
#include <plmscope/train/trainer.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace {

using plmscope::const_view;
using device = devices::single;

template <class B>
using model_of = plmscope::sae<plmscope::top_k, B>;

const planted::options data{.d = 24, .directions = 40, .offset = 2};

template <class B>
plmscope::matrix<typename B::real, B> batch_of(B& be, std::size_t step, std::size_t m) {
  plmscope::matrix<typename B::real, B> x(be, m, data.d);
  be.upload(std::span<const double>(planted::rows(data, step * m, m)), x.all());
  return x;
}

template <class B>
std::vector<std::vector<double>> parameters_of(model_of<B>& model) {
  std::vector<std::vector<double>> out;
  model.parameters().for_each([&](const char*, auto& p) {
    out.emplace_back(p.size());
    model.backend().download(const_view<B>(p), std::span<double>(out.back()));
  });
  return out;
}

// A run of 40 steps, as the trainer makes them.
template <class B>
struct run_of {
  using policies = decltype(plmscope::trainer{});
  model_of<B> model;
  policies with{.clip = 1};
  plmscope::training_run<model_of<B>, policies> run;

  explicit run_of(B be, std::int64_t dead_after = 1'000'000, std::size_t k = 3)
      : model({.d_model = data.d, .features = 150, .sparsifier = {.k = k}, .seed = 5}, be),
        run(model, (with.dead.dead_after = dead_after, with)) {}
  void steps(std::size_t first, std::size_t count, std::size_t m = 203) {
    for (std::size_t s = first; s < first + count; ++s) {
      const auto x = batch_of(model.backend(), s, m);
      run.step(x, 3e-3);
    }
  }
};

}  // namespace

TEST_CASE("a training step neither waits for the device nor asks it for memory") {
  run_of<device> r{device()};
  auto& runtime = r.model.backend().runtime();
  r.steps(0, 2);
  const std::size_t waits = runtime.waits();
  const std::size_t allocations = runtime.memory().allocations();
  r.steps(2, 10);
  CHECK(runtime.waits() == waits);
  CHECK(runtime.memory().allocations() == allocations);
  CHECK(runtime.launches() > 0);
}

TEST_CASE("AuxK reads the number of dead latents while the device works") {
  run_of<device> r{device(), 3000};
  auto& runtime = r.model.backend().runtime();
  const std::size_t waits = runtime.waits();
  const std::size_t receipts = runtime.receipts();
  r.steps(0, 14);  // 2,842 rows: nobody can have been silent for 3,000
  CHECK(runtime.receipts() == receipts);
  r.steps(14, 20);
  CHECK(r.run.dead_state().dead_count > 0);
  CHECK(runtime.receipts() > receipts + 20);
  CHECK(runtime.receipts() <= receipts + 60);  // expected ones, dead ones, soon dead ones
  CHECK(runtime.waits() == waits);
#if !defined(__CUDACC__)
  CHECK(runtime.head_start() >= 2);  // the encoder's product and its bias are queued meanwhile
#endif
}

TEST_CASE("a count is read once it is needed, in any order, or never") {
  device be;
  auto& runtime = be.runtime();
  const auto since_of = [&](std::vector<std::int64_t> v) {
    plmscope::matrix<std::int64_t, device> x(be, 1, v.size());
    be.upload(std::span<const std::int64_t>(v), x.all());
    return x;
  };
  const auto a = since_of({5, 1, 9, 9, 0}), b = since_of({7, 7}), none = since_of({});
  plmscope::matrix<std::uint32_t, device> ids(be, 1, 5), more(be, 1, 5);
  const std::size_t waits = runtime.waits();
  device::count first = be.ids_where(a.all(), 5, ids.all());
  device::count second = be.ids_where(b.all(), 8, more.all());
  device::count empty = be.ids_where(none.all(), 0, more.all());
  static_cast<void>(be.ids_where(a.all(), 0, more.all()));  // dropped unread
  device::count third = be.ids_where(a.all(), 0, more.all());
  CHECK(third == 5);
  CHECK(second == 0);
  CHECK(empty == 0);
  device::count moved = std::move(first);
  CHECK(first == 0);
  CHECK(moved == 3);
  CHECK(moved == 3);
  moved = be.ids_where(b.all(), 7, more.all());
  CHECK(moved == 2);
  CHECK(runtime.waits() == waits);
}

TEST_CASE("a run repeats bit for bit on the same device") {
  run_of<device> a{device(), 3000}, b{device(), 3000};
  a.steps(0, 40);
  b.steps(0, 40);
  CHECK(parameters_of(a.model) == parameters_of(b.model));
}

TEST_CASE("a run in double follows the cpu") {
  using cpu = plmscope::basic_cpu<double, plmscope::eigen_gemm>;
  run_of<devices::twice> a{devices::twice(), 3000};
  run_of<cpu> b{cpu(2), 3000};
  a.steps(0, 40);
  b.steps(0, 40);
  const auto p = parameters_of(a.model);
  const auto q = parameters_of(b.model);
  double worst = 0;
  for (std::size_t t = 0; t < p.size(); ++t) {
    for (std::size_t i = 0; i < p[t].size(); ++i)
      worst = std::max(worst, std::abs(p[t][i] - q[t][i]));
  }
  CHECK(worst < 1e-9);
  CHECK(a.run.metrics().l0 == doctest::Approx(b.run.metrics().l0).epsilon(1e-12));
  CHECK(a.run.metrics().fvu == doctest::Approx(b.run.metrics().fvu).epsilon(1e-9));
}

TEST_CASE("L0 counts the entries there are, not the room for them") {
  run_of<device> a{device(), 1'000'000, 140};  // relu keeps about half of 150
  run_of<plmscope::cpu> b{plmscope::cpu(2), 1'000'000, 140};
  a.steps(0, 1);
  b.steps(0, 1);
  CHECK(a.run.metrics().l0 < 130);
  CHECK(a.run.metrics().l0 == doctest::Approx(b.run.metrics().l0));
}

TEST_CASE("products in bfloat16 train nearly as well") {
  const auto fvu = [](plmscope::product_precision p) {
    run_of<device> r{device().with(p)};
    r.steps(0, 150);
    return r.run.metrics().fvu;
  };
  const double exact = fvu(plmscope::product_precision::fp32);
  const double rounded = fvu(plmscope::product_precision::bf16);
  CHECK(rounded != exact);
  CHECK(std::abs(rounded - exact) < 0.02);
}
