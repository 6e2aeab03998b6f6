// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/acts/activation_batch.hpp>
#include <plmscope/core/activation_source.hpp>

#include <concepts>
#include <cstddef>
#include <string>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

namespace reader_concepts {

template <class R>
concept has_source = requires(const R& r) {
  { r.source() } -> std::convertible_to<activation_source>;
  { r.width() } -> std::convertible_to<std::size_t>;
  { r.total_rows() } -> std::convertible_to<std::size_t>;
};

template <class R, class B>
concept has_read = requires(R& r, B& be, activation_batch<B>& out) {
  { r.read(be, out) } -> std::convertible_to<bool>;
};

template <class R>
concept has_rewind = requires(R& r, std::size_t epoch) { r.rewind(epoch); };

// Optional, for trainings that go on after they were stopped.

template <class R>
concept has_pass = requires(R& r, std::vector<row_origin>& origins) {
  { r.pass(origins) } -> std::convertible_to<bool>;
};

template <class R>
concept has_identity = requires(const R& r) {
  { r.identity() } -> std::convertible_to<std::string>;
};

}  // namespace reader_concepts

/// Delivers the activations of a list of proteins, batch by batch of whole proteins, each residue
/// once: `read(be, out)` fills `out` and returns false at the end; `rewind(epoch)` starts again,
/// with the proteins in an order of its own for every epoch above 0 and in list order for epoch 0.
///
/// Optional: `pass(origins)` goes past a batch as `read` would, without its rows, so that seeking is
/// cheap; `identity()` is a text that is the same for two readers exactly when they deliver the same
/// rows in the same batches, without which a training cannot be resumed.
template <class R, class B>
concept reader_for = reader_concepts::has_source<R> && reader_concepts::has_read<R, B> &&
                     reader_concepts::has_rewind<R>;

/// The sentences a user reads when a reader does not fit; one per requirement.
template <class R, class B>
struct require_reader {
  static_assert(reader_concepts::has_source<R>,
                "plmscope: a reader says what it reads: add `plmscope::activation_source source() "
                "const`, `std::size_t width() const` and `std::size_t total_rows() const`");
  static_assert(reader_concepts::has_read<R, B>,
                "plmscope: a reader needs `bool read(B& be, plmscope::activation_batch<B>& out)`");
  static_assert(reader_concepts::has_rewind<R>,
                "plmscope: a reader needs `void rewind(std::size_t epoch)`");
  static constexpr bool value = true;
};

}  // namespace plmscope
