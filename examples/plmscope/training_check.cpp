// SPDX-License-Identifier: MIT
#include "rules.hpp"
#include "training.hpp"

#include <plmscope/plm/site.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <string_view>

namespace {

[[noreturn]] void refuse_flag(std::string_view flag, std::string expected, std::string found) {
  throw plmscope::error(
      plmscope::rules::cli_option,
      {.where = std::string(flag), .expected = std::move(expected), .found = std::move(found)});
}

void require_at_most(const char* flag, std::size_t value, std::size_t most) {
  if (value > most) refuse_flag(flag, fmt::format("up to {}", most), fmt::format("{}", value));
}

/// A flag that is given although nothing would come of it.
void needs(std::string_view flag, bool given, bool fits, std::string expected, std::string found) {
  if (given && !fits) refuse_flag(flag, std::move(expected), std::move(found));
}

bool is_one_of(const std::string& name, std::initializer_list<const char*> names) {
  return std::ranges::any_of(names, [&](const char* n) { return name == n; });
}

void check_sparsifier(const training_options& o) {
  const std::string& s = o.sparsifier;
  const training_options usual;
  const auto only = [&](std::string_view flag, bool given, std::initializer_list<const char*> of) {
    needs(flag, given, is_one_of(s, of), fmt::format("--sparsifier {}", fmt::join(of, " or ")), s);
  };
  if (!is_one_of(s, {"batch_top_k", "jump_relu", "relu", "gated"}) &&
      !(o.k == std::floor(o.k) && o.k >= 1)) {
    refuse_flag("--k", "a whole number for " + s, fmt::format("{}", o.k));
  }
  only("--experts", o.experts != usual.experts, {"routed"});
  only("--chosen", o.chosen != usual.chosen, {"routed"});
  needs("--chosen", true, o.chosen >= 1 && o.chosen <= o.experts,
        fmt::format("1 to {} blocks", o.experts), fmt::format("{}", o.chosen));
  if (s == "routed" && (o.experts < 2 || (o.features > 0 && o.features % o.experts != 0))) {
    refuse_flag("--experts", fmt::format("two or more blocks that divide {} features", o.features),
                fmt::format("{}", o.experts));
  }
  only("--tolerance", o.tolerance > 0, {"matching_pursuit"});
  only("--bandwidth", o.bandwidth != usual.bandwidth, {"jump_relu"});
  only("--threshold", o.threshold != usual.threshold, {"jump_relu"});
  only("--firing-rate", o.firing_rate > 0, {"jump_relu"});
  needs("--firing-rate", o.firing_rate > 0, o.lengths == "free", "--lengths free", o.lengths);
  only("--pre-activation", o.pre_activation > 0, {"jump_relu"});
  only("--multi-k", !o.multi_k.empty(), {"top_k"});
  for (const double factor : o.multi_k) {
    const double k = factor * o.k;
    needs("--multi-k", true, std::isfinite(factor) && k >= 1 && k <= 65536 && factor != 1,
          "factors of k that give 1 to 65536 latents, other than k", fmt::format("{}", factor));
  }
}

void check_penalty(const training_options& o) {
  const std::string& s = o.sparsifier;
  const std::string penalty = o.which_penalty();
  const std::string found = penalty.empty() ? "--sparsifier " + s : penalty + " of " + s;
  const training_options usual;
  const bool values = s == "relu" || s == "gated";
  const bool thresholds = s == "jump_relu";
  needs("--penalty", !o.penalty.empty(), values || thresholds,
        "--sparsifier relu, gated or jump_relu", s);
  needs("--penalty", values, penalty != "l0", "l1, log, tanh or p_annealing for " + s, penalty);
  needs("--penalty", thresholds, is_one_of(penalty, {"l0", "tanh"}), "l0 or tanh for " + s,
        penalty);
  needs("--l1", o.l1 > 0, penalty == "l1", "--sparsifier relu or gated, with --penalty l1", found);
  needs("--l0", o.l0 != usual.l0, penalty == "l0", "--sparsifier jump_relu, with --penalty l0",
        found);
  const bool weighed = is_one_of(penalty, {"log", "tanh", "p_annealing"});
  needs("--penalty-weight", o.penalty_weight > 0, weighed,
        "--penalty log, tanh or p_annealing; l1 and l0 have weights of their own", found);
  needs("--penalty-weight", penalty == "tanh" || penalty == "p_annealing", o.penalty_weight > 0,
        "a weight above 0 for " + penalty, "0");
  needs("--p-end", o.p_end != usual.p_end, penalty == "p_annealing", "--penalty p_annealing",
        found);
}

void check_plan(const training_options& o, std::size_t sites) {
  const bool nested = !o.matryoshka.empty() || o.sampled_matryoshka > 0;
  const char* flag = o.matryoshka.empty() ? "--sampled-matryoshka" : "--matryoshka";
  needs(flag, nested, o.sparsifier != "gated", "another sparsifier than gated", o.sparsifier);
  needs("--sampled-matryoshka", o.sampled_matryoshka > 0, o.matryoshka.empty(),
        "one of --matryoshka and --sampled-matryoshka", "both");
  needs("--sampled-matryoshka", o.sampled_matryoshka > 0,
        o.sampled_matryoshka >= 2 && o.sampled_matryoshka <= 1024, "2 to 1024 prefixes",
        fmt::format("{}", o.sampled_matryoshka));
  needs(flag, nested && sites > 1, o.loss != "length", "--loss mse or fvu for several sites",
        o.loss);
  needs("--importance-order", o.importance_order, nested, "--matryoshka or --sampled-matryoshka",
        "one reconstruction");
  needs("--importance-order", o.importance_order, !is_one_of(o.sparsifier, {"routed", "group_max"}),
        "a sparsifier whose latents have no fixed places", o.sparsifier);
  for (std::size_t i = 0; i < o.matryoshka.size(); ++i) {
    require_at_most("--matryoshka", o.matryoshka[i],
                    o.features > 0 ? o.features : (std::size_t{1} << 31) - 1);
    needs("--matryoshka", i > 0, i == 0 || o.matryoshka[i - 1] < o.matryoshka[i], "ascending ends",
          fmt::format("{}", fmt::join(o.matryoshka, " ")));
  }
}

void check_model(const training_options& o, std::size_t sites) {
  const std::string& s = o.sparsifier;
  const bool pursuit = s.ends_with("_pursuit");
  const bool own_encoder = pursuit || s == "routed";
  needs("--encoder", o.encoder == "bf16", !own_encoder,
        "fp32 for a sparsifier that encodes rows by itself", s);
  needs("--encoder", o.encoder == "screened", s == "top_k" || s == "abs_top_k",
        "screened with --sparsifier top_k or abs_top_k", s);
  needs("--lengths", o.lengths != "free", s != "routed", "free lengths for routed", o.lengths);
  needs("--lengths", o.lengths == "in_codes", s != "jump_relu" && s != "gated",
        "free or rank for a sparsifier with parameters of its own", "in_codes for " + s);
  needs("--lengths", o.lengths == "in_codes", sites == 1, "free or rank for several sites",
        "in_codes");
  needs("--lengths", o.lengths == "rank", !pursuit, "free or in_codes for " + s, "rank");
  const bool transcodes = !o.target.empty();
  needs("--target", transcodes, !pursuit,
        "a sparsifier that does not take from the rows themselves", s);
  needs("--target", transcodes, sites == 1, "one --site", fmt::format("{} of them", sites));
  needs("--target-update", o.target_update, transcodes, "a --target", "none");
  needs("--skip", o.skip, transcodes, "a --target", "none");
  needs("--normalize", sites > 1, o.normalize != "token_layer_norm",
        "none, scalar or per_dimension for several sites", o.normalize);
}

void check_steps(const training_options& o) {
  require_at_most("--steps", o.steps, std::size_t{1} << 42);
  needs("--average", o.average > 0, o.optimizer != "signum_schedule_free",
        "adam or muon: signum_schedule_free keeps means of its own", o.optimizer);
  needs("--dead", o.dead == "aux_k", o.sparsifier != "gated" && o.sparsifier != "routed",
        "resampling or none for gates that AuxK does not know of", "aux_k of " + o.sparsifier);
  needs("--resample-every", o.resample_every > 0, o.dead == "resampling", "--dead resampling",
        o.which_dead());
  needs("--buffer", true, o.buffer_rows / 2 >= o.batch,
        fmt::format("at least {} rows, two of --batch", 2 * o.batch),
        fmt::format("{}", o.buffer_rows));
}

}  // namespace

std::vector<std::string> training_options::sites() const {
  std::vector<std::string> names;
  for (std::size_t from = 0; from <= site.size();) {
    const std::size_t comma = std::min(site.find(',', from), site.size());
    const std::string name = to_string(plmscope::parse_site(site.substr(from, comma - from)));
    if (std::ranges::count(names, name) > 0) {
      throw plmscope::error(plmscope::rules::cli_sites,
                            {.where = "--site", .found = name + " twice"});
    }
    names.push_back(name);
    from = comma + 1;
  }
  return names;
}

std::vector<std::string> training_options::all_sites() const {
  auto names = sites();
  if (target.empty()) return names;
  names.push_back(to_string(plmscope::parse_site(target)));
  if (names.front() == names.back()) {
    throw plmscope::error(plmscope::rules::cli_sites,
                          {.where = "--target", .found = names.back() + " as --site, too"});
  }
  return names;
}

std::string training_options::which_centring() const {
  if (!centring.empty()) return centring;
  return target.empty() && site.find(',') == std::string::npos ? "decoder_bias" : "none";
}

std::string training_options::which_penalty() const {
  if (!penalty.empty()) return penalty;
  if (sparsifier == "relu" || sparsifier == "gated") return "l1";
  return sparsifier == "jump_relu" ? "l0" : "";
}

std::string training_options::which_dead() const {
  if (!dead.empty()) return dead;
  const bool fits =
      sparsifier != "gated" && sparsifier != "routed" && !sparsifier.ends_with("_pursuit");
  return fits ? "aux_k" : "none";
}

void check_training(const training_options& o) {
  // Ids of features are 32 bits wide; rows are counted in 64.
  require_at_most("--features", o.features, (std::size_t{1} << 31) - 1);
  const std::size_t sites = o.sites().size();
  static_cast<void>(o.all_sites());
  check_sparsifier(o);
  check_penalty(o);
  check_plan(o, sites);
  check_model(o, sites);
  check_steps(o);
}
