// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/bfloat16.hpp>
#include <plmscope/backend/cuda/check.cuh>
#include <plmscope/backend/cuda/group.cuh>
#include <plmscope/backend/cuda/products.cuh>
#include <plmscope/backend/cuda/sort.cuh>
#include <plmscope/backend/cuda/staging.cuh>
#include <plmscope/backend/device/buffer.hpp>
#include <plmscope/backend/device/group.hpp>
#include <plmscope/backend/precision.hpp>
#include <plmscope/backend/thrust/algorithms.hpp>

#include <thrust/execution_policy.h>
#include <thrust/system/cuda/execution_policy.h>

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>

namespace plmscope::inline PLMSCOPE_ABI {

/// What a GPU does for `basic_device`: one stream, a memory pool, kernels, products, and Thrust.
/// All calls queue work and return, but those that say "waits". Not for several host threads at
/// once, and one GPU per host thread.
class cuda_runtime {
  /// Thrust's temporary memory comes from the pool.
  struct pool_allocator {
    using value_type = char;
    memory_pool<cuda_detail::device_memory>* pool;
    char* allocate(std::ptrdiff_t n) {
      return static_cast<char*>(pool->take(static_cast<std::size_t>(n)));
    }
    void deallocate(char* p, std::size_t n) { pool->give_back(p, n); }
  };
  auto policy() { return thrust::cuda::par_nosync(pool_allocator_).on(stream_); }

 public:
  static constexpr std::string_view id = "cuda";
  static constexpr unsigned lanes = 32;  ///< threads of a team
  static constexpr std::string_view products_name() noexcept { return "cublas"; }
  template <class Kernel>
  static constexpr unsigned threads_per_block() noexcept {
    if constexpr (requires { Kernel::threads; }) {
      return Kernel::threads;
    } else {
      return 256;
    }
  }

  explicit cuda_runtime(int device) : device_(device) {
    using cuda_detail::check;
    int count = 0;
    check(cudaGetDeviceCount(&count), "cudaGetDeviceCount");
    if (device < 0 || device >= count) check(cudaErrorInvalidDevice, "cudaSetDevice");
    check(cudaSetDevice(device), "cudaSetDevice");
    shared_bytes_ = cuda_detail::most_shared_bytes(device);
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
    products_ = std::make_unique<cuda_detail::lt_products>();
    workspace_ = memory_.take(cuda_detail::lt_products::workspace_bytes);
  }
  cuda_runtime(const cuda_runtime&) = delete;
  cuda_runtime& operator=(const cuda_runtime&) = delete;
  ~cuda_runtime() {
    static_cast<void>(cudaStreamSynchronize(stream_));
    memory_.give_back(workspace_, cuda_detail::lt_products::workspace_bytes);
    static_cast<void>(cudaStreamDestroy(stream_));
  }

  memory_pool<cuda_detail::device_memory>& memory() noexcept { return memory_; }
  cudaStream_t stream() const noexcept { return stream_; }
  /// The name of the GPU, for people.
  std::string device_name() const {
    cudaDeviceProp properties{};
    cuda_detail::check(cudaGetDeviceProperties(&properties, device_), "cudaGetDeviceProperties");
    return properties.name;
  }
  /// How often the host has waited for all that was queued, how often for a number alone, and how
  /// many kernels of ours were launched.
  std::size_t waits() const noexcept { return waits_; }
  std::size_t receipts() const noexcept { return receipts_; }
  std::size_t launches() const noexcept { return launches_; }

  void clear(void* to, std::size_t bytes) {
    if (bytes > 0) cuda_detail::check(cudaMemsetAsync(to, 0, bytes, stream_), "cudaMemsetAsync");
  }
  /// Pinned host memory to fill and hand to `to_device`.
  void* stage(std::size_t bytes) { return staging_.take(bytes); }
  void to_device(const void* staged, void* to, std::size_t rows, std::size_t width,
                 std::size_t stride) {
    cuda_detail::check(
        cudaMemcpy2DAsync(to, stride, staged, width, width, rows, cudaMemcpyHostToDevice, stream_),
        "cudaMemcpy2DAsync");
    staging_.sent(stream_);
  }
  /// Waits.
  void to_host(const void* from, void* to, std::size_t rows, std::size_t width,
               std::size_t stride) {
    cuda_detail::check(
        cudaMemcpy2DAsync(to, width, from, stride, width, rows, cudaMemcpyDeviceToHost, stream_),
        "cudaMemcpy2DAsync");
    wait();
  }
  /// Waits.
  void wait() {
    ++waits_;
    cuda_detail::check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
  }

  /// A number on its way to the host (`arriving_count`).
  std::size_t send(const std::int64_t* from) { return numbers_.send(from, stream_); }
  /// Waits until it has come.
  std::int64_t receive(std::size_t ticket) {
    ++receipts_;
    return numbers_.receive(ticket);
  }
  void drop(std::size_t ticket) noexcept { numbers_.drop(ticket); }

  std::uint64_t available_bytes() const {
    std::size_t free = 0;
    std::size_t all = 0;
    cuda_detail::check(cudaMemGetInfo(&free, &all), "cudaMemGetInfo");
    return free;
  }

  /// Most shared memory that a launch may ask for.
  std::size_t shared_bytes() const noexcept { return shared_bytes_; }

  template <class Kernel>
  void launch(std::size_t blocks, std::size_t shared_bytes, const Kernel& kernel) {
    constexpr unsigned threads = threads_per_block<Kernel>();
    ++launches_;
    cuda_detail::launch<threads>(blocks, shared_bytes, stream_, kernel);
  }

  void running_sum(std::int64_t* x, std::size_t n) {
    thrust_algorithms::running_sum(policy(), x, n);
  }
  /// Sorts keys <= key_count and leaves in `positions` where each came from; equal keys keep their
  /// order.
  void sort_with_positions(std::uint32_t* keys, std::uint32_t* positions, std::size_t n,
                           std::size_t key_count) {
    each(1, n, [=] PLMSCOPE_DEVICE(std::size_t, std::size_t i) {
      positions[i] = static_cast<std::uint32_t>(i);
    });
    cuda_detail::sort_pairs(memory_, stream_, keys, positions, static_cast<std::uint32_t>(n),
                            static_cast<std::uint32_t>(key_count));
  }
  /// Weights [n, k] in the form that products take: bfloat16 or as they are, rows padded to 16
  /// bytes.
  template <class Real>
  class packed {
   public:
    packed() = default;
    packed(const std::shared_ptr<cuda_runtime>& run, const Real* w, std::size_t n, std::size_t k,
           std::size_t stride, product_precision precision)
        : precision_(precision), stride_(padded(k)), n_(n), k_(k) {
      if (short_operands<Real>(precision)) {
        rounded_ = device_buffer<std::uint16_t, cuda_runtime>(run, n * stride_);
        run->convert(w, stride, rounded_.get(), stride_, n, k);
      } else {
        plain_ = device_buffer<Real, cuda_runtime>(run, n * stride_);
        run->convert(w, stride, plain_.get(), stride_, n, k);
      }
    }
    std::size_t rows() const noexcept { return n_; }
    std::size_t cols() const noexcept { return k_; }

   private:
    friend class cuda_runtime;
    product_precision precision_ = product_precision::fp32;
    std::size_t stride_ = 0;
    device_buffer<Real, cuda_runtime> plain_;
    device_buffer<std::uint16_t, cuda_runtime> rounded_;
    std::size_t n_ = 0;
    std::size_t k_ = 0;
  };

  template <class C, class Real, class V>
  void product(C x, const packed<Real>& w, V out, Real beta) {
    if (short_operands<Real>(w.precision_)) {
      const prepared<std::uint16_t> a(*this, x);
      multiply(out, x.cols(), CUDA_R_16BF, w.precision_, {a.data, a.stride, false},
               {w.rounded_.get(), w.stride_, true}, beta);
    } else {
      multiply(out, x.cols(), plain_type<Real>, w.precision_, {x.data(), x.stride(), false},
               {w.plain_.get(), w.stride_, true}, beta);
    }
  }
  template <class Real, class V>
  void unpack(const packed<Real>& w, V out) {
    if constexpr (std::is_same_v<Real, float>) {
      if (short_operands<Real>(w.precision_)) {
        return convert(w.rounded_.get(), w.stride_, out.data(), out.stride(), w.n_, w.k_);
      }
    }
    convert(w.plain_.get(), w.stride_, out.data(), out.stride(), w.n_, w.k_);
  }
  template <class C, class V, class Real>
  void product_nt(C a, C b, V c, Real beta, product_precision precision) {
    product_of(a, false, b, true, c, a.cols(), beta, precision);
  }
  template <class C, class V, class Real>
  void product_nn(C a, C b, V c, Real beta, product_precision precision) {
    product_of(a, false, b, false, c, a.cols(), beta, precision);
  }
  template <class C, class V, class Real>
  void product_tn(C a, C b, V c, Real beta, product_precision precision) {
    product_of(a, true, b, false, c, a.rows(), beta, precision);
  }

  /// to[r, c] = from[r, c], rounded where `To` is shorter; both row-major with gaps.
  template <class From, class To>
  void convert(const From* from, std::size_t from_stride, To* to, std::size_t to_stride,
               std::size_t rows, std::size_t cols) {
    each(rows, cols, [=] PLMSCOPE_DEVICE(std::size_t r, std::size_t c) {
      device_kernels::store(from[r * from_stride + c], to[r * to_stride + c]);
    });
  }
  /// c = beta c.
  template <class V, class Real>
  void scale(V c, Real beta) {
    each(c.rows(), c.cols(), [=] PLMSCOPE_DEVICE(std::size_t r, std::size_t j) {
      Real& v = c.row_data(r)[j];
      v = beta == Real{0} ? Real{0} : beta * v;
    });
  }

 private:
  template <class F>
  void each(std::size_t rows, std::size_t cols, const F& f) {
    const device_kernels::over_entries<F> kernel(f, rows, cols);
    if (kernel.blocks() > 0) launch(kernel.blocks(), 0, kernel);
  }

  /// Entries of a padded row: whole 16 bytes of every type.
  static std::size_t padded(std::size_t cols) noexcept { return (cols + 7) / 8 * 8; }
  template <class Real>
  static bool short_operands(product_precision p) noexcept {
    return std::is_same_v<Real, float> && p == product_precision::bf16;
  }
  template <class Real>
  static constexpr cudaDataType_t plain_type =
      std::is_same_v<Real, double> ? CUDA_R_64F : CUDA_R_32F;

  /// A rounded copy of an operand, for the duration of a product.
  template <class Stored>
  class prepared {
   public:
    template <class C>
    prepared(cuda_runtime& run, C x)
        : stride(padded(x.cols())),
          memory_(run.memory_, x.rows() * stride * sizeof(Stored)),
          data(memory_.template as<Stored>()) {
      run.convert(x.data(), x.stride(), data, stride, x.rows(), x.cols());
    }

    const std::size_t stride;

   private:
    borrowed_memory<memory_pool<cuda_detail::device_memory>> memory_;

   public:
    Stored* const data;
  };

  template <class C, class V, class Real>
  void product_of(C a, bool a_transposed, C b, bool b_transposed, V c, std::size_t k, Real beta,
                  product_precision precision) {
    if (short_operands<Real>(precision)) {
      const prepared<std::uint16_t> left(*this, a);
      const prepared<std::uint16_t> right(*this, b);
      multiply(c, k, CUDA_R_16BF, precision, {left.data, left.stride, a_transposed},
               {right.data, right.stride, b_transposed}, beta);
    } else {
      multiply(c, k, plain_type<Real>, precision, {a.data(), a.stride(), a_transposed},
               {b.data(), b.stride(), b_transposed}, beta);
    }
  }

  template <class V, class Real>
  void multiply(V c, std::size_t k, cudaDataType_t type, product_precision precision,
                cuda_detail::operand a, cuda_detail::operand b, Real beta) {
    if (c.empty()) return;
    if (k == 0) return scale(c, beta);
    const cublasComputeType_t compute = type == CUDA_R_64F ? CUBLAS_COMPUTE_64F
                                        : precision == product_precision::tf32
                                            ? CUBLAS_COMPUTE_32F_FAST_TF32
                                            : CUBLAS_COMPUTE_32F;
    products_->run(stream_, workspace_, type, compute, c.rows(), c.cols(), k, a, b, c.data(),
                   c.stride(), static_cast<double>(beta));
  }

  int device_;
  std::size_t shared_bytes_ = 0;
  cudaStream_t stream_ = nullptr;
  memory_pool<cuda_detail::device_memory> memory_{cuda_detail::device_memory{}};
  pool_allocator pool_allocator_{&memory_};
  cuda_detail::pinned_staging staging_;
  cuda_detail::pinned_numbers numbers_;
  std::unique_ptr<cuda_detail::lt_products> products_;
  void* workspace_ = nullptr;
  std::size_t waits_ = 0;
  std::size_t receipts_ = 0;
  std::size_t launches_ = 0;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
