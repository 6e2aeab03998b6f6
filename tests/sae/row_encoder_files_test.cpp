// SPDX-License-Identifier: MIT
// SAEs that encode rows by themselves: files of ours, and what is refused of them.
#include <tests/golden.hpp>
#include <tests/thrown.hpp>

#include <plmscope/backend/reference.hpp>
#include <plmscope/core/rng.hpp>
#include <plmscope/io/safetensors_writer.hpp>
#include <plmscope/sae/any_sae.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace {

namespace fs = std::filesystem;
using plmscope::any_sae;
using plmscope::cpu;
using plmscope::matching_pursuit;
using plmscope::orthogonal_pursuit;
using plmscope::routed;
using plmscope::sae;

std::string bytes_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

template <class S, class B>
typename sae<S, B>::options with(S s) {
  typename sae<S, B>::options o;
  o.d_model = 8, o.features = 24, o.sparsifier = s, o.seed = 3;
  if constexpr (requires { s.block_biases; }) {
    if (s.block_biases) o.centring = plmscope::input_centring::none;
  }
  return o;
}

template <class Model>
std::vector<double> computed(Model& model) {
  using B = typename Model::backend_type;
  auto& be = model.backend();
  plmscope::matrix<typename B::real, B> x(be, 9, model.d_model()), y(be, 9, model.d_out());
  const plmscope::rng random(3, 3);
  std::vector<double> numbers(x.size());
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = 1 + random.normal(i);
  be.upload(std::span<const double>(numbers), x.all());
  plmscope::codes<B> z;
  model.reconstruct(x, y, &z);
  std::vector<double> out(y.size());
  be.download(plmscope::const_view<B>(y), std::span<double>(out));
  CHECK(z.offsets()[9] > 0);
  for (std::int64_t e = 0; e < z.offsets()[9]; ++e) {
    out.push_back(static_cast<double>(z.values()[e]));
    out.push_back(z.ids()[e]);
  }
  return out;
}

// Saved and opened, by its type and without it: the same numbers and fields, and the same bytes
// again.
template <class S, class B>
void comes_back(S s) {
  INFO(std::string(S::id));
  const golden::scratch_folder folder;
  sae<S, B> a(with<S, B>(s));
  std::uint64_t stream = 0;
  a.parameters().for_each([&](const std::string&, auto& m) {
    const plmscope::rng random(7, ++stream);
    std::vector<double> v(m.size());
    for (std::size_t i = 0; i < v.size(); ++i) v[i] = 0.3 * random.normal(i);
    a.backend().upload(std::span<const double>(v), m.all());
  });
  a.source = {"esm2_test", "0123abcd", "resid_post.4"};
  plmscope::save_sae(a, folder / "a.safetensors");
  auto b = plmscope::load_sae<S, B>(folder / "a.safetensors", a.source);
  CHECK(computed(a) == computed(b));
  CHECK(plmscope::describe_sae(a).sparsifier_fields == plmscope::describe_sae(b).sparsifier_fields);
  auto c = any_sae<B>::open(folder / "a.safetensors");
  CHECK(c.describe().sparsifier == S::id);
  REQUIRE(c.template get_if<S>() != nullptr);
  CHECK(computed(a) == computed(c));
  c.save(folder / "b.safetensors");
  CHECK(bytes_of(folder / "a.safetensors") == bytes_of(folder / "b.safetensors"));
  CHECK(id_thrown([&] { save_saelens(c, folder / "saelens"); }) == "sae.116");
  CHECK_FALSE(fs::exists(folder / "saelens" / "sae_weights.safetensors"));
}

const routed mixture{.k = 2,
                     .experts = 4,
                     .chosen = 2,
                     .router_bias = true,
                     .share_gates = true,
                     .block_biases = true,
                     .balance = 0.02,
                     .entropy = 0.01};

// A file like that of `mixture` but for its metadata and tensors.
template <class Change>
std::string opened(const Change& change) {
  const golden::scratch_folder folder;
  sae<routed> model(with<routed, cpu>(mixture));
  plmscope::save_sae(model, folder / "a.safetensors");
  const auto file = plmscope::safetensors_file::open(folder / "a.safetensors");
  std::map<std::string, std::string> metadata;
  for (const auto& [key, value] : file.metadata()) metadata[key] = value;
  std::map<std::string, std::pair<std::vector<std::size_t>, std::vector<float>>> tensors;
  for (const auto& name : file.names()) {
    tensors[name] = {file.require(name).shape, file.read_vector<float>(name)};
  }
  change(metadata, tensors);
  plmscope::safetensors_writer out;
  for (const auto& [key, value] : metadata) out.metadata[key] = value;
  for (const auto& [name, t] : tensors) out.add_owned<float>(name, t.first, t.second);
  out.write(folder / "b.safetensors");
  return id_thrown([&] { any_sae<>::open(folder / "b.safetensors"); });
}

}  // namespace

TEST_CASE("files of SAEs that encode rows by themselves") {
  const auto each = [](auto s) {
    comes_back<decltype(s), cpu>(s);
    comes_back<decltype(s), plmscope::reference>(s);
  };
  each(routed{.k = 2, .experts = 4});
  each(routed{.k = 2, .experts = 3, .chosen = 2, .router_bias = false, .share_gates = true});
  each(mixture);
  each(matching_pursuit{.k = 5, .negatives = true, .tolerance = 0.125});
  each(orthogonal_pursuit{.k = 5});
}

TEST_CASE("routers that do not fit are refused when files are opened") {
  CHECK(opened([](auto&, auto&) {}) == "nothing");
  const auto field = [](const char* name, const char* value) {
    return opened([&](auto& m, auto&) { m[std::string("sparsifier.") + name] = value; });
  };
  CHECK(field("experts", "0") == "sae.101");
  CHECK(field("experts", "5") == "sae.101");
  CHECK(field("experts", "18446744073709551615") == "sae.101");
  CHECK(field("experts", "6").starts_with("io."));  // the router has four rows
  CHECK(field("experts", "-4") == "sae.108");
  CHECK(field("chosen", "7") == "sae.101");
  CHECK(field("k", "0") == "sae.101");
  CHECK(field("k", "18446744073709551615") == "nothing");  // all of a block
  CHECK(field("balance", "nan") == "sae.108");
  CHECK(field("share_gates", "2") == "sae.108");
  CHECK(field("unheard_of", "1") == "sae.108");
  CHECK(field("router_bias", "0") == "sae.103");  // a tensor too many
  CHECK(opened([](auto& m, auto&) { m.erase("sparsifier.chosen"); }) == "sae.108");
  CHECK(opened([](auto& m, auto&) { m["lengths"] = "rank"; }) == "sae.101");
  CHECK(opened([](auto& m, auto&) { m["centring"] = "decoder_bias"; }) == "sae.101");
  CHECK(opened([](auto&, auto& t) { t.erase("router"); }).starts_with("io."));
  CHECK(opened([](auto&, auto& t) { t["router"].first = {8, 4}; }).starts_with("io."));
  CHECK(opened([](auto&, auto& t) { t["block_bias"].first = {32}; }).starts_with("io."));
  CHECK(opened([](auto&, auto& t) { t["router"].second[3] = std::nanf(""); }) == "sae.106");
}
