// SPDX-License-Identifier: MIT
#pragma once

#include <tests/devices.hpp>

#include <plmscope/backend/cpu.hpp>
#include <plmscope/backend/reference.hpp>
#include <plmscope/tensor/codes.hpp>
#include <plmscope/tensor/host_codes.hpp>
#include <plmscope/tensor/matrix.hpp>
#if defined(PLMSCOPE_TEST_HAS_ONEDNN)
#include <plmscope/backend/cpu/gemm_onednn.hpp>
#endif
#if defined(PLMSCOPE_TEST_HAS_OPENBLAS)
#include <plmscope/backend/cpu/gemm_openblas.hpp>
#endif

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

// A backend held against the reference: twins of matrices with the same numbers on both sides, and
// rounding bounds (Higham, "Accuracy and stability of numerical algorithms", 2002, section 3.1).
// Memory of a backend may be out of the host's reach: it is written by upload and read by download.
namespace compare {

using plmscope::codes;
using plmscope::const_view;
using plmscope::host_codes;
using plmscope::matrix;
using plmscope::reference;
using plmscope::view;
using sizes = std::vector<std::size_t>;
using single = plmscope::cpu;
using twice = plmscope::basic_cpu<double, plmscope::eigen_gemm>;

template <class F, class B>
void on_backend(const F& f, B be, const char* name) {
  INFO("backend ", std::string(name));
  f(be);
}

/// Calls f(backend) for every backend of the processor, whose number of threads can be chosen. Not
/// by nvcc: the other compilers test them, and nvcc compiles slowly.
template <class F>
void for_each_cpu([[maybe_unused]] const F& f, [[maybe_unused]] std::size_t threads = 2) {
#if !defined(__CUDACC__)
  on_backend(f, single(threads), "cpu");
  on_backend(f, twice(threads), "cpu in double");
#endif
#if defined(PLMSCOPE_TEST_HAS_ONEDNN)
  on_backend(f, plmscope::basic_cpu<float, plmscope::onednn_gemm>(threads), "oneDNN");
#endif
}

/// For every device.
template <class F>
void for_each_device([[maybe_unused]] const F& f) {
#if !defined(PLMSCOPE_TEST_NO_DEVICES)  // kernels of devices do not change with the processor
  on_backend(f, devices::single(), devices::name);
  on_backend(f, devices::twice(), (std::string(devices::name) + " in double").c_str());
#endif
}

/// For every backend under test.
template <class F>
void for_each_backend(const F& f) {
  for_each_cpu(f);
  for_each_device(f);
}

/// As for_each_cpu, with every provider of products.
template <class F>
void for_each_cpu_provider(const F& f) {
  for_each_cpu(f);
#if defined(PLMSCOPE_TEST_HAS_OPENBLAS)
  on_backend(f, plmscope::basic_cpu<float, plmscope::openblas_gemm>(2), "OpenBLAS");
  on_backend(f, plmscope::basic_cpu<double, plmscope::openblas_gemm>(2), "OpenBLAS in double");
#endif
}

template <class F>
void for_each_provider(const F& f) {
  for_each_cpu_provider(f);
  for_each_device(f);
}

/// On an emulated device a block takes microseconds each time its threads wait, and products are
/// plain loops: there a test takes `few` of something where it takes `full` of it elsewhere. What
/// `few` must keep: several blocks of every kernel, several tiles of every sum.
template <class B>
constexpr std::size_t many(std::size_t full, std::size_t few) {
  return B::id == "emulated" ? std::min(full, few) : full;
}

/// Whether a row of a product keeps its bits among other rows. OpenBLAS's kernels for AVX2 treat
/// rows differently by their place in the call, so that nobody can promise it there.
template <class B>
constexpr bool rows_stand_alone() {
  return B::gemm_name() != "openblas";
}

/// n unit roundoffs, compounded: n u / (1 - n u).
template <class Real>
double gamma(std::size_t n) {
  const double nu =
      static_cast<double>(n) * static_cast<double>(std::numeric_limits<Real>::epsilon()) / 2;
  return nu / (1 - nu);
}

/// Largest difference between two computations of something made of sums whose terms have absolute
/// values that add up to `magnitude`, with at most n roundings on the way from any term to the
/// result, one in `Real`, one in double; every rounding may also underflow.
template <class Real>
double bound(std::size_t n, double magnitude) {
  return (gamma<Real>(n) + gamma<double>(n)) * magnitude +
         static_cast<double>(n) * static_cast<double>(std::numeric_limits<Real>::denorm_min());
}

/// Numbers that cost little: entry i of a stream, in [-1, 1].
inline double number(std::uint64_t stream, std::uint64_t i) {
  std::uint64_t z = (stream + 1) * 0x9E3779B97F4A7C15u + i * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return static_cast<double>(static_cast<std::int64_t>(z ^ (z >> 31))) * 0x1p-63;
}

enum class numbers {
  plain,      ///< in [-1, 1]
  equal,      ///< every entry of a row the same
  spread,     ///< magnitudes from 1e-12 to 1e6
  special     ///< plain with NaN, infinities, -0, zeros, denormals here and there
};
inline const std::vector<numbers> all_numbers{numbers::plain, numbers::equal, numbers::spread,
                                              numbers::special};

template <class Real>
Real make_number(numbers kind, std::uint64_t stream, std::size_t row, std::size_t col,
                 std::size_t cols) {
  const std::uint64_t i = row * cols + col;
  const double v = number(stream, kind == numbers::equal ? row : i);
  if (kind == numbers::spread) {
    return static_cast<Real>(v * std::pow(10.0, 9 * number(stream + 999, i) - 3));
  }
  if (kind == numbers::special && number(stream + 77, i) > 0.8) {
    constexpr Real tiny = std::numeric_limits<Real>::denorm_min();
    constexpr Real infinity = std::numeric_limits<Real>::infinity();
    const Real choice[] = {std::numeric_limits<Real>::quiet_NaN(), infinity, -infinity, Real{0},
                           Real{-0.0}, tiny, -7 * tiny, std::numeric_limits<Real>::min() / 2};
    return choice[static_cast<std::size_t>(std::abs(v) * 7.999)];
  }
  return static_cast<Real>(v);
}

/// Shapes at the edges of tiles, vectors and pieces.
inline const std::vector<std::pair<std::size_t, std::size_t>> shapes{
    {0, 0},   {0, 5},    {5, 0},     {1, 1},     {1, 63},   {1, 64},    {1, 65},  {1, 257},
    {1, 16385}, {2, 1031}, {63, 1},  {64, 64},   {65, 63},  {63, 65},   {257, 31}, {31, 257},
    {130, 320}, {4099, 3}, {8200, 1}, {7, 9001}};

/// The entries of a view on the host, row by row.
template <class B, class T>
std::vector<std::remove_const_t<T>> to_host(B& be, view<B, T> x) {
  std::vector<std::remove_const_t<T>> out(x.size());
  be.download(x, std::span<std::remove_const_t<T>>(out));
  return out;
}
template <class B, class T>
std::vector<T> to_host(B& be, const matrix<T, B>& x) {
  return to_host(be, x.all());
}

/// The bytes of a view or a matrix, row by row.
template <class B, class V>
std::vector<unsigned char> bytes(B& be, const V& x) {
  const auto host = to_host(be, x);
  std::vector<unsigned char> out(host.size() * sizeof(*host.data()));
  if (!out.empty()) std::memcpy(out.data(), host.data(), out.size());
  return out;
}

/// A matrix whose entry i, row by row, is f(i).
template <class T, class B, class F>
matrix<T, B> matrix_of(B& be, std::size_t rows, std::size_t cols, const F& f) {
  std::vector<T> host(rows * cols);
  for (std::size_t i = 0; i < host.size(); ++i) host[i] = static_cast<T>(f(i));
  matrix<T, B> out(be, rows, cols);
  be.upload(std::span<const T>(host), out.all());
  return out;
}
template <class B, class T>
matrix<T, B> vector_of(B& be, const std::vector<T>& from) {
  return matrix_of<T>(be, 1, from.size(), [&](std::size_t i) { return from[i]; });
}

template <class Real>
bool same_codes(const host_codes<Real>& a, const host_codes<Real>& b) {
  return a.offsets == b.offsets && a.ids == b.ids && a.values == b.values;
}

/// Writes codes that have no rows yet. On a device entries() is then larger than their number, and
/// what stands in the rest shows where it is taken for entries.
template <class B, class Real>
void set_codes(B& be, codes<B>& z, const host_codes<Real>& from) {
    std::vector<std::uint32_t> ids = from.ids;
  std::vector<Real> values = from.values;
  if (!B::on_host) {
    ids.resize(ids.size() + 5, 0);
    values.resize(ids.size(), std::numeric_limits<Real>::infinity());
  }
  z.reserve_more(be, from.rows(), ids.size());
  be.upload(std::span<const std::int64_t>(from.offsets),
            view<B, std::int64_t>(z.offsets(), from.rows() + 1));
  be.upload(std::span<const std::uint32_t>(ids), view<B, std::uint32_t>(z.ids(), ids.size()));
  be.upload(std::span<const Real>(values), view<B>(z.values(), ids.size()));
  z.append(from.rows(), ids.size());
}

/// A view in the middle of a larger matrix whose other entries must stay as they are.
template <class B, class T = typename B::real>
class framed {
 public:
  framed(B& be, std::size_t rows, std::size_t cols, bool strided)
      : be_(be),
        rows_(rows),
        cols_(cols),
        frame_(strided ? 1 : 0),
        all_(matrix_of<T>(be, rows + 2 * frame_, cols + 8 * frame_,
                          [](std::size_t) { return sentinel; })) {}

  view<B, T> inner() { return all_.all().row_range(frame_, rows_).col_range(3 * frame_, cols_); }
  void set(const std::vector<T>& numbers) { be_.upload(std::span<const T>(numbers), inner()); }
  std::vector<T> numbers() { return to_host(be_, inner()); }

  bool intact() {
    const std::vector<T> host = to_host(be_, all_);
    for (std::size_t i = 0; i < host.size(); ++i) {
      const bool inside =
          i / all_.cols() - frame_ < rows_ && i % all_.cols() - 3 * frame_ < cols_;
      if (!inside && host[i] != sentinel) return false;
    }
    return true;
  }

 private:
  static constexpr T sentinel = T{77};
  B be_;
  std::size_t rows_;
  std::size_t cols_;
  std::size_t frame_;
  matrix<T, B> all_;
};

/// The same numbers in the memory of a backend and of the reference.
template <class B>
class twin {
 public:
  using real = typename B::real;

  twin(B& be, reference& naive, std::size_t rows, std::size_t cols, bool strided = false)
      : fast_(be, rows, cols, strided), exact_(naive, rows, cols) {
    set([](std::size_t, std::size_t) { return real{0}; });
  }
  twin(B& be, reference& naive, std::size_t rows, std::size_t cols, bool strided, numbers kind,
       std::uint64_t stream)
      : fast_(be, rows, cols, strided), exact_(naive, rows, cols) {
    set([&](std::size_t r, std::size_t c) {
      return make_number<real>(kind, stream, r, c, cols);
    });
  }
  template <class F>
  void set(const F& f) {
    std::vector<real> host(exact_.size());
    for (std::size_t i = 0; i < host.size(); ++i) {
      host[i] = f(i / exact_.cols(), i % exact_.cols());
      exact_.data()[i] = static_cast<double>(host[i]);
    }
    fast_.set(host);
  }

  view<B> fast() { return fast_.inner(); }
  matrix<double, reference>& exact() { return exact_; }
  double operator()(std::size_t r, std::size_t c) const { return exact_(r, c); }
  std::vector<real> numbers() { return fast_.numbers(); }
  /// f(entry) is what `check` expects.
  template <class F>
  void set_exact(const F& f) {
    for (std::size_t i = 0; i < exact_.size(); ++i) exact_.data()[i] = f(i);
  }

  /// Each entry within limit(r, c) of the reference; NaN and infinities in the same places; nothing
  /// written beside the matrix. Where the reference lies outside of the type's range, infinity is
  /// the right answer.
  template <class Limit>
  void check(const Limit& limit) {
    const std::vector<real> host = fast_.numbers();
    std::size_t wrong = 0;
    std::string first;
    for (std::size_t i = 0; i < host.size(); ++i) {
      const std::size_t r = i / exact_.cols();
      const std::size_t c = i % exact_.cols();
      const real got = host[i];
      const double want = exact_(r, c);
      const bool good =
          std::isnan(want) ? std::isnan(got)
                           : got == static_cast<real>(want) ||
                                 (!std::isinf(want) &&
                                  std::abs(static_cast<double>(got) - want) <= limit(r, c));
      if (!good && wrong++ == 0) {
        char text[160];
        std::snprintf(text, sizeof text, "entry (%zu, %zu) is %.9g, reference %.9g, limit %.3g", r,
                      c, static_cast<double>(got), want, limit(r, c));
        first = text;
      }
    }
    INFO(first);
    CHECK(wrong == 0);
    CHECK(fast_.intact());
  }
  void check_exact() {
    check([](std::size_t, std::size_t) { return 0.0; });
  }

 private:
  framed<B> fast_;
  matrix<double, reference> exact_;
};

/// f(rows, cols, strided, kind) over all shapes and kinds of numbers.
template <class B, class F>
void over_shapes(const F& f) {
  for (const auto& [all_rows, cols] : shapes) {
    const std::size_t rows = many<B>(all_rows, cols == 1 ? 1031 : 350);
    for (const numbers kind : all_numbers) {
      for (const bool strided : {false, true}) {
        INFO("shape ", rows, " x ", cols, ", numbers ", static_cast<int>(kind), ", strided ",
             strided);
        f(rows, cols, strided, kind);
      }
    }
  }
}

}  // namespace compare
