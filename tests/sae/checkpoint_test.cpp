// SPDX-License-Identifier: MIT
#include <tests/golden.hpp>
#include <tests/thrown.hpp>

#include <plmscope/backend/reference.hpp>
#include <plmscope/core/rng.hpp>
#include <plmscope/sae/checkpoint.hpp>
#include <plmscope/sae/sparsifiers/batch_top_k.hpp>
#include <plmscope/sae/sparsifiers/gated.hpp>
#include <plmscope/sae/sparsifiers/group_max.hpp>
#include <plmscope/sae/sparsifiers/jump_relu.hpp>
#include <plmscope/sae/sparsifiers/relu.hpp>

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using plmscope::activation_source;
using plmscope::cpu;
using plmscope::normalization;
using plmscope::sae;
using plmscope::top_k;

namespace {

const activation_source parent{"esm2_test", "0123abcd", "resid_post.4"};

sae<top_k> sample(plmscope::normalizer n = {}) {
  sae<top_k> s({.d_model = 8, .features = 24, .sparsifier = {.k = 5}, .normalize = n, .seed = 3},
               cpu(1));
  s.source = parent;
  s.training_record["steps"] = "12";
  return s;
}

struct other_sparsifier {
  static constexpr std::string_view id = "other";
  template <class B>
  void select(B& be, plmscope::const_view<B> pre, plmscope::codes<B>& out) const {
    be.top_k_rows(pre, 1, plmscope::by_value{}, out);
  }
};

// Every parameter gets numbers of its own.
template <class S, class B>
void fill_parameters(sae<S, B>& model) {
  std::uint64_t stream = 0;
  model.parameters().for_each([&](const std::string&, auto& m) {
    const plmscope::rng random(7, ++stream);
    std::vector<double> v(m.size());
    for (std::size_t i = 0; i < v.size(); ++i) v[i] = 0.2 + std::abs(random.normal(i));
    model.backend().upload(std::span<const double>(v), m.all());
  });
}

template <class S, class B>
std::vector<double> all_parameters(sae<S, B>& model) {
  std::vector<double> out;
  model.parameters().for_each([&](const std::string&, auto& m) {
    std::vector<double> v(m.size());
    model.backend().download(plmscope::const_view<B>(m), std::span<double>(v));
    out.insert(out.end(), v.begin(), v.end());
  });
  return out;
}

// Codes and results of some rows.
template <class S, class B>
std::vector<double> computed(sae<S, B>& model) {
  auto& be = model.backend();
  constexpr std::size_t rows = 9;
  plmscope::matrix<typename B::real, B> x(be, rows, model.d_model()), y(be, rows, model.d_out());
  const plmscope::rng random(3, 3);
  std::vector<double> numbers(x.size());
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = 1 + random.normal(i);
  be.upload(std::span<const double>(numbers), x.all());
  plmscope::codes<B> z;
  model.reconstruct(x, y, &z);
  std::vector<double> out(y.size());
  be.download(plmscope::const_view<B>(y), std::span<double>(out));
  out.push_back(static_cast<double>(z.offsets()[rows]));
  for (std::int64_t e = 0; e < z.offsets()[rows]; ++e) {
    out.push_back(static_cast<double>(z.values()[static_cast<std::size_t>(e)]));
  }
  return out;
}

// Saved and opened: the same description, numbers and results, and the same bytes when saved again.
template <class S, class B>
void comes_back(typename sae<S, B>::options options, B be, std::string_view what) {
  INFO(std::string(S::id), ", ", std::string(what));
  const golden::scratch_folder folder;
  sae<S, B> a(std::move(options), be);
  fill_parameters(a);
  a.source = parent;
  a.training_record["k\u00e9y"] = "line\none \"two\"";
  plmscope::save_sae(a, folder / "a.safetensors");
  auto b = plmscope::load_sae<S, B>(folder / "a.safetensors", parent, nullptr, be);
  CHECK(all_parameters(a) == all_parameters(b));
  CHECK(computed(a) == computed(b));
  const auto d = plmscope::describe_sae(a), e = plmscope::describe_sae(b);
  CHECK(d.sparsifier_fields == e.sparsifier_fields);
  CHECK(d.training_record == e.training_record);
  CHECK(d.normalizer == e.normalizer);
  CHECK(d.normalize_out == e.normalize_out);
  CHECK(d.centring == e.centring);
  CHECK(d.lengths == e.lengths);
  CHECK(std::vector<bool>{d.unit_input, d.skip, d.transcodes} ==
        std::vector<bool>{e.unit_input, e.skip, e.transcodes});
  CHECK(d.blocks == e.blocks);
  CHECK(d.seed == e.seed);
  CHECK(d.source == e.source);
  plmscope::save_sae(b, folder / "b.safetensors");
  const auto bytes = [&](const char* name) {
    std::ifstream in(folder / name, std::ios::binary);
    return std::string{std::istreambuf_iterator<char>(in), {}};
  };
  CHECK(bytes("a.safetensors") == bytes("b.safetensors"));
}

// The file with its metadata and tensors changed by f(writer, numbers by name).
template <class F>
void rewrite(const std::filesystem::path& from, const std::filesystem::path& to, const F& f) {
  const auto file = plmscope::safetensors_file::read_whole(from);
  plmscope::safetensors_writer w;
  w.metadata = file.metadata();
  std::map<std::string, std::pair<std::vector<std::size_t>, std::vector<float>>> tensors;
  for (const auto& t : file.tensors()) tensors[t.name] = {t.shape, file.read_vector<float>(t)};
  f(w.metadata, tensors);
  for (auto& [name, t] : tensors) w.add_owned<float>(name, t.first, t.second);
  w.write(to);
}

}  // namespace

TEST_CASE("every sparsifier and every option comes back") {
  const auto with = []<class S>(S sparsifier) {
    comes_back<S, cpu>({.d_model = 8, .features = 24, .sparsifier = sparsifier, .seed = 3}, cpu(1),
                       "float");
    comes_back<S, plmscope::reference>({.d_model = 8, .features = 24, .sparsifier = sparsifier},
                                       plmscope::reference(), "double");
    comes_back<S, cpu>({.d_model = 8,
                        .features = 24,
                        .sparsifier = sparsifier,
                        .normalize = {.kind = normalization::scalar, .scale = 0.1 + 0.2},
                        .d_out = 6,
                        .normalize_out = {.kind = normalization::per_dimension,
                                          .mean = {1, 2, 3, 4, 5, 6},
                                          .deviation = {1, 2, 3, 4, 5, 6}},
                        .centring = plmscope::input_centring::own_bias,
                        .skip = true,
                        .transcodes = true,
                        .seed = 0xffffffffffffffff},
                       cpu(1), "transcoder");
  };
  with(top_k{.k = 5});
  with(top_k{.k = 5, .negatives = true});
  with(plmscope::abs_top_k{.k = 4});
  with(plmscope::batch_top_k{
      .k = 3.7, .threshold = 0.1 + 0.2, .smoothing = 0.9, .first_step = 7, .from_zero = true});
  with(plmscope::batch_top_k{.threshold = -1});
  with(plmscope::relu{});
  with(plmscope::jump_relu{.bandwidth = 0.3,
                           .kernel = plmscope::jump_kernel::epanechnikov,
                           .log_thresholds = true,
                           .reaches_input = true,
                           .clamp_at_zero = false,
                           .l0_of_values = true,
                           .relu_first = true,
                           .without_chain = true});
  with(plmscope::gated{.auxiliary_trains_decoder = true});
  with(plmscope::group_max{.k = 6, .empty_groups_train = true});

  const sae<top_k>::options plain{.d_model = 8, .features = 24, .sparsifier = {.k = 5}};
  for (const auto centring : {plmscope::input_centring::decoder_bias,
                              plmscope::input_centring::own_bias, plmscope::input_centring::none}) {
    for (const auto lengths : {plmscope::row_lengths::free, plmscope::row_lengths::in_codes,
                               plmscope::row_lengths::rank}) {
      auto o = plain;
      o.centring = centring;
      o.lengths = lengths;
      o.unit_input = lengths == plmscope::row_lengths::free;
      if (lengths == plmscope::row_lengths::rank) o.blocks = 4;
      comes_back<top_k, cpu>(o, cpu(1), "centring and lengths");
    }
  }
  auto o = plain;
  o.normalize = {.kind = normalization::token_layer_norm,
                 .epsilon = 0,
                 .root_epsilon = 1e-5,
                 .inverse_epsilon = 0,
                 .ddof = 1};
  comes_back<top_k, cpu>(o, cpu(1), "layer norm");
  o.normalize = {.kind = normalization::token_layer_norm, .epsilon = 1e-9, .centred = false};
  comes_back<top_k, cpu>(o, cpu(1), "rows of length sqrt(d)");
}

TEST_CASE("files of the first format still open") {
  const golden::scratch_folder folder;
  for (const bool by_lengths : {false, true}) {
    sae<top_k> a(
        {.d_model = 8,
         .features = 24,
         .sparsifier = {.k = 5},
         .normalize = {.kind = normalization::token_layer_norm},
         .lengths = by_lengths ? plmscope::row_lengths::in_codes : plmscope::row_lengths::free},
        cpu(1));
    fill_parameters(a);
    plmscope::save_sae(a, folder / "now.safetensors");
    rewrite(folder / "now.safetensors", folder / "then.safetensors", [&](auto& metadata, auto&) {
      metadata["format"] = "plmscope.sae.1";
      metadata["decode.scale_by_decoder_norm"] = by_lengths ? "true" : "false";
      for (const char* key :
           {"sparsifier.negatives", "normalizer.centred", "normalize_out", "centring", "lengths",
            "blocks", "seed", "unit_input", "skip", "transcodes"}) {
        metadata.erase(key);
      }
    });
    auto b = plmscope::load_sae<top_k>(folder / "then.safetensors", {}, nullptr, cpu(1));
    CHECK(computed(a) == computed(b));
    CHECK(b.settings().lengths == a.settings().lengths);
  }
}

TEST_CASE("tensors that do not fit what the file says are refused") {
  const golden::scratch_folder folder;
  sae<plmscope::jump_relu> a({.d_model = 8,
                              .features = 24,
                              .normalize = {.kind = normalization::scalar, .scale = 2},
                              .centring = plmscope::input_centring::own_bias,
                              .skip = true},
                             cpu(1));
  fill_parameters(a);
  const auto good = folder / "a.safetensors", bad = folder / "b.safetensors";
  plmscope::save_sae(a, good);
  const auto open = [&](const auto& change) {
    rewrite(good, bad, change);
    return id_thrown([&] { plmscope::load_sae<plmscope::jump_relu>(bad, {}, nullptr, cpu(1)); });
  };
  CHECK(open([](auto&, auto&) {}) == "nothing");
  const auto original = plmscope::safetensors_file::read_whole(good);
  for (const auto& t : original.tensors()) {
    INFO(t.name);
    CHECK(open([&](auto&, auto& tensors) { tensors.erase(t.name); }) == "io.123");
    CHECK(open([&](auto&, auto& tensors) {
            auto& [shape, numbers] = tensors[t.name];
            shape.back() += 1;
            numbers.resize(numbers.size() / (shape.back() - 1) * shape.back());
          }) == "io.124");
    CHECK(open([&](auto&, auto& tensors) { tensors[t.name].second.back() = std::nanf(""); }) ==
          "sae.106");
  }
  CHECK(open([](auto&, auto& tensors) { tensors["more"] = {{1}, {1.0f}}; }) == "sae.103");
  CHECK(open([](auto& metadata, auto&) { metadata["centring"] = "none"; }) == "sae.103");
  const std::vector<std::array<std::string, 3>> changes{
      {"centring", "sideways", "sae.108"},
      {"lengths", "", "sae.108"},
      {"blocks", "-1", "sae.108"},
      {"blocks", "3", "sae.101"},
      {"blocks", "0", "sae.101"},
      {"blocks", "99999999999999999999999", "sae.108"},
      {"skip", "1", "sae.108"},
      {"transcodes", "TRUE", "sae.108"},
      {"unit_input", "", "sae.108"},
      {"seed", "1e3", "sae.108"},
      {"normalizer", "layer", "sae.108"},
      {"normalizer.scale", "nan", "sae.108"},
      {"normalizer.scale", "0", "sae.109"},
      {"normalizer.scale", "-2", "sae.108"},
      {"normalizer.scale", "inf", "sae.108"},
      {"normalizer", "per_dimension", "io.123"},
      {"normalize_out", "token_layer_norm", "sae.108"},
      {"sparsifier", "relu", "sae.104"},
      {"sparsifier.kernel", "3", "sae.101"},
      {"sparsifier.kernel", "300", "sae.108"},
      {"sparsifier.bandwidth", "0", "sae.101"},
      {"sparsifier.bandwidth", "nan", "sae.108"},
      {"sparsifier.log_thresholds", "2", "sae.108"},
      {"sparsifier.unheard_of", "1", "sae.108"},
      {"sparsifier.bandwidth", " 1", "sae.108"},
      {"format", "plmscope.sae.3", "sae.103"}};
  for (const auto& [key, value, id] : changes) {
    INFO(key, " = ", value);
    CHECK(open([&, &k = key, &v = value](auto& metadata, auto&) { metadata[k] = v; }) == id);
  }
}

TEST_CASE("an SAE file gives back every bit and every field") {
  const golden::scratch_folder folder;
  for (const auto kind : {normalization::none, normalization::scalar, normalization::per_dimension,
                          normalization::token_layer_norm}) {
    plmscope::normalizer n{.kind = kind, .scale = 0.1234567890123};
    if (kind != normalization::scalar) n.scale = 1;
    if (kind == normalization::per_dimension) {
      n.mean.assign(8, 0.3);
      n.deviation.assign(8, 1.7);
    }
    auto a = sample(n);
    plmscope::save_sae(a, folder / "a.safetensors");
    auto b = plmscope::load_sae<top_k>(folder / "a.safetensors", parent, &n, cpu(1));
    CHECK(b.sparsifier().k == 5);
    CHECK(b.normalization() == n);
    CHECK(b.source == parent);
    CHECK(b.training_record.at("steps") == "12");
    CHECK(std::equal(a.parameters().encoder.data(), a.parameters().encoder.data() + 24 * 8,
                     b.parameters().encoder.data()));
    CHECK(std::equal(a.parameters().decoder.data(), a.parameters().decoder.data() + 24 * 8,
                     b.parameters().decoder.data()));
  }
}

TEST_CASE("an SAE is refused for activations it was not made for") {
  const golden::scratch_folder folder;
  const auto file = folder / "a.safetensors";
  auto a = sample();
  plmscope::save_sae(a, file);
  const auto open = [&](activation_source use) {
    return id_thrown([&] { plmscope::load_sae<top_k>(file, use, nullptr, cpu(1)); });
  };
  CHECK(open(parent) == "nothing");
  CHECK(open({}) == "nothing");
  CHECK(open({"esm2_test", "0123abcd", "resid_post.3"}) == "sae.105");
  CHECK(open({"esm2_test", "ffff", "resid_post.4"}) == "sae.105");
  CHECK(open({"another", "", "resid_post.4"}) == "sae.105");
  CHECK(open({"renamed folder", "0123abcd", "resid_post.4"}) == "nothing");  // same weights
  const plmscope::normalizer scaled{.kind = normalization::scalar, .scale = 2};
  CHECK(id_thrown([&] { plmscope::load_sae<top_k>(file, parent, &scaled, cpu(1)); }) == "sae.105");
  CHECK(id_thrown([&] { plmscope::load_sae<other_sparsifier>(file, parent, nullptr, cpu(1)); }) ==
        "sae.104");
}

TEST_CASE("a file that is no SAE, or a damaged one, is refused by name") {
  const golden::scratch_folder folder;
  const auto file = folder / "a.safetensors";
  plmscope::safetensors_writer w;
  const std::vector<float> numbers(12, 1.0f);
  w.add<float>("encoder", {3, 4}, numbers);
  w.write(file);
  CHECK(id_thrown([&] { plmscope::load_sae<>(file); }) == "sae.103");

  auto a = sample();
  a.parameters().decoder(2, 3) = std::numeric_limits<float>::quiet_NaN();
  plmscope::save_sae(a, file);
  CHECK(id_thrown([&] { plmscope::load_sae<>(file, {}, nullptr, cpu(1)); }) == "sae.106");

  // every metadata field in turn changed to nonsense or removed
  auto good = sample({.kind = normalization::token_layer_norm});
  plmscope::save_sae(good, file);
  const auto original = plmscope::safetensors_file::read_whole(file);
  for (const auto& [key, value] : original.metadata()) {
    if (key.starts_with("training.") || key == "plmscope.version" || key == "normalizer.scale")
      continue;
    plmscope::safetensors_writer changed;
    changed.metadata = original.metadata();
    changed.metadata.erase(key);
    for (const auto& t : original.tensors()) {
      changed.add_owned<float>(t.name, t.shape, original.read_vector<float>(t));
    }
    changed.write(folder / "b.safetensors");
    INFO(key);
    CHECK(id_thrown([&] {
            plmscope::load_sae<>(folder / "b.safetensors", parent, nullptr, cpu(1));
          }) != "nothing");
  }
}

TEST_CASE("every truncation of an SAE file is refused") {
  const golden::scratch_folder folder;
  auto a = sample();
  plmscope::save_sae(a, folder / "a.safetensors");
  std::ifstream in(folder / "a.safetensors", std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  for (std::size_t n = 0; n < bytes.size(); n += 37) {
    std::ofstream(folder / "b.safetensors", std::ios::binary) << bytes.substr(0, n);
    CHECK_THROWS_AS(plmscope::load_sae<>(folder / "b.safetensors", {}, nullptr, cpu(1)),
                    plmscope::error);
  }
}
