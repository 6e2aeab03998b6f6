// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/sae/checkpoint.hpp>
#include <plmscope/sae/formats/read_published_sae.hpp>
#include <plmscope/sae/formats/saelens_writer.hpp>
#include <plmscope/sae/sparsifiers/batch_top_k.hpp>
#include <plmscope/sae/sparsifiers/gated.hpp>
#include <plmscope/sae/sparsifiers/group_max.hpp>
#include <plmscope/sae/sparsifiers/jump_relu.hpp>
#include <plmscope/sae/sparsifiers/matching_pursuit.hpp>
#include <plmscope/sae/sparsifiers/orthogonal_pursuit.hpp>
#include <plmscope/sae/sparsifiers/quantised.hpp>
#include <plmscope/sae/sparsifiers/relu.hpp>
#include <plmscope/sae/sparsifiers/routed.hpp>
#include <plmscope/sae/sparsifiers/top_k.hpp>

#include <cstddef>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// A published SAE on a backend. Errors: `sae_sparsifier` when it has another sparsifier than S;
/// `sae_settings` when its numbers do not fit its description.
template <class S, class B = cpu>
sae<S, B> make_sae(const published_sae& from, B be = B()) {
  auto model = sae_as_described<S>(from.description, from.library, std::move(be));
  const std::map<std::string, const std::vector<float>*> named{
      {"encoder", &from.encoder},           {"decoder", &from.decoder},
      {"encoder_bias", &from.encoder_bias}, {"decoder_bias", &from.decoder_bias},
      {"input_bias", &from.input_bias},     {"skip", &from.skip}};
  model.parameters().for_each([&](const std::string& name, auto& m) {
    const auto own = from.latent.find(name);
    const auto at = named.find(name);
    const std::vector<float>* numbers = own != from.latent.end() ? &own->second
                                        : at != named.end()      ? at->second
                                                                 : nullptr;
    if (numbers == nullptr || numbers->size() != m.size()) {
      throw error(rules::sae_settings,
                  {.where = from.library + ", " + name,
                   .expected = std::to_string(m.size()) + " numbers",
                   .found = std::to_string(numbers == nullptr ? 0 : numbers->size())});
    }
    model.backend().upload(std::span<const float>(*numbers), m.all());
  });
  return model;
}

/// An SAE whose sparsifier is known only when its file is opened, ours or a published one. All that
/// needs no type is a member; `visit` gives the typed SAE.
///
///   plmscope::any_sae<> sae = plmscope::any_sae<>::open("ae.pt", {.library = "interplm"});
///   sae.encode(rows, codes);
template <class Backend = cpu>
class any_sae {
 public:
  using real = typename Backend::real;
  using backend_type = Backend;
  template <class S>
  using of = sae<S, Backend>;
  using variant_type = std::variant<of<top_k>, of<abs_top_k>, of<batch_top_k>, of<relu>,
                                    of<jump_relu>, of<gated>, of<group_max>, of<routed>, of<matching_pursuit>,
                                    of<orthogonal_pursuit>, of<quantised>>;

  template <class S>
  any_sae(sae<S, Backend> model) : model_(std::move(model)) {}
  explicit any_sae(const published_sae& from, Backend be = Backend())
      : any_sae(
            by_id(from.description.sparsifier, from.library, [&]<class S>(std::type_identity<S>) {
              return any_sae(make_sae<S>(from, std::move(be)));
            })) {}

  /// Opens a file of ours or of another library. `expect` as in `load_sae`. Errors: those of
  /// `load_sae` and of `read_published_sae`; `sae_contradicted` when something is stated of a file
  /// of ours, which says all.
  static any_sae open(const std::filesystem::path& path, const stated_sae& stated = {},
                      const activation_source& expect = {}, Backend be = Backend()) {
    if (!is_native(path)) {
      const published_sae published = read_published_sae(path, stated);
      check_source(published.description.source, expect, path.string());
      return any_sae(published, std::move(be));
    }
    check_nothing_stated(stated, path);
    const std::string id = describe_sae(safetensors_file::open(path)).sparsifier;
    return by_id(id, path.string(), [&]<class S>(std::type_identity<S>) {
      return any_sae(load_sae<S>(path, expect, nullptr, std::move(be)));
    });
  }

  /// Whether the path is a file that says it is an SAE of ours.
  static bool is_native(const std::filesystem::path& path) {
    std::error_code absent;
    if (!std::filesystem::is_regular_file(path, absent)) return false;
    const auto file = weights_file::open(path);
    const auto at = file.metadata().find("format");
    return at != file.metadata().end() && at->second.starts_with("plmscope.sae.");
  }

  /// f(sae) with the typed SAE; what it returns.
  template <class F>
  decltype(auto) visit(F&& f) {
    return std::visit(std::forward<F>(f), model_);
  }
  template <class F>
  decltype(auto) visit(F&& f) const {
    return std::visit(std::forward<F>(f), model_);
  }
  /// The SAE when it has the sparsifier S, else nullptr.
  template <class S>
  sae<S, Backend>* get_if() noexcept {
    return std::get_if<of<S>>(&model_);
  }

  sae_description describe() const {
    return visit([](const auto& m) { return describe_sae(m); });
  }
  std::size_t d_model() const {
    return visit([](const auto& m) { return m.d_model(); });
  }
  std::size_t d_out() const {
    return visit([](const auto& m) { return m.d_out(); });
  }
  std::size_t features() const {
    return visit([](const auto& m) { return m.features(); });
  }
  activation_source& source() {
    return visit([](auto& m) -> activation_source& { return m.source; });
  }
  Backend& backend() {
    return visit([](auto& m) -> Backend& { return m.backend(); });
  }

  // As those of `sae`.
  void encode(const_view<Backend> x, codes<Backend>& out) {
    visit([&](auto& m) { m.encode(x, out); });
  }
  void decode(const codes<Backend>& z, view<Backend> out) {
    visit([&](auto& m) { m.decode(z, out); });
  }
  void reconstruct(const_view<Backend> x, view<Backend> out, codes<Backend>* z = nullptr) {
    visit([&](auto& m) { m.reconstruct(x, out, z); });
  }
  /// Writes a file of ours; see `save_sae`.
  void save(const std::filesystem::path& path) {
    visit([&](auto& m) { save_sae(m, path); });
  }

 private:
  static void check_nothing_stated(const stated_sae& s, const std::filesystem::path& path) {
    if (s.library.empty() && s.sparsifier.empty() && !s.k && !s.chosen && !s.normalized && !s.transcoder &&
        !s.norm_factor && !s.relative_variance && !s.layer && s.model.empty() && s.site.empty() &&
        s.target_site.empty() && s.model_hash.empty()) {
      return;
    }
    throw error(rules::sae_contradicted, {.where = path.string(),
                                          .expected = "no statements: the file says all of itself",
                                          .found = "some"});
  }

  // f(type of the sparsifier with this id).
  template <class F>
  static any_sae by_id(const std::string& id, const std::string& where, const F& f) {
    std::optional<any_sae> out;
    std::string known;
    const auto consider = [&]<class S>(std::type_identity<of<S>>) {
      known += (known.empty() ? "" : ", ") + std::string(S::id);
      if (id == S::id) out.emplace(f(std::type_identity<S>{}));
    };
    [&]<class... M>(std::type_identity<std::variant<M...>>) {
      (consider(std::type_identity<M>{}), ...);
    }(std::type_identity<variant_type>{});
    if (out) return std::move(*out);
    throw error(rules::sae_sparsifier, {.where = where, .expected = known, .found = id});
  }

  variant_type model_;
};

/// Writes an `any_sae` in SAELens' layout; see `save_saelens`.
template <class Backend>
void save_saelens(any_sae<Backend>& model, const std::filesystem::path& folder) {
  model.visit([&](auto& m) { save_saelens(m, folder); });
}
/// Writes an `any_sae`; see there.
template <class Backend>
void save_sae(any_sae<Backend>& model, const std::filesystem::path& path) {
  model.save(path);
}

}  // namespace plmscope::inline PLMSCOPE_ABI
