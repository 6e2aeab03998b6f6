// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/plm/contact_map.hpp>
#include <plmscope/plm/esm2.hpp>
#include <plmscope/plm/hook.hpp>
#include <plmscope/plm/packed_batch.hpp>
#include <plmscope/plm/rules.hpp>
#include <plmscope/plm/site.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <cmath>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// A hook that predicts contacts from attention maps (Rao et al. 2021, "Transformer protein
/// language models are unsupervised structure learners"): every map of every head A, without the
/// rows and columns of `<cls>` and `<eos>`, is symmetrised, S = A + A^T, corrected for the average
/// product, S - s s^T / t with its row sums s and their sum t, and goes with its weight w into a
/// logistic regression: p = sigmoid(b + sum w (S - s s^T / t)).
///
/// Maps are added up as they come, one block and sequence at a time, so memory is two [n, n] of the
/// longest sequence, H [n, n] of one block, and layers x H rows of sums.
template <class Backend>
class contact_head {
 public:
  using real = typename Backend::real;

  /// Errors: plm.120 where the model's file has no contact head.
  explicit contact_head(const esm2<Backend>& model)
      : regression_(model.weights().contacts),
        heads_(model.config().heads),
        layers_(model.layers()) {
    if (regression_.weight.size() != layers_ * heads_) {
      throw error(
          rules::contact_head_missing,
          {.where = model.identity().name,
           .remedy = "use a checkpoint with esm.contact_head, or the categorical Jacobian"});
    }
    for (std::size_t l = 0; l < layers_; ++l) sites_.push_back(attn_map{l});
  }

  const std::vector<site>& sites() const noexcept { return sites_; }

  void operator()(Backend& be, site at, view<Backend> maps, const batch_slice& slice) {
    if (at.layer() == 0 && slice.first_sequence == 0) maps_.clear();
    const std::size_t tokens = maps.cols();
    const std::size_t n = tokens < 2 ? 0 : tokens - 2;
    // Blocks come slice by slice: block 0 of all sequences of a slice, then block 1 of them.
    if (at.layer() == 0) open_.push_back({maps_.size(), n, {}, {}}), maps_.emplace_back(n);
    sums* const s = find(slice.first_sequence);
    if (s == nullptr) return;
    if (n > 0) add(be, at.layer(), maps, *s);
    if (at.layer() + 1 == layers_) {
      finish(be, *s);
      open_.erase(open_.begin() + (s - open_.data()));
    }
  }

  /// One map per sequence of the batch, in order; [residues, residues].
  std::vector<contact_map>& maps() noexcept { return maps_; }

 private:
  using device = matrix<real, Backend>;

  struct sums {
    std::size_t sequence;
    std::size_t n;
    device weighted;  // sum of w A, [n, n]
    device row_sums;  // of S, [layers heads, n]
  };

  sums* find(std::size_t sequence) noexcept {
    for (sums& s : open_) {
      if (s.sequence == sequence) return &s;
    }
    return nullptr;
  }

  void add(Backend& be, std::size_t layer, view<Backend> maps, sums& s) {
    const std::size_t n = s.n;
    if (layer == 0) {
      s.weighted = device(be, n, n);
      s.row_sums = device(be, layers_ * heads_, n);
      ones_.reshape(be, 1, n);
      be.fill(ones_.all(), real{1});
      column_.reshape(be, 1, n);
    }
    for (std::size_t h = 0; h < heads_; ++h) {
      const std::size_t c = layer * heads_ + h;
      const const_view<Backend> a = maps.row_range(h * (n + 2) + 1, n).col_range(1, n);
      const view<Backend> sum = s.row_sums.all().row_range(c, 1);
      be.axpy(static_cast<real>(regression_.weight[c]), a, s.weighted);
      be.gemm_nt(ones_.all().col_range(0, n), a, sum);  // row sums
      be.column_sums(a, column_.all().col_range(0, n));
      be.axpy(real{1}, column_.all().col_range(0, n), sum);
    }
  }

  void finish(Backend& be, sums& s) {
    const std::size_t n = s.n;
    if (n == 0) return;
    const std::size_t channels = layers_ * heads_;
    std::vector<double> rows(channels * n);
    be.download(const_view<Backend>(s.row_sums), std::span<double>(rows));
    for (std::size_t c = 0; c < channels; ++c) {
      double total = 0;
      for (std::size_t j = 0; j < n; ++j) total += rows[c * n + j];
      for (std::size_t j = 0; j < n; ++j)
        rows[c * n + j] *= static_cast<double>(regression_.weight[c]) / total;
    }
    device scaled(be, channels, n);
    be.upload(std::span<const double>(rows), scaled.all());
    device product(be, n, n);  // sum of w s s^T / t
    be.gemm_tn(scaled, s.row_sums, product);
    std::vector<double> weighted(n * n);
    std::vector<double> average(n * n);
    be.download(const_view<Backend>(s.weighted), std::span<double>(weighted));
    be.download(const_view<Backend>(product), std::span<double>(average));
    contact_map& out = maps_[s.sequence];
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j <= i; ++j) {
        const double both = (average[i * n + j] + average[j * n + i]) / 2;
        const double x = static_cast<double>(regression_.bias) + weighted[i * n + j] +
                         weighted[j * n + i] - both;
        out(i, j) = out(j, i) = static_cast<float>(1 / (1 + std::exp(-x)));
      }
    }
  }

  contact_regression regression_;
  std::size_t heads_;
  std::size_t layers_;
  std::vector<site> sites_;
  std::vector<sums> open_;  // sequences of the running slice
  std::vector<contact_map> maps_;
  device ones_;
  device column_;
};

/// Contact probabilities of every sequence of a batch, by the model's own contact head. Sequences
/// must stand between `<cls>` and `<eos>`. Errors: plm.120, plm.130.
template <class Backend>
std::vector<contact_map> predict_contacts(esm2<Backend>& model, const packed_batch& batch) {
  contact_head<Backend> head(model);
  model.forward(batch, head);
  return std::move(head.maps());
}

}  // namespace plmscope::inline PLMSCOPE_ABI
