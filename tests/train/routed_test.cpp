// SPDX-License-Identifier: MIT
// Routed SAEs: gradients of every option, and what the router decides.
#include <tests/thrown.hpp>
#include <tests/train/composition.hpp>

#include <plmscope/core/error.hpp>
#include <plmscope/sae/sparsifiers/routed.hpp>

#include <cstddef>
#include <limits>

using namespace composition;
using plmscope::routed;

namespace {

const routed switching{.k = 2, .experts = 4, .balance = 0.5, .entropy = 0.1};
const routed shared{.k = 2, .experts = 3, .chosen = 2, .share_gates = true, .balance = 0.3};
const routed mixture{.k = 2,
                     .experts = 4,
                     .chosen = 2,
                     .router_bias = false,
                     .share_gates = true,
                     .block_biases = true,
                     .balance = 0.4,
                     .entropy = 0.2};

}  // namespace

TEST_CASE("Switch: gradients of every penalty, plan and model") {
  every_penalty(switching);
  every_plan_and_loss(switching);
  every_model(switching, {}, false);
}
TEST_CASE("blocks that share gates: gradients of every plan and model") {
  every_plan_and_loss(shared);
  every_model(shared, {}, false);
}
TEST_CASE("blocks with biases: gradients, without the bias they replace") {
  auto o = options(mixture);
  o.centring = input_centring::none;
  const std::vector<std::string> without{"decoder_bias"};
  check<routed>(o, plain, without);
  check<routed>(o, with(plmscope::l1_penalty{.weight = {0.3}}), without);
  check<routed>(o,
                plmscope::trainer{.dead = quiet,
                                  .dictionary = plmscope::free_norm{},
                                  .plan = plmscope::matryoshka{.ends = {4, 10}}},
                without);
  o.normalize.kind = plmscope::normalization::token_layer_norm;
  check<routed>(
      o,
      plmscope::trainer{.loss = plmscope::mean_squared_error{.space = plmscope::loss_space::raw},
                        .dead = quiet,
                        .dictionary = plmscope::free_norm{}},
      without);
  o.sparsifier.router_bias = true;
  o.sparsifier.share_gates = false;
  check<routed>(o, plain, without);
  o.skip = true;
  check<routed>(o, plain, without);
}

namespace {

// What the definition says, row by row.
template <class B>
void follows_the_definition(const routed& s) {
  typename plmscope::sae<routed, B>::options o;
  o.d_model = d, o.features = features, o.sparsifier = s;
  if (s.block_biases) o.centring = input_centring::none;
  bench_run<routed, B, decltype(plain)> b(o, plain);
  auto& be = b.model.backend();
  const auto host = [&](const auto& m) {
    numbers v(m.size());
    be.download(m.all(), std::span<double>(v));
    return v;
  };
  const auto& p = b.model.parameters();
  const numbers x = host(b.x), encoder = host(p.encoder), bias = host(p.encoder_bias),
                decoder = host(p.decoder), centre = host(p.decoder_bias),
                router = host(p.latent[0].values), own = host(p.latent.back().values);
  numbers router_bias(d, 0.0);
  if (s.router_bias) router_bias = host(p.latent[1].values);
  plmscope::codes<B> codes;
  plmscope::matrix<typename B::real, B> result(be, rows, d);
  b.model.reconstruct(b.x.all(), result.all(), &codes);
  const auto z = plmscope::to_host(be, codes);
  const numbers got = host(result);
  const std::size_t width = features / s.experts;
  for (std::size_t r = 0; r < rows; ++r) {
    numbers logits(s.experts, 0.0);
    double all = 0, sum = 1e-8;
    for (std::size_t e = 0; e < s.experts; ++e) {
      for (std::size_t j = 0; j < d; ++j) {
        logits[e] += router[e * d + j] * (x[r * d + j] - router_bias[j]);
      }
      all += std::exp(logits[e]);
    }
    numbers sorted = logits;
    std::sort(sorted.rbegin(), sorted.rend());
    for (std::size_t c = 0; c < s.chosen; ++c) sum += std::exp(sorted[c]) / all;
    numbers dense(features, 0.0), want = centre;
    for (std::size_t e = 0; e < s.experts; ++e) {
      if (logits[e] < sorted[s.chosen - 1]) continue;
      const double gate = std::exp(logits[e]) / all / (s.share_gates ? sum : 1);
      const double* shift = s.block_biases ? own.data() + e * d : centre.data();
      numbers a(width);
      for (std::size_t f = 0; f < width; ++f) {
        a[f] = bias[e * width + f];
        for (std::size_t j = 0; j < d; ++j) {
          a[f] += encoder[(e * width + f) * d + j] * (x[r * d + j] - shift[j]);
        }
      }
      numbers order = a;
      std::sort(order.rbegin(), order.rend());
      for (std::size_t f = 0; f < width; ++f) {
        if (a[f] > 0 && a[f] >= order[std::min(s.k, width) - 1]) dense[e * width + f] = gate * a[f];
      }
      for (std::size_t j = 0; s.block_biases && j < d; ++j) want[j] += gate * shift[j];
    }
    for (std::size_t f = 0; f < features; ++f) {
      for (std::size_t j = 0; j < d; ++j) want[j] += dense[f] * decoder[f * d + j];
    }
    for (auto e = static_cast<std::size_t>(z.offsets[r]);
         e < static_cast<std::size_t>(z.offsets[r + 1]); ++e) {
      CHECK(z.values[e] == doctest::Approx(dense[z.ids[e]]).epsilon(1e-5));
      CHECK(z.values[e] > 0);
      if (e > static_cast<std::size_t>(z.offsets[r])) CHECK(z.ids[e] > z.ids[e - 1]);
      dense[z.ids[e]] = 0;
    }
    CHECK(*std::max_element(dense.begin(), dense.end()) == 0);
    for (std::size_t j = 0; j < d; ++j) {
      CHECK(std::abs(got[r * d + j] - want[j]) < 1e-5);
    }
  }
}

template <class B>
void every_definition() {
  for (routed s : {switching, shared, mixture}) {
    follows_the_definition<B>(s);
    s.k = features;  // more than a block has
    s.chosen = s.experts;
    follows_the_definition<B>(s);
  }
}

// A batch of a row more than some tiles has the codes of its parts.
template <class B>
void tiles_do_not_show() {
  constexpr std::size_t many = 8192 * 2 + 1;
  plmscope::sae<routed, B> model({.d_model = d, .features = features, .sparsifier = shared});
  auto& be = model.backend();
  plmscope::matrix<typename B::real, B> x(be, many, d);
  be.upload(std::span<const double>(random_numbers(3, x.size(), 1, 1.0)), x.all());
  plmscope::codes<B> whole, last;
  model.encode(x.all(), whole);
  model.encode(x.all().row_range(many - 1, 1), last);
  const auto a = plmscope::to_host(be, whole), b = plmscope::to_host(be, last);
  REQUIRE(a.rows() == many);
  const auto first = static_cast<std::size_t>(a.offsets[many - 1]);
  REQUIRE(static_cast<std::size_t>(a.offsets[many]) - first ==
          static_cast<std::size_t>(b.offsets[1]));
  for (std::size_t e = 0; e < static_cast<std::size_t>(b.offsets[1]); ++e) {
    CHECK(a.ids[first + e] == b.ids[e]);
    CHECK(a.values[first + e] == doctest::Approx(b.values[e]).epsilon(1e-6));
  }
}

}  // namespace

TEST_CASE("tiles do not show") {
  tiles_do_not_show<reference>();
  tiles_do_not_show<plmscope::cpu>();
  tiles_do_not_show<devices::single>();
}

TEST_CASE("awkward rows: none, NaN, infinity, all equal logits") {
  plmscope::sae<routed> model({.d_model = d, .features = features, .sparsifier = switching});
  auto& be = model.backend();
  plmscope::codes<plmscope::cpu> z;
  plmscope::matrix<float, plmscope::cpu> none(be, 0, d), x(be, 3, d), y(be, 3, d);
  model.encode(none.all(), z);
  CHECK(z.rows() == 0);
  for (std::size_t j = 0; j < d; ++j) {
    x(0, j) = std::numeric_limits<float>::quiet_NaN();
    x(1, j) = std::numeric_limits<float>::infinity();
    x(2, j) = 1;
  }
  model.reconstruct(x.all(), y.all(), &z);
  CHECK(z.rows() == 3);
  CHECK(z.offsets()[2] == 0);  // a row without a number has no block
  CHECK(z.offsets()[3] > 0);
  CHECK(std::isfinite(y(2, 0)));
  be.fill(model.parameters().latent[0].values.all(), 0.0F);
  model.encode(x.all(), z);
  for (std::int64_t e = 0; e < z.offsets()[3]; ++e)
    CHECK(z.ids()[e] < features / 4);  // ties: the first
}

TEST_CASE("blocks that do not fit are refused with sae.101") {
  const auto made = [](routed s, std::size_t width, auto change) {
    plmscope::sae<routed>::options o;
    o.d_model = d, o.features = width, o.sparsifier = s;
    change(o);
    return id_thrown([&] { plmscope::sae<routed> model(o); });
  };
  const auto nothing = [](auto&) {};
  CHECK(made(switching, 24, nothing) == "nothing");
  CHECK(made(switching, 26, nothing) == "sae.101");
  CHECK(made({.experts = 1}, 24, nothing) == "sae.101");
  CHECK(made({.experts = 0}, 24, nothing) == "sae.101");
  CHECK(made({.experts = std::size_t(-1)}, 24, nothing) == "sae.101");
  CHECK(made({.experts = 4, .chosen = 0}, 24, nothing) == "sae.101");
  CHECK(made({.experts = 4, .chosen = 5}, 24, nothing) == "sae.101");
  CHECK(made({.k = 0, .experts = 4}, 24, nothing) == "sae.101");
  CHECK(made(mixture, 24, nothing) == "sae.101");
  CHECK(made(switching, 24, [](auto& o) { o.lengths = row_lengths::rank; }) == "sae.101");
  CHECK(made(switching, 24, [](auto& o) { o.lengths = row_lengths::in_codes; }) == "sae.101");
}

TEST_CASE("the bias that a training begins with goes to the router and the blocks") {
  auto s = mixture;
  s.router_bias = true;
  for (const bool of_blocks : {false, true}) {
    s.block_biases = of_blocks;
    plmscope::sae<routed, reference>::options o;
    o.d_model = d, o.features = features, o.sparsifier = s, o.centring = input_centring::none;
    plmscope::sae<routed, reference> model(o);
    plmscope::matrix<double, reference> x(model.backend(), 2, d);
    for (std::size_t j = 0; j < d; ++j) x(0, j) = 1 + static_cast<double>(j), x(1, j) = 3;
    plmscope::initialize_bias(model, const_view<reference>(x), plmscope::start_bias::mean);
    const auto& p = model.parameters();
    for (std::size_t j = 0; j < d; ++j) {
      const double mean = (4 + static_cast<double>(j)) / 2;
      CHECK(p.decoder_bias.data()[j] == doctest::Approx(of_blocks ? 0 : mean));
      CHECK(p.latent[1].values.data()[j] == doctest::Approx(mean));
      for (std::size_t e = 0; of_blocks && e < s.experts; ++e) {
        CHECK(p.latent[2].values(e, j) == doctest::Approx(mean));
      }
    }
  }
}

TEST_CASE("codes of another batch are not decoded where results have more than the dictionary's") {
  plmscope::sae<routed>::options o;
  o.d_model = d, o.features = features, o.sparsifier = mixture, o.centring = input_centring::none;
  plmscope::sae<routed> model(o);
  plmscope::matrix<float, plmscope::cpu> x(model.backend(), 2, d), y(model.backend(), 2, d);
  plmscope::codes<plmscope::cpu> two, one;
  model.encode(x.all(), two);
  model.encode(x.all().row_range(0, 1), one);
  CHECK(id_thrown([&] { model.decode(two, y.all()); }) == "sae.110");
}

TEST_CASE("codes and results are those of the definition") {
  every_definition<reference>();
  every_definition<plmscope::cpu>();
  every_definition<devices::single>();
  every_definition<devices::twice>();
}
