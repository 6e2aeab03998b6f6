// SPDX-License-Identifier: MIT
#include "training.hpp"

#include <cstddef>

namespace {

/// --help shows what `add` adds under a heading of its own.
template <class Add>
void under(const char* heading, CLI::App& c, const Add& add) {
  const std::size_t before = c.get_options({}).size();
  add();
  const auto all = c.get_options({});
  for (std::size_t i = before; i < all.size(); ++i) all[i]->group(heading);
}

void add_sparsifier_flags(CLI::App& c, training_options& o) {
  c.add_option("--sparsifier", o.sparsifier,
               "How codes become sparse:\n"
               "top_k: the k largest of each residue (Gao et al. 2024)\n"
               "abs_top_k: the k of largest magnitude, with their signs\n"
               "batch_top_k: k a residue on average over the batch (Bussmann et al. 2024)\n"
               "jump_relu: learned thresholds that aim at k (Rajamanoharan et al. 2024, \"Jumping "
               "ahead\")\n"
               "relu: a penalty that aims at k (Bricken et al. 2023)\n"
               "gated: gates with a penalty that aims at k (Rajamanoharan et al. 2024, \"Gated "
               "SAEs\")\n"
               "group_max: the largest of each of k groups of latents (sparsify)\n"
               "routed: k of each block that a router chooses (Mudide et al. 2024)\n"
               "matching_pursuit: k latents one after the other (Costa et al. 2025)\n"
               "orthogonal_pursuit: the same with least squares after each")
      ->check(CLI::IsMember({"top_k", "abs_top_k", "batch_top_k", "jump_relu", "relu", "gated",
                             "group_max", "routed", "matching_pursuit", "orthogonal_pursuit"}))
      ->capture_default_str();
  c.add_option("--k", o.k,
               "Active latents per residue (of routed: of each chosen block); of batch_top_k any "
               "number, else a whole one")
      ->check(CLI::Range(0.1, 1024.0))
      ->capture_default_str();
  c.add_option("--experts", o.experts, "Blocks of routed; they divide the features")
      ->check(CLI::Range(2, 4096))
      ->capture_default_str();
  c.add_option("--chosen", o.chosen, "Blocks of routed that see a residue")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  c.add_option("--tolerance", o.tolerance,
               "Length of what is left at which matching_pursuit is done with a residue, after "
               "normalising")
      ->check(CLI::NonNegativeNumber);
  c.add_option("--bandwidth", o.bandwidth, "Of the thresholds' pseudo-gradients of jump_relu")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  c.add_option("--threshold", o.threshold, "Of jump_relu before the first step")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  c.add_option("--firing-rate", o.firing_rate,
               "Share of residues that each latent of jump_relu fires on before the first step "
               "(Conerly et al. 2025: 10000 / features); 0: as it comes")
      ->check(CLI::Range(0.0, 1.0));
}

void add_penalty_flags(CLI::App& c, training_options& o) {
  c.add_option("--penalty", o.penalty,
               "On codes, weighed against --loss:\n"
               "l1: of relu and gated (Bricken et al. 2023), their default\n"
               "log: log(z + 0.1) (Nabeshima 2024)\n"
               "tanh: tanh(4 z), of jump_relu, too (Conerly et al. 2025)\n"
               "p_annealing: z^p with p falling from 1 to --p-end (Karvonen et al. 2024)\n"
               "l0: of jump_relu (Rajamanoharan et al. 2024), its default")
      ->check(CLI::IsMember({"l1", "log", "tanh", "p_annealing", "l0"}));
  c.add_option("--l1", o.l1, "Weight of l1; 0: it seeks k (Nabeshima 2024)")
      ->check(CLI::NonNegativeNumber);
  c.add_option("--l0", o.l0, "Weight of (L0 / k - 1)^2 for l0 (Lieberum et al. 2024)")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  c.add_option("--penalty-weight", o.penalty_weight,
               "Weight of log, tanh and p_annealing; log at 0 seeks k")
      ->check(CLI::NonNegativeNumber);
  c.add_option("--p-end", o.p_end, "Last p of p_annealing")
      ->check(CLI::Range(0.01, 1.0))
      ->capture_default_str();
  c.add_option("--pre-activation", o.pre_activation,
               "Weight of what keeps latents of jump_relu near their thresholds (Conerly et al. "
               "2025: 3e-6)")
      ->check(CLI::NonNegativeNumber);
  c.add_option("--orthogonality", o.orthogonality,
               "Weight of what pushes decoder rows apart (OrtSAE, Korznikov et al. 2025: 0.25)")
      ->check(CLI::NonNegativeNumber);
}

void add_model_flags(CLI::App& c, training_options& o) {
  c.add_option("--decoder", o.decoder,
               "Length of decoder rows: unit (Bricken et al. 2023), free, or max: at most 1")
      ->check(CLI::IsMember({"unit", "free", "max"}))
      ->capture_default_str();
  c.add_option("--centring", o.centring,
               "What is subtracted before the encoder: decoder_bias (Bricken et al. 2023; the "
               "default of one site), own_bias, or none (that of transcoders and crosscoders)")
      ->check(CLI::IsMember({"decoder_bias", "own_bias", "none"}));
  c.add_option("--lengths", o.lengths,
               "What lengths of decoder rows do beside writing: free: nothing; in_codes: codes "
               "carry them (SAELens); rank: they count in the selection (Minder et al. 2025)")
      ->check(CLI::IsMember({"free", "in_codes", "rank"}))
      ->capture_default_str();
  c.add_option("--encoder", o.encoder,
               "Its product, and those of AuxK: fp32; bf16, faster, codes differ in the third digit; "
               "screened, fp32's codes to the bit by way of bf16, for top_k and abs_top_k")
      ->check(CLI::IsMember({"fp32", "bf16", "screened"}))
      ->capture_default_str();
  c.add_option("--matryoshka", o.matryoshka,
               "Ends of prefixes that reconstruct on their own, such as 256 1024 (Bussmann et al. "
               "2025)");
  c.add_option("--sampled-matryoshka", o.sampled_matryoshka,
               "So many prefixes, drawn anew each step (Nabeshima 2024: 10)");
  c.add_flag(
      "--importance-order", o.importance_order,
      "Keep latents in the order of their importance, most first, for prefixes (Nabeshima 2024)");
  c.add_option("--multi-k", o.multi_k,
               "Factors of k at which top_k reconstructs once more, with weight 1/8 (Gao et al. "
               "2024: 4)");
  c.add_option("--normalize", o.normalize,
               "How rows are scaled; kept in the SAE file. scalar gives each of several sites its "
               "own (Lindsey et al. 2024); results of a transcoder are scaled so as well, with "
               "scalar in place of token_layer_norm")
      ->check(CLI::IsMember({"none", "scalar", "per_dimension", "token_layer_norm"}))
      ->capture_default_str();
}

void add_step_flags(CLI::App& c, training_options& o) {
  c.add_option("--loss", o.loss,
               "mse: mean over residues and dimensions (Gao et al. 2024); fvu: share of the "
               "batch's variance left (sparsify); length: of the error, not squared, site by site "
               "(Minder et al. 2025)")
      ->check(CLI::IsMember({"mse", "fvu", "length"}))
      ->capture_default_str();
  c.add_option("--steps", o.steps, "Updates")->check(CLI::PositiveNumber)->capture_default_str();
  c.add_option("--batch", o.batch, "Residues an update")
      ->check(CLI::Range(2, 1 << 20))
      ->capture_default_str();
  c.add_option("--optimizer", o.optimizer,
               "adam (Kingma & Ba 2015), muon (Jordan et al. 2024) or signum_schedule_free "
               "(Bernstein et al. 2018, Defazio et al. 2024)")
      ->check(CLI::IsMember({"adam", "muon", "signum_schedule_free"}))
      ->capture_default_str();
  c.add_option("--lr", o.lr,
               "Learning rate; 0 means 2e-4 / sqrt(features / 16384) of adam, 2e-3 of muon, 5e-3 "
               "of signum_schedule_free")
      ->check(CLI::NonNegativeNumber);
  c.add_option("--average", o.average,
               "Decay of the running mean of the parameters that stays in the SAE; 0: none (Gao et "
               "al. 2024: 0.999)")
      ->check(CLI::Range(0.0, 0.999999));
  c.add_option("--clip", o.clip, "Limit of the norm of all gradients; 0: none")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  c.add_option("--dead", o.dead,
               "What is done for latents that never fire: aux_k (Gao et al. 2024; the default "
               "where it fits the sparsifier), resampling (Bricken et al. 2023) or none")
      ->check(CLI::IsMember({"aux_k", "resampling", "none"}));
  c.add_option("--aux-k", o.k_aux, "Dead latents per residue in AuxK; 0 means half the width");
  c.add_option("--aux-alpha", o.aux_alpha, "Weight of the AuxK loss; 0 turns it off")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  c.add_option("--resample-every", o.resample_every,
               "Updates between two resamplings; 0 means an eighth of --steps");
  c.add_option("--dead-after", o.dead_after,
               "Residues without firing until a latent counts as dead; 0 means a tenth of the run")
      ->check(CLI::NonNegativeNumber);
  c.add_option("--buffer", o.buffer_rows, "Rows of the shuffle buffer, at least two of --batch")
      ->capture_default_str();
  c.add_option("--metrics", o.metrics, "Write metrics.jsonl, one object a logged step");
}

}  // namespace

void add_training_flags(CLI::App& c, training_options& o) {
  under("Rows and size", c, [&] {
    c.add_option(
         "--site", o.site,
         "Where in the model: embeddings, resid_post.L, final_norm; several with commas and "
         "no spaces make a crosscoder (Lindsey et al. 2024)")
        ->capture_default_str();
    c.add_option("--features", o.features, "Latents; 0 means 8 per dimension")
        ->capture_default_str();
  });
  under("Sparsifier", c, [&] { add_sparsifier_flags(c, o); });
  under("Penalties", c, [&] { add_penalty_flags(c, o); });
  under("Model and results", c, [&] { add_model_flags(c, o); });
  under("Training", c, [&] { add_step_flags(c, o); });
}

void add_pair_flags(CLI::App& c, training_options& o) {
  under("Transcoder", c, [&] {
    c.add_option("--target", o.target,
                 "Site whose states should come out: a transcoder (Dunefsky et al. 2024)");
    c.add_flag("--target-update", o.target_update,
               "What should come out is the second site less the first (Gujral et al. 2025)");
    c.add_flag("--skip", o.skip, "A linear map beside a transcoder's latents (Paulo et al. 2025)");
  });
}
