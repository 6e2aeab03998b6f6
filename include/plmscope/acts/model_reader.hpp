// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/acts/activation_batch.hpp>
#include <plmscope/acts/reader.hpp>
#include <plmscope/acts/rules.hpp>
#include <plmscope/core/rng.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/fwd.hpp>
#include <plmscope/io/sha256.hpp>
#include <plmscope/plm/hook.hpp>
#include <plmscope/plm/language_model.hpp>
#include <plmscope/plm/site.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Copies the rows of residues of a slice, leaving out the first and last token of every sequence,
/// to rows `next` and following of `out`. Returns the row after them.
template <class B>
std::size_t copy_residues(B& be, view<B> states, const batch_slice& slice, view<B> out,
                          std::size_t next) {
  for (std::size_t s = 0; s < slice.sequences(); ++s) {
    const auto first = static_cast<std::size_t>(slice.offsets[s]) + 1;
    const auto count = static_cast<std::size_t>(slice.offsets[s + 1]) - 1 - first;
    be.copy(const_view<B>(states.row_range(first, count)), out.row_range(next, count));
    next += count;
  }
  return next;
}

/// Copies the rows of residues at some sites, side by side in the order of the sites, leaving out
/// `<cls>` and `<eos>` of every sequence.
template <class B>
class keep_residues {
 public:
  keep_residues(std::vector<site> at, matrix<typename B::real, B>& out)
      : at_(std::move(at)), out_(out), next_(at_.size(), 0) {}
  keep_residues(site at, matrix<typename B::real, B>& out)
      : keep_residues(std::vector<site>{at}, out) {}

  const std::vector<site>& sites() const noexcept { return at_; }
  void operator()(B& be, site here, view<B> states, const batch_slice& slice) {
    const auto i = static_cast<std::size_t>(std::find(at_.begin(), at_.end(), here) - at_.begin());
    // Sites of one reader have the width of the model; one alone may have another.
    const auto columns = out_.all().col_range(at_.size() == 1 ? 0 : i * states.cols(),
                                              states.cols());
    next_[i] = copy_residues(be, states, slice, columns, next_[i]);
  }

 private:
  std::vector<site> at_;
  matrix<typename B::real, B>& out_;
  std::vector<std::size_t> next_;
};

/// Reads activations of a model at a site, running it on the fly and no further than the site; or at
/// several sites of one width, whose states then stand side by side in a row (for transcoders and
/// crosscoders). Rows are residues; which protein and position each belongs to is known. All
/// sequences are
/// tokenized once at the start, so that a wrong one is refused before the model has run for hours.
/// The model must outlive the reader. Errors: `acts_no_proteins`, `acts_site`, and those of
/// tokenizer and model.
template <class Model>
class model_reader {
  static_assert(require_language_model<Model>::value);

 public:
  using backend_type = typename Model::backend_type;

  model_reader(Model& model, site at, std::vector<std::string> sequences, std::uint64_t seed = 0,
               std::size_t tokens_per_batch = 8192)
      : model_reader(model, std::vector<site>{at}, std::move(sequences), seed, tokens_per_batch) {}

  model_reader(Model& model, std::vector<site> at, std::vector<std::string> sequences,
               std::uint64_t seed = 0, std::size_t tokens_per_batch = 8192)
      : model_(&model),
        at_(std::move(at)),
        sequences_(std::move(sequences)),
        seed_(seed),
        tokens_per_batch_(tokens_per_batch),
        batch_(make_batch(model)) {
    check_sites();
    for (const auto& s : sequences_) {
      batch_.clear();
      residues_.push_back(static_cast<std::uint32_t>(add(s)));
      total_rows_ += residues_.back();
    }
    batch_.clear();
    if (total_rows_ == 0) throw error(rules::acts_no_proteins, {.found = "no residue"});
  }

  /// Several sites are named `a+b`.
  activation_source source() const {
    activation_source s = model_->source(at_.front());
    for (std::size_t i = 1; i < at_.size(); ++i) s.site += "+" + to_string(at_[i]);
    return s;
  }
  std::size_t width() const noexcept { return at_.size() * model_->width(at_.front()); }
  std::size_t total_rows() const noexcept { return total_rows_; }
  std::size_t proteins() const noexcept { return sequences_.size(); }
  const std::vector<std::string>& sequences() const noexcept { return sequences_; }

  void rewind(std::size_t epoch) noexcept {
    next_ = 0;
    epoch_ = epoch;
  }

  bool read(backend_type& be, activation_batch<backend_type>& out) {
    batch_.clear();
    if (!take(out.origins, [&](std::size_t p) { add(sequences_[p]); })) return false;
    out.rows.reshape(be, out.origins.size(), width());
    model_->forward(batch_, keep_residues<backend_type>(at_, out.rows));
    if (!be.all_finite(out.rows)) {
      throw error(rules::acts_not_finite,
                  {.where = "batch from protein " + std::to_string(out.origins.front().protein),
                   .remedy = "check the model file with `plmscope info`"});
    }
    return true;
  }

  /// Goes past the batch that `read` would deliver, without running the model.
  bool pass(std::vector<row_origin>& origins) {
    return take(origins, [](std::size_t) {});
  }

  /// Model, site, sequences, seed and size of batches: what decides every row and its place.
  std::string identity() const {
    sha256 list;
    for (const auto& s : sequences_) {
      list.update(std::uint64_t{s.size()});
      list.update(std::string_view(s));
    }
    const auto from = source();
    return "model " + from.model + " " + from.model_hash + " at " + from.site + ", sequences " +
           list.hex() + ", seed " + std::to_string(seed_) + ", " +
           std::to_string(tokens_per_batch_) + " tokens a batch";
  }

 private:
  void check_sites() const {
    if (at_.empty()) throw error(rules::acts_site, {.found = "no site"});
    for (std::size_t i = 0; i < at_.size(); ++i) {
      model_->check(at_[i]);
      const bool twice = std::find(at_.begin(), at_.begin() + static_cast<std::ptrdiff_t>(i),
                                   at_[i]) != at_.begin() + static_cast<std::ptrdiff_t>(i);
      if (at_[i].kind() == site_kind::logits || at_[i].kind() == site_kind::attn_map || twice ||
          model_->width(at_[i]) != model_->width(at_.front())) {
        throw error(rules::acts_site, {.found = to_string(at_[i]) +
                                                (twice ? " twice" : at_.size() > 1
                                                                        ? " beside others" : "")});
      }
    }
  }

  // The next batch: its residues, and each(p) for its sequences.
  template <class Each>
  bool take(std::vector<row_origin>& origins, const Each& each) {
    origins.clear();
    const permutation order(sequences_.size(), seed_, 0xac7500 + epoch_);
    std::size_t tokens = 0;
    while (next_ < sequences_.size() && tokens < tokens_per_batch_) {
      const std::size_t p = epoch_ == 0 ? next_ : static_cast<std::size_t>(order(next_));
      if (tokens > 0 && tokens + sequences_[p].size() + 2 > tokens_per_batch_) break;
      ++next_;
      if (sequences_[p].empty()) continue;
      each(p);
      for (std::uint32_t i = 0; i < residues_[p]; ++i) {
        origins.push_back({static_cast<std::uint32_t>(p), i});
      }
      tokens += residues_[p] + 2;
    }
    return tokens > 0;
  }

  // One residue is one token between the first and the last.
  std::size_t add(const std::string& sequence) {
    batch_.add(std::string_view(sequence));
    return batch_.length(batch_.sequences() - 1) - 2;
  }

  Model* model_;
  std::vector<site> at_;
  std::vector<std::string> sequences_;
  std::vector<std::uint32_t> residues_;  // of each
  std::uint64_t seed_;
  std::size_t tokens_per_batch_;
  std::size_t total_rows_ = 0;
  std::size_t next_ = 0;
  std::size_t epoch_ = 0;
  typename Model::batch_type batch_;
};

/// A reader of ESM-2.
template <class Backend = cpu>
using esm2_reader = model_reader<esm2<Backend>>;

}  // namespace plmscope::inline PLMSCOPE_ABI
