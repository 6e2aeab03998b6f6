// SPDX-License-Identifier: MIT
#pragma once

#include "training.hpp"

#include <cstddef>
#include <functional>
#include <string>

/// Any source of rows as one type, so that the trainer is compiled once.
struct row_feed {
  plmscope::activation_source source;
  std::size_t width;
  std::function<plmscope::const_view<program_backend>(program_backend&, std::size_t)> next;
  std::function<std::size_t()> position;
  std::function<void(program_backend&, std::size_t)> seek;
  std::function<std::string()> identity;

  template <class Rows>
  explicit row_feed(Rows& rows)
      : source(rows.source()),
        width(rows.width()),
        next([&rows](program_backend& be, std::size_t n) { return rows.next(be, n); }),
        position([&rows] { return rows.position(); }),
        seek([&rows](program_backend& be, std::size_t to) { rows.seek(be, to); }),
        identity([&rows] { return rows.identity(); }) {}
};

/// Fits the normaliser on the first rows, trains what the options say, and fills source and training
/// record.
trained fit_sae(program_backend& be, row_feed rows, const training_options& options,
                const common_options& common);
