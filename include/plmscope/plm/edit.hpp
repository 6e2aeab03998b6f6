// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/backend/cpu.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/plm/hook.hpp>
#include <plmscope/plm/rules.hpp>
#include <plmscope/plm/site.hpp>
#include <plmscope/plm/token_selection.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// One intervention: at a site, the states of chosen tokens are replaced or added to. Made by the
/// functions below; `edits` is the hook that carries them out.
struct edit {
  enum class action { replace, add };

  site at;
  action what = action::replace;
  std::vector<double> values;  ///< rows one after another; one row goes to every chosen token
  std::size_t rows = 1;
  tokens where = tokens::all();
};

namespace edit_detail {

template <class Range>
edit make(site at, edit::action what, const Range& values, std::size_t rows, tokens where) {
  if (rows == 0 || std::size(values) == 0 || std::size(values) % rows != 0) {
    throw error(rules::edit_shape, {.where = to_string(at),
                                    .expected = "rows of one width",
                                    .found = std::to_string(std::size(values)) + " numbers in " +
                                             std::to_string(rows) + " rows"});
  }
  return {.at = at,
          .what = what,
          .values = std::vector<double>(std::begin(values), std::end(values)),
          .rows = rows,
          .where = std::move(where)};
}

}  // namespace edit_detail

/// Every chosen token gets these numbers [width]: mean ablation with the mean of other runs.
template <class Range>
edit set_state(site at, const Range& row, tokens where = tokens::all()) {
  return edit_detail::make(at, edit::action::replace, row, 1, std::move(where));
}

/// The chosen tokens, in the order of the batch, get these rows [rows, width], one each: activation
/// patching and resample ablation with the states of another run.
template <class Range>
edit patch_states(site at, const Range& values, std::size_t rows, tokens where = tokens::all()) {
  return edit_detail::make(at, edit::action::replace, values, rows, std::move(where));
}

/// Zero ablation. `width` as the model's at this site.
inline edit zero_state(site at, std::size_t width, tokens where = tokens::all()) {
  return set_state(at, std::vector<double>(width, 0.0), std::move(where));
}

/// Every chosen token has these numbers [width] added: a steering vector.
template <class Range>
edit add_to_state(site at, const Range& row, tokens where = tokens::all()) {
  return edit_detail::make(at, edit::action::add, row, 1, std::move(where));
}

/// A hook that carries out edits, in their order. `esm.forward(batch, hooks{change, keep})`.
/// Tokens that no edit chose keep their bits. Numbers are rounded to the backend's type once.
/// Errors, when the pass meets them: plm.131, plm.132 for rows that do not fit site or tokens.
template <class Backend = cpu>
class edits {
 public:
  using real = typename Backend::real;

  explicit edits(std::vector<edit> all) {
    for (edit& e : all) {
      if (e.at.kind() == site_kind::attn_map) {
        throw error(rules::edit_shape, {.where = to_string(e.at),
                                        .expected = "a site with a state per token",
                                        .remedy = "write a hook that changes attention maps"});
      }
      sites_.push_back(e.at);
      parts_.push_back({std::move(e), {}, 0});
    }
  }

  const std::vector<site>& sites() const noexcept { return sites_; }

  void operator()(Backend& be, site at, view<Backend> states, const batch_slice& slice) {
    for (part& p : parts_) {
      if (p.what.at == at) apply(be, p, states, slice);
    }
  }

 private:
  struct part {
    edit what;
    matrix<real, Backend> values;
    std::size_t next = 0;  // first row for the next slice
  };

  void apply(Backend& be, part& p, view<Backend> states, const batch_slice& slice) {
    const edit& e = p.what;
    if (slice.first_sequence == 0) p.next = 0;
    const auto fail = [&](std::string expected, std::string found) {
      throw error(
          rules::edit_shape,
          {.where = to_string(e.at), .expected = std::move(expected), .found = std::move(found)});
    };
    const std::size_t width = e.values.size() / e.rows;
    if (width != states.cols()) {
      fail("rows of width " + std::to_string(states.cols()), "width " + std::to_string(width));
    }
    const auto ids = e.where.rows(slice);
    if (ids.empty()) return;
    if (p.values.empty()) {
      p.values = matrix<real, Backend>(be, e.rows, width);
      be.upload(std::span<const double>(e.values), p.values.all());
    }
    const_view<Backend> rows = p.values;
    if (e.rows > 1) {
      if (p.next + ids.size() > e.rows) {
        fail("a row for every chosen token", std::to_string(e.rows) + " rows, at least " +
                                                 std::to_string(p.next + ids.size()) + " tokens");
      }
      rows = rows.row_range(p.next, ids.size());
      p.next += ids.size();
    }
    ids_.reshape(be, 1, ids.size());
    be.upload(std::span<const std::uint32_t>(ids), ids_.all());
    if (e.what == edit::action::replace) {
      be.scatter_rows(rows, const_view<Backend, std::uint32_t>(ids_), states);
    } else {
      be.scatter_add_rows(rows, const_view<Backend, std::uint32_t>(ids_), states);
    }
  }

  std::vector<site> sites_;
  std::vector<part> parts_;
  matrix<std::uint32_t, Backend> ids_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
