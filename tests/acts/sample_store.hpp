// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/acts/activation_store_writer.hpp>
#include <plmscope/core/rng.hpp>

#include <cstddef>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

// A small store whose numbers are known without a model.
namespace sample {

/// Real files, but no waiting for the disk.
struct fast_system : plmscope::store_system {
  int fsync(int) { return 0; }
};

inline std::vector<plmscope::protein_sequence> proteins() {
  std::vector<plmscope::protein_sequence> out;
  const std::vector<std::size_t> lengths{7, 3, 0, 12, 1, 9, 4, 4, 25, 2, 6, 5};
  for (std::size_t p = 0; p < lengths.size(); ++p) {
    std::string sequence;
    for (std::size_t i = 0; i < lengths[p]; ++i)
      sequence += "ACDEFGHIKLMNPQRSTVWY"[(7 * p + i) % 20];
    out.push_back({"sp|P0000" + std::to_string(p) + "|X", "", sequence});
  }
  return out;
}

inline plmscope::store_manifest manifest(plmscope::dtype numbers = plmscope::dtype::f32,
                                         std::size_t shard_rows = 16) {
  plmscope::store_manifest m;
  m.model = "a \"model\"";
  m.model_hash = "0123abcd";
  m.sites = {{"resid_post.1", 6}, {"final_norm", 5}};
  m.numbers = numbers;
  const auto list = proteins();
  m.proteins = list.size();
  for (const auto& p : list) m.residues += p.sequence.size();
  m.proteins_hash = plmscope::hash_proteins(list);
  m.shard_rows = shard_rows;
  return m;
}

inline float value(std::size_t protein, std::size_t position, std::size_t site, std::size_t j) {
  return static_cast<float>(3 * plmscope::rng(protein * 1000 + position, site).normal(j));
}

/// Rows of the proteins of a range at a site, row-major.
inline std::vector<float> rows(const plmscope::store_manifest& m,
                               std::span<const plmscope::protein_sequence> list,
                               plmscope::protein_range range, std::size_t site) {
  std::vector<float> out;
  for (std::size_t p = range.first; p < range.end; ++p) {
    for (std::size_t i = 0; i < list[p].sequence.size(); ++i) {
      for (std::size_t j = 0; j < m.sites[site].width; ++j) out.push_back(value(p, i, site, j));
    }
  }
  return out;
}

inline plmscope::shard_image image(const plmscope::store_manifest& m,
                                   std::span<const plmscope::protein_sequence> list,
                                   plmscope::protein_range range) {
  plmscope::shard_image shard(m, list, range);
  for (std::size_t s = 0; s < m.sites.size(); ++s) shard.put(s, rows(m, list, range, s));
  return shard;
}

/// Writes what is missing; `acknowledged(range)` after every shard.
template <class System, class Acknowledged>
void finish(const std::filesystem::path& folder, const plmscope::store_manifest& m,
            plmscope::protein_range range, System system, const Acknowledged& acknowledged) {
  const auto list = proteins();
  plmscope::basic_activation_store_writer<System> store(folder, m, list, range, system);
  for (const auto& r : store.missing()) {
    auto shard = image(m, list, r);
    store.add(shard);
    acknowledged(r);
  }
}
inline void finish(const std::filesystem::path& folder, const plmscope::store_manifest& m,
                   plmscope::protein_range range = {0, 12}) {
  finish(folder, m, range, fast_system{}, [](const auto&) {});
}

inline std::string content(const std::filesystem::path& path) {
  const auto bytes = plmscope::read_file(path);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

inline void put(const std::filesystem::path& path, std::string_view bytes) {
  plmscope::basic_atomic_file<fast_system> file(path);
  file.write(bytes);
  file.commit();
}

/// Every file of a folder with its bytes, but for the lock.
inline std::map<std::string, std::string> files(const std::filesystem::path& folder) {
  std::map<std::string, std::string> out;
  for (const auto& name : plmscope::store_detail::names_in(folder)) {
    if (name != ".lock") out[name] = content(folder / name);
  }
  return out;
}

}  // namespace sample
