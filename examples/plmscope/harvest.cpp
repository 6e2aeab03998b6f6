// SPDX-License-Identifier: MIT
#include "rules.hpp"
#include "store.hpp"
#include "training.hpp"

#include <plmscope/acts/harvest.hpp>
#include <plmscope/acts/merge_stores.hpp>
#include <plmscope/core/progress.hpp>
#include <plmscope/train/progress_bar.hpp>

#include <fmt/format.h>

#include <charconv>
#include <chrono>
#include <memory>
#include <optional>
#include <utility>

namespace {

struct harvest_command {
  common_options common;
  std::string model;
  std::string proteins;
  std::vector<std::string> sites;
  std::string out;
  std::string dtype = "bf16";
  std::string range;
  std::string part;
  std::size_t shard_bytes = std::size_t{256} << 20;
  std::size_t tokens = 8192;
  bool force = false;
};

struct merge_command {
  common_options common;
  std::vector<std::string> stores;
  std::string out;
};

std::pair<std::size_t, std::size_t> two_numbers(const std::string& text, char between) {
  std::pair<std::size_t, std::size_t> n;
  const char* const last = text.data() + text.size();
  const auto first = std::from_chars(text.data(), last, n.first);
  if (first.ec == std::errc() && first.ptr != last && *first.ptr == between) {
    const auto second = std::from_chars(first.ptr + 1, last, n.second);
    if (second.ec == std::errc() && second.ptr == last) return n;
  }
  throw plmscope::error(
      plmscope::rules::cli_range,
      {.expected = fmt::format("two numbers with a {} between", between), .found = text});
}

plmscope::protein_range range_of(const harvest_command& o, const plmscope::store_plan& plan,
                                 std::size_t proteins) {
  if (!o.part.empty()) {
    const auto [part, parts] = two_numbers(o.part, '/');
    return plan.part(part - 1, parts);
  }
  if (o.range.empty()) return {0, proteins};
  const auto [first, end] = two_numbers(o.range, ':');
  plan.check({first, end});
  return {first, end};
}

void run_harvest(const harvest_command& o) {
  const auto proteins = read_proteins(o.proteins);
  std::vector<plmscope::site> sites;
  for (const auto& name : o.sites) sites.push_back(plmscope::parse_site(name));
  program_model esm = open_model(o.model, o.common);
  const auto manifest =
      plmscope::manifest_for(esm, sites, proteins,
                             {.numbers = o.dtype == "f32"   ? plmscope::dtype::f32
                                         : o.dtype == "f16" ? plmscope::dtype::f16
                                                            : plmscope::dtype::bf16,
                              .shard_bytes = o.shard_bytes});
  const plmscope::store_plan plan(manifest, proteins);
  const auto range = range_of(o, plan, proteins.size());
  std::vector<plmscope::protein_range> present;
  if (is_store(o.out)) {
    manifest.require_same(plmscope::store_detail::read_manifest(o.out), o.out);
    present = plmscope::store_detail::shards_in(o.out, manifest);
  }
  const auto all = plan.estimate(plan.missing(range, {}));
  const auto todo = plan.estimate(plan.missing(range, present));
  const std::size_t free = plmscope::free_bytes(o.out);

  json_object out{{"store", o.out}};
  std::string text;
  describe_manifest(manifest, out, text);
  out["range"] = {range.first, range.end};
  out["shards"] = all.shards;
  out["rows"] = all.rows;
  out["bytes"] = all.bytes;
  out["to_write"] = {{"shards", todo.shards},
                     {"proteins", todo.proteins},
                     {"rows", todo.rows},
                     {"bytes", todo.bytes}};
  out["free_bytes"] = free;
  const std::string plan_text = fmt::format(
      "proteins      {}:{}, {} rows in {} shards, {} ({} bytes)\nto write      {} rows "
      "in {} shards, {} ({} bytes)\nfree          {}\n",
      range.first, range.end, all.rows, all.shards, size_text(all.bytes), all.bytes, todo.rows,
      todo.shards, size_text(todo.bytes), todo.bytes, size_text(free));
  if (o.common.dry_run) return print_result(o.common, out, text + plan_text);
  if (!o.force) plmscope::require_free(o.out, todo);

  plmscope::activation_store_writer store(o.out, manifest, proteins, range);
  plmscope::progress_line progress("harvesting", plmscope::progress_bar::on_terminal());
  const auto start = std::chrono::steady_clock::now();
  const auto seconds = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  plmscope::harvest(
      esm, std::span<const plmscope::protein_sequence>(proteins), store,
      [&](std::size_t done, std::size_t total) {
        progress.update(done, total,
                        fmt::format("{:.0f} rows/s", static_cast<double>(done) / seconds()));
      },
      o.tokens);
  const bool complete = plmscope::activation_store::open(o.out, {.allow_partial = true}).complete();
  out["seconds"] = seconds();
  out["complete"] = complete;
  print_result(
      o.common, out,
      fmt::format("{} rows in {} shards, {}, written in {:.1f} s; {} there before\n{} is {}\n",
                  todo.rows, todo.shards, size_text(todo.bytes), seconds(),
                  all.shards - std::min(all.shards, todo.shards), o.out,
                  complete ? "complete" : "not complete yet: other ranges are missing"));
}

void run_merge(const merge_command& o) {
  const std::vector<std::filesystem::path> from(o.stores.begin(), o.stores.end());
  json_object out{{"store", o.out}, {"from", o.stores}};
  if (o.common.dry_run) {
    std::size_t bytes = 0;
    for (const auto& s : from) {
      bytes += plmscope::activation_store::open(s, {.allow_partial = true}).bytes();
    }
    out["bytes"] = bytes;
    out["free_bytes"] = plmscope::free_bytes(o.out);
    return print_result(o.common, out,
                        fmt::format("would copy up to {} to {}\n", size_text(bytes), o.out));
  }
  plmscope::progress_line progress("merging", plmscope::progress_bar::on_terminal());
  const std::size_t copied = plmscope::merge_stores(
      o.out, from, [&](std::size_t done, std::size_t total) { progress.update(done, total); });
  const auto store = plmscope::activation_store::open(o.out, {.allow_partial = true});
  out["copied_shards"] = copied;
  out["shards"] = store.shards().size();
  out["proteins"] = store.proteins();
  out["rows"] = store.rows();
  out["complete"] = store.complete();
  print_result(o.common, out,
               fmt::format("copied {} shards; {} has {} of {} proteins, {} rows\n", copied, o.out,
                           store.proteins(), store.manifest().proteins, store.rows()));
}

}  // namespace

void add_harvest(CLI::App& app) {
  auto o = std::make_shared<harvest_command>();
  CLI::App* c = app.add_subcommand(
      "harvest",
      "Write activations at several sites to a store on disk; stopped, it goes on when "
      "it is run again");
  c->add_option("model", o->model, "Folder or safetensors file with ESM-2 weights")->required();
  c->add_option("proteins", o->proteins, "FASTA(.gz) or UniProt TSV(.gz)")->required();
  c->add_option("--sites", o->sites,
                "embeddings, resid_pre.L, resid_post.L (block L from 0), final_norm")
      ->delimiter(',')
      ->required();
  c->add_option("--out", o->out, "Folder of the store")->required();
  c->add_option("--dtype", o->dtype, "Numbers on disk")
      ->check(CLI::IsMember({"bf16", "f16", "f32"}))
      ->capture_default_str();
  auto* range =
      c->add_option("--range", o->range, "Only proteins A:B of the list (from 0, B excluded)");
  c->add_option("--part", o->part, "Only part I/N of the list, cut where shards end")
      ->excludes(range);
  c->add_option("--shard-size", o->shard_bytes,
                "Bytes of a shard, about, as 64MiB; also the memory for it")
      ->transform(CLI::AsSizeValue(false))
      ->default_str("256MiB");
  c->add_option("--tokens", o->tokens, "Tokens a pass through the model")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  c->add_flag("--force", o->force, "Begin although the disk seems too small");
  add_common(
      *c, o->common,
      "plmscope harvest esm2_t6_8M_UR50D uniref50.fasta.gz --sites resid_post.3,resid_post.5 "
      "--out store");
  c->callback([o] { run_harvest(*o); });
}

void add_merge(CLI::App& app) {
  auto o = std::make_shared<merge_command>();
  CLI::App* c =
      app.add_subcommand("merge", "Copy stores over disjoint proteins of one list into one");
  c->add_option("stores", o->stores, "Folders that `plmscope harvest` wrote")->required();
  c->add_option("--out", o->out, "Folder of the merged store, new or one of theirs")->required();
  add_common(*c, o->common, "plmscope merge part1 part2 --out store");
  c->callback([o] { run_merge(*o); });
}
