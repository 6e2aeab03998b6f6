// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/progress.hpp>
#include <plmscope/train/metrics.hpp>

#include <cstdio>
#include <memory>

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

namespace plmscope::inline PLMSCOPE_ABI {

/// Shows training on stderr: share done, time left, FVU, L0 and dead share.
class progress_bar {
 public:
  progress_bar()
      : line_(std::make_shared<progress_line>("training", on_terminal())) {}

  void operator()(const training_metrics& m) {
    char detail[96];
    std::snprintf(detail, sizeof detail, "FVU %.3f  L0 %.1f  dead %.1f %%", m.fvu, m.l0,
                  100 * m.dead_share);
    line_->update(m.step + 1, m.steps, detail);
  }

  /// Whether stderr is a terminal that can rewrite its line.
  static bool on_terminal() noexcept {
#if defined(__unix__) || defined(__APPLE__)
    return isatty(STDERR_FILENO) == 1;
#else
    return false;
#endif
  }

 private:
  std::shared_ptr<progress_line> line_;
};

}  // namespace plmscope
