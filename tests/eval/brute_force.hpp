// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/rng.hpp>
#include <plmscope/eval/score_concepts.hpp>

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

// Small random problems, and the counts of their definition written without any shortcut.
namespace brute_force {

using namespace plmscope;

struct problem {
  std::size_t features = 0;
  std::vector<std::int64_t> offsets{0};
  std::vector<std::uint32_t> ids;
  std::vector<float> values;
  std::vector<std::size_t> protein_offsets{0};
  std::vector<std::string> sequences;
  concept_set concepts;
  protein_split split;

  sparse_activations acts() const { return {features, offsets, ids, values, protein_offsets}; }
  std::size_t rows() const { return offsets.size() - 1; }
  float value(std::size_t row, std::uint32_t feature) const {
    for (auto e = offsets[row]; e < offsets[row + 1]; ++e) {
      if (ids[static_cast<std::size_t>(e)] == feature) return values[static_cast<std::size_t>(e)];
    }
    return 0.0f;
  }
};

// Values are multiples of 1/8 in [-1/8, 1], so ties with thresholds are common.
inline problem make(std::uint64_t seed) {
  const rng random(seed, 77);
  std::uint64_t n = 0;
  const auto below = [&](std::uint64_t limit) { return random.below(n++, limit); };
  problem out;
  out.features = 1 + below(6);
  const std::size_t proteins = below(7);
  const std::uint64_t density = 1 + below(9);
  for (std::size_t p = 0; p < proteins; ++p) {
    const std::size_t length = below(12);
    std::string sequence;
    for (std::size_t i = 0; i < length; ++i) {
      sequence += "ACDX*"[below(5)];
      for (std::uint32_t f = 0; f < out.features; ++f) {
        if (below(10) >= density) continue;
        out.ids.push_back(f);
        out.values.push_back(static_cast<float>(static_cast<int>(below(10)) - 1) / 8.0f);
      }
      out.offsets.push_back(static_cast<std::int64_t>(out.ids.size()));
    }
    out.protein_offsets.push_back(out.rows());
    out.sequences.push_back(sequence);
    out.concepts.lengths.push_back(static_cast<std::uint32_t>(length));
    (below(2) == 0 ? out.split.validation : out.split.held_out)
        .push_back(static_cast<std::uint32_t>(p));
  }
  const std::size_t concepts = below(5);
  for (std::size_t c = 0; c < concepts; ++c) {
    concept_label label;
    label.name = "concept " + std::to_string(c);
    label.kind = static_cast<concept_kind>(below(3));
    for (std::uint32_t p = 0; p < proteins; ++p) {
      const std::uint32_t length = out.concepts.lengths[p];
      for (std::uint64_t i = below(4); length > 0 && i > 0; --i) {
        const auto begin = static_cast<std::uint32_t>(1 + below(length));
        const auto end = static_cast<std::uint32_t>(begin + below(length - begin + 1));
        label.instances.push_back({p, begin, end});
      }
    }
    out.concepts.concepts.push_back(label);
  }
  return out;
}

// Whether residue `position` (from 1) of protein p carries the label of instance i.
inline bool covers(const concept_label& c, const concept_instance& i, std::uint32_t p,
                   std::uint32_t position) {
  if (i.protein != p) return false;
  if (c.kind == concept_kind::pair) return position == i.begin || position == i.end;
  return i.begin <= position && position <= i.end;
}

// `active(p, position)` for the proteins of one side.
template <class Active>
tally count(const concept_label& c, const std::vector<std::uint32_t>& lengths,
            const std::vector<std::uint32_t>& side, const Active& active) {
  tally t;
  for (const std::uint32_t p : side) {
    for (std::uint32_t position = 1; position <= lengths[p]; ++position) {
      bool labelled = false;
      for (const auto& i : c.instances) labelled = labelled || covers(c, i, p, position);
      const bool on = active(p, position);
      t.positives += labelled ? 1u : 0u;
      t.tp += labelled && on ? 1u : 0u;
      t.fp += !labelled && on ? 1u : 0u;
    }
    for (const auto& i : c.instances) {
      if (i.protein != p) continue;
      ++t.instances;
      bool hit = false;
      for (std::uint32_t position = 1; position <= lengths[p]; ++position) {
        hit = hit || (covers(c, i, p, position) && active(p, position));
      }
      t.hits += hit && c.kind == concept_kind::domain ? 1u : 0u;
    }
  }
  return t;
}

}  // namespace brute_force
