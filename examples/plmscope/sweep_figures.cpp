// SPDX-License-Identifier: MIT
#include "sweep_figures.hpp"

#include "unexplained.hpp"

#include <plmscope/eval/fidelity.hpp>
#include <plmscope/tensor/host_codes.hpp>

#include <algorithm>
#include <span>
#include <string_view>

json_object measure_rows(program_backend& be, program_sae& sae, row_feed rows, std::size_t all) {
  const std::size_t wanted = std::min(all, figure_rows);
  unexplained_share unexplained(sae.d_model());
  std::vector<bool> fired(sae.features(), false);
  std::size_t entries = 0;
  plmscope::codes<program_backend> z;
  plmscope::matrix<float, program_backend> rebuilt;
  std::vector<float> states;
  std::vector<float> back;
  for (std::size_t done = 0; done < wanted;) {
    const auto x = rows.next(be, std::min<std::size_t>(4096, wanted - done));
    rebuilt.reshape(be, x.rows(), sae.d_model());
    sae.reconstruct(x, rebuilt, &z);
    states.resize(x.size());
    back.resize(x.size());
    be.download(x, std::span(states));
    be.download(rebuilt.all(), std::span(back));
    unexplained.add(states, back);
    const auto codes = plmscope::to_host(be, z);
    for (const auto id : codes.ids) fired[id] = true;
    entries += codes.ids.size();
    done += x.rows();
  }
  const auto silent = std::ranges::count(fired, false);
  return {{"count", wanted},
          {"fvu", number_or_null(unexplained.value())},
          {"l0", static_cast<double>(entries) / static_cast<double>(wanted)},
          {"dead_share", static_cast<double>(silent) / static_cast<double>(fired.size())}};
}

json_object measure_loss(program_model& esm, program_sae& sae,
                         const std::vector<std::string>& sequences, const common_options& common,
                         const std::function<void(std::size_t, std::size_t)>& progress) {
  const auto f = plmscope::measure_fidelity(
      esm, plmscope::parse_site(sae.source().site), sae, std::span<const std::string>(sequences),
      plmscope::fidelity_by::standard{}, {.mean_ablation = false, .seed = common.seed}, progress);
  json_object out{{"proteins", f.proteins}, {"predictions", f.predictions}};
  for (std::size_t i = 0; i < f.figures.size(); ++i) {
    const auto& e = f.figures[i];
    if (!e.defined()) continue;
    out[std::string(plmscope::fidelity_figure_names[i])] = {
        {"value", e.value}, {"low", number_or_null(e.low)}, {"high", number_or_null(e.high)}};
  }
  return out;
}

json_object measure_concepts(program_model& esm, program_sae& sae,
                             const std::vector<plmscope::annotated_protein>& proteins,
                             const scoring_input& input, const sweep_concepts& asked,
                             const std::function<void(std::size_t, std::size_t)>& progress) {
  const scored s = score_sae(esm, sae, proteins, input, asked.scoring, progress);
  const protocol_scores& p = chosen(s, asked.scoring);
  const double least = asked.scoring.min_name_score;
  json_object names = json_object::array();
  double sum = 0;
  std::size_t defined = 0;
  for (std::size_t c = 0; c < s.concepts.size(); ++c) {
    const auto& best = p.scores.best[c];
    const auto& letters = p.amino_acids[c];
    if (best.held_out.defined()) {
      ++defined;
      sum += best.found() ? best.held_out.score : 0;
    }
    const auto good = [&](const auto& feature, const auto& letter) {
      return feature.defined() && feature.score >= least &&
             !(letter.defined() && letter.score >= feature.score);
    };
    if (best.found() && good(best.validation, letters.validation) &&
        good(best.held_out, letters.held_out)) {
      names.push_back(s.concepts.concepts[c].name);
    }
  }
  return {{"found", names.size()},
          {"of", s.concepts.size()},
          {"mean_held_out_f1",
           defined > 0 ? json_object(sum / static_cast<double>(defined)) : json_object()},
          {"names", names}};
}
