// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/eval/fidelity_protocol.hpp>
#include <plmscope/eval/reconstruction_meter.hpp>
#include <plmscope/eval/rules.hpp>
#include <plmscope/plm/hook.hpp>
#include <plmscope/plm/site.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Rows of a sequence of a slice: all of them, or those between `<cls>` and `<eos>`.
struct sequence_rows {
  std::size_t first = 0;
  std::size_t count = 0;
};

inline sequence_rows rows_of(const batch_slice& slice, std::size_t sequence, fidelity_rows which) {
  const auto first = static_cast<std::size_t>(slice.offsets[sequence]);
  const auto count = static_cast<std::size_t>(slice.offsets[sequence + 1]) - first;
  if (which == fidelity_rows::all) return {first, count};
  return {first + 1, count - 2};
}

/// A hook that puts an SAE's reconstruction in the place of states, and with a meter measures it.
/// `Sae` is anything with `reconstruct(const_view, view)`, row by row. Errors: eval.133.
template <class Sae, class Backend>
class spliced_states {
 public:
  using real = typename Backend::real;

  spliced_states(Sae& sae, site at, fidelity_rows which,
                 reconstruction_meter<Backend>* meter = nullptr)
      : sae_(&sae), at_(at), which_(which), meter_(meter) {}

  std::array<site, 1> sites() const noexcept { return {at_}; }

  void operator()(Backend& be, site, view<Backend> states, const batch_slice& slice) {
    const std::size_t special = which_ == fidelity_rows::all ? 0 : 2 * slice.sequences();
    x_.reshape(be, states.rows() - special, states.cols());
    rebuilt_.reshape(be, x_.rows(), x_.cols());
    if (x_.empty()) return;
    each_run(slice, [&](sequence_rows from, std::size_t to) {
      be.copy(const_view<Backend>(states.row_range(from.first, from.count)),
              x_.all().row_range(to, from.count));
    });
    const auto finite = [&](const_view<Backend> rows, const char* what, const char* remedy) {
      if (be.all_finite(rows)) return;
      throw error(rules::fidelity_not_finite,
                  {.where = to_string(at_),
                   .found = std::string("a NaN or an infinity in ") + what,
                   .remedy = remedy});
    };
    finite(x_, "the model's states", "check the model file with `plmscope info`");
    if (meter_ != nullptr) {
      meter_->rebuild(be, *sae_, x_, rebuilt_.all());
    } else {
      sae_->reconstruct(const_view<Backend>(x_), rebuilt_.all());
    }
    finite(rebuilt_, "the SAE's reconstruction", "the SAE is broken: train or fetch it again");
    if (meter_ != nullptr) meter_->measure(be, x_, rebuilt_, slice, which_);
    each_run(slice, [&](sequence_rows to, std::size_t from) {
      be.copy(const_view<Backend>(rebuilt_.all().row_range(from, to.count)),
              states.row_range(to.first, to.count));
    });
  }

 private:
  // f(rows of a sequence, row of the first of them among those side by side).
  template <class F>
  void each_run(const batch_slice& slice, const F& f) const {
    std::size_t next = 0;
    for (std::size_t s = 0; s < slice.sequences(); ++s) {
      const sequence_rows rows = rows_of(slice, s, which_);
      if (rows.count > 0) f(rows, next);
      next += rows.count;
    }
  }

  Sae* sae_;
  site at_;
  fidelity_rows which_;
  reconstruction_meter<Backend>* meter_;
  matrix<real, Backend> x_, rebuilt_;
};

/// A hook that sums states over the rows of each sequence, and adds the sums of sequences in their
/// order, in double. Errors: eval.133.
template <class Backend>
class state_sums {
 public:
  state_sums(site at, std::size_t width)
      : at_(at), residues_(width, 0.0), all_(width, 0.0), one_(width) {}

  std::array<site, 1> sites() const noexcept { return {at_}; }

  void operator()(Backend& be, site, view<Backend> states, const batch_slice& slice) {
    if (!be.all_finite(const_view<Backend>(states))) {
      throw error(rules::fidelity_not_finite,
                  {.where = to_string(at_),
                   .found = "a NaN or an infinity in the model's states",
                   .remedy = "check the model file with `plmscope info`"});
    }
    sum_.reshape(be, 1, states.cols());
    for (std::size_t s = 0; s < slice.sequences(); ++s) {
      add(be, states, rows_of(slice, s, fidelity_rows::residues), residues_, residue_rows_);
      add(be, states, rows_of(slice, s, fidelity_rows::all), all_, all_rows_);
    }
  }

  /// The mean row. Needs at least one such row.
  std::vector<double> mean(fidelity_rows which) const {
    const bool all = which == fidelity_rows::all;
    std::vector<double> out = all ? all_ : residues_;
    for (double& m : out) m /= static_cast<double>(all ? all_rows_ : residue_rows_);
    return out;
  }

 private:
  void add(Backend& be, view<Backend> states, sequence_rows rows, std::vector<double>& to,
           std::size_t& count) {
    if (rows.count == 0) return;
    be.column_sums(const_view<Backend>(states.row_range(rows.first, rows.count)), sum_.all());
    be.download(const_view<Backend>(sum_), std::span<double>(one_));
    for (std::size_t j = 0; j < one_.size(); ++j) to[j] += one_[j];
    count += rows.count;
  }

  site at_;
  std::vector<double> residues_, all_, one_;
  std::size_t residue_rows_ = 0;
  std::size_t all_rows_ = 0;
  matrix<typename Backend::real, Backend> sum_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
