// SPDX-License-Identifier: MIT
// A sparsifier of one's own, in a dozen lines: it selects by magnitude and keeps the sign. On data
// whose directions occur with both signs it needs half as many latents as TopK.
#include <examples/backend.hpp>

#include <cstdint>
#include <cstdio>
#include <span>
#include <string_view>
#include <vector>

// Keeps the k largest entries of a row by magnitude; the sign survives.
struct abs_top_k {
  static constexpr std::string_view id = "abs_top_k";
  std::size_t k = 32;

  template <class B>
  void select(B& be, plmscope::const_view<B> pre, plmscope::codes<B>& out) const {
    be.top_k_rows(pre, k, plmscope::by_magnitude{}, out);
  }
};
static_assert(plmscope::sparsifier<abs_top_k>);

// Rows are sums of 3 of 48 directions, signs at random. Whatever has a `next` can feed a trainer.
struct signed_mixtures {
  std::vector<float> directions = std::vector<float>(48 * 32);
  plmscope::matrix<float, backend> rows;
  std::uint64_t batches = 0;

  plmscope::const_view<backend> next(backend& be, std::size_t count) {
    const plmscope::rng random(2, ++batches);
    std::vector<float> x(count * 32, 0.0f);
    for (std::size_t i = 0; i < 3 * count; ++i) {
      const float* direction = &directions[random.below(2 * i, 48) * 32];
      const float sign = random.uniform(2 * i + 1) < 0.5 ? -1.0f : 1.0f;
      for (std::size_t j = 0; j < 32; ++j) x[i / 3 * 32 + j] += sign * direction[j];
    }
    rows.reshape(be, count, 32);
    be.upload(std::span<const float>(x), rows.all());
    return rows.all();
  }
};

template <class Sparsifier>
void train_with(std::size_t features) {
  plmscope::sae<Sparsifier, backend> sae(
      {.d_model = 32, .features = features, .sparsifier = {.k = 3}});
  signed_mixtures data;
  const plmscope::rng random(1);
  for (std::size_t i = 0; i < 48 * 32; ++i) data.directions[i] = static_cast<float>(random.normal(i));
  plmscope::trainer fit{.steps = 1000, .batch = 256, .optimizer = plmscope::adam{.lr = 3e-3}};
  const auto last = fit(sae, data);
  std::printf("%-9s with %3zu latents: FVU %.2f\n", Sparsifier::id.data(), features, last.fvu);
}

int main() {
  train_with<plmscope::top_k>(48);
  train_with<plmscope::top_k>(96);
  train_with<abs_top_k>(48);
  return 0;
}
