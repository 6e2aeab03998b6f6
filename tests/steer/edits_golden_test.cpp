// SPDX-License-Identifier: MIT
// Interventions of every kind against runs of the official implementation: see
// README_models.md, section 2, of the reference data.
#include <tests/devices.hpp>
#include <tests/golden.hpp>

#include <plmscope/backend/cpu.hpp>
#include <plmscope/io/safetensors.hpp>
#include <plmscope/plm/collect.hpp>
#include <plmscope/plm/edit.hpp>
#include <plmscope/plm/esm2.hpp>
#include <plmscope/plm/lm_scores.hpp>
#include <plmscope/sae/sae.hpp>
#include <plmscope/steer/splice.hpp>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;
using json = nlohmann::json;
using plmscope::collect;
using plmscope::edit;
using plmscope::esm2;
using plmscope::packed_batch;
using plmscope::safetensors_file;
using plmscope::site;
using plmscope::site_kind;
using plmscope::tokens;
using cpu_double = plmscope::basic_cpu<double, plmscope::eigen_gemm>;

template <class B>
constexpr double limit = sizeof(typename B::real) == 4 ? 3e-6 : 1e-12;

/// One NAME.edits.json with its tensors and a model on a backend.
template <class B>
struct edited_model {
  using real = typename B::real;

  explicit edited_model(const fs::path& description)
      : about(json::parse(std::ifstream(description))),
        file(safetensors_file::open(fs::path(description).replace_extension(".safetensors"))),
        model(esm2<B>::load(description.parent_path() /
                            about.at("model").template get<std::string>())) {}

  packed_batch batch(const std::string& name) const {
    packed_batch b;
    b.add(std::span<const std::int32_t>(file.read_vector<std::int32_t>(name)));
    return b;
  }
  std::vector<double> numbers(const std::string& name) const {
    return file.read_vector<double>(name);
  }
  site at(const json& where) const {
    return plmscope::parse_site(where.at("site").get<std::string>() + "." +
                                std::to_string(where.at("layer").get<int>()));
  }
  /// Relative L2 error of final states and logits of one case against the float64 run.
  template <class Hook>
  double error_of(const std::string& name, const std::string& input, Hook&& change) {
    collect<real> keep({plmscope::final_norm{}, plmscope::logits{}});
    const packed_batch b = batch(input);
    model.forward(b, plmscope::hooks{change, keep});
    const double states = golden::relative_l2(keep.states(plmscope::final_norm{}),
                                              std::span<const double>(numbers(name + ".hidden64")));
    const double scores = golden::relative_l2(keep.states(plmscope::logits{}),
                                              std::span<const double>(numbers(name + ".logits64")));
    return golden::worse(states, scores);
  }

  json about;
  safetensors_file file;
  esm2<B> model;
};

template <class B>
std::vector<edit> edits_of(const edited_model<B>& m, const json& list) {
  std::vector<edit> out;
  for (const json& e : list) {
    const site at = m.at(e);
    const auto where = e.at("positions").is_string()
                           ? tokens::all()
                           : tokens::at(e.at("positions").get<std::vector<std::size_t>>());
    const std::string op = e.at("op");
    const std::size_t width = m.model.width(at);
    if (op == "zero") {
      out.push_back(plmscope::zero_state(at, width, where));
      continue;
    }
    const auto values = m.numbers(e.at("value"));
    if (op == "add") {
      out.push_back(plmscope::add_to_state(at, values, where));
    } else if (op == "mean") {
      out.push_back(plmscope::set_state(at, values, where));
    } else {
      REQUIRE(op == "replace");
      out.push_back(plmscope::patch_states(at, values, values.size() / width, where));
    }
  }
  return out;
}

template <class B>
plmscope::sae<plmscope::top_k, B> sae_of(edited_model<B>& m) {
  const json& a = m.about.at("sae");
  const std::size_t d = m.model.d_model();
  const auto features = a.at("features").get<std::size_t>();
  plmscope::sae<plmscope::top_k, B> s(
      {.d_model = d, .features = features, .sparsifier = {.k = a.at("k").get<std::size_t>()}},
      m.model.backend());
  auto& p = s.parameters();
  const auto put = [&](const std::vector<double>& from, auto& to) {
    m.model.backend().upload(std::span<const double>(from), to.all());
  };
  put(m.numbers("sae.encoder.weight"), p.encoder);
  put(m.numbers("sae.encoder.bias"), p.encoder_bias);
  put(m.numbers("sae.b_dec"), p.decoder_bias);
  const auto columns = m.numbers("sae.decoder.weight");  // [d, F]
  std::vector<double> rows(columns.size());
  for (std::size_t f = 0; f < features; ++f) {
    for (std::size_t j = 0; j < d; ++j) rows[f * d + j] = columns[j * features + f];
  }
  put(rows, p.decoder);
  return s;
}

// f(backend, name) for every backend under test.
template <class F>
void for_backends(const F& f) {
  f(plmscope::cpu(2), "");
  f(cpu_double(2), "double");
  f(devices::single(), devices::name);
}

std::vector<fs::path> descriptions() { return golden::files("esm2_synthetic", ".edits.json"); }

}  // namespace

TEST_CASE("every intervention gives the official implementation's states and logits") {
  for (const auto& path : descriptions()) {
    for_backends([&]<class B>(B, const std::string& name) {
      edited_model<B> m(path);
      double worst = 0;
      std::size_t cases = 0;
      for (const json& c : m.about.at("cases")) {
        if (!c.contains("edits")) continue;
        CAPTURE(c.at("name").get<std::string>());
        plmscope::edits<B> change(edits_of(m, c.at("edits")));
        const double e = m.error_of(c.at("name"), c.at("input"), change);
        CHECK(e <= limit<B>);
        worst = golden::worse(worst, e);
        ++cases;
      }
      CHECK(cases > 0);
      golden::report(path / "edits" / name, worst, limit<B>);
    });
  }
}

TEST_CASE("an SAE spliced in: reconstruction, clamping, ablation, with and without the error") {
  using plmscope::error_term;
  using plmscope::latent_edit;
  for (const auto& path : descriptions()) {
    for_backends([&]<class B>(B, const std::string& name) {
      edited_model<B> m(path);
      const json& a = m.about.at("sae");
      auto sae = sae_of(m);
      const site at = m.at(a);
      const auto latent = a.at("latent").get<std::uint32_t>();
      const auto run = [&](const char* which, plmscope::splice_options options) {
        CAPTURE(std::string(which));
        const double e = m.error_of(which, "tokens", plmscope::splice(sae, at, options));
        CHECK(e <= limit<B>);
        return e;
      };
      double worst = run("sae.recon", {});
      worst = golden::worse(worst, run("sae.recon_residues", {.where = tokens::residues()}));
      worst = golden::worse(worst, run("sae.recon_plus_error", {.error = error_term::kept}));
      worst = golden::worse(
          worst,
          run("sae.clamp",
              {.where = tokens::residues(),
               .error = error_term::kept,
               .latents = {{.latent = latent, .value = a.at("clamp_value").get<double>()}}}));
      worst = golden::worse(worst, run("sae.latent_ablated", {.error = error_term::kept,
                                                              .latents = {{.latent = latent}}}));
      golden::report(path / "sae" / name, worst, limit<B>);

      // With the error kept and no latent edited, or one that is not active, not a bit changes.
      collect<typename B::real> clean({plmscope::logits{}});
      collect<typename B::real> spliced({plmscope::logits{}});
      const packed_batch batch = m.batch("tokens");
      m.model.forward(batch, clean);
      plmscope::splice same(
          sae, at,
          {.error = error_term::kept,
           .latents = {{.latent = latent, .what = latent_edit::action::scale, .value = 1}}});
      m.model.forward(batch, plmscope::hooks{same, spliced});
      const auto x = clean.states(plmscope::logits{});
      const auto y = spliced.states(plmscope::logits{});
      CHECK(std::vector(x.begin(), x.end()) == std::vector(y.begin(), y.end()));
    });
  }
}

TEST_CASE("masked-LM loss, its divergence and the share recovered by an SAE") {
  for (const auto& path : descriptions()) {
    using B = plmscope::cpu;
    edited_model<B> m(path);
    const json& about = m.about.at("mlm");
    auto sae = sae_of(m);
    const site at = m.at(about);
    const packed_batch batch = m.batch("mlm.tokens");
    const auto positions = m.file.read_vector<std::int32_t>("mlm.positions");
    // Logits of the masked positions under a condition.
    const auto scores = [&](auto&& hook) {
      collect<float> keep({plmscope::logits{}});
      m.model.forward(batch, plmscope::hooks{hook, keep});
      std::vector<std::vector<float>> out;
      for (const std::int32_t p : positions) {
        const auto row =
            keep.states(plmscope::logits{}).subspan(static_cast<std::size_t>(p) * 33, 33);
        out.emplace_back(row.begin(), row.end());
      }
      return out;
    };
    const auto clean = scores(plmscope::edits<B>({}));
    const auto spliced = scores(plmscope::splice(sae, at));
    const auto zero = scores(plmscope::edits<B>({plmscope::zero_state(at, m.model.width(at))}));
    const auto mean =
        scores(plmscope::edits<B>({plmscope::set_state(at, m.numbers(about.at("mean_vector")))}));

    double worst = 0;
    const json& expected = about.at("float64");
    const auto apart = [&](double ours, const std::string& key) {
      CAPTURE(key);
      const double e = std::abs(ours - expected.at(key).get<double>());
      CHECK(e <= 2e-5);
      worst = golden::worse(worst, e);
    };
    for (const char* targets : {"", "_model_targets"}) {
      const auto wanted =
          m.file.read_vector<std::int32_t>(*targets == 0 ? "mlm.targets" : "mlm.model_targets");
      const auto loss = [&](const std::vector<std::vector<float>>& rows) {
        double sum = 0;
        for (std::size_t i = 0; i < rows.size(); ++i) {
          sum += plmscope::cross_entropy(std::span<const float>(rows[i]), wanted[i]);
        }
        return sum / static_cast<double>(rows.size());
      };
      apart(loss(clean), std::string("clean") + targets);
      apart(loss(spliced), std::string("sae") + targets);
      apart(loss(zero), std::string("zero") + targets);
      apart(loss(mean), std::string("mean") + targets);
      apart(plmscope::loss_recovered(loss(clean), loss(spliced), loss(zero)),
            std::string("loss_recovered_zero") + targets);
      apart(plmscope::loss_recovered(loss(clean), loss(spliced), loss(mean)),
            std::string("loss_recovered_mean") + targets);
      // The formula alone, on the stored losses.
      const auto stored = [&](const char* key) {
        return expected.at(std::string(key) + targets).get<double>();
      };
      CHECK(plmscope::loss_recovered(stored("clean"), stored("sae"), stored("zero")) ==
            doctest::Approx(stored("loss_recovered_zero")).epsilon(1e-9));
    }
    const auto divergence = [&](const std::vector<std::vector<float>>& rows) {
      double sum = 0;
      for (std::size_t i = 0; i < rows.size(); ++i) {
        sum += plmscope::kl_divergence(std::span<const float>(clean[i]),
                                       std::span<const float>(rows[i]));
      }
      return sum / static_cast<double>(rows.size());
    };
    apart(divergence(spliced), "kl_clean_to_sae");
    apart(divergence(zero), "kl_clean_to_zero");
    apart(divergence(mean), "kl_clean_to_mean");
    golden::report(path / "mlm", worst, 2e-5);
  }
}

TEST_CASE("the states inside a block") {
  for (const auto& path : descriptions()) {
    for_backends([&]<class B>(B, const std::string& name) {
      edited_model<B> m(path);
      const packed_batch batch = m.batch("sites.tokens");
      double worst = 0;
      std::size_t compared = 0;
      for (std::size_t l = 0; l < m.model.layers(); ++l) {
        for (int k = 0; k <= static_cast<int>(site_kind::resid_post); ++k) {
          const site at(static_cast<site_kind>(k), l);
          const std::string key = "site." + to_string(at) + ".64";
          if (!m.file.contains(key)) continue;
          collect<typename B::real> keep({at});
          m.model.forward(batch, keep);
          const double e =
              golden::relative_l2(keep.states(at), std::span<const double>(m.numbers(key)));
          CAPTURE(key);
          CHECK(e <= limit<B>);
          worst = golden::worse(worst, e);
          ++compared;
        }
      }
      CHECK(compared >= 16);
      golden::report(path / "sites" / name, worst, limit<B>);
    });
  }
}
