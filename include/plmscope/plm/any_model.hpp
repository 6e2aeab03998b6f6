// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/activation_source.hpp>
#include <plmscope/plm/esm2.hpp>
#include <plmscope/plm/esmc.hpp>
#include <plmscope/plm/language_model.hpp>
#include <plmscope/plm/rules.hpp>
#include <plmscope/plm/site.hpp>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

namespace plmscope::inline PLMSCOPE_ABI {

template <class Backend>
class any_model;

/// A packed batch for the kind of model that an `any_model` holds (`make_batch(model)`).
class any_batch {
 public:
  template <class Backend>
  explicit any_batch(const any_model<Backend>& model) : batch_(model.empty_batch()) {}

  template <class Sequence>
  void add(const Sequence& sequence) {
    std::visit([&](auto& b) { b.add(sequence); }, batch_);
  }
  void clear() noexcept {
    std::visit([](auto& b) { b.clear(); }, batch_);
  }
  bool empty() const noexcept { return sequences() == 0; }
  std::size_t sequences() const noexcept {
    return std::visit([](const auto& b) { return b.sequences(); }, batch_);
  }
  std::size_t rows() const noexcept {
    return std::visit([](const auto& b) { return b.rows(); }, batch_);
  }
  std::span<const std::int32_t> tokens() const noexcept {
    return std::visit([](const auto& b) { return b.tokens(); }, batch_);
  }
  std::size_t first_row(std::size_t sequence) const noexcept {
    return std::visit([&](const auto& b) { return b.first_row(sequence); }, batch_);
  }
  std::size_t length(std::size_t sequence) const noexcept {
    return std::visit([&](const auto& b) { return b.length(sequence); }, batch_);
  }

  /// The batch itself, or nullptr where it is one of another kind.
  template <class Batch>
  const Batch* as() const noexcept {
    return std::get_if<Batch>(&batch_);
  }

 private:
  std::variant<packed_batch, esmc_batch> batch_;
};

/// A model of a kind that is known once its file is open: ESM-2 or ESM-C. A `language_model` like
/// both, for programs that take the file from their user; costs one branch a call.
template <class Backend = cpu>
class any_model {
 public:
  using backend_type = Backend;
  using batch_type = any_batch;

  /// Decides by the names of the tensors; what is no ESM-C is opened as ESM-2, whose errors it
  /// gives. Loads with default options.
  static any_model load(const std::filesystem::path& path, Backend be = Backend()) {
    if (holds_esmc(path)) return esmc<Backend>::load(path, {}, std::move(be));
    return esm2<Backend>::load(path, {}, std::move(be));
  }

  any_model(esm2<Backend> model) : model_(std::move(model)) {}
  any_model(esmc<Backend> model) : model_(std::move(model)) {}

  /// f(model) with the model as what it is.
  template <class F>
  decltype(auto) visit(const F& f) {
    return std::visit(f, model_);
  }
  template <class F>
  decltype(auto) visit(const F& f) const {
    return std::visit(f, model_);
  }

  const model_identity& identity() const noexcept {
    return visit([](const auto& m) -> const model_identity& { return m.identity(); });
  }
  std::size_t layers() const noexcept { return identity().layers; }
  std::size_t d_model() const noexcept { return identity().d_model; }
  std::size_t width(const site& at) const noexcept {
    return visit([&](const auto& m) { return m.width(at); });
  }
  activation_source source(const site& at) const {
    return visit([&](const auto& m) { return m.source(at); });
  }
  void check(const site& at) const {
    visit([&](const auto& m) { m.check(at); });
  }
  Backend& backend() noexcept {
    return visit([](auto& m) -> Backend& { return m.backend(); });
  }
  std::variant<packed_batch, esmc_batch> empty_batch() const {
    return visit([](const auto& m) -> std::variant<packed_batch, esmc_batch> {
      return typename std::remove_cvref_t<decltype(m)>::batch_type();
    });
  }

  /// As the model's own `forward`. Errors: plm.154 for a batch made for another kind of model.
  template <class Hook>
  void forward(const any_batch& batch, Hook&& hook) {
    visit([&](auto& m) {
      const auto* own = batch.as<typename std::remove_cvref_t<decltype(m)>::batch_type>();
      if (own == nullptr) {
        throw error(rules::batch_model,
                    {.where = identity().name, .remedy = "begin it with make_batch(model)"});
      }
      m.forward(*own, hook);
    });
  }
  void forward(const any_batch& batch) { forward(batch, no_hook{}); }

 private:
  std::variant<esm2<Backend>, esmc<Backend>> model_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
