// SPDX-License-Identifier: MIT
// Pursuits: gradients of every option, codes against the definition and against scikit-learn.
#include <tests/train/composition.hpp>

#include <plmscope/core/error.hpp>
#include <plmscope/sae/sparsifiers/matching_pursuit.hpp>
#include <plmscope/sae/sparsifiers/orthogonal_pursuit.hpp>

#include <cstddef>
#include <fstream>
#include <limits>
#include <map>
#include <sstream>

using namespace composition;
using plmscope::matching_pursuit;
using plmscope::orthogonal_pursuit;

namespace {

const matching_pursuit greedy{.k = 4};
const matching_pursuit both_signs{.k = 6, .negatives = true};
const orthogonal_pursuit orthogonal{.k = 4};

template <class S>
void every_gradient(S s) {
  check<S>(options(s), plain);
  check<S>(options(s), with(plmscope::power_penalty{.weight = {0.2}}));
  check<S>(options(s),
           with(plmscope::tanh_penalty{.weight = {0.2}, .length = penalised_length::squared}));
  every_plan_and_loss(s);
  for (const auto centring :
       {input_centring::own_bias, input_centring::none, input_centring::decoder_bias}) {
    auto o = options(s);
    o.centring = centring;
    check<S>(o, plain);
    o.unit_input = true;
    check<S>(o, plain);
    o.skip = true;
    check<S>(o, plain);
  }
  auto o = options(s);
  o.lengths = row_lengths::in_codes;
  check<S>(o, plain);
  o.normalize.kind = plmscope::normalization::token_layer_norm;
  check<S>(o, with(plmscope::l1_penalty{.weight = {0.3}}));
  o = options(s);
  o.blocks = 2;
  check<S>(o, plmscope::trainer{.loss = plmscope::mean_error_length{},
                                .penalty = plmscope::l1_penalty{.weight = {0.3}},
                                .dead = quiet,
                                .dictionary = plmscope::free_norm{}});
}

double dot(const double* a, const double* b, std::size_t n) {
  double sum = 0;
  for (std::size_t j = 0; j < n; ++j) sum += a[j] * b[j];
  return sum;
}

using code = std::map<std::size_t, double>;

code matching(const numbers& w, numbers r, const matching_pursuit& s) {
  const std::size_t n = r.size();
  code z;
  for (std::size_t t = 0; t < s.k; ++t) {
    if (std::sqrt(dot(r.data(), r.data(), n)) < s.tolerance) break;
    std::size_t best = 0;
    double most = 0, c = 0;
    for (std::size_t f = 0; f < w.size() / n; ++f) {
      const double along = dot(w.data() + f * n, r.data(), n);
      const double key = s.negatives ? std::abs(along) : along;
      if (key > most) most = key, c = along, best = f;
    }
    if (most == 0) break;
    z[best] += c;
    for (std::size_t j = 0; j < n; ++j) r[j] -= c * w[best * n + j];
  }
  return z;
}

// Least squares on the latents of a code by elimination in the normal equations.
numbers least_squares(const numbers& w, const numbers& x, const std::vector<std::size_t>& taken) {
  const std::size_t n = x.size(), k = taken.size();
  std::vector<numbers> a(k, numbers(k + 1));
  for (std::size_t i = 0; i < k; ++i) {
    for (std::size_t j = 0; j < k; ++j) {
      a[i][j] = dot(w.data() + taken[i] * n, w.data() + taken[j] * n, n);
    }
    a[i][k] = dot(w.data() + taken[i] * n, x.data(), n);
  }
  for (std::size_t i = 0; i < k; ++i) {
    for (std::size_t l = 0; l < k; ++l) {
      if (l == i) continue;
      const double factor = a[l][i] / a[i][i];
      for (std::size_t j = i; j <= k; ++j) a[l][j] -= factor * a[i][j];
    }
  }
  numbers c(k);
  for (std::size_t i = 0; i < k; ++i) c[i] = a[i][k] / a[i][i];
  return c;
}

code matching(const numbers& w, const numbers& x, const orthogonal_pursuit& s) {
  const std::size_t n = x.size();
  std::vector<std::size_t> taken;
  numbers r = x, c;
  for (std::size_t t = 0; t < s.k; ++t) {
    std::size_t best = 0;
    double most = 0;
    for (std::size_t f = 0; f < w.size() / n; ++f) {
      const double along = std::abs(dot(w.data() + f * n, r.data(), n));
      if (along > most) most = along, best = f;
    }
    if (most == 0) break;
    taken.push_back(best);
    c = least_squares(w, x, taken);
    r = x;
    for (std::size_t i = 0; i < taken.size(); ++i) {
      for (std::size_t j = 0; j < n; ++j) r[j] -= c[i] * w[taken[i] * n + j];
    }
  }
  code z;
  for (std::size_t i = 0; i < taken.size(); ++i) z[taken[i]] = c[i];
  return z;
}

template <class S, class B>
plmscope::sae<S, B> model_of(S s, const numbers& w, std::size_t width) {
  plmscope::sae<S, B> model({.d_model = width,
                             .features = w.size() / width,
                             .sparsifier = s,
                             .centring = input_centring::none});
  model.backend().upload(std::span<const double>(w), model.parameters().decoder.all());
  return model;
}

template <class S, class B>
std::vector<code> codes_of(S s, const numbers& w, const numbers& x, std::size_t width) {
  auto model = model_of<S, B>(s, w, width);
  auto& be = model.backend();
  plmscope::matrix<typename B::real, B> rows_in(be, x.size() / width, width);
  be.upload(std::span<const double>(x), rows_in.all());
  plmscope::codes<B> found;
  model.encode(rows_in.all(), found);
  const auto z = plmscope::to_host(be, found);
  std::vector<code> out(z.rows());
  for (std::size_t r = 0; r < z.rows(); ++r) {
    for (auto e = static_cast<std::size_t>(z.offsets[r]);
         e < static_cast<std::size_t>(z.offsets[r + 1]); ++e) {
      if (e > static_cast<std::size_t>(z.offsets[r])) CHECK(z.ids[e] > z.ids[e - 1]);
      out[r][z.ids[e]] = static_cast<double>(z.values[e]);
    }
  }
  return out;
}

template <class B>
void check_same(const code& got, const code& want) {
  const double limit = sizeof(typename B::real) == 8 ? 1e-11 : 1e-4;
  REQUIRE(got.size() == want.size());
  for (const auto& [f, v] : want) {
    REQUIRE(got.contains(f));
    CHECK(std::abs(got.at(f) - v) < limit);
  }
}

numbers unit_rows(std::size_t n, std::size_t width, std::uint64_t stream) {
  auto w = random_numbers(21, n * width, stream, 1.0);
  for (std::size_t f = 0; f < n; ++f) {
    const double length = std::sqrt(dot(w.data() + f * width, w.data() + f * width, width));
    for (std::size_t j = 0; j < width; ++j) w[f * width + j] /= length;
  }
  return w;
}

template <class B>
void definitions() {
  constexpr std::size_t width = 10, many = 521;  // more than the rows of a tile of bases
  const auto w = unit_rows(30, width, 1);
  const auto x = random_numbers(22, many * width, 2, 1.0);
  const auto each = [&](auto s, std::size_t stride) {
    const auto got = codes_of<decltype(s), B>(s, w, x, width);
    for (std::size_t r = 0; r < many; r += stride) {
      check_same<B>(got[r],
                    matching(w,
                             numbers(x.begin() + static_cast<std::ptrdiff_t>(r * width),
                                     x.begin() + static_cast<std::ptrdiff_t>((r + 1) * width)),
                             s));
    }
  };
  each(matching_pursuit{.k = 1}, 10);
  each(matching_pursuit{.k = 5}, 10);
  each(matching_pursuit{.k = 5, .negatives = true}, 10);
  each(matching_pursuit{.k = 12, .tolerance = 1.5}, 10);
  each(orthogonal_pursuit{.k = 1}, 10);
  each(orthogonal_pursuit{.k = 5}, 10);
}

}  // namespace

TEST_CASE("matching pursuit: gradients of every penalty, plan and model") {
  every_gradient(greedy);
  every_gradient(both_signs);
}
TEST_CASE("orthogonal pursuit: gradients of every penalty, plan and model") {
  every_gradient(orthogonal);
}
TEST_CASE("codes are those of the definition") {
  definitions<reference>();
  definitions<plmscope::basic_cpu<double, plmscope::eigen_gemm>>();
  definitions<plmscope::cpu>();
  definitions<devices::twice>();
  definitions<devices::single>();
}

namespace {

numbers numbers_in(const std::string& line) {
  std::istringstream in(line);
  numbers v;
  for (double x; in >> x;) v.push_back(x);
  return v;
}

template <class B>
void as_scikit_learn() {
  std::ifstream file(PLMSCOPE_SOURCE_DIR "/tests/train/golden/orthogonal_pursuit.tsv");
  REQUIRE(file.good());
  std::string line;
  std::getline(file, line);
  std::getline(file, line);
  const numbers shape = numbers_in(line);
  const auto count = static_cast<std::size_t>(shape[0]), width = static_cast<std::size_t>(shape[1]),
             many = static_cast<std::size_t>(shape[2]), most = static_cast<std::size_t>(shape[3]);
  numbers w, x;
  for (std::size_t r = 0; r < count + many; ++r) {
    std::getline(file, line);
    for (const double v : numbers_in(line)) (r < count ? w : x).push_back(v);
  }
  REQUIRE(x.size() == many * width);
  for (std::size_t k = 1; k <= most; ++k) {
    const auto got = codes_of<orthogonal_pursuit, B>({.k = k}, w, x, width);
    for (std::size_t r = 0; r < many; ++r) {
      REQUIRE(std::getline(file, line));
      const numbers pairs = numbers_in(line);
      code want, ours;
      for (std::size_t i = 0; i < pairs.size(); i += 2) {
        want[static_cast<std::size_t>(pairs[i])] = pairs[i + 1];
      }
      // A row that is used up may still take what rounding leaves.
      for (const auto& [f, v] : got[r]) {
        if (std::abs(v) > (sizeof(typename B::real) == 8 ? 1e-12 : 1e-5)) ours[f] = v;
      }
      check_same<B>(ours, want);
    }
  }
}

}  // namespace

TEST_CASE("orthogonal pursuit has the codes of scikit-learn") {
  as_scikit_learn<reference>();
  as_scikit_learn<plmscope::basic_cpu<double, plmscope::eigen_gemm>>();
  as_scikit_learn<plmscope::cpu>();
  as_scikit_learn<devices::twice>();
}

TEST_CASE("awkward rows and dictionaries") {
  constexpr std::size_t width = 4;
  numbers w = unit_rows(6, width, 3);
  for (std::size_t j = 0; j < width; ++j) w[1 * width + j] = w[0 * width + j], w[5 * width + j] = 0;
  numbers x(5 * width, 0.0);
  for (std::size_t j = 0; j < width; ++j) {
    x[1 * width + j] = std::numeric_limits<double>::quiet_NaN();
    x[2 * width + j] = 3 * w[j];
    x[3 * width + j] = -2 * w[2 * width + j];
    x[4 * width + j] = 1 + static_cast<double>(j);
  }
  const auto each = [&](auto s) {
    using S = decltype(s);
    const auto z = codes_of<S, reference>(s, w, x, width);
    CHECK(z[0].empty());  // nothing to find in a row of zeros
    CHECK(z[1].empty());
    REQUIRE(z[2].contains(0));  // of two equal latents the first
    CHECK(z[2].at(0) == doctest::Approx(3));
    for (const auto& row : z) {
      CHECK_FALSE(row.contains(5));
      for (const auto& [f, v] : row) CHECK(std::isfinite(v));
    }
    CHECK(codes_of<S, reference>(s, w, {}, width).empty());
    return z;
  };
  each(matching_pursuit{.k = 4});
  CHECK(each(matching_pursuit{.k = 4, .negatives = true})[3].at(2) == doctest::Approx(-2));
  const auto z = each(orthogonal_pursuit{.k = 4});
  CHECK(z[3].at(2) == doctest::Approx(-2));
  CHECK_FALSE((z[4].contains(0) && z[4].contains(1)));
  for (std::size_t j = 0; j < width; ++j) {  // a whole basis leaves nothing
    double sum = 0;
    for (const auto& [f, v] : z[4]) sum += v * w[f * width + j];
    CHECK(sum == doctest::Approx(x[4 * width + j]));
  }
}

TEST_CASE("an SAE that a pursuit cannot encode for is refused with sae.101") {
  const auto made = [](auto s, auto change) {
    typename plmscope::sae<decltype(s)>::options o;
    o.d_model = d, o.features = features, o.sparsifier = s;
    change(o);
    try {
      plmscope::sae<decltype(s)> model(o);
    } catch (const plmscope::error& e) {
      return std::string(e.id());
    }
    return std::string("nothing");
  };
  const auto nothing = [](auto&) {};
  const auto transcodes = [](auto& o) { o.transcodes = true; };
  const auto ranks = [](auto& o) { o.lengths = row_lengths::rank; };
  CHECK(made(greedy, nothing) == "nothing");
  CHECK(made(greedy, transcodes) == "sae.101");
  CHECK(made(greedy, ranks) == "sae.101");
  CHECK(made(matching_pursuit{.k = 0}, nothing) == "sae.101");
  CHECK(made(matching_pursuit{.k = std::size_t(-1)}, nothing) == "sae.101");
  CHECK(made(orthogonal, nothing) == "nothing");
  CHECK(made(orthogonal, transcodes) == "sae.101");
  CHECK(made(orthogonal_pursuit{.k = 0}, nothing) == "sae.101");
  CHECK(made(orthogonal_pursuit{.k = d + 1}, nothing) == "sae.101");
}

TEST_CASE("the encoder is a copy of the decoder after every step") {
  bench_run<matching_pursuit, plmscope::cpu, decltype(plain)> b(
      {.d_model = d, .features = features, .sparsifier = greedy}, plain);
  plmscope::training_run run(b.model, b.policies);
  run.step(b.x.all(), 1e-2);
  const auto& p = b.model.parameters();
  for (std::size_t i = 0; i < p.decoder.size(); ++i)
    CHECK(p.encoder.data()[i] == p.decoder.data()[i]);
}
