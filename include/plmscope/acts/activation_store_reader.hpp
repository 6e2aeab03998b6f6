// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/acts/activation_batch.hpp>
#include <plmscope/acts/activation_store.hpp>
#include <plmscope/acts/reader.hpp>
#include <plmscope/backend/cpu.hpp>
#include <plmscope/core/rng.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

namespace store_detail {

/// Refuses (acts.101) a store without rows.
inline std::size_t rows_of(const activation_store& store) {
  if (store.rows() > 0) return store.rows();
  throw error(rules::acts_no_proteins, {.where = store.folder(), .found = "no residue"});
}

/// A site of the rows there are. A partial store that has grown is another one.
inline std::string identity(const activation_store& store, std::size_t site) {
  return "store " + store.manifest().id() + " at " + store.manifest().sites[site].name + ", " +
         std::to_string(store.rows()) + " rows of " + std::to_string(store.proteins()) + " proteins";
}

/// Calls `part(i)` for i in [0, n): on the threads of the backend where it has some.
template <class B, class Part>
void for_each_part(B& be, std::size_t n, const Part& part) {
  if constexpr (requires { be.pool().run(n, part); }) {
    be.pool().run(n, part);
  } else {
    for (std::size_t i = 0; i < n; ++i) part(i);
  }
}

/// Fills `out` with floats: `fill(span)` writes straight into the memory of a host backend of
/// floats, and through `staging` for every other.
template <class B, class Fill>
void fill_rows(B& be, view<B> out, std::vector<float>& staging, const Fill& fill) {
  if constexpr (B::on_host && std::is_same_v<typename B::real, float>) {
    fill(std::span<float>(out.data(), out.size()));
  } else {
    staging.resize(out.size());
    fill(std::span<float>(staging));
    be.upload(std::span<const float>(staging), out);
  }
}

/// Rows [first, first + count) of a site, split among the threads.
template <class B>
void read_rows(B& be, const activation_store& store, std::size_t site, std::size_t first,
               std::span<float> out) {
  const std::size_t width = store.manifest().sites[site].width;
  const std::size_t rows = out.size() / width;
  const std::size_t tile = std::max<std::size_t>(1, (std::size_t{1} << 18) / width);
  for_each_part(be, (rows + tile - 1) / tile, [&](std::size_t t) {
    const std::size_t n = std::min(tile, rows - t * tile);
    store.read(site, first + t * tile, out.subspan(t * tile * width, n * width));
  });
}

}  // namespace store_detail

/// Reads one site of a store as `esm2_reader` reads it from the model: the same rows in the same
/// order for the same seed (bit for bit where the store holds f32), so that everything built on
/// readers works on a store unchanged. Epoch 0 reads the file from end to end; other epochs take
/// the proteins in an order of their own. Every number is checked against its checksum before it is
/// handed out. For training on stores larger than memory see `store_rows`.
/// Errors: acts.101 for a store without rows, acts.113 for another site, acts.115 while reading.
template <class Backend = cpu>
class activation_store_reader {
 public:
  activation_store_reader(activation_store store, std::string_view site, std::uint64_t seed = 0,
                          std::size_t rows_per_batch = 8192)
      : store_(std::move(store)),
        site_(store_.manifest().find(site)),
        seed_(seed),
        rows_per_batch_(rows_per_batch) {
    store_detail::rows_of(store_);
  }

  activation_source source() const { return store_.manifest().source(site_); }
  std::size_t width() const noexcept { return store_.manifest().sites[site_].width; }
  std::size_t total_rows() const noexcept { return store_.rows(); }
  std::size_t proteins() const noexcept { return store_.proteins(); }
  const activation_store& store() const noexcept { return store_; }

  void rewind(std::size_t epoch) noexcept {
    next_ = 0;
    epoch_ = epoch;
  }

  /// Origins count proteins in the list of the manifest, also when the store is partial.
  bool read(Backend& be, activation_batch<Backend>& out) {
    if (!pass(out.origins)) return false;
    const std::size_t d = width();
    out.rows.reshape(be, out.origins.size(), d);
    store_detail::fill_rows(be, out.rows.all(), staging_, [&](std::span<float> to) {
      if (pieces_.size() == 1)
        return store_detail::read_rows(be, store_, site_, pieces_[0].first, to);
      store_detail::for_each_part(be, pieces_.size(), [&](std::size_t i) {
        store_.read(site_, pieces_[i].first, to.subspan(pieces_[i].to * d, pieces_[i].rows * d));
      });
    });
    return true;
  }

  /// Goes past the batch that `read` would deliver, without reading its rows.
  bool pass(std::vector<row_origin>& origins) {
    const std::size_t listed = store_.manifest().proteins;
    const permutation order(listed, seed_, 0xac7500 + epoch_);
    origins.clear();
    pieces_.clear();
    for (; next_ < listed && origins.size() < rows_per_batch_; ++next_) {
      const std::size_t p = epoch_ == 0 ? next_ : static_cast<std::size_t>(order(next_));
      const auto place = store_.find(p);
      if (!place) continue;
      const store_shard& shard = store_.shards()[place->shard];
      const std::size_t first = shard.first_row(place->local);
      const std::size_t rows = shard.first_row(place->local + 1) - first;
      if (rows == 0) continue;
      if (!pieces_.empty() && origins.size() + rows > rows_per_batch_) break;
      add(store_.first_row(place->shard) + first, rows);
      for (std::size_t i = 0; i < rows; ++i) {
        origins.push_back({static_cast<std::uint32_t>(p), static_cast<std::uint32_t>(i)});
      }
    }
    return !origins.empty();
  }

  /// Store, site, seed and size of batches: what decides every row and its place.
  std::string identity() const {
    return store_detail::identity(store_, site_) + ", seed " + std::to_string(seed_) + ", " +
           std::to_string(rows_per_batch_) + " rows a batch";
  }

 private:
  struct piece {
    std::size_t first;  // in the store
    std::size_t rows;
    std::size_t to;  // in the batch
  };
  void add(std::size_t first, std::size_t rows) {
    if (!pieces_.empty() && pieces_.back().first + pieces_.back().rows == first) {
      pieces_.back().rows += rows;
      return;
    }
    const std::size_t to = pieces_.empty() ? 0 : pieces_.back().to + pieces_.back().rows;
    pieces_.push_back({first, rows, to});
  }

  activation_store store_;
  std::size_t site_;
  std::uint64_t seed_;
  std::size_t rows_per_batch_;
  std::size_t next_ = 0;
  std::size_t epoch_ = 0;
  std::vector<piece> pieces_;
  std::vector<float> staging_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
