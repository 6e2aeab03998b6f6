// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/acts/harvest.hpp>
#include <plmscope/acts/rules.hpp>
#include <plmscope/core/activation_source.hpp>
#include <plmscope/core/progress.hpp>
#include <plmscope/io/sha256.hpp>
#include <plmscope/plm/language_model.hpp>
#include <plmscope/plm/site.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Activations at several sites from one pass over a model, as floats in the memory of the host:
/// what a store is on disk, for data that fit. Any number of `activation_memory_reader` read from
/// it, so that a model runs once for all SAEs that are trained on it. Rows are residues, protein by
/// protein in the order of the list.
class activation_memory {
 public:
  /// Bytes of the rows of so many residues.
  template <class Model>
  static std::size_t bytes(const Model& model, std::span<const site> sites, std::size_t residues) {
    std::size_t width = 0;
    for (const site& at : sites) width += model.width(at);
    return residues * width * sizeof(float);
  }

  /// Runs the model once over all sequences, no further than the last site. All of them are
  /// tokenized first, so that a wrong one is refused before the model has run for hours.
  /// `progress(rows done, rows to do)` after every batch. Errors: acts.101 without a residue,
  /// acts.102 for no site or one without a row per residue, acts.103, those of model and tokenizer.
  template <class Model, class Progress = no_progress>
  static activation_memory of(Model& model, std::vector<site> sites,
                              std::span<const std::string> sequences, const Progress& progress = {},
                              std::size_t tokens_per_batch = 8192) {
    static_assert(require_language_model<Model>::value);
    using backend_type = typename Model::backend_type;
    activation_memory out;
    out.describe(model, sites, sequences);
    keep_residues_at<backend_type> keep(std::move(sites));
    auto batch = make_batch(model);
    std::size_t done = 0;
    for (std::size_t p = 0; p < sequences.size();) {
      batch.clear();
      while (p < sequences.size() &&
             (batch.sequences() == 0 || batch.rows() + out.rows_of(p) + 2 <= tokens_per_batch)) {
        if (!sequences[p].empty()) batch.add(std::string_view(sequences[p]));
        ++p;
      }
      if (batch.sequences() == 0) break;
      keep.start(batch);
      model.forward(batch, keep);
      for (std::size_t i = 0; i < out.sites_.size(); ++i) {
        out.sites_[i].put(model.backend(), keep.rows(i), done);
      }
      done += batch.rows() - 2 * batch.sequences();
      progress(done, out.rows());
    }
    return out;
  }

  std::size_t rows() const noexcept { return first_.back(); }
  std::size_t proteins() const noexcept { return first_.size() - 1; }
  /// Of protein `p`: its first row, and how many it has.
  std::size_t first_row(std::size_t p) const noexcept { return first_[p]; }
  std::size_t rows_of(std::size_t p) const noexcept { return first_[p + 1] - first_[p]; }
  std::size_t sites() const noexcept { return sites_.size(); }
  const activation_source& source(std::size_t site) const noexcept { return sites_[site].source; }
  std::size_t width(std::size_t site) const noexcept { return sites_[site].width; }
  /// Rows [first, first + count) of a site, [count, width].
  std::span<const float> numbers(std::size_t site, std::size_t first,
                                 std::size_t count) const noexcept {
    const auto& s = sites_[site];
    return std::span(s.numbers).subspan(first * s.width, count * s.width);
  }
  /// The index of a site by name; acts.113 lists the sites there are.
  std::size_t find(std::string_view name) const {
    std::string names;
    for (std::size_t i = 0; i < sites_.size(); ++i) {
      if (sites_[i].source.site == name) return i;
      names += (names.empty() ? "" : ", ") + sites_[i].source.site;
    }
    throw error(rules::store_site_missing, {.expected = std::string(name), .found = names});
  }
  /// SHA-256 of the sequences.
  const std::string& sequences_hash() const noexcept { return sequences_hash_; }

 private:
  struct site_rows {
    activation_source source;
    std::size_t width;
    std::vector<float> numbers;

    template <class B>
    void put(B& be, const_view<B> rows, std::size_t first) {
      if (!be.all_finite(rows)) {
        throw error(rules::acts_not_finite,
                    {.where = source.site + ", rows from " + std::to_string(first),
                     .remedy = "check the model file with `plmscope info`"});
      }
      be.download(rows, std::span(numbers).subspan(first * width, rows.size()));
    }
    template <class B>
    void put(B& be, const matrix<typename B::real, B>& rows, std::size_t first) {
      put(be, const_view<B>(rows), first);
    }
  };

  template <class Model>
  void describe(const Model& model, const std::vector<site>& sites,
                std::span<const std::string> sequences) {
    if (sites.empty()) throw error(rules::acts_site, {.found = "no site"});
    for (const site& at : sites) {
      model.check(at);
      if (at.kind() == site_kind::logits || at.kind() == site_kind::attn_map) {
        throw error(rules::acts_site, {.found = to_string(at)});
      }
    }
    sha256 list;
    auto batch = make_batch(model);
    for (const auto& s : sequences) {
      list.update(std::uint64_t{s.size()});
      list.update(std::string_view(s));
      batch.clear();
      if (!s.empty()) batch.add(std::string_view(s));
      first_.push_back(first_.back() + (s.empty() ? 0 : batch.rows() - 2));
    }
    if (rows() == 0) throw error(rules::acts_no_proteins, {.found = "no residue"});
    sequences_hash_ = list.hex();
    for (const site& at : sites) {
      const std::size_t width = model.width(at);
      sites_.push_back({model.source(at), width, std::vector<float>(rows() * width)});
    }
  }

  std::vector<std::size_t> first_{0};  // row of each protein, and the end
  std::vector<site_rows> sites_;
  std::string sequences_hash_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
