// SPDX-License-Identifier: MIT
// One function, several backends chosen at compile time: single precision, double precision, the naive
// loops that the tests compare with, and by nvcc the GPU.
#include <examples/backend.hpp>
#include <plmscope/backend/reference.hpp>
#include <plmscope/tensor/host_codes.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <span>
#include <vector>

// The latents of 500 random rows under an SAE with seed 7. Written once: where memory lies and what
// is computed in come with the type.
template <plmscope::backend B>
std::vector<std::uint32_t> latents(B be, double& worst_error) {
  using real = typename B::real;
  plmscope::sae<plmscope::top_k, B> sae(
      {.d_model = 64, .features = 512, .sparsifier = {.k = 4}, .seed = 7}, be);
  const plmscope::rng random(11);
  std::vector<double> numbers(500 * 64);
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = random.normal(i);
  plmscope::matrix<real, B> x(be, 500, 64), rebuilt(be, 500, 64), norms(be, 1, 500);
  be.upload(std::span<const double>(numbers), x.all());

  plmscope::codes<B> z;
  sae.reconstruct(x, rebuilt, &z);
  be.axpy(real{-1}, x, rebuilt);
  be.row_norms(rebuilt, norms);
  std::vector<double> errors(500);
  be.download(plmscope::const_view<B>(norms), std::span<double>(errors));
  worst_error = *std::max_element(errors.begin(), errors.end());
  return plmscope::to_host(be, z).ids;
}

int main() {
  using single = plmscope::cpu;  // basic_cpu<float, eigen_gemm>
  using twice = plmscope::basic_cpu<double, plmscope::eigen_gemm>;
  using naive = plmscope::reference;

  double error[4];
  const auto a = latents(single(2), error[0]);  // two threads; the bits are the same for any number
  const auto b = latents(twice(1), error[1]);
  const auto c = latents(naive(), error[2]);
  const auto d = latents(backend(), error[3]);  // the GPU when nvcc compiles this, else `cpu`
  std::printf("%-9s float  %zu latents, worst error %.2f\n", single::id.data(), a.size(), error[0]);
  std::printf("%-9s double %zu latents, worst error %.2f\n", twice::id.data(), b.size(), error[1]);
  std::printf("%-9s double %zu latents, worst error %.2f\n", naive::id.data(), c.size(), error[2]);
  std::printf("first row: latents %u, %u, %u, %u\n", a[0], a[1], a[2], a[3]);
  const bool same = a == b && b == c && c == d;
  std::printf("the same latents everywhere: %s\n", same ? "yes" : "no");
  return same ? 0 : 1;
}
