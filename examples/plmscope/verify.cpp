// SPDX-License-Identifier: MIT
#include "command.hpp"
#include "model.hpp"
#include "rules.hpp"
#include "store.hpp"

#include <plmscope/plm/verify.hpp>

#include <fmt/format.h>

#include <memory>

namespace {

struct verify_options {
  common_options common;
  std::string model;
  std::string expected;
  double limit = 3e-6;
};

void verify(const verify_options& o) {
  if (o.expected.empty() && is_store(o.model)) return verify_store(o.model, o.common);
  if (o.expected.empty()) {
    throw plmscope::error(plmscope::rules::cli_verify_input,
                          {.expected = "MODEL EXPECTED, or STORE",
                           .found = o.model,
                           .remedy = "see `plmscope verify --help`"});
  }
  auto esm = open_model(o.model, o.common);
  if (o.common.dry_run) {
    return print_result(o.common, {{"model", o.model}, {"expected", o.expected}},
                        fmt::format("would compare {} with {}\n", o.model, o.expected));
  }
  const auto result = plmscope::verify(esm, o.expected);
  json_object out{{"model", o.model}, {"expected", o.expected}, {"limit", o.limit}};
  std::string text = fmt::format("{:<16} {:>12}\n", "state", "worst rel L2");
  for (std::size_t i = 0; i < result.sites.size(); ++i) {
    const std::string name = to_string(result.sites[i]);
    out["states"][name] = number_or_null(result.worst_state(i));
    text += fmt::format("{:<16} {:>12.3g}\n", name, result.worst_state(i));
  }
  out["states"]["logits"] = number_or_null(result.worst_logits());
  text += fmt::format("{:<16} {:>12.3g}\n", "logits", result.worst_logits());
  const bool good = result.worst() <= o.limit;
  out["sequences"] = result.sequences.size();
  out["worst"] = number_or_null(result.worst());
  out["verified"] = good;
  text += fmt::format("{} sequences, worst {:.3g}, limit {:.3g}: {}\n", result.sequences.size(),
                      result.worst(), o.limit, good ? "verified" : "NOT the same model");
  print_result(o.common, out, text);
  if (!good) {
    throw plmscope::error(plmscope::rules::cli_not_verified,
                          {.where = o.model,
                           .expected = fmt::format("at most {:.3g}", o.limit),
                           .found = fmt::format("{:.3g}", result.worst())});
  }
}

}  // namespace

void add_verify(CLI::App& app) {
  auto o = std::make_shared<verify_options>();
  CLI::App* c = app.add_subcommand(
      "verify",
      "Compare a model's hidden states and logits with stored ones of the official code, "
      "or check every byte of a store");
  c->add_option(
       "model", o->model,
       "Folder, file or name (facebook/esm2_t6_8M_UR50D) of an ESM-2 or ESM-C model, or a store")
      ->required();
  c->add_option(
      "expected", o->expected,
      "Safetensors with KEY.tokens, KEY.positions, KEY.hidden, KEY.logits; none for a store");
  c->add_option("--limit", o->limit, "Largest relative L2 error")->capture_default_str();
  add_common(*c, o->common, "plmscope verify tiny.model.safetensors tiny.expected.safetensors");
  c->callback([o] { verify(*o); });
}
