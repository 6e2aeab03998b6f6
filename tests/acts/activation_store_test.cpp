// SPDX-License-Identifier: MIT
#include <plmscope/acts/activation_store_reader.hpp>
#include <plmscope/acts/harvest.hpp>
#include <plmscope/acts/mean_pooled.hpp>
#include <plmscope/acts/model_reader.hpp>
#include <plmscope/acts/shuffled_rows.hpp>
#include <plmscope/backend/reference.hpp>
#include <plmscope/io/safetensors.hpp>
#include <plmscope/plm/esm2.hpp>

#include "tests/acts/sample_store.hpp"
#include "tests/golden.hpp"
#include "tests/io/error_id.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

using namespace plmscope;

namespace {

using rows_by_origin = std::map<std::pair<std::uint32_t, std::uint32_t>, std::vector<float>>;

template <class Reader>
rows_by_origin read_all(Reader& reader, cpu& be) {
  rows_by_origin out;
  activation_batch<cpu> batch;
  while (reader.read(be, batch)) {
    for (std::size_t r = 0; r < batch.origins.size(); ++r) {
      const auto row = batch.rows.all().row(r);
      CHECK(out.try_emplace({batch.origins[r].protein, batch.origins[r].position}, row.begin(),
                            row.end())
                .second);
    }
  }
  return out;
}

// The order of a pass, which training depends on, and its rows.
template <class Reader>
std::pair<std::vector<std::pair<std::uint32_t, std::uint32_t>>, std::vector<float>> stream(
    Reader& reader, cpu& be) {
  std::pair<std::vector<std::pair<std::uint32_t, std::uint32_t>>, std::vector<float>> out;
  activation_batch<cpu> batch;
  while (reader.read(be, batch)) {
    for (const auto& o : batch.origins) out.first.emplace_back(o.protein, o.position);
    out.second.insert(out.second.end(), batch.rows.data(), batch.rows.data() + batch.rows.size());
  }
  return out;
}

esm2<> small_model() {
  return esm2<>::random({.layers = 3, .d_model = 16, .heads = 2, .feed_forward = 64}, 7, cpu(2));
}

}  // namespace

TEST_CASE("what was put in comes out, at every site, type, batch size and epoch") {
  cpu be(2);
  const auto list = sample::proteins();
  for (const dtype numbers : {dtype::f32, dtype::bf16, dtype::f16}) {
    for (const std::size_t shard_rows : {std::size_t{1}, std::size_t{16}, std::size_t{1000}}) {
      const golden::scratch_folder folder;
      const auto m = sample::manifest(numbers, shard_rows);
      sample::finish(folder / "s", m);
      const auto store = activation_store::open(folder / "s");
      CHECK(store.complete());
      CHECK(store.rows() == 78);
      CHECK(store.shards().size() == (shard_rows == 1 ? 11 : shard_rows == 16 ? 4 : 1));
      for (std::size_t s = 0; s < 2; ++s) {
        for (const std::size_t rows : {std::size_t{1}, std::size_t{20}, std::size_t{1000}}) {
          activation_store_reader<> reader(store, m.sites[s].name, 5, rows);
          CHECK(reader.source() == activation_source{m.model, m.model_hash, m.sites[s].name});
          for (const std::size_t epoch : {std::size_t{0}, std::size_t{3}}) {
            reader.rewind(epoch);
            const auto all = read_all(reader, be);
            CHECK(all.size() == 78);
            for (const auto& [at, row] : all) {
              for (std::size_t j = 0; j < row.size(); ++j) {
                const float x = sample::value(at.first, at.second, s, j);
                CHECK(row[j] == (numbers == dtype::f32    ? x
                                 : numbers == dtype::bf16 ? to_float(to_bfloat16(x))
                                                          : to_float(to_float16(x))));
              }
            }
          }
        }
      }
      for (std::size_t p = 0; p < list.size(); ++p) {
        const auto place = store.find(p);
        REQUIRE(place.has_value());
        CHECK(store.shards()[place->shard].id(place->local) == list[p].id);
        CHECK(store.shards()[place->shard].sequence(place->local) == list[p].sequence);
      }
      CHECK(!store.find(12));
    }
  }
}

TEST_CASE("a shard is a safetensors file like any other") {
  const golden::scratch_folder folder;
  const auto m = sample::manifest(dtype::f32, 1000);
  sample::finish(folder / "s", m);
  const auto file =
      safetensors_file::open(folder / "s/activations-0000000000-0000000012.safetensors");
  CHECK(file.metadata().at("model_hash") == "0123abcd");
  CHECK(file.metadata().at("store") == m.id());
  CHECK(file.read_vector<float>("resid_post.1", {78, 6}) ==
        sample::rows(m, sample::proteins(), {0, 12}, 0));
  CHECK(file.view_as<float>(file.require("final_norm")).has_value());
  CHECK(file.view_as<std::int32_t>(file.require("checksums")).has_value());
  const auto offsets = file.read_vector<std::int64_t>("offsets", {13});
  CHECK(offsets[3] == 10);
  CHECK(offsets[12] == 78);
}

TEST_CASE("the estimate is the size on disk, to the byte") {
  for (const std::size_t shard_rows : {std::size_t{1}, std::size_t{16}, std::size_t{1000}}) {
    const golden::scratch_folder folder;
    const auto m = sample::manifest(dtype::bf16, shard_rows);
    const auto list = sample::proteins();
    const store_plan plan(m, list);
    const auto estimate = plan.estimate(plan.missing({0, list.size()}, {}));
    sample::finish(folder / "s", m);
    const auto store = activation_store::open(folder / "s");
    CHECK(estimate.bytes == store.bytes());
    CHECK(estimate.rows == store.rows());
    CHECK(estimate.shards == store.shards().size());
    CHECK(free_bytes(folder / "not/there/yet") > 0);
    CHECK(error_id([&] { require_free(folder.path(), {.bytes = std::size_t{1} << 60}); }) ==
          "acts.119");
  }
}

TEST_CASE("a store reads as the model itself: the same rows in the same order") {
  auto model = small_model();
  auto list = sample::proteins();
  const std::vector<site> sites{final_norm{}, embeddings{}, resid_post{1}, resid_pre{2}};
  const auto m = manifest_for(model, sites, list, {.numbers = dtype::f32, .shard_bytes = 4000});
  const golden::scratch_folder folder;
  std::size_t reports = 0;
  {
    activation_store_writer store(folder / "s", m, list, {0, list.size()});
    CHECK(store.missing().size() > 3);
    harvest(
        model, list, store,
        [&](std::size_t done, std::size_t total) {
          ++reports;
          CHECK(done <= total);
        },
        30);
    CHECK(reports > 3);
  }
  std::vector<std::string> sequences;
  for (const auto& p : list) sequences.push_back(p.sequence);
  const auto store = activation_store::open(folder / "s");
  store.require_proteins(list);
  store.require_model(model.identity().content_hash);
  for (const site& at : sites) {
    esm2_reader<> fly(model, at, sequences, 9, 40);
    activation_store_reader<> stored(store, to_string(at), 9, 23);
    CHECK(stored.source() == fly.source());
    for (const std::size_t epoch : {std::size_t{0}, std::size_t{1}, std::size_t{2}}) {
      fly.rewind(epoch);
      stored.rewind(epoch);
      CHECK(stream(stored, model.backend()) == stream(fly, model.backend()));
    }
    // On top of it: batches for training, and one row a protein.
    for (const std::size_t buffer : {std::size_t{24}, std::size_t{1000}}) {
      shuffled_rows<esm2_reader<>, cpu> a(esm2_reader<>(model, at, sequences, 9, 40), 9, buffer);
      shuffled_rows<activation_store_reader<>, cpu> b(
          activation_store_reader<>(store, to_string(at), 9), 9, buffer);
      for (int i = 0; i < 30; ++i) {
        const auto x = a.next(model.backend(), 7), y = b.next(model.backend(), 7);
        CHECK(std::equal(x.data(), x.data() + x.size(), y.data()));
      }
    }
    mean_pooled<esm2_reader<>> c(esm2_reader<>(model, at, sequences));
    mean_pooled<activation_store_reader<>> d{activation_store_reader<>(store, to_string(at))};
    CHECK(stream(d, model.backend()) == stream(c, model.backend()));
  }
}

TEST_CASE("other backends read the same numbers") {
  const golden::scratch_folder folder;
  sample::finish(folder / "s", sample::manifest(dtype::bf16));
  const auto store = activation_store::open(folder / "s");
  reference be;
  activation_store_reader<reference> reader(store, "final_norm", 0, 10);
  activation_batch<reference> batch;
  std::size_t rows = 0;
  while (reader.read(be, batch)) {
    for (std::size_t r = 0; r < batch.origins.size(); ++r, ++rows) {
      const auto [p, i] = batch.origins[r];
      CHECK(static_cast<float>(batch.rows(r, 4)) ==
            to_float(to_bfloat16(sample::value(p, i, 1, 4))));
    }
  }
  CHECK(rows == 78);
}

TEST_CASE("numbers that the store cannot hold are named, and nothing is written") {
  const auto list = sample::proteins();
  const auto m = sample::manifest(dtype::f16);
  shard_image shard(m, list, {3, 6});
  auto rows = sample::rows(m, list, {3, 6}, 0);
  rows[13 * 6 + 2] = 65519.0f;  // rounds down to 65504
  shard.put(0, std::span(rows).first(14 * 6));
  rows[15 * 6 + 2] = -65520.0f;
  const auto text = error_text([&] { shard.put(0, std::span(rows).subspan(14 * 6)); });
  CHECK(text.find("acts.108") != std::string::npos);
  CHECK(text.find("protein sp|P00005|X, residue 3, resid_post.1, dimension 2") !=
        std::string::npos);
  CHECK(text.find("-65520") != std::string::npos);
  CHECK(text.find("store bf16 or f32") != std::string::npos);
  for (const dtype numbers : {dtype::f32, dtype::bf16, dtype::f16}) {
    for (const float bad : {std::nanf(""), HUGE_VALF, -HUGE_VALF}) {
      shard_image other(sample::manifest(numbers), list, {3, 6});
      rows[15 * 6 + 2] = bad;
      CHECK(error_id([&] { other.put(0, rows); }) == "acts.103");
    }
  }
  rows[15 * 6 + 2] = 3.4e38f;  // beyond the largest bf16
  shard_image wide(sample::manifest(dtype::bf16), list, {3, 6});
  CHECK(error_id([&] { wide.put(0, rows); }) == "acts.108");
}

TEST_CASE("requests that make no store are refused") {
  const auto list = sample::proteins();
  const golden::scratch_folder folder;
  auto m = sample::manifest();
  const auto write = [&](const store_manifest& asked, protein_range range) {
    return error_id([&] { sample::finish(folder / "s", asked, range); });
  };
  CHECK(write(m, {3, 3}) == "acts.106");
  CHECK(write(m, {0, 13}) == "acts.106");
  auto other = m;
  other.sites[1].name = "resid_post.1";
  CHECK(write(other, {0, 12}) == "acts.105");
  other.sites[1].name = "ids";
  CHECK(write(other, {0, 12}) == "acts.105");
  other.sites[1].name = "two words";
  CHECK(write(other, {0, 12}) == "acts.105");
  other = m;
  other.sites.clear();
  CHECK(write(other, {0, 12}) == "acts.105");
  other = m;
  other.numbers = dtype::f64;
  CHECK(write(other, {0, 12}) == "acts.105");
  other = m;
  other.residues = 79;
  CHECK(write(other, {0, 12}) == "acts.105");
  CHECK(!std::filesystem::exists(folder / "s"));
  CHECK(error_id([&] { sample::finish(folder / "a/b", m); }) == "acts.109");

  shard_image shard(m, list, {3, 6});
  CHECK(error_id([&] { shard.finish(); }) == "acts.107");
  CHECK(error_id([&] { shard.put(1, std::vector<float>(23 * 5)); }) == "acts.107");
  CHECK(error_id([&] { shard.put(1, std::vector<float>(6)); }) == "acts.107");
  activation_store_writer store(folder / "s", m, list, {0, 12});
  auto whole = sample::image(m, list, {0, 12});
  CHECK(error_id([&] { store.add(whole); }) == "acts.106");
  auto foreign = sample::image(sample::manifest(dtype::bf16), list, store.missing()[0]);
  CHECK(error_id([&] { store.add(foreign); }) == "acts.112");
  auto strange = list;
  strange[4].id = "two\nlines";
  CHECK(error_id([&] { shard_image(m, strange, {3, 6}); }) == "acts.105");
  auto model = small_model();
  CHECK(error_id([&] { manifest_for(model, {logits{}}, list); }) == "acts.102");
  CHECK(error_id([&] { manifest_for(model, {resid_post{9}}, list); }) == "plm.108");
  CHECK(error_id([&] { harvest(model, list, store); }) == "acts.112");
}
