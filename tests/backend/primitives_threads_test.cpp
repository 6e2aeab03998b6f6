// SPDX-License-Identifier: MIT
// Every primitive but the dense products (primitives_products_test.cpp) and the transformer's: the
// same bits for 1, 2, 3 and 7 threads, on sizes of many tiles.
#include <tests/backend/compare.hpp>

#include <plmscope/tensor/codes.hpp>
#include <plmscope/tensor/codes_by_feature.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace compare;
using plmscope::codes;
using plmscope::codes_by_feature;
using byte_string = std::vector<unsigned char>;

constexpr std::size_t m = 1003;
constexpr std::size_t d = 331;
constexpr std::size_t features = 2053;

template <class B, class T = typename B::real>
matrix<T, B> filled(B& be, std::size_t rows, std::size_t cols, std::uint64_t stream) {
  matrix<T, B> x(be, rows, cols);
  for (std::size_t i = 0; i < x.size(); ++i) x.data()[i] = static_cast<T>(number(stream, i));
  return x;
}

void append(byte_string& to, const byte_string& more) {
  to.insert(to.end(), more.begin(), more.end());
}

template <class T>
byte_string bytes_of(const T* p, std::size_t n) {
  byte_string out(n * sizeof(T));
  if (n > 0) std::memcpy(out.data(), p, out.size());
  return out;
}

template <class B>
byte_string bytes_of(const codes<B>& z) {
  byte_string out = bytes_of(z.offsets(), z.rows() + 1);
  append(out, bytes_of(z.ids(), z.entries()));
  append(out, bytes_of(z.values(), z.entries()));
  return out;
}

struct steady_loss {
  template <class Real>
  Real value(std::size_t, Real squares) const {
    return squares / 3;
  }
  template <class Real>
  Real slope(std::size_t, Real squares) const {
    return Real{1} / (1 + squares);
  }
};

// Name and result of each primitive on backend `be`.
template <class B>
std::vector<std::pair<std::string, byte_string>> everything(B& be) {
  using real = typename B::real;
  using cmat = const_view<B>;
  const auto x = filled(be, m, d, 1);
  const auto y = filled(be, m, d, 2);
  const auto row = filled(be, 1, d, 3);
  const auto column = filled(be, 1, m, 4);
  const auto flat = filled(be, 1, 100003, 5);
  const auto pre = filled(be, m, features, 6);
  const auto dictionary = filled(be, features, d, 7);
  std::vector<std::pair<std::string, byte_string>> all;
  const auto result = [&](const char* name, const auto& out) {
    all.emplace_back(name, bytes(out));
  };
  // f changes a copy of x.
  const auto in_place = [&](const char* name, const std::function<void(matrix<real, B>&)>& f) {
    matrix<real, B> copy = filled(be, m, d, 1);
    f(copy);
    result(name, copy.all());
  };
  const auto into = [&](const char* name, std::size_t rows, std::size_t cols,
                        const std::function<void(matrix<real, B>&)>& f) {
    matrix<real, B> out = filled(be, rows, cols, 9);
    f(out);
    result(name, out.all());
  };

  in_place("fill", [&](auto& c) { be.fill(c.all(), real{3}); });
  into("copy", m, d, [&](auto& o) { be.copy(cmat(x), o.all()); });
  into("copy of a vector", 1, flat.cols(), [&](auto& o) { be.copy(cmat(flat), o.all()); });
  into("upload", m, d, [&](auto& o) {
    be.upload(std::span<const real>(x.data(), x.size()), o.all());
  });
  std::vector<double> host(x.size());
  be.download(cmat(x), std::span<double>(host));
  all.emplace_back("download", bytes_of(host.data(), host.size()));
  in_place("add_row", [&](auto& c) { be.add_row(c, row, real(0.3)); });
  in_place("scale_columns", [&](auto& c) { be.scale_columns(c, row); });
  in_place("axpy", [&](auto& c) { be.axpy(real(0.3), y, c); });
  in_place("scale", [&](auto& c) { be.scale(c, real(0.3)); });
  in_place("normalize_rows", [&](auto& c) { be.normalize_rows(c, real(1e-6)); });
  in_place("project_rows", [&](auto& c) { be.project_rows(c, y, real(1e-6)); });
  in_place("affine_rows", [&](auto& c) { be.affine_rows(c, column, column, c); });
  in_place("reciprocal", [&](auto& c) { be.reciprocal(real(0.3), c, c); });
  in_place("sign_step", [&](auto& c) { be.sign_step(c, y, real(0.3)); });
  into("column_sums", 1, d, [&](auto& o) { be.column_sums(x, o); });
  into("column_dots", 1, d, [&](auto& o) { be.column_dots(x, y, o); });
  into("row_norms", 1, m, [&](auto& o) { be.row_norms(x, o); });
  into("row_dots", 1, m, [&](auto& o) { be.row_dots(x, y, o); });
  into("row_moments", 2, m, [&](auto& o) {
    be.row_moments(x, o.all().row_range(0, 1), o.all().row_range(1, 1), 1, real(1e-5));
  });
  into("weighted_row_sum", 1, d, [&](auto& o) { be.weighted_row_sum(x, column, o, real(0.3)); });
  matrix<double, B> slots(be, 1, 4);
  be.add_sum(x, slots.all().col_range(0, 1));
  be.add_sum(flat, slots.all().col_range(1, 1));
  be.add_sum_squares(x, slots.all().col_range(2, 1));
  be.add_sum_squares(flat, slots.all().col_range(3, 1));
  result("add_sum, add_sum_squares", slots.all());

  std::vector<std::uint32_t> ids;
  for (std::size_t i = 0; i < m; ++i) ids.push_back(static_cast<std::uint32_t>((i * 409) % m));
  const const_view<B, std::uint32_t> some(ids.data(), ids.size());
  into("gather_rows", m, d, [&](auto& o) { be.gather_rows(x, some, o); });
  into("scatter_add_rows", m, d, [&](auto& o) { be.scatter_add_rows(x, some, o); });

  codes<B> z(be, features);
  be.top_k_rows(cmat(pre), 13, plmscope::by_value{}, z);
  all.emplace_back("top_k_rows", bytes_of(z));
  codes<B> magnitudes(be, features);
  be.top_k_rows(cmat(pre), 400, plmscope::by_magnitude{}, magnitudes);
  all.emplace_back("top_k_rows by magnitude", bytes_of(magnitudes));

  into("decode", m, d, [&](auto& o) { be.decode(z, dictionary, row, o); });
  matrix<real, B> g(be, m, d), dz(be, 1, z.entries()), stats(be, 3, m);
  be.reconstruct(z, dictionary, row, y, steady_loss{}, g, dz, stats);
  result("reconstruct: gradient", g.all());
  result("reconstruct: dz", dz.all());
  result("reconstruct: rows", stats.all());
  into("sampled_dot", 1, z.entries(), [&](auto& o) { be.sampled_dot(z, g, dictionary, o); });
  codes_by_feature<B> t;
  be.transpose(z, t);
  byte_string sorted = bytes_of(t.offsets(), features + 1);
  append(sorted, bytes_of(t.rows(), z.entries()));
  append(sorted, bytes_of(t.entries(), z.entries()));
  all.emplace_back("transpose", sorted);
  matrix<real, B> d_decoder(be, features, d), d_encoder(be, features, d), d_bias(be, 1, features);
  be.sparse_backward(t, cmat(z.values(), 1, z.entries()), dz, g, x, d_decoder, d_encoder, d_bias);
  result("sparse_backward: decoder", d_decoder.all());
  result("sparse_backward: encoder", d_encoder.all());
  result("sparse_backward: bias", d_bias.all());

  matrix<real, B> p = filled(be, features, d, 10), first(be, features, d), second(be, features, d);
  const plmscope::adam_step<real> step{real(0.01), real(0.9),  real(0.999), real(1e-8),
                                       real(0.1),  real(0.001), real(0.001)};
  for (int i = 0; i < 3; ++i) be.adam(p, d_decoder, first, second, step);
  result("adam", p.all());
  result("adam: second moments", second.all());

  matrix<std::int64_t, B> since(be, 1, features);
  be.count_fired(z, since.all(), 17, real{0});
  result("count_fired", since.all());
  matrix<std::uint32_t, B> found(be, 1, features);
  const std::size_t n = be.ids_where(const_view<B, std::int64_t>(since), 1, found.all());
  all.emplace_back("ids_where", bytes_of(found.data(), n));
  return all;
}

TEST_CASE("the same bits for 1, 2, 3 and 7 threads") {
  for_each_backend([]<class B>(B) {
    B one(1);
    REQUIRE(one.threads() == 1);
    const auto want = everything(one);
    for (const std::size_t threads : sizes{2, 3, 7}) {
      B several(threads);
      REQUIRE(several.threads() == threads);
      const auto got = everything(several);
      REQUIRE(got.size() == want.size());
      for (std::size_t i = 0; i < got.size(); ++i) {
        INFO(threads, " threads, ", want[i].first);
        CHECK_FALSE(want[i].second.empty());
        CHECK(got[i].second == want[i].second);
      }
    }
  });
}

TEST_CASE("copies of a backend share their threads") {
  const single a(3);
  single b = a;
  CHECK(b.threads() == 3);
  CHECK(&b.pool() == &single(b).pool());
}

// The rows of a batch stand alone: a part of a batch has the bits it has in the whole.
TEST_CASE("a row's result does not depend on the other rows of the batch") {
  for_each_backend([]<class B>(B be) {
    using real = typename B::real;
    const auto x = filled(be, m, d, 1);
    const auto pre = filled(be, m, features, 6);
    const auto dictionary = filled(be, features, d, 7);
    const auto row = filled(be, 1, d, 3);
    matrix<real, B> norms(be, 1, m), decoded(be, m, d), unit = filled(be, m, d, 1);
    codes<B> z(be, features);
    be.row_norms(x, norms);
    be.normalize_rows(unit, real{0});
    be.top_k_rows(const_view<B>(pre), 13, plmscope::by_value{}, z);
    be.decode(z, dictionary, row, decoded);
    for (const std::size_t count : sizes{1, 2, 15, 16, 17, 64, 500}) {
      const std::size_t first = 3 * count % 101;
      const auto part = const_view<B>(x).row_range(first, count);
      matrix<real, B> some_norms(be, 1, count), some(be, count, d), some_unit(be, count, d);
      be.row_norms(part, some_norms);
      be.copy(part, some_unit.all());
      be.normalize_rows(some_unit, real{0});
      codes<B> some_z(be, features);
      be.top_k_rows(const_view<B>(pre).row_range(first, count), 13, plmscope::by_value{}, some_z);
      be.decode(some_z, dictionary, row, some);
      CHECK(bytes(some_norms.all()) == bytes(norms.all().col_range(first, count)));
      CHECK(bytes(some_unit.all()) == bytes(unit.all().row_range(first, count)));
      CHECK(bytes(some.all()) == bytes(decoded.all().row_range(first, count)));
      CHECK(bytes_of(some_z.ids(), some_z.entries()) ==
            bytes_of(z.ids() + z.offsets()[first], some_z.entries()));
    }
  });
}

}  // namespace
