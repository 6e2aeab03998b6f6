// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/eval/fidelity_protocol.hpp>
#include <plmscope/eval/metrics.hpp>
#include <plmscope/eval/reconstruction_moments.hpp>
#include <plmscope/plm/hook.hpp>
#include <plmscope/tensor/codes.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Measures reconstructions against states, sequence by sequence, around a given mean row. Rows
/// are reduced on the backend, in its precision; sums over rows are in double, in their order, so
/// they do not depend on how sequences are packed.
template <class Backend>
class reconstruction_meter {
 public:
  using real = typename Backend::real;

  /// Rows of `which` are measured; `mean` [width] is theirs over the corpus.
  reconstruction_meter(Backend& be, fidelity_rows which, std::span<const double> mean)
      : which_(which), mean_(be, 1, mean.size()), error_sum_(mean.size(), 0.0) {
    be.upload(mean, mean_.all());
  }

  /// What was measured of sequence s of the batch goes to `into[s]`; call before every batch.
  void aim(std::vector<reconstruction_moments*> into) { into_ = std::move(into); }
  /// Sum of x' - x over all rows measured, [width].
  const std::vector<double>& error_sum() const noexcept { return error_sum_; }

  /// sae.reconstruct, keeping the number of active latents of each row where the SAE shows codes.
  template <class Sae>
  void rebuild(Backend& be, Sae& sae, const_view<Backend> x, view<Backend> out) {
    if constexpr (requires { sae.reconstruct(x, out, &codes_); }) {
      sae.reconstruct(x, out, &codes_);
      offsets_.resize(x.rows() + 1);
      be.download(const_view<Backend, std::int64_t>(codes_.offsets(), offsets_.size()),
                  std::span<std::int64_t>(offsets_));
    } else {
      sae.reconstruct(x, out);
      offsets_.clear();
    }
  }

  /// `x` and `rebuilt` hold the rows `present` of every sequence of the slice, side by side.
  void measure(Backend& be, const_view<Backend> x, const_view<Backend> rebuilt,
               const batch_slice& slice, fidelity_rows present) {
    reduce(be, x, rebuilt);
    std::size_t next = 0;
    for (std::size_t s = 0; s < slice.sequences(); ++s) {
      const auto tokens = static_cast<std::size_t>(slice.offsets[s + 1] - slice.offsets[s]);
      const std::size_t held = present == fidelity_rows::all ? tokens : tokens - 2;
      const std::size_t skipped = which_ == present ? 0 : 1;  // <cls>, and <eos> behind
      const std::size_t count = held - 2 * skipped;
      if (count > 0) add(be, next + skipped, count, *into_[slice.first_sequence + s]);
      next += held;
    }
  }

 private:
  enum row { squared_error, variance, squares, rebuilt_squares, products, kinds };

  // Five numbers a row.
  void reduce(Backend& be, const_view<Backend> x, const_view<Backend> rebuilt) {
    const std::size_t m = x.rows();
    error_.reshape(be, m, x.cols());
    rows_.reshape(be, kinds, m);
    const auto dots = [&](const_view<Backend> a, const_view<Backend> b, row kind) {
      be.row_dots(a, b, rows_.all().row_range(kind, 1));
    };
    be.copy(x, error_.all());
    be.add_row(error_.all(), const_view<Backend>(mean_), real{-1});
    dots(error_, error_, variance);
    be.copy(rebuilt, error_.all());
    be.axpy(real{-1}, x, error_.all());
    dots(error_, error_, squared_error);
    dots(x, x, squares);
    dots(rebuilt, rebuilt, rebuilt_squares);
    dots(x, rebuilt, products);
    host_.resize(kinds * m);
    be.download(const_view<Backend>(rows_), std::span<double>(host_));
  }

  void add(Backend& be, std::size_t first, std::size_t count, reconstruction_moments& to) {
    const std::size_t m = rows_.cols();
    const auto at = [&](row kind, std::size_t r) {
      return host_[static_cast<std::size_t>(kind) * m + r];
    };
    to.rows += count;
    to.width = error_.cols();
    for (std::size_t r = first; r < first + count; ++r) {
      const double length = std::sqrt(at(squares, r));
      const double rebuilt_length = std::sqrt(at(rebuilt_squares, r));
      const double both = length * rebuilt_length;
      to.squared_error += at(squared_error, r);
      to.variance += at(variance, r);
      to.squares += at(squares, r);
      to.rebuilt_squares += at(rebuilt_squares, r);
      to.products += at(products, r);
      to.cosines += both > 0 ? at(products, r) / both : 0;
      to.length_ratios += rebuilt_length / length;
      to.row_shares += 1 - at(squared_error, r) / at(variance, r);
      to.entries +=
          offsets_.empty() ? not_defined : static_cast<double>(offsets_[r + 1] - offsets_[r]);
    }
    sum_.reshape(be, 1, error_.cols());
    be.column_sums(const_view<Backend>(error_.all().row_range(first, count)), sum_.all());
    one_.resize(error_.cols());
    be.download(const_view<Backend>(sum_), std::span<double>(one_));
    for (std::size_t j = 0; j < one_.size(); ++j) error_sum_[j] += one_[j];
  }

  fidelity_rows which_;
  matrix<real, Backend> mean_, error_, rows_, sum_;
  std::vector<double> error_sum_, host_, one_;
  std::vector<std::int64_t> offsets_;
  std::vector<reconstruction_moments*> into_;
  codes<Backend> codes_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
