// SPDX-License-Identifier: MIT
#include "sweep_activations.hpp"

#include "store.hpp"

#include <plmscope/acts/activation_memory_reader.hpp>
#include <plmscope/acts/activation_store_reader.hpp>
#include <plmscope/acts/harvest.hpp>
#include <plmscope/acts/shuffled_rows.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <utility>

namespace {

std::vector<plmscope::site> parsed(const std::vector<std::string>& names) {
  std::vector<plmscope::site> out;
  for (const auto& name : names) out.push_back(plmscope::parse_site(name));
  return out;
}

}  // namespace

sweep_activations::sweep_activations(program_model& esm,
                                     const std::vector<plmscope::protein_sequence>& proteins,
                                     request asked)
    : esm_(esm), proteins_(proteins), asked_(std::move(asked)) {
  // f32, for the bits of training on the fly.
  const auto manifest = plmscope::manifest_for(esm_, parsed(asked_.sites), proteins_,
                                               {.numbers = plmscope::dtype::f32});
  proteins_hash_ = manifest.proteins_hash;
  rows_ = manifest.residues;
  bytes_ = plmscope::activation_memory::bytes(esm_, parsed(asked_.needed), rows_);
  // A store of other sites or proteins is another one.
  const auto folder = asked_.folder / ("activations-" + manifest.id().substr(0, 16));
  if (bytes_ > asked_.memory_limit || is_store(folder)) store_ = folder;
}

sweep_activations::~sweep_activations() = default;

std::size_t sweep_activations::width(const std::string& site) const {
  return esm_.width(plmscope::parse_site(site));
}

bool sweep_activations::ready() const {
  return computed_ ||
         (!in_memory() && is_store(store_) &&
          plmscope::activation_store::open(store_, {.allow_partial = true}).complete());
}

std::string sweep_activations::text() const {
  return fmt::format("in {}, {}", in_memory() ? "memory" : store_.string(), size_text(bytes_));
}

void sweep_activations::compute(const std::function<void(std::size_t, std::size_t)>& progress) {
  if (computed_) return;
  if (in_memory()) {
    std::vector<std::string> sequences;
    for (const auto& p : proteins_) sequences.push_back(p.sequence);
    memory_ = std::make_shared<plmscope::activation_memory>(plmscope::activation_memory::of(
        esm_, parsed(asked_.needed), std::span<const std::string>(sequences), progress));
  } else if (!ready()) {
    const auto manifest = plmscope::manifest_for(esm_, parsed(asked_.sites), proteins_,
                                                 {.numbers = plmscope::dtype::f32});
    plmscope::activation_store_writer store(store_, manifest, proteins_, {0, proteins_.size()});
    plmscope::require_free(store_, store.estimate());
    plmscope::harvest(esm_, std::span<const plmscope::protein_sequence>(proteins_), store,
                      progress);
  }
  computed_ = true;
}

void sweep_activations::with_rows(const std::string& site, std::uint64_t seed,
                                  std::size_t buffer_rows,
                                  const std::function<void(std::size_t, std::size_t)>& progress,
                                  const std::function<void(row_feed)>& use) {
  compute(progress);
  const auto give = [&]<class Reader>(Reader reader) {
    plmscope::shuffled_rows<Reader, program_backend> rows(std::move(reader), seed, buffer_rows);
    row_feed feed(rows);
    // The same rows wherever they lie: a training may go on with those of the other place.
    const auto from = rows.source();
    feed.identity = [text =
                         fmt::format("model {} {} at {}, proteins {}, seed {}, {} rows in memory",
                                     from.model, from.model_hash, from.site, proteins_hash_, seed,
                                     std::min(buffer_rows, rows_))] { return text; };
    use(std::move(feed));
  };
  if (in_memory()) {
    give(plmscope::activation_memory_reader<program_backend>(memory_, site, seed));
  } else {
    give(plmscope::activation_store_reader<program_backend>(
        plmscope::activation_store::open(store_), site, seed));
  }
}
