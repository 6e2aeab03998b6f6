// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/acts/model_reader.hpp>
#include <plmscope/acts/rules.hpp>
#include <plmscope/backend/cpu.hpp>
#include <plmscope/core/activation_source.hpp>
#include <plmscope/core/rng.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/io/sha256.hpp>
#include <plmscope/plm/esm2.hpp>
#include <plmscope/plm/esm2_gradient.hpp>
#include <plmscope/plm/hook.hpp>
#include <plmscope/plm/packed_batch.hpp>
#include <plmscope/plm/rules.hpp>
#include <plmscope/plm/site.hpp>
#include <plmscope/plm/tokenizer.hpp>
#include <plmscope/sae/description.hpp>
#include <plmscope/sae/rules.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

struct model_behind_options {
  /// Share of residues that the model sees as `<mask>`, drawn anew whenever a protein comes; the
  /// divergence is then that at masked residues. 0: nothing is masked, all residues count.
  double masked = 0;
  /// Weight of what the layers above make of the results: mean over those layers and all tokens of
  /// |a - a'|^2 of the states they leave (downstream reconstruction; Braun et al. 2024).
  double downstream = 0;
  std::uint64_t seed = 0;
};

/// The model behind an SAE, for trainings by `end_to_end`: a reader of whole proteins, and the
/// divergence of what the model predicts when the SAE's results take the place of the residues'
/// states at a site. `<cls>` and `<eos>` keep theirs.
///
///   plmscope::model_behind<> behind(esm, plmscope::resid_post{4}, sequences);
///   plmscope::trainer fit{.loss = plmscope::end_to_end{.behind = &behind}};
///   fit(sae, behind);
///
/// A batch has whole proteins, as many as give it at least the rows that were asked for, in an
/// order drawn for each pass over them. D is the mean over residues that count of KL(clean ||
/// spliced) = sum_t p_t (log p_t - log p'_t) over the alphabet, in nats, and what `downstream`
/// adds.
///
/// Cost of a batch: a forward pass for `next`, and a second with about three times what lies above
/// the site for the gradient; logits pass through the host. Memory: states of the batch at the
/// site, with `downstream` of every layer above, and that of `logit_gradient`. The model must
/// outlive it. Errors: acts.101 without a residue, sae.140, plm.133 for a site off the residual
/// stream, plm.114 without an LM head, plm.132 for rows that are not those of the last batch, and
/// those of the tokenizer.
template <class Backend = cpu>
class model_behind {
 public:
  using backend_type = Backend;
  using real = typename Backend::real;

  model_behind(esm2<Backend>& model, site at, std::vector<std::string> sequences,
               model_behind_options options = {})
      : model_(&model), at_(at), options_(options), back_(model, at, objective{this}) {
    const bool known = options.masked >= 0 && options.masked < 1 && options.downstream >= 0 &&
                       std::isfinite(options.downstream);
    if (!known) {
      throw error(rules::sae_behind, {.where = "model_behind",
                                      .expected = "masked in [0, 1), downstream 0 or more",
                                      .found = std::to_string(options.masked) + " and " +
                                               std::to_string(options.downstream)});
    }
    for (auto& s : sequences) {
      if (tokenize(std::string_view(s)).size() > 2) sequences_.push_back(std::move(s));
    }
    if (sequences_.empty()) throw error(rules::acts_no_proteins, {.found = "no residue"});
    for (const site& s : back_.sites()) {
      if (s != at_ && s.kind() == site_kind::resid_post) above_.push_back({s, {}});
    }
  }
  model_behind(const model_behind&) = delete;
  model_behind& operator=(const model_behind&) = delete;

  activation_source source() const { return model_->source(at_); }
  std::size_t width() const { return model_->width(at_); }
  /// Proteins drawn so far; a training that is resumed goes on with the next.
  std::size_t position() const noexcept { return next_; }
  void seek(Backend&, std::size_t position) noexcept { next_ = position; }
  std::string identity() const {
    sha256 list;
    for (const auto& s : sequences_) {
      list.update(std::uint64_t{s.size()});
      list.update(std::string_view(s));
    }
    const auto from = source();
    return "proteins before model " + from.model + " " + from.model_hash + " at " + from.site +
           ", sequences " + list.hex() + ", seed " + std::to_string(options_.seed) + ", masked " +
           sae_fields::text(options_.masked) + ", downstream " +
           sae_fields::text(options_.downstream);
  }

  /// States of the residues of the next whole proteins, [at least `rows`, d]; until the next call.
  const_view<Backend> next(Backend& be, std::size_t rows) {
    batch_.clear();
    ids_.clear();
    counted_.clear();
    do add_protein();
    while (ids_.size() < rows);
    states_.reshape(be, ids_.size(), width());
    clean_.clear();
    for (auto& layer : above_) layer.states.reshape(be, batch_.rows(), model_->d_model());
    const bool all = options_.downstream > 0;
    model_->forward(batch_, look{*this, all ? back_.sites() : std::vector<site>{at_, logits{}}});
    row_ids_.reshape(be, 1, ids_.size());
    be.upload(std::span<const std::uint32_t>(ids_), row_ids_.all());
    model_->backend().synchronize();  // a trainer may have a queue of its own
    return states_;
  }

  /// D of these rows in place of the states of the last batch, and its gradient [m, d].
  double operator()(Backend& be, const_view<Backend> rows, view<Backend> gradient) {
    if (rows.rows() != ids_.size() || rows.cols() != width()) {
      throw error(
          rules::edit_shape,
          {.where = to_string(at_),
           .expected = std::to_string(ids_.size()) + " rows of width " + std::to_string(width()),
           .found = "[" + std::to_string(rows.rows()) + ", " + std::to_string(rows.cols()) + "]"});
    }
    divergence_ = 0;
    be.synchronize();
    model_->forward(batch_, hooks{put{*this, rows}, back_});
    all_.reshape(be, batch_.rows(), width());
    be.upload(back_.gradient(), all_.all());
    be.gather_rows(const_view<Backend>(all_), const_view<Backend, std::uint32_t>(row_ids_),
                   gradient);
    return back_.value();
  }

  /// KL(clean || spliced) of the last call, in nats per residue that counts.
  double divergence() const noexcept { return divergence_; }

 private:
  // What the clean pass leaves.
  struct look {
    model_behind& to;
    std::vector<site> at;
    std::size_t next = 0;
    const std::vector<site>& sites() const noexcept { return at; }
    void operator()(Backend& be, site here, view<Backend> states, const batch_slice& slice) {
      if (here == to.at_) {
        next = copy_residues(be, states, slice, to.states_.all(), next);
      } else if (here.kind() == site_kind::logits) {
        const std::size_t old = to.clean_.size();
        to.clean_.resize(old + states.size());
        be.download(const_view<Backend>(states), std::span<real>(to.clean_).subspan(old));
      } else {
        be.copy(const_view<Backend>(states),
                to.layer(here).all().row_range(slice.first_row, slice.rows()));
      }
    }
  };

  // Puts rows into the place of residues.
  struct put {
    model_behind& from;
    const_view<Backend> rows;
    std::size_t next = 0;
    std::array<site, 1> sites() const noexcept { return {from.at_}; }
    void operator()(Backend& be, site, view<Backend> states, const batch_slice& slice) {
      for (std::size_t s = 0; s < slice.sequences(); ++s) {
        const auto first = static_cast<std::size_t>(slice.offsets[s]) + 1;
        const auto count = static_cast<std::size_t>(slice.offsets[s + 1]) - 1 - first;
        be.copy(rows.row_range(next, count), states.row_range(first, count));
        next += count;
      }
    }
  };

  struct objective {
    model_behind* of;
    double operator()(std::span<const real> scores, const batch_slice& slice,
                      std::span<real> gradient) const {
      return of->diverge(scores, slice, gradient);
    }
    double at_states(Backend& be, site here, const_view<Backend> states, const batch_slice& slice,
                     view<Backend> gradient) const {
      return of->differ(be, here, states, slice, gradient);
    }
  };

  struct layer_states {
    site at;
    matrix<real, Backend> states;
  };
  matrix<real, Backend>& layer(site at) {
    std::size_t i = 0;
    while (above_[i].at != at) ++i;
    return above_[i].states;
  }

  void add_protein() {
    const std::size_t n = sequences_.size();
    const permutation order(n, options_.seed, 0xe2e00 + next_ / n);
    auto tokens = tokenize(std::string_view(sequences_[order(next_ % n)]));
    const std::size_t residues = tokens.size() - 2, first = batch_.rows() + 1;
    const rng random(options_.seed ^ 0xe2e, next_++);
    std::size_t masked = 0;
    for (std::size_t i = 0; i < residues; ++i) {
      ids_.push_back(static_cast<std::uint32_t>(first + i));
      if (options_.masked > 0 && !(random.uniform(i) < options_.masked)) continue;
      if (options_.masked > 0) tokens[i + 1] = alphabet::mask;
      counted_.push_back(first + i);
      ++masked;
    }
    if (masked == 0) {  // every protein has a say
      const std::size_t i = random.below(residues, residues);
      tokens[i + 1] = alphabet::mask;
      counted_.push_back(first + i);
    }
    batch_.add(std::span<const std::int32_t>(tokens));
  }

  // sum_t p (log p - log p'), derivative p' - p with respect to the spliced logits.
  double diverge(std::span<const real> scores, const batch_slice& slice, std::span<real> gradient) {
    const std::size_t width = scores.size() / slice.rows();
    const auto count = static_cast<double>(counted_.size());
    const auto log_sum = [&](const real* row) {
      double top = static_cast<double>(row[0]), sum = 0;
      for (std::size_t t = 1; t < width; ++t) top = std::max(top, static_cast<double>(row[t]));
      for (std::size_t t = 0; t < width; ++t) sum += std::exp(static_cast<double>(row[t]) - top);
      return top + std::log(sum);
    };
    double total = 0;
    for (const std::size_t row : counted_) {
      if (row < slice.first_row || row >= slice.first_row + slice.rows()) continue;
      const std::size_t here = (row - slice.first_row) * width;
      const real* const was = clean_.data() + row * width;
      const real* const is = scores.data() + here;
      const double sum_was = log_sum(was), sum_is = log_sum(is);
      for (std::size_t t = 0; t < width; ++t) {
        const double p = static_cast<double>(was[t]) - sum_was;
        const double q = static_cast<double>(is[t]) - sum_is;
        total += std::exp(p) * (p - q);
        gradient[here + t] = static_cast<real>((std::exp(q) - std::exp(p)) / count);
      }
    }
    divergence_ += total / count;
    return total / count;
  }

  double differ(Backend& be, site here, const_view<Backend> states, const batch_slice& slice,
                view<Backend> gradient) {
    if (options_.downstream == 0) return 0;
    const double scale = options_.downstream / static_cast<double>(above_.size() * batch_.rows());
    apart_.reshape(be, states.rows(), states.cols());
    be.copy(states, apart_.all());
    be.axpy(real{-1}, const_view<Backend>(layer(here)).row_range(slice.first_row, slice.rows()),
            apart_);
    be.axpy(static_cast<real>(2 * scale), const_view<Backend>(apart_), gradient);
    matrix<double, Backend> slot(be, 1, 1);
    be.add_sum_squares(apart_, slot.all());
    double squares = 0;
    be.download(const_view<Backend, double>(slot), std::span<double>(&squares, 1));
    return scale * squares;
  }

  esm2<Backend>* model_;
  site at_;
  model_behind_options options_;
  logit_gradient<Backend, objective> back_;
  std::vector<std::string> sequences_;
  std::size_t next_ = 0;
  packed_batch batch_;
  std::vector<std::uint32_t> ids_;    // rows of the batch that are residues
  std::vector<std::size_t> counted_;  // those of them that D is a mean over
  std::vector<real> clean_;           // [rows of the batch, 33] logits
  std::vector<layer_states> above_;
  matrix<real, Backend> states_, all_, apart_;
  matrix<std::uint32_t, Backend> row_ids_;
  double divergence_ = 0;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
