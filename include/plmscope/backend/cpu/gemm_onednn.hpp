// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/cpu/aligned_buffer.hpp>
#include <plmscope/core/thread_pool.hpp>

#include <dnnl.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string_view>
#include <type_traits>
#include <utility>

// From the OpenMP runtime that oneDNN is linked with.
extern "C" {
int omp_get_max_threads(void);
void omp_set_num_threads(int);
}

namespace plmscope::inline PLMSCOPE_ABI {

/// Products by oneDNN (2.x), one library thread per call: plmscope's own pool supplies the threads.
/// Single precision. Measured on Zen 4/5: 90 % of the processor's peak, and the bits of a row do
/// not depend on the number of rows (a test checks it).
class onednn_gemm {
  using dim_type = dnnl::memory::dim;
  // m, n, k, lda, ldb, ldc, transpose a, transpose b, accumulate, weights (0 given by strides,
  // 1 in the layout the kernel prefers, 2 in the layout preferred at 256 rows)
  using key = std::array<dim_type, 10>;

 public:
  static constexpr std::string_view name() noexcept { return "onednn"; }
  /// A row of a product has the same bits wherever it stands among a multiple of 64 rows.
  static constexpr bool rows_independent = true;

  template <class Real>
  static void product(bool transpose_a, bool transpose_b, std::size_t m, std::size_t n,
                      std::size_t k, const Real* a, std::size_t lda, const Real* b, std::size_t ldb,
                      Real beta, Real* c, std::size_t ldc) {
    static_assert(std::is_same_v<Real, float>, "onednn_gemm computes in float only");
    if (m == 0 || n == 0) return;
    if (k == 0) return clear(m, n, beta, c, ldc);
    const one_library_thread guard;
    const key shape{dim(m),   dim(n),           dim(k),           dim(lda),          dim(ldb),
                    dim(ldc), dim(transpose_a), dim(transpose_b), beta == 0 ? 0 : 1, 0};
    const prepared& p = find(shape);
    run(p, a, b, beta, c);
  }

  /// Weights [n, k] of y = x w^T in the blocked layout that oneDNN's kernel reads directly.
  template <class Real>
  class packed {
    static_assert(std::is_same_v<Real, float>, "onednn_gemm computes in float only");

   public:
    packed() = default;
    packed(thread_pool&, const float* w, std::size_t n, std::size_t k, std::size_t stride)
        : n_(n), k_(k) {
      if (n == 0 || k == 0) return;
      const prepared& p = find(stored());
      weights_ = aligned_buffer<float>(p.weights.get_size() / sizeof(float) + 1);
      reorder(plain(stride), const_cast<float*>(w), p.weights, weights_.get());
    }
    std::size_t rows() const noexcept { return n_; }
    std::size_t cols() const noexcept { return k_; }
    void unpack(float* w, std::size_t stride) const {
      if (n_ == 0 || k_ == 0) return;
      reorder(find(stored()).weights, const_cast<float*>(weights_.get()), plain(stride), w);
    }
    void product(std::size_t m, const float* x, std::size_t ldx, float beta, float* out,
                 std::size_t ldo) const {
      if (m == 0 || n_ == 0) return;
      if (k_ == 0) return clear(m, n_, beta, out, ldo);
      const one_library_thread guard;
      key s = shape(m, ldx, ldo);
      s[8] = beta == 0 ? 0 : 1;
      const dnnl::memory::desc layout = find(stored()).weights;
      if (!(find(s).weights == layout)) s[9] = 2;  // another row count would like another layout
      run(find(s), x, weights_.get(), beta, out);
    }

   private:
    // The product whose preferred layout the weights are kept in.
    key stored() const { return shape(256, k_, n_); }
    dnnl::memory::desc plain(std::size_t stride) const {
      return {{dim(k_), dim(n_)}, dnnl::memory::data_type::f32, dnnl::memory::dims{1, dim(stride)}};
    }
    key shape(std::size_t m, std::size_t ldx, std::size_t ldo) const {
      return {dim(m), dim(n_), dim(k_), dim(ldx), 0, dim(ldo), 0, 1, 0, 1};
    }

    aligned_buffer<float> weights_;
    std::size_t n_ = 0;
    std::size_t k_ = 0;
  };

 private:
  struct prepared {
    dnnl::matmul kernel;
    dnnl::memory::desc a, weights, c, scratch;
    aligned_buffer<char> scratch_memory;
  };

  template <class T>
  static dim_type dim(T v) noexcept {
    return static_cast<dim_type>(v);
  }

  // oneDNN takes its thread count from OpenMP's setting of the calling thread.
  struct one_library_thread {
    int before = omp_get_max_threads();
    one_library_thread() { omp_set_num_threads(1); }
    ~one_library_thread() { omp_set_num_threads(before); }
    one_library_thread(const one_library_thread&) = delete;
    one_library_thread& operator=(const one_library_thread&) = delete;
  };

  static dnnl::engine& engine() {
    static dnnl::engine e(dnnl::engine::kind::cpu, 0);
    return e;
  }
  static dnnl::stream& stream() {
    static thread_local dnnl::stream s(engine());
    return s;
  }

  static const prepared& find(const key& s) {
    static thread_local std::map<key, prepared> known;
    const auto hit = known.find(s);
    if (hit != known.end()) return hit->second;
    if (known.size() > 512) known.clear();
    return known.emplace(s, prepare(s)).first->second;
  }

  static prepared prepare(const key& s) {
    using memory = dnnl::memory;
    const auto f32 = memory::data_type::f32;
    const auto [m, n, k, lda, ldb, ldc, ta, tb, accumulate, layout] = s;
    const memory::desc a({m, k}, f32, ta ? memory::dims{1, lda} : memory::dims{lda, 1});
    const memory::desc c({m, n}, f32, memory::dims{ldc, 1});
    memory::desc b;
    if (layout == 0) {
      b = memory::desc({k, n}, f32, tb ? memory::dims{1, ldb} : memory::dims{ldb, 1});
    } else if (layout == 1) {
      b = memory::desc({k, n}, f32, memory::format_tag::any);
    } else {
      b = find(key{256, n, k, k, 0, n, 0, 1, 0, 1}).weights;
    }
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    if (accumulate != 0) {
      dnnl::post_ops ops;
      ops.append_sum(1.0f);
      attributes.set_post_ops(ops);
    }
    const dnnl::matmul::primitive_desc pd(dnnl::matmul::desc(a, b, c), attributes, engine());
    const auto scratch = pd.scratchpad_desc();
    return {dnnl::matmul(pd),  a,
            pd.weights_desc(), c,
            scratch,           aligned_buffer<char>(scratch.get_size())};
  }

  static void reorder(const dnnl::memory::desc& from_layout, float* from_data,
                      const dnnl::memory::desc& to_layout, float* to_data) {
    const one_library_thread guard;
    dnnl::memory from(from_layout, engine(), from_data);
    dnnl::memory to(to_layout, engine(), to_data);
    dnnl::reorder(from, to).execute(stream(), from, to);
    stream().wait();
  }

  static void run(const prepared& p, const float* a, const float* b, float beta, float* c) {
    using memory = dnnl::memory;
    if (beta != 0 && beta != 1) scale(p.c, beta, c);
    memory am(p.a, engine(), const_cast<float*>(a));
    memory bm(p.weights, engine(), const_cast<float*>(b));
    memory cm(p.c, engine(), c);
    memory scratch(p.scratch, engine(), const_cast<char*>(p.scratch_memory.get()));
    p.kernel.execute(stream(), {{DNNL_ARG_SRC, am},
                                {DNNL_ARG_WEIGHTS, bm},
                                {DNNL_ARG_DST, cm},
                                {DNNL_ARG_SCRATCHPAD, scratch}});
    stream().wait();
  }

  static void scale(const dnnl::memory::desc& d, float beta, float* c) {
    const auto dims = d.dims();
    const auto stride = d.data.format_desc.blocking.strides[0];
    for (dim_type r = 0; r < dims[0]; ++r) {
      for (dim_type j = 0; j < dims[1]; ++j) c[r * stride + j] *= beta;
    }
  }
  static void clear(std::size_t m, std::size_t n, float beta, float* c, std::size_t ldc) {
    for (std::size_t r = 0; r < m; ++r) {
      for (std::size_t j = 0; j < n; ++j) c[r * ldc + j] = beta == 0 ? 0 : beta * c[r * ldc + j];
    }
  }
};

}  // namespace plmscope::inline PLMSCOPE_ABI
