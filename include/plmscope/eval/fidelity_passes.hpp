// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/eval/fidelity_figures.hpp>
#include <plmscope/eval/fidelity_masking.hpp>
#include <plmscope/eval/fidelity_protocol.hpp>
#include <plmscope/eval/fidelity_run.hpp>
#include <plmscope/eval/protein_fidelity.hpp>
#include <plmscope/eval/reconstruction_meter.hpp>
#include <plmscope/eval/rules.hpp>
#include <plmscope/eval/spliced_states.hpp>
#include <plmscope/eval/without_token_dropout.hpp>
#include <plmscope/plm/edit.hpp>
#include <plmscope/plm/hook.hpp>
#include <plmscope/plm/language_model.hpp>
#include <plmscope/plm/site.hpp>
#include <plmscope/plm/token_selection.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

namespace fidelity_detail {

/// The passes over the proteins that `measure_fidelity` makes: the mean row; the reconstruction,
/// where no pass of the model does it on the way; the model under every condition.
template <class Model, class Sae, class Progress>
class passes {
  using backend = typename Model::backend_type;

 public:
  passes(Model& model, const site& at, Sae& sae, std::span<const std::string> sequences,
         const fidelity_protocol& protocol, const fidelity_masking& masking, ablations_run ran,
         std::size_t tokens_per_batch, Progress& report)
      : model_(&model),
        sae_(&sae),
        sequences_(sequences),
        protocol_(protocol),
        masking_(&masking),
        ran_(ran),
        first_(!protocol.token_dropout && !masking.masks() && has_token_dropout(model)),
        limit_(tokens_per_batch),
        report_(&report),
        batch_(make_batch(model)) {
    model.check(at);
    if (protocol.runs_model) model.check(logits{});
    at_ = later(at);
    check_sae(at);
    masking.check(sequences.size());
    count();
  }

  /// Where states are replaced.
  site where() const noexcept { return at_; }
  /// Sum of x' - x over all rows measured.
  const std::vector<double>& error_sum() const noexcept { return error_sum_; }

  void measure(std::vector<protein_fidelity>& out) {
    out.assign(sequences_.size(), {});
    for (std::size_t p = 0; p < sequences_.size(); ++p) out[p].residues = residues_[p];
    auto& be = model_->backend();
    state_sums<backend> sums(at_, model_->width(at_));
    each_batch(
        [&](const auto& batch, const auto&) { model_->forward(batch, hooks{first_, sums}); });
    const auto mean = sums.mean(protocol_.measured);
    reconstruction_meter<backend> meter(be, protocol_.measured, mean);
    if (separately()) {
      spliced_states<Sae, backend> splice(*sae_, at_, protocol_.replaced, &meter);
      each_batch([&](const auto& batch, const auto& proteins) {
        aim(meter, proteins, out);
        model_->forward(batch, hooks{first_, splice});
      });
    }
    if (protocol_.runs_model) run_model(meter, sums.mean(protocol_.ablated), out);
    error_sum_ = meter.error_sum();
  }

 private:
  bool separately() const noexcept { return !protocol_.runs_model || masking_->masks(); }

  void run_model(reconstruction_meter<backend>& meter, const std::vector<double>& mean,
                 std::vector<protein_fidelity>& out) {
    const auto where = protocol_.ablated == fidelity_rows::all ? tokens::all() : tokens::residues();
    edits<backend> zeros({zero_state(at_, mean.size(), where)});
    edits<backend> means({set_state(at_, mean, where)});
    spliced_states<Sae, backend> splice(*sae_, at_, protocol_.replaced,
                                        separately() ? nullptr : &meter);
    fidelity_run<Model> run(*model_, protocol_, first_, out);
    const auto flush = [&] {
      if (run.rows() == 0) return;
      const auto under = [&](fidelity_condition condition, auto&& hook) {
        run.run(condition, hook);
        advance(run.rows());
      };
      under(fidelity_condition::clean, no_hook{});
      aim(meter, run.proteins(), out);
      under(fidelity_condition::spliced, splice);
      if (ran_.zero) under(fidelity_condition::zero, zeros);
      if (ran_.mean) under(fidelity_condition::mean, means);
      run.clear();
    };
    for (std::size_t p = 0; p < sequences_.size(); ++p) {
      if (residues_[p] == 0) continue;
      const auto truth = tokens_of(p);
      masking_->sequences_of(p, truth, [&](const auto& hidden, const auto& masked) {
        if (run.rows() + hidden.size() > limit_) flush();
        run.add(p, hidden, truth, masked, masking_->masks());
      });
    }
    flush();
  }

  // f(batch, proteins of its sequences) over all proteins with residues, in order.
  template <class F>
  void each_batch(const F& f) {
    auto batch = make_batch(*model_);
    std::vector<std::size_t> proteins;
    const auto flush = [&] {
      if (proteins.empty()) return;
      f(std::as_const(batch), proteins);
      advance(batch.rows());
      batch.clear();
      proteins.clear();
    };
    for (std::size_t p = 0; p < sequences_.size(); ++p) {
      if (residues_[p] == 0) continue;
      const auto tokens = tokens_of(p);
      if (batch.rows() + tokens.size() > limit_) flush();
      batch.add(std::span<const std::int32_t>(tokens));
      proteins.push_back(p);
    }
    flush();
  }

  static void aim(reconstruction_meter<backend>& meter, const std::vector<std::size_t>& proteins,
                  std::vector<protein_fidelity>& out) {
    std::vector<reconstruction_moments*> into;
    for (const std::size_t p : proteins) into.push_back(&out[p].rebuilt);
    meter.aim(std::move(into));
  }

  std::vector<std::int32_t> tokens_of(std::size_t p) {
    batch_.clear();
    batch_.add(std::string_view(sequences_[p]));
    const auto tokens = batch_.tokens();
    return {tokens.begin(), tokens.end()};
  }

  // Reads every protein once, so that a wrong one is refused before the model has run for hours.
  void count() {
    std::size_t plain = 0;
    std::size_t run = 0;
    bool any = false;
    for (std::size_t p = 0; p < sequences_.size(); ++p) {
      const auto tokens = tokens_of(p);
      residues_.push_back(tokens.size() - 2);
      if (residues_.back() == 0) continue;
      any = true;
      plain += tokens.size();
      run += tokens.size() * masking_->sequences(fidelity_masking::choosable(tokens).size());
    }
    if (!any) {
      throw error(rules::fidelity_no_residue,
                  {.found = std::to_string(sequences_.size()) + " proteins without residues"});
    }
    const std::size_t conditions = 2u + (ran_.zero ? 1u : 0u) + (ran_.mean ? 1u : 0u);
    total_ = plain * (separately() ? 2 : 1) + (protocol_.runs_model ? run * conditions : 0);
  }

  void advance(std::size_t rows) {
    done_ += rows;
    (*report_)(done_, total_);
  }

  // Some blocks on, where there are as many.
  site later(site at) const {
    if (protocol_.blocks_later == 0 || at.kind() != site_kind::resid_post) return at;
    const site next(at.kind(), at.layer() + protocol_.blocks_later);
    try {
      model_->check(next);
    } catch (const error&) {
      return at;
    }
    return next;
  }

  void check_sae(const site& at) const {
    const auto refuse = [&](std::string found) {
      throw error(rules::fidelity_site, {.where = to_string(at), .found = std::move(found)});
    };
    if (at.kind() == site_kind::attn_map || at.kind() == site_kind::logits) {
      refuse("a site without a state for each token");
    }
    if constexpr (requires { sae_->d_model(); }) {
      if (sae_->d_model() != model_->width(at)) {
        refuse("an SAE for width " + std::to_string(sae_->d_model()) + ", the model has " +
               std::to_string(model_->width(at)));
      }
    }
    if constexpr (requires { sae_->settings().transcodes; }) {
      if (sae_->settings().transcodes) refuse("a transcoder, whose results belong to another site");
    }
  }

  Model* model_;
  Sae* sae_;
  std::span<const std::string> sequences_;
  fidelity_protocol protocol_;
  const fidelity_masking* masking_;
  ablations_run ran_;
  without_token_dropout first_;
  std::size_t limit_;
  Progress* report_;
  typename Model::batch_type batch_;
  site at_;
  std::vector<std::size_t> residues_;
  std::vector<double> error_sum_;
  std::size_t done_ = 0;
  std::size_t total_ = 0;
};

}  // namespace fidelity_detail

}  // namespace plmscope::inline PLMSCOPE_ABI
