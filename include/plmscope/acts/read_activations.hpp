// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/acts/model_reader.hpp>
#include <plmscope/acts/shuffled_rows.hpp>
#include <plmscope/io/fasta.hpp>
#include <plmscope/io/uniprot_tsv.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// The sequences of FASTA records or annotated proteins, in order.
template <class Proteins>
std::vector<std::string> sequences_of(const Proteins& proteins) {
  std::vector<std::string> out;
  for (const auto& p : proteins) out.push_back(p.sequence);
  return out;
}

/// Activations of a model for training: endless shuffled rows of `proteins` at a site.
///
///   auto esm = plmscope::esm2<>::load("weights/esm2_t6_8M_UR50D");
///   auto acts = plmscope::read_activations(esm, plmscope::resid_post{4},
///                                          plmscope::read_fasta("uniref50.fasta"));
template <class Model, class Proteins>
auto read_activations(Model& model, site at, const Proteins& proteins, std::uint64_t seed = 0,
                      std::size_t buffer_rows = std::size_t{1} << 18) {
  return shuffled_rows<model_reader<Model>, typename Model::backend_type>(
      model_reader<Model>(model, at, sequences_of(proteins), seed), seed, buffer_rows);
}

/// The same at several sites of one width, side by side in a row: what a crosscoder reads, and what
/// `transcoded_rows` takes apart.
template <class Model, class Proteins>
auto read_activations(Model& model, std::vector<site> at, const Proteins& proteins,
                      std::uint64_t seed = 0, std::size_t buffer_rows = std::size_t{1} << 18) {
  return shuffled_rows<model_reader<Model>, typename Model::backend_type>(
      model_reader<Model>(model, std::move(at), sequences_of(proteins), seed), seed, buffer_rows);
}

}  // namespace plmscope
