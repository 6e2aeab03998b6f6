// SPDX-License-Identifier: MIT
#include <tests/golden.hpp>
#include <tests/thrown.hpp>

#include <plmscope/backend/reference.hpp>
#include <plmscope/sae/any_sae.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

using plmscope::any_sae;
using plmscope::stated_sae;

namespace {

using numbers = std::vector<double>;

using cpu_double = plmscope::basic_cpu<double, plmscope::eigen_gemm>;

// How to open a fixture: what a user would have to say of it, and which of the expected tensors are
// meant. Files are named because the expected tensors lie beside them.
struct opening {
  std::string folder;
  std::string file;
  stated_sae stated = {};
  std::string codes = "codes";
  std::string recon = "recon";
};

const std::vector<opening> openings{
    {"bionemo_moe", "checkpoint_final.pt"},
    {"bionemo_moe", "checkpoint_final.pt", {.k = 3, .chosen = 2, .normalized = true}},
    {"bionemo_relu", "checkpoint_final.pt", {.normalized = true}},
    {"bionemo_topk", "checkpoint_final.pt"},
    {"bussmann_batchtopk", "sae.pt"},
    {"bussmann_jumprelu", "sae.pt"},
    {"bussmann_matryoshka_batchtopk", "sae.pt"},
    {"bussmann_topk", "sae.pt"},
    {"bussmann_vanilla", "sae.pt"},
    {"crosscoder_fork_batchtopk", "model_final.pt"},
    {"crosscoder_fork_batchtopk_normalizer", "model_final.pt", {.relative_variance = true}},
    {"crosscoder_fork_l1", "model_final.pt"},
    {"crosscoder_fork_l1_hub", "model.safetensors"},
    {"dictionary_learning_batchtopk", "ae.pt"},
    {"dictionary_learning_batchtopk_threshold_unset", "ae.pt"},
    {"dictionary_learning_gated", "ae.pt"},
    {"dictionary_learning_jumprelu", "ae.pt"},
    {"dictionary_learning_matryoshka", "ae.pt"},
    {"dictionary_learning_standard", "ae.pt"},
    {"dictionary_learning_standard_april", "ae.pt"},
    {"dictionary_learning_standard_april_tied", "ae.pt"},
    {"dictionary_learning_topk", "ae.pt"},
    {"dictionary_learning_topk",
     "ae.pt",
     {.sparsifier = "batch_top_k"},
     "codes_threshold",
     "recon_threshold"},
    {"dictionary_learning_topk_normalized", "ae.pt"},
    {"dictionary_learning_topk_normalized",
     "ae.pt",
     {.sparsifier = "batch_top_k"},
     "codes_threshold",
     "recon_threshold"},
    {"esmc_sae", "layer_6.safetensors", {.layer = 6}},
    {"esmc_sae", "layer_3.safetensors", {.layer = 3}, "codes_layer3", "recon_layer3"},
    {"gujral_sae", "model.ckpt", {.transcoder = false}},
    {"gujral_transcoder", "model.ckpt", {.transcoder = true}},
    {"interplm_batchtopk", "ae.pt"},
    {"interplm_jumprelu", "ae.pt"},
    {"interplm_relu", "ae.pt"},
    {"interplm_relu", "ae_normalized.pt", {}, "codes_of_normalized_file", "recon"},
    {"interplm_relu_legacy_keys", "ae_unnormalized.pt", {.library = "interplm"}},
    {"interplm_relu_legacy_keys",
     "ae_normalized.pt",
     {.library = "interplm"},
     "codes_normalized",
     "recon_normalized"},
    {"interplm_relu_sqrtd", "ae.pt", {}, "forward_codes", "forward_recon_unnormalized"},
    {"interplm_topk", "ae.pt"},
    {"interprot_lightning", "last.ckpt"},
    {"interprot_safetensors", "esm2_plm48_l6_sae160.safetensors", {.k = 6}},
    {"openai_relu", "autoencoder.pt"},
    {"openai_topk", "autoencoder.pt"},
    {"openai_topk_identity", "autoencoder.pt"},
    {"openai_topk_self_saved", "autoencoder.pt"},
    {"reticular_matryoshka", "ae.pt", {.library = "reticular", .norm_factor = 1.0}},
    {"reticular_matryoshka",
     "ae.pt",
     {.library = "reticular", .norm_factor = 1.7},
     "codes_scaled_1.7",
     ""},
    {"reticular_matryoshka_lightning", "sae-step-02.ckpt", {.norm_factor = 1.0}},
    {"reticular_standard", "ae.pt", {.library = "reticular", .norm_factor = 1.0}},
    {"reticular_topk",
     "ae.pt",
     {.library = "reticular", .sparsifier = "top_k", .norm_factor = 1.0}},
    {"reticular_topk",
     "ae.pt",
     {.library = "reticular", .sparsifier = "batch_top_k", .norm_factor = 1.0},
     "codes_threshold",
     ""},
    {"saelens_batchtopk", "sae_weights.safetensors"},
    {"saelens_batchtopk_training_checkpoint",
     "sae_weights.safetensors",
     {},
     "codes_threshold",
     "own"},
    {"saelens_gated", "sae_weights.safetensors"},
    {"saelens_jumprelu", "sae_weights.safetensors"},
    {"saelens_jumprelu_transcoder", "sae_weights.safetensors"},
    {"saelens_matryoshka", "sae_weights.safetensors"},
    {"saelens_skip_transcoder", "sae_weights.safetensors"},
    {"saelens_standard", "sae_weights.safetensors"},
    {"saelens_standard_layernorm", "sae_weights.safetensors"},
    {"saelens_topk", "sae_weights.safetensors"},
    {"saelens_transcoder", "sae_weights.safetensors"},
    {"sparsify_groupmax", "sae.safetensors"},
    {"sparsify_skip_transcoder", "sae.safetensors"},
    {"sparsify_topk", "sae.safetensors"},
};

// What the library cannot compute, by the id of the error that says so.
struct refused {
  std::string folder;
  std::string file;
  std::string id;
};
const std::vector<refused> cannot{
    {"crosscoder_fork_batchtopk_decoupled", "model_final.pt", "sae.114"},
};

template <class B>
numbers dense(B& be, const plmscope::codes<B>& z) {
  static_assert(B::on_host);
  be.synchronize();
  numbers out(z.rows() * z.features(), 0.0);
  for (std::size_t r = 0; r < z.rows(); ++r) {
    const auto first = static_cast<std::size_t>(z.offsets()[r]);
    const auto last = static_cast<std::size_t>(z.offsets()[r + 1]);
    for (std::size_t e = first; e < last; ++e) {
      out[r * z.features() + z.ids()[e]] = static_cast<double>(z.values()[e]);
    }
  }
  return out;
}

struct result {
  numbers codes, recon;
};

template <class B>
result compute(any_sae<B>& model, const numbers& x, B& be) {
  const std::size_t rows = x.size() / model.d_model();
  plmscope::matrix<typename B::real, B> in(be, rows, model.d_model()), out(be, rows, model.d_out());
  be.upload(std::span<const double>(x), in.all());
  plmscope::codes<B> z;
  model.reconstruct(in, out, &z);
  result r{dense(be, z), numbers(out.size())};
  be.download(plmscope::const_view<B>(out), std::span<double>(r.recon));
  return r;
}

// The largest deviation, in units of the largest expected entry.
double deviation(const numbers& have, const numbers& want) {
  if (have.size() != want.size()) return INFINITY;
  double worst = 0, largest = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    worst = golden::worse(worst, std::abs(have[i] - want[i]));
    largest = std::max(largest, std::abs(want[i]));
  }
  return worst / largest;
}

// EsmcSaeModel gives reconstructions in the normalised space.
void normalize_rows(numbers& recon, const numbers& x, std::size_t d) {
  for (std::size_t r = 0; r < x.size() / d; ++r) {
    double mean = 0, squares = 0;
    for (std::size_t j = 0; j < d; ++j) mean += x[r * d + j] / static_cast<double>(d);
    for (std::size_t j = 0; j < d; ++j) squares += std::pow(x[r * d + j] - mean, 2);
    const double deviation = std::sqrt(squares / static_cast<double>(d - 1));
    for (std::size_t j = 0; j < d; ++j)
      recon[r * d + j] = (recon[r * d + j] - mean) / (deviation + 1e-5);
  }
}

// The fixture of a training checkpoint has reconstructions of codes selected over the batch only.
// For codes by threshold: z / |w| W_dec + b_dec, with the tensors as they are stored.
numbers decoded_by_unit_rows(const std::filesystem::path& file, const numbers& codes) {
  const auto f = plmscope::safetensors_file::open(file);
  const auto w = f.read_vector<double>("W_dec");
  const auto b = f.read_vector<double>("b_dec");
  const std::size_t d = b.size(), features = w.size() / d;
  numbers out(codes.size() / features * d);
  for (std::size_t r = 0; r < codes.size() / features; ++r) {
    for (std::size_t j = 0; j < d; ++j) out[r * d + j] = b[j];
    for (std::size_t i = 0; i < features; ++i) {
      double squares = 0;
      for (std::size_t j = 0; j < d; ++j) squares += w[i * d + j] * w[i * d + j];
      for (std::size_t j = 0; j < d; ++j) {
        out[r * d + j] += codes[r * features + i] / std::sqrt(squares) * w[i * d + j];
      }
    }
  }
  return out;
}

// BioNeMo's mixture keeps gates out of its codes: softmax of the router's products with the
// normalised row, over the sum of the chosen ones.
void open_gates(numbers& codes, const numbers& x, const numbers& router, std::size_t experts,
                std::size_t chosen) {
  const std::size_t d = router.size() / experts;
  const std::size_t rows = x.size() / d, features = codes.size() / rows;
  for (std::size_t r = 0; r < rows; ++r) {
    double mean = 0, squares = 0, all = 0, sum = 0;
    for (std::size_t j = 0; j < d; ++j) mean += x[r * d + j] / static_cast<double>(d);
    for (std::size_t j = 0; j < d; ++j) squares += std::pow(x[r * d + j] - mean, 2);
    const double deviation = std::sqrt(squares / static_cast<double>(d - 1)) + 1e-8;
    numbers p(experts, 0.0);
    for (std::size_t e = 0; e < experts; ++e) {
      for (std::size_t j = 0; j < d; ++j) {
        p[e] += router[e * d + j] * (x[r * d + j] - mean) / deviation;
      }
      p[e] = std::exp(p[e]);
      all += p[e];
    }
    for (double& v : p) v /= all;
    numbers first = p;
    std::sort(first.rbegin(), first.rend());
    for (std::size_t c = 0; c < chosen; ++c) sum += first[c];
    for (std::size_t i = 0; i < features; ++i) {
      codes[r * features + i] *= p[i / (features / experts)] / (sum + 1e-8);
    }
  }
}

// The worse of codes and reconstructions; once more after it was saved and opened as a file of
// ours.
template <class B>
double worst_of(const std::filesystem::path& folder, const opening& how, B be = B()) {
  const auto expected = plmscope::safetensors_file::open(folder / "expected.safetensors");
  const auto x = expected.read_vector<double>("x");
  auto codes = expected.read_vector<double>(how.codes);
  auto model = any_sae<B>::open(folder / how.file, how.stated, {}, be);
  if (auto* mixture = model.template get_if<plmscope::routed>()) {
    const auto& router = mixture->parameters().latent[0].values;
    numbers weights(router.size());
    be.download(plmscope::const_view<B>(router), std::span<double>(weights));
    open_gates(codes, x, weights, mixture->sparsifier().experts, mixture->sparsifier().chosen);
  }
  const result have = compute(model, x, be);
  double worst = deviation(have.codes, codes);
  if (!how.recon.empty()) {
    numbers recon = have.recon;
    if (how.folder == "esmc_sae") normalize_rows(recon, x, model.d_model());
    worst = golden::worse(
        worst, deviation(recon, how.recon == "own" ? decoded_by_unit_rows(folder / how.file, codes)
                                                   : expected.read_vector<double>(how.recon)));
  }
  const golden::scratch_folder scratch;
  model.save(scratch / "ours.safetensors");
  auto again = any_sae<B>::open(scratch / "ours.safetensors", {}, {}, be);
  const result same = compute(again, x, be);
  CHECK(same.codes == have.codes);
  CHECK(same.recon == have.recon);
  CHECK(again.describe().training_record == model.describe().training_record);
  return worst;
}

}  // namespace

TEST_CASE("published SAEs compute what the libraries that wrote them compute") {
  std::size_t seen = 0;
  const auto folders = golden::folders("sae_formats", "about.json");
  for (const auto& folder : folders) {
    const std::string name = folder.filename().string();
    if (name.starts_with("generic_")) continue;
    INFO(name);
    bool known = false;
    for (const opening& how : openings) {
      if (how.folder != name) continue;
      const auto variant = folder / how.file / how.codes;
      golden::report(variant / "reference", worst_of<plmscope::reference>(folder, how), 1e-6);
      golden::report(variant / "cpu_double", worst_of(folder, how, cpu_double(1)), 1e-6);
      golden::report(variant / "cpu", worst_of(folder, how, plmscope::cpu(1)), 5e-6);
      known = true;
      ++seen;
    }
    for (const auto& no : cannot) {
      if (no.folder != name) continue;
      CHECK(id_thrown([&] { any_sae<>::open(folder / no.file); }) == no.id);
      known = true;
      ++seen;
    }
    CHECK_MESSAGE(known, "a fixture that the tables do not know");
  }
  if (!folders.empty()) CHECK(seen == openings.size() + cannot.size());
}
