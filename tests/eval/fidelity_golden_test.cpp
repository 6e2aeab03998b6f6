// SPDX-License-Identifier: MIT
// Every definition of fidelity against transformers and the published formulas
// (golden/fidelity.py), and against stored interventions of the reference data (README_models.md,
// section 2).
#include <tests/devices.hpp>
#include <tests/eval/fidelity_cases.hpp>
#include <tests/golden.hpp>

#include <plmscope/backend/cpu.hpp>
#include <plmscope/eval/fidelity.hpp>
#include <plmscope/plm/esm2.hpp>
#include <plmscope/plm/site.hpp>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <cstddef>
#include <fstream>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

using namespace fidelity_cases;
using plmscope::fidelity_figure;
using plmscope::fidelity_masking;
using plmscope::measure_fidelity;
namespace by = plmscope::fidelity_by;

namespace {

// A definition of a user's: whole states are replaced, masked or not.
struct everything {
  static constexpr std::string_view id = "everything";
  static constexpr std::string_view defect = "";
  static constexpr plmscope::fidelity_protocol protocol{.replaced = plmscope::fidelity_rows::all,
                                                        .ablated = plmscope::fidelity_rows::all};
  double recovered(double clean, double spliced, double ablated) const {
    return plmscope::share_recovered(clean, spliced, ablated);
  }
  double explained_variance(const plmscope::reconstruction_moments& m) const { return 1 - m.fvu(); }
};
static_assert(plmscope::fidelity_definition<everything>);

}  // namespace

TEST_CASE("every definition gives what transformers and the published formulas give") {
  const auto folder = golden::repository() / "tests/eval/golden";
  const json stored = json::parse(std::ifstream(folder / "fidelity.json"));
  const auto proteins = stored.at("proteins").get<std::vector<std::string>>();
  const auto masked = stored.at("masked").get<std::vector<std::vector<std::size_t>>>();
  const auto at = plmscope::parse_site(stored.at("site").get<std::string>());
  const auto under = [&]<class B>(B be, const std::string& name, double limit) {
    auto model = esm2<B>::load(golden::repository() / "examples/data/esm2_mini", {}, be);
    auto sae = stored_sae<B>(folder / "fidelity_sae.safetensors", stored.at("k"), be);
    std::size_t definitions = 0;
    double worst = 0;
    for (const auto& [id, expected] : stored.at("definitions").items()) {
      CAPTURE(id);
      CHECK(plmscope::with_fidelity_definition(id, [&](const auto& definition) {
        plmscope::fidelity_options options{.resamples = 0};
        if (id == "standard") options.masking = fidelity_masking::at(masked);
        const auto got = measure_fidelity(model, at, sae, proteins, definition, options);
        for (std::size_t f = 0; f < got.figures.size(); ++f) {
          const std::string figure(plmscope::fidelity_figure_names[f]);
          if (!expected.contains(figure)) continue;
          CAPTURE(figure);
          if (expected.at(figure).is_null()) {
            CHECK_FALSE(got.figures[f].defined());
            CHECK_FALSE(got.figures[f].why.empty());
            continue;
          }
          const double e =
              std::abs(got.figures[f].value - expected.at(figure).template get<double>());
          CHECK(e <= limit);
          worst = golden::worse(worst, e);
        }
        ++definitions;
      }));
    }
    CHECK(definitions == std::tuple_size_v<by::every>);
    golden::report(folder / "fidelity" / name, worst, limit);
  };
  under(cpu_double(2), "double", 1e-7);
  under(plmscope::cpu(2), "float", 5e-5);
}

TEST_CASE("the stored masked losses of the reference data, by a definition of one's own") {
  for (const auto& path : golden::files("esm2_synthetic", ".edits.json")) {
    const auto under = [&]<class B>(B be, const std::string& name) {
      stored_edits<B> m(path, be);
      const json& about = m.about.at("mlm");
      plmscope::fidelity_options options{.resamples = 0};
      options.masking = fidelity_masking::at({m.masked_residues()});
      const std::vector<std::string> proteins{m.sequence()};
      const auto got = measure_fidelity(m.model, m.at(), m.sae, proteins, everything{}, options);
      const json& expected = about.at("float64");
      double worst = 0;
      const auto apart = [&](fidelity_figure f, const char* key) {
        CAPTURE(key);
        const double e = std::abs(got[f].value - expected.at(key).template get<double>());
        CHECK(e <= 2e-5);
        worst = golden::worse(worst, e);
      };
      CHECK(got.predictions == m.masked_residues().size());
      apart(fidelity_figure::loss_clean, "clean");
      apart(fidelity_figure::loss_spliced, "sae");
      apart(fidelity_figure::loss_zero, "zero");
      apart(fidelity_figure::recovered_zero, "loss_recovered_zero");
      apart(fidelity_figure::kl_spliced, "kl_clean_to_sae");
      apart(fidelity_figure::kl_zero, "kl_clean_to_zero");
      golden::report(path / "fidelity" / name, worst, 2e-5);
    };
    under(plmscope::cpu(2), "");
    under(devices::single(), devices::name);
  }
}
