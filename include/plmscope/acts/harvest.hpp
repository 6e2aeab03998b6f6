// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/acts/activation_store_writer.hpp>
#include <plmscope/acts/model_reader.hpp>
#include <plmscope/acts/rules.hpp>
#include <plmscope/core/progress.hpp>
#include <plmscope/plm/hook.hpp>
#include <plmscope/plm/language_model.hpp>
#include <plmscope/plm/site.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// A hook that copies the rows of residues at several sites in one pass, leaving out `<cls>` and
/// `<eos>` of every sequence. `start` it before every batch.
template <class B>
class keep_residues_at {
 public:
  explicit keep_residues_at(std::vector<site> sites)
      : sites_(std::move(sites)), rows_(sites_.size()) {}

  const std::vector<site>& sites() const noexcept { return sites_; }
  template <class Batch>
  void start(const Batch& batch) {
    next_.assign(sites_.size(), 0);
    residues_ = batch.rows() - 2 * batch.sequences();
  }
  void operator()(B& be, site here, view<B> states, const batch_slice& slice) {
    for (std::size_t i = 0; i < sites_.size(); ++i) {
      if (sites_[i] != here) continue;
      if (next_[i] == 0) rows_[i].reshape(be, residues_, states.cols());
      next_[i] = copy_residues(be, states, slice, rows_[i].all(), next_[i]);
    }
  }

  /// The rows at site `i` of the list, [residues, width].
  const matrix<typename B::real, B>& rows(std::size_t i) const noexcept { return rows_[i]; }

 private:
  std::vector<site> sites_;
  std::vector<matrix<typename B::real, B>> rows_;
  std::vector<std::size_t> next_;
  std::size_t residues_ = 0;
};

struct harvest_options {
  dtype numbers = dtype::bf16;
  std::size_t shard_bytes = std::size_t{256} << 20;  ///< about; also the memory needed for a shard
};

/// The manifest of a store of these sites of a model for these proteins. Errors: acts.102 for
/// logits, acts.105, plm.108.
template <class Model>
store_manifest manifest_for(const Model& model, const std::vector<site>& sites,
                            std::span<const protein_sequence> proteins,
                            harvest_options options = {}) {
  store_manifest m;
  m.model = model.identity().name;
  m.model_hash = model.identity().content_hash;
  for (const site& at : sites) {
    model.check(at);
    if (at.kind() == site_kind::logits || at.kind() == site_kind::attn_map) {
      throw error(rules::acts_site, {.found = to_string(at)});
    }
    m.sites.push_back({to_string(at), model.width(at)});
  }
  m.numbers = options.numbers;
  m.proteins = proteins.size();
  for (const auto& p : proteins) m.residues += p.sequence.size();
  m.proteins_hash = hash_proteins(proteins);
  m.shard_rows = shard_rows_for(m, options.shard_bytes);
  m.check();
  return m;
}

/// Runs the model once over the proteins that `store` misses, no further than the last site, and
/// writes all sites. `proteins` is the whole list of the manifest. `progress(rows done, rows to
/// do)` after every batch. Stopped at any moment and called again with a new writer, it goes on
/// where it was. Errors: acts.112 when the model is not the manifest's, those of model,
/// `shard_image` and writer.
template <class Model, class System, class Progress = no_progress>
void harvest(Model& model, std::span<const protein_sequence> proteins,
             basic_activation_store_writer<System>& store, const Progress& progress = {},
             std::size_t tokens_per_batch = 8192) {
  const store_manifest& manifest = store.manifest();
  std::vector<site> sites;
  for (const auto& s : manifest.sites) sites.push_back(parse_site(s.name));
  const activation_source source = model.source(sites.front());
  if (source.model_hash != manifest.model_hash) {
    throw error(rules::store_other, {.where = source.model,
                                     .expected = "model_hash " + manifest.model_hash,
                                     .found = source.model_hash});
  }
  std::size_t done = 0, total = 0;
  for (const auto& range : store.missing()) {
    for (std::size_t p = range.first; p < range.end; ++p) total += proteins[p].sequence.size();
  }
  using backend_type = typename Model::backend_type;
  keep_residues_at<backend_type> keep(sites);
  auto batch = make_batch(model);
  std::vector<float> numbers;
  for (const auto& range : store.missing()) {
    shard_image shard(manifest, proteins, range);
    for (std::size_t p = range.first; p < range.end;) {
      batch.clear();
      while (p < range.end && (batch.empty() || batch.rows() + proteins[p].sequence.size() + 2 <=
                                                    tokens_per_batch)) {
        if (!proteins[p].sequence.empty()) batch.add(proteins[p].sequence);
        ++p;
      }
      if (batch.empty()) continue;
      keep.start(batch);
      model.forward(batch, keep);
      for (std::size_t i = 0; i < sites.size(); ++i) {
        const const_view<backend_type> rows = keep.rows(i);
        numbers.resize(rows.size());
        model.backend().download(rows, std::span<float>(numbers));
        shard.put(i, numbers);
      }
      done += batch.rows() - 2 * batch.sequences();
      progress(done, total);
    }
    store.add(shard);
  }
}

}  // namespace plmscope::inline PLMSCOPE_ABI
