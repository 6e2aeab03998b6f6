// SPDX-License-Identifier: MIT
#pragma once

#include <tests/golden.hpp>

#include <plmscope/backend/cpu.hpp>
#include <plmscope/eval/fidelity.hpp>
#include <plmscope/eval/spliced_states.hpp>
#include <plmscope/io/safetensors.hpp>
#include <plmscope/plm/esm2.hpp>
#include <plmscope/sae/sae.hpp>

#include <nlohmann/json.hpp>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <vector>

// Models, SAEs and proteins for tests of fidelity.
namespace fidelity_cases {

using json = nlohmann::json;
using plmscope::esm2;
using cpu_double = plmscope::basic_cpu<double, plmscope::eigen_gemm>;

inline esm2<> mini(std::size_t threads = 2) {
  return esm2<>::load(golden::repository() / "examples/data/esm2_mini", {}, plmscope::cpu(threads));
}

inline const std::string& long_protein() {
  static const std::string text =
      "MKTVRQERLKSIVRILERSKEPVSGAQLAEELSVSRQVIVQDIAYLRSLGYNIVATPRGYVLAGGHHHHHHWYCDNFTPQMLIVKRE"
      "GASTYVLLDPWQRKNHEMFCIGATSLVPDKEQRYWHNMLIFGCATVSPDEKRQHNYWMF";
  return text;
}

inline const std::vector<std::string>& proteins() {
  static const std::vector<std::string> list{long_protein().substr(0, 65), "MKTAYIAKQR", "W",
                                             long_protein().substr(60, 40)};
  return list;
}

inline plmscope::sae<> random_sae(esm2<>& esm, std::uint64_t seed = 0) {
  return plmscope::sae<>(
      {.d_model = esm.d_model(), .features = 256, .sparsifier = {.k = 8}, .seed = seed},
      esm.backend());
}

/// Gives back what it gets.
struct perfect {
  plmscope::cpu be{1};
  void reconstruct(plmscope::const_view<plmscope::cpu> x, plmscope::view<plmscope::cpu> out) {
    be.copy(x, out);
  }
};

/// Gives back the same row always.
struct constant {
  std::vector<float> row;
  void reconstruct(plmscope::const_view<plmscope::cpu>, plmscope::view<plmscope::cpu> out) {
    for (std::size_t r = 0; r < out.rows(); ++r) {
      for (std::size_t j = 0; j < out.cols(); ++j) out(r, j) = row[j];
    }
  }
};

/// Mean of the states of all residues of `proteins()`.
inline std::vector<float> mean_state(esm2<>& esm, plmscope::site at) {
  plmscope::state_sums<plmscope::cpu> sums(at, esm.width(at));
  plmscope::packed_batch batch;
  for (const auto& p : proteins()) batch.add(p);
  esm.forward(batch, sums);
  const auto mean = sums.mean(plmscope::fidelity_rows::residues);
  return {mean.begin(), mean.end()};
}

/// Encoder [F, d], decoder [d, F] or [F, d], biases.
template <class B>
plmscope::sae<plmscope::top_k, B> filled(B& be, std::size_t d, std::size_t features, std::size_t k,
                                         const std::vector<double>& encoder,
                                         const std::vector<double>& encoder_bias,
                                         const std::vector<double>& decoder,
                                         const std::vector<double>& bias) {
  plmscope::sae<plmscope::top_k, B> s({.d_model = d, .features = features, .sparsifier = {.k = k}},
                                      be);
  const auto put = [&](const std::vector<double>& from, auto& to) {
    be.upload(std::span<const double>(from), to.all());
  };
  put(encoder, s.parameters().encoder);
  put(encoder_bias, s.parameters().encoder_bias);
  put(decoder, s.parameters().decoder);
  put(bias, s.parameters().decoder_bias);
  return s;
}

/// The SAE of golden/fidelity.py.
template <class B>
plmscope::sae<plmscope::top_k, B> stored_sae(const std::filesystem::path& path, std::size_t k,
                                             B& be) {
  const auto file = plmscope::safetensors_file::open(path);
  const auto bias = file.read_vector<double>("b_dec");
  const auto encoder_bias = file.read_vector<double>("encoder.bias");
  return filled(be, bias.size(), encoder_bias.size(), k, file.read_vector<double>("encoder.weight"),
                encoder_bias, file.read_vector<double>("decoder.weight"), bias);
}

/// A NAME.edits.json of the reference data with its model and SAE.
template <class B>
struct stored_edits {
  stored_edits(const std::filesystem::path& description, B be)
      : about(json::parse(std::ifstream(description))),
        file(plmscope::safetensors_file::open(
            std::filesystem::path(description).replace_extension(".safetensors"))),
        model(
            esm2<B>::load(description.parent_path() / about.at("model").template get<std::string>(),
                          {}, std::move(be))),
        sae(read_sae()) {}

  plmscope::site at() const {
    const json& m = about.at("mlm");
    return plmscope::parse_site(m.at("site").template get<std::string>() + "." +
                                std::to_string(m.at("layer").template get<int>()));
  }
  std::vector<std::size_t> masked_residues() const {
    std::vector<std::size_t> out;
    for (const auto t : file.template read_vector<std::int32_t>("mlm.positions")) {
      out.push_back(static_cast<std::size_t>(t) - 1);
    }
    return out;
  }
  /// The sequence with its masked residues filled in.
  std::string sequence() const {
    auto tokens = file.template read_vector<std::int32_t>("mlm.tokens");
    const auto targets = file.template read_vector<std::int32_t>("mlm.targets");
    const auto positions = file.template read_vector<std::int32_t>("mlm.positions");
    for (std::size_t i = 0; i < positions.size(); ++i) {
      tokens[static_cast<std::size_t>(positions[i])] = targets[i];
    }
    std::string text;
    for (std::size_t t = 1; t + 1 < tokens.size(); ++t) {
      text += plmscope::alphabet::tokens[static_cast<std::size_t>(tokens[t])];
    }
    return text;
  }

  json about;
  plmscope::safetensors_file file;
  esm2<B> model;
  plmscope::sae<plmscope::top_k, B> sae;

 private:
  plmscope::sae<plmscope::top_k, B> read_sae() {
    const json& a = about.at("sae");
    const std::size_t d = model.d_model();
    const auto features = a.at("features").template get<std::size_t>();
    const auto columns = file.template read_vector<double>("sae.decoder.weight");  // [d, F]
    std::vector<double> rows(columns.size());
    for (std::size_t f = 0; f < features; ++f) {
      for (std::size_t j = 0; j < d; ++j) rows[f * d + j] = columns[j * features + f];
    }
    return filled(model.backend(), d, features, a.at("k").template get<std::size_t>(),
                  file.template read_vector<double>("sae.encoder.weight"),
                  file.template read_vector<double>("sae.encoder.bias"), rows,
                  file.template read_vector<double>("sae.b_dec"));
  }
};

/// Every figure and every sum of every protein, bit for bit.
inline bool same(const plmscope::fidelity& a, const plmscope::fidelity& b) {
  const auto bits = [](double x, double y) {
    return golden::same_bits(std::span<const double>(&x, 1), std::span<const double>(&y, 1)) ||
           (std::isnan(x) && std::isnan(y));
  };
  bool equal = a.of_protein.size() == b.of_protein.size();
  for (std::size_t f = 0; f < a.figures.size(); ++f) {
    equal = equal && bits(a.figures[f].value, b.figures[f].value) &&
            bits(a.figures[f].low, b.figures[f].low) && bits(a.figures[f].high, b.figures[f].high);
  }
  for (std::size_t p = 0; equal && p < a.of_protein.size(); ++p) {
    const auto& x = a.of_protein[p];
    const auto& y = b.of_protein[p];
    equal = x.losses == y.losses && x.divergences == y.divergences && x.agreeing == y.agreeing &&
            x.scored == y.scored && x.rebuilt.squared_error == y.rebuilt.squared_error &&
            x.rebuilt.variance == y.rebuilt.variance;
  }
  return equal;
}

template <class F>
std::string id_of(const F& f) {
  try {
    f();
  } catch (const plmscope::error& e) {
    return std::string(e.id());
  }
  return "nothing";
}

}  // namespace fidelity_cases
