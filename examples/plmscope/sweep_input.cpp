// SPDX-License-Identifier: MIT
#include "sweep_input.hpp"

#include "rules.hpp"
#include "sweep_records.hpp"

#include <plmscope/acts/store_manifest.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <span>
#include <utility>

sweep_input::sweep_input(const std::string& file, const common_options& common)
    : common_(common), plan_(read_sweep(file)) {
  proteins_ = read_proteins(plan_.proteins);
  proteins_hash_ = plmscope::hash_proteins(proteins_);
  for (const auto& p : proteins_) residues_ += p.sequence.size();
  if (plan_.fidelity) {
    auto list =
        plan_.fidelity->proteins.empty() ? proteins_ : read_proteins(plan_.fidelity->proteins);
    if (list.size() > plan_.fidelity->first) list.resize(plan_.fidelity->first);
    for (const auto& p : list) loss_sequences_.push_back(p.sequence);
    loss_hash_ = plmscope::hash_proteins(list);
  }
  if (plan_.concepts) {
    annotated_ = plmscope::read_uniprot_tsv(std::filesystem::path(plan_.concepts->proteins));
    concepts_hash_ = file_hash(plan_.concepts->proteins);
  }
  for (const auto& m : plan_.models) {
    const program_model esm = open_model(m.path, common_);
    opened_model opened{esm.identity().content_hash, esm.layers(), esm.d_model(), {}};
    for (const auto& name : plan_.sites) {
      const auto site = plmscope::parse_site(name);
      esm.check(site);
      opened.widths.push_back(esm.width(site));
    }
    models_.push_back(std::move(opened));
  }
  for (const auto& run : plan_.runs) {
    if (training(run).k <= static_cast<double>(features(run))) continue;
    throw plmscope::error(plmscope::rules::cli_option,
                          {.where = run.name,
                           .expected = fmt::format("k up to {}", features(run)),
                           .found = fmt::format("{}", training(run).k)});
  }
}

std::size_t sweep_input::width(const sweep_run& run) const {
  const auto site = std::ranges::find(plan_.sites, run.site) - plan_.sites.begin();
  return models_[run.model].widths[static_cast<std::size_t>(site)];
}

std::size_t sweep_input::features(const sweep_run& run) const {
  return training(run).features > 0 ? training(run).features : 8 * width(run);
}

json_object sweep_input::asked(const sweep_run& run) const {
  return {{"model_hash", models_[run.model].hash},
          {"site", run.site},
          {"seed", run.seed},
          {"proteins_hash", proteins_hash_},
          {"precision", common_.precision},
          {"settings", plan_.policies[run.policy].settings}};
}

json_object sweep_input::measured() const {
  json_object out = json_object::object();
  if (plan_.fidelity) {
    out["fidelity"] = {{"proteins_hash", loss_hash_}, {"seed", common_.seed}};
  }
  if (plan_.concepts) {
    auto settings = plan_.concepts->settings;
    settings.erase("proteins");
    out["concepts"] = {
        {"proteins_sha256", concepts_hash_}, {"seed", common_.seed}, {"settings", settings}};
  }
  return out;
}

std::size_t sweep_input::sae_bytes(const sweep_run& run) const {
  return 4 * (2 * features(run) * width(run) + 2 * features(run) + width(run));
}

std::size_t sweep_input::activation_bytes(std::size_t model) const {
  std::size_t width = 0;
  for (const std::size_t w : models_[model].widths) width += w;
  return 4 * residues_ * width;
}

// A block of a transformer has 12 d^2 weights, each of which multiplies and adds once a residue.
double sweep_input::forward_operations(std::size_t model, std::size_t residues) const {
  const auto d = static_cast<double>(models_[model].d_model);
  return 24 * d * d * static_cast<double>(models_[model].layers) * static_cast<double>(residues);
}

double sweep_input::forward_operations(std::size_t model) const {
  return forward_operations(model, residues_);
}

// The encoder forwards, and its gradient where it is dense.
double sweep_input::training_operations(const sweep_run& run) const {
  return 4.0 * static_cast<double>(features(run)) * static_cast<double>(width(run)) *
         static_cast<double>(training(run).steps) * static_cast<double>(training(run).batch);
}

// Clean, spliced, ablated and rebuilt; the annotated proteins; the rows of the training.
double sweep_input::figure_operations(const sweep_run& run) const {
  std::size_t loss = 0, labelled = 0;
  for (const auto& s : loss_sequences_) loss += s.size();
  for (const auto& p : annotated_) labelled += p.sequence.size();
  return forward_operations(run.model, 4 * loss + labelled) +
         2.0 * static_cast<double>(features(run)) * static_cast<double>(width(run)) *
             static_cast<double>(std::min<std::size_t>(residues_, std::size_t{1} << 18) + labelled);
}

double operations_a_second(const common_options& common) {
  program_backend be = open_backend(common);
  constexpr std::size_t n = 1024;
  plmscope::matrix<float, program_backend> a(be, n, n), b(be, n, n), c(be, n, n);
  be.fill(a.all(), 1.0f);
  be.fill(b.all(), 1.0f);
  std::vector<float> one(1);
  // Waits for the device.
  const auto finish = [&] { be.download(c.all().row_range(0, 1).col_range(0, 1), std::span(one)); };
  be.gemm_nt(a, b, c);
  finish();
  const auto start = std::chrono::steady_clock::now();
  double seconds = 0;
  double products = 0;
  while (seconds < 0.33) {
    be.gemm_nt(a, b, c);
    finish();
    products += 1;
    seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  return products * 2 * static_cast<double>(n * n * n) / seconds;
}
