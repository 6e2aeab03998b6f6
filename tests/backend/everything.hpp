// SPDX-License-Identifier: MIT
#pragma once

#include <tests/backend/compare.hpp>

#include <plmscope/tensor/codes.hpp>
#include <plmscope/tensor/codes_by_feature.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

// The results of all primitives as bytes, for tests of what must not change a bit.
namespace compare {

using plmscope::codes;
using plmscope::codes_by_feature;
using byte_string = std::vector<unsigned char>;

template <class B>
matrix<typename B::real, B> filled(B& be, std::size_t rows, std::size_t cols,
                                   std::uint64_t stream) {
  return matrix_of<typename B::real>(be, rows, cols,
                                     [&](std::size_t i) { return number(stream, i); });
}

template <class T>
byte_string bytes_of(const std::vector<T>& x) {
  byte_string out(x.size() * sizeof(T));
  if (!x.empty()) std::memcpy(out.data(), x.data(), out.size());
  return out;
}
template <class... T>
byte_string joined(const std::vector<T>&... parts) {
  byte_string out;
  const auto append = [&](const byte_string& more) {
    out.insert(out.end(), more.begin(), more.end());
  };
  (append(bytes_of(parts)), ...);
  return out;
}

struct steady_loss {
  template <class Real>
  PLMSCOPE_HD Real value(std::size_t, Real squares) const {
    return squares / 3;
  }
  template <class Real>
  PLMSCOPE_HD Real slope(std::size_t, Real squares) const {
    return Real{1} / (1 + squares);
  }
};

struct everything_sizes {
  std::size_t rows, width, features;
};

/// Name and result of each primitive but the dense products.
template <class B>
std::vector<std::pair<std::string, byte_string>> everything(B& be, const everything_sizes& s) {
  const std::size_t m = s.rows;
  const std::size_t d = s.width;
  const std::size_t features = s.features;
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
    all.emplace_back(name, bytes(be, out));
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
  std::vector<double> host(x.size());
  be.download(cmat(x), std::span<double>(host));
  all.emplace_back("download", bytes_of(host));
  into("upload", m, d, [&](auto& o) { be.upload(std::span<const double>(host), o.all()); });
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
  const auto some = vector_of(be, ids);
  into("gather_rows", m, d, [&](auto& o) { be.gather_rows(x, some, o); });
  into("scatter_rows", m, d, [&](auto& o) { be.scatter_rows(x, some, o); });
  into("scatter_add_rows", m, d, [&](auto& o) { be.scatter_add_rows(x, some, o); });

  const auto selection = [&](const char* name, const codes<B>& z) {
    const auto h = to_host(be, z);
    all.emplace_back(name, joined(h.offsets, h.ids, h.values));
  };
  codes<B> z(be, features);
  be.top_k_rows(cmat(pre), 13, plmscope::by_value{}, z);
  selection("top_k_rows", z);
  codes<B> magnitudes(be, features);
  be.top_k_rows(cmat(pre), 400, plmscope::by_magnitude{}, magnitudes);
  selection("top_k_rows by magnitude", magnitudes);

  matrix<real, B> least = filled(be, 1, 1, 12);
  codes<B> batch(be, features);
  be.batch_top_n(cmat(pre).row_range(0, m / 3), 11 * m, plmscope::by_value{}, batch, least.all());
  be.batch_top_n(cmat(pre).row_range(m / 3, m - m / 3), 11 * m, plmscope::by_value{}, batch,
                 least.all());
  selection("batch_top_n", batch);
  result("batch_top_n: the last key", least.all());
  const auto bounds = filled(be, 1, features, 13);
  codes<B> above(be, features);
  be.keep_above(cmat(pre), cmat(least), plmscope::by_magnitude{}, above);
  be.keep_above(cmat(pre), cmat(bounds), plmscope::by_value{}, above);
  selection("keep_above", above);

  into("decode", m, d, [&](auto& o) { be.decode(z, dictionary, row, o); });
  into("decode of many", m, d, [&](auto& o) { be.decode(magnitudes, dictionary, row, o); });
  matrix<real, B> g(be, m, d), dz(be, 1, z.entries()), stats(be, 3, m);
  be.reconstruct(z, dictionary, row, y, steady_loss{}, g, dz, stats);
  result("reconstruct: gradient", g.all());
  result("reconstruct: dz", dz.all());
  result("reconstruct: rows", stats.all());
  into("sampled_dot", 1, z.entries(), [&](auto& o) { be.sampled_dot(z, g, dictionary, o); });
  codes_by_feature<B> t;
  be.transpose(z, t);
  const std::size_t used = to_host(be, z).ids.size();
  all.emplace_back("transpose",
                   joined(to_host(be, const_view<B, std::int64_t>(t.offsets(), features + 1)),
                          to_host(be, const_view<B, std::uint32_t>(t.rows(), used)),
                          to_host(be, const_view<B, std::uint32_t>(t.entries(), used))));
  matrix<real, B> d_decoder(be, features, d), d_encoder(be, features, d), d_bias(be, 1, features);
  be.sparse_backward(t, cmat(z.values(), 1, z.entries()), dz, g, x, d_decoder, d_encoder, d_bias);
  result("sparse_backward: decoder", d_decoder.all());
  result("sparse_backward: encoder", d_encoder.all());
  result("sparse_backward: bias", d_bias.all());

  matrix<real, B> p = filled(be, features, d, 10), first(be, features, d), second(be, features, d);
  const plmscope::adam_step<real> step{real(0.01), real(0.9),   real(0.999), real(1e-8),
                                       real(0.1),  real(0.001), real(0.001)};
  for (int i = 0; i < 3; ++i) be.adam(p, d_decoder, first, second, step);
  result("adam", p.all());
  result("adam: second moments", second.all());
  be.adam_unit_rows(p, d_decoder, first, second, step, {});
  result("adam_unit_rows", p.all());
  matrix<double, B> left(be, 1, 1);
  be.add_projected_squares(cmat(d_decoder), cmat(p), real(1e-6), left.all());
  result("add_projected_squares", left.all());

  matrix<std::int64_t, B> since(be, 1, features);
  be.count_fired(z, since.all(), 17, real{0});
  result("count_fired", since.all());
  matrix<std::uint32_t, B> found(be, 1, features);
  const std::size_t n = be.ids_where(const_view<B, std::int64_t>(since), 1, found.all());
  all.emplace_back("ids_where", bytes(be, found.all().col_range(0, n)));

  std::vector<std::int32_t> tokens;
  for (std::size_t i = 0; i < m; ++i) tokens.push_back(static_cast<std::int32_t>(i * 7 % m));
  const auto places = vector_of(be, tokens);
  const auto third = static_cast<std::int64_t>(m / 3);
  const auto offsets =
      vector_of(be, std::vector<std::int64_t>{0, third, third, static_cast<std::int64_t>(m)});
  constexpr std::size_t head_dim = 16;
  const std::size_t wide = d / head_dim * head_dim;
  const auto heads = [&](const auto& v) { return v.all().col_range(0, wide); };
  const auto angles = filled(be, m, head_dim / 2, 11);
  into("embed", m, d, [&](auto& o) { be.embed(x, some, column, o); });
  in_place("layer_norm", [&](auto& c) { be.layer_norm(c, row, row, real(1e-5), c); });
  in_place("gelu", [&](auto& c) { be.gelu(c); });
  matrix<real, B> q = filled(be, m, d, 1), k = filled(be, m, d, 2);
  be.rotary(q.all().col_range(0, wide), k.all().col_range(0, wide), head_dim, places, angles,
            angles, real(0.25));
  result("rotary: q", q);
  result("rotary: k", k);
  into("attention", m, wide, [&](auto& o) {
    be.attention(heads(x), heads(y), heads(k), head_dim, offsets, m - m / 3, o);
  });
  in_place("softmax_rows", [&](auto& c) { be.softmax_rows(c); });
  in_place("softmax_backward", [&](auto& c) { be.softmax_backward(y, c); });
  in_place("gelu_backward", [&](auto& c) { be.gelu_backward(y, c); });
  into("layer_norm_backward", m, d,
       [&](auto& o) { be.layer_norm_backward(x, row, y, real(1e-5), o); });
  return all;
}

}  // namespace compare
