// SPDX-License-Identifier: MIT
#include "store.hpp"

#include "backend.hpp"
#include "rules.hpp"

#include <plmscope/acts/activation_store.hpp>
#include <plmscope/core/progress.hpp>
#include <plmscope/core/thread_pool.hpp>
#include <plmscope/train/progress_bar.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <vector>

std::string size_text(std::size_t bytes) {
  const auto b = static_cast<double>(bytes);
  if (bytes < 1'000'000) return fmt::format("{:.1f} kB", b / 1e3);
  if (bytes < 1'000'000'000) return fmt::format("{:.1f} MB", b / 1e6);
  return fmt::format("{:.2f} GB", b / 1e9);
}

bool is_store(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::exists(path / plmscope::store_manifest::file_name, ignored);
}

void describe_manifest(const plmscope::store_manifest& m, json_object& out, std::string& text) {
  out["kind"] = "activation store";
  out["format"] = plmscope::store_manifest::format;
  out["id"] = m.id();
  out["model"] = m.model;
  out["model_hash"] = m.model_hash;
  out["dtype"] = plmscope::dtype_name(m.numbers);
  for (const auto& s : m.sites) out["sites"].push_back({{"name", s.name}, {"width", s.width}});
  out["listed_proteins"] = m.proteins;
  out["listed_residues"] = m.residues;
  out["proteins_hash"] = m.proteins_hash;
  out["shard_rows"] = m.shard_rows;
  text += fmt::format(
      "kind          activation store, {}\nmodel         {}\nweights hash  {}\n"
      "numbers       {}\nsites        ",
      plmscope::store_manifest::format, m.model, m.model_hash, plmscope::dtype_name(m.numbers));
  for (const auto& s : m.sites) text += fmt::format(" {} [{}]", s.name, s.width);
  text += fmt::format("\nlist          {} proteins, {} residues, {}\n", m.proteins, m.residues,
                      m.proteins_hash);
}

void info_of_store(const std::filesystem::path& path, const common_options& common) {
  const auto store = plmscope::activation_store::open(path, {.allow_partial = true});
  json_object out{{"file", path.string()}};
  std::string text = fmt::format("file          {}\n", path.string());
  describe_manifest(store.manifest(), out, text);
  out["complete"] = store.complete();
  out["shards"] = store.shards().size();
  out["proteins"] = store.proteins();
  out["rows"] = store.rows();
  out["bytes"] = store.bytes();
  text += fmt::format(
      "shards        {} ({}), {} proteins, {} rows\ncomplete      {}\n", store.shards().size(),
      size_text(store.bytes()), store.proteins(), store.rows(),
      store.complete() ? "yes" : "no: `plmscope harvest` or `merge` add what is missing");
  print_result(common, out, text);
}

void verify_store(const std::filesystem::path& path, const common_options& common) {
  const auto manifest = plmscope::store_detail::read_manifest(path);
  const auto ranges = plmscope::store_detail::shards_in(path, manifest);
  json_object out{{"file", path.string()}, {"shards", ranges.size()}};
  if (common.dry_run) {
    return print_result(common, out,
                        fmt::format("would check every byte of {} shards\n", ranges.size()));
  }
  plmscope::progress_line progress("verifying", plmscope::progress_bar::on_terminal());
  plmscope::thread_pool pool(common.thread_count());
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::string> damaged;
  std::size_t proteins = 0, rows = 0, bytes = 0;
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    try {
      const plmscope::store_shard shard(path / plmscope::shard_layout::file_name(ranges[i]),
                                        manifest, ranges[i]);
      constexpr std::size_t piece = std::size_t{1} << 22;
      const std::size_t end = shard.layout().checksums_begin;
      pool.run((end + piece - 1) / piece,
               [&](std::size_t t) { shard.verify(t * piece, std::min(end, (t + 1) * piece)); });
      proteins += ranges[i].size();
      rows += shard.rows();
      bytes += shard.file_bytes();
    } catch (const plmscope::error& e) {
      damaged.push_back(plmscope::shard_layout::file_name(ranges[i]));
      out["damaged"].push_back({{"shard", damaged.back()}, {"id", e.id()}, {"error", e.what()}});
      fmt::print(stderr, "{}\n", e.what());
    }
    progress.update(i + 1, ranges.size());
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const bool complete = proteins == manifest.proteins && rows == manifest.residues;
  out["proteins"] = proteins;
  out["rows"] = rows;
  out["bytes"] = bytes;
  out["complete"] = complete;
  out["verified"] = damaged.empty() && complete;
  print_result(common, out,
               fmt::format("{} of {} shards undamaged, {} of {} proteins, {} checked in {:.1f} s\n",
                           ranges.size() - damaged.size(), ranges.size(), proteins,
                           manifest.proteins, size_text(bytes), seconds));
  if (damaged.empty() && complete) return;
  throw plmscope::error(
      plmscope::rules::cli_store_damaged,
      {.where = path.string(),
       .expected = fmt::format("{} proteins", manifest.proteins),
       .found = damaged.empty()
                    ? fmt::format("{}", proteins)
                    : fmt::format("{} damaged shards, the first {}", damaged.size(), damaged[0]),
       .remedy = damaged.empty() ? "run `plmscope harvest` again to finish it"
                                 : "delete the damaged shards and run `plmscope harvest` again"});
}
