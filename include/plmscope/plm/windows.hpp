// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/plm/rules.hpp>

#include <cstddef>
#include <string>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// How a long protein is cut, when it is asked for. ESM-2 was trained on 1,022 residues at most.
struct window_options {
  std::size_t length = 1022;  ///< residues of a window
  std::size_t overlap = 256;  ///< residues that neighbouring windows share, below `length`
};

/// Residues [first, first + length) of a protein, of which [keep_first, keep_first + keep) count.
struct window {
  std::size_t first = 0;
  std::size_t length = 0;
  std::size_t keep_first = 0;  ///< of the protein
  std::size_t keep = 0;

  friend bool operator==(const window&, const window&) = default;
};

/// Cuts a protein into windows that are run as sequences of their own, `<cls>` and `<eos>` around
/// each. Every residue counts in exactly one: where two overlap each keeps its half, so that what
/// counts is at least overlap / 2 residues away from a cut. All windows have the full length, the
/// last one reaching back. What lies in other windows a residue cannot see: states differ from
/// those of the whole protein, and nothing in this library cuts without being told. Errors:
/// plm.137.
inline std::vector<window> cut_windows(std::size_t residues, const window_options& options = {}) {
  if (options.length == 0 || options.overlap >= options.length) {
    throw error(rules::window_size, {.expected = "a length above the overlap",
                                     .found = "length " + std::to_string(options.length) +
                                              ", overlap " + std::to_string(options.overlap)});
  }
  if (residues <= options.length) return {{0, residues, 0, residues}};
  std::vector<window> out;
  const std::size_t step = options.length - options.overlap;
  for (std::size_t first = 0;; first += step) {
    const bool last = first + options.length >= residues;
    if (last) first = residues - options.length;
    window w{first, options.length, 0, 0};
    if (!out.empty()) {
      // The border to the window before lies in the middle of what they share.
      window& before = out.back();
      w.keep_first = first + (before.first + before.length - first) / 2;
      before.keep = w.keep_first - before.keep_first;
    }
    out.push_back(w);
    if (last) break;
  }
  out.back().keep = residues - out.back().keep_first;
  return out;
}

}  // namespace plmscope::inline PLMSCOPE_ABI
