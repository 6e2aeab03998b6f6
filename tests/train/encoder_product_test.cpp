// SPDX-License-Identifier: MIT
// An encoder whose product is rounded learns as well: on the states of the bundled model.
#include <tests/golden.hpp>

#include <plmscope/acts/model_reader.hpp>
#include <plmscope/backend/cpu.hpp>
#include <plmscope/core/rng.hpp>
#include <plmscope/io/uniprot_tsv.hpp>
#include <plmscope/plm/collect.hpp>
#include <plmscope/plm/esm2.hpp>
#include <plmscope/sae/sae.hpp>
#include <plmscope/tensor/matrix.hpp>
#include <plmscope/train/trainer.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace {

using plmscope::cpu;
using plmscope::product_precision;

const plmscope::matrix<float, cpu>& states() {
  static const auto rows = [] {
    auto esm = plmscope::esm2<cpu>::load(golden::repository() / "examples/data/esm2_mini");
    plmscope::packed_batch batch;
    const auto all =
        plmscope::read_uniprot_tsv(golden::repository() / "examples/data/uniprot_demo.tsv");
    for (std::size_t i = 0; i < all.size(); i += 17) {
      if (all[i].sequence.size() <= 400) batch.add(all[i].sequence);
    }
    plmscope::collect<float> keep({plmscope::resid_post{3}});
    esm.forward(batch, keep);
    const auto values = keep.states(plmscope::resid_post{3});
    plmscope::matrix<float, cpu> out(esm.backend(), batch.rows(), esm.d_model());
    std::memcpy(out.data(), values.data(), values.size_bytes());
    return out;
  }();
  return rows;
}

using model_type = plmscope::sae<plmscope::top_k>;

model_type make(product_precision p) {
  return model_type(
      {.d_model = states().cols(), .features = 768, .sparsifier = {.k = 16}, .encoder_product = p},
      cpu(2));
}

// 400 steps on rows drawn at random, the same for every precision.
model_type train(product_precision p) {
  const auto& x = states();
  auto model = make(p);
  const plmscope::trainer fit{.optimizer = plmscope::adam{.lr = 1e-3}};
  plmscope::training_run<model_type, plmscope::trainer<>> run(model, fit);
  const plmscope::rng random(3, 1);
  plmscope::matrix<float, cpu> batch(model.backend(), 512, x.cols());
  for (std::size_t step = 0; step < 400; ++step) {
    for (std::size_t r = 0; r < batch.rows(); ++r) {
      const std::size_t from = random.below(step * batch.rows() + r, x.rows());
      std::memcpy(batch.data() + r * x.cols(), x.data() + from * x.cols(),
                  x.cols() * sizeof(float));
    }
    run.step(batch.all(), 1e-3);
  }
  return model;
}

/// Of all states.
double fvu(model_type& model) {
  const auto& x = states();
  plmscope::matrix<float, cpu> y(model.backend(), x.rows(), x.cols());
  model.reconstruct(x.all(), y.all());
  std::vector<double> mean(x.cols(), 0);
  for (std::size_t i = 0; i < x.size(); ++i) {
    mean[i % x.cols()] += static_cast<double>(x.data()[i]) / static_cast<double>(x.rows());
  }
  double error = 0;
  double variance = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double v = static_cast<double>(x.data()[i]);
    error += (v - static_cast<double>(y.data()[i])) * (v - static_cast<double>(y.data()[i]));
    variance += (v - mean[i % x.cols()]) * (v - mean[i % x.cols()]);
  }
  return error / variance;
}

TEST_CASE("an encoder with short products reads the same SAE as well, and learns as well") {
  auto exact = train(product_precision::fp32);
  const double whole = fvu(exact);
  CHECK(whole < 0.1);
  for (const auto p : {product_precision::bf16, product_precision::int8}) {
    if (!cpu::computes(p)) {
      golden::skip("this processor has no products in " + std::string(to_string(p)));
      continue;
    }
    // The same parameters.
    auto other = make(p);
    plmscope::for_each_together(
        [](const auto& from, auto& to) {
          std::memcpy(to.data(), from.data(), from.size() * sizeof(*from.data()));
        },
        exact.parameters(), other.parameters());
    const double read = fvu(other) / whole - 1;
    CHECK(read != 0);
    const double limit = p == product_precision::bf16 ? 0.005 : 0.02;
    CHECK(std::abs(read) < limit);
    golden::report("FVU of the same SAE read in " + std::string(to_string(p)), std::abs(read),
                   limit);
    // Trained with it. Two runs whose codes differ once part ways: 1 to 2 % up or down.
    auto learned = train(p);
    const double trained = fvu(learned) / whole - 1;
    CHECK(trained < 0.05);
    golden::report("FVU of an SAE trained in " + std::string(to_string(p)), std::abs(trained),
                   0.05);
  }
}

}  // namespace
