// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <chrono>
#include <cstddef>
#include <cstdio>
#include <string>
#include <string_view>

namespace plmscope::inline PLMSCOPE_ABI {

/// Ignores every report.
struct no_progress {
  template <class... Arguments>
  void operator()(const Arguments&...) const noexcept {}
};

/// "1:02:03", "4:05" or "12 s".
inline std::string duration_text(double seconds) {
  const auto s = static_cast<long>(seconds < 0 ? 0 : seconds + 0.5);
  char text[32];
  if (s >= 3600) {
    std::snprintf(text, sizeof text, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
  } else if (s >= 60) {
    std::snprintf(text, sizeof text, "%ld:%02ld", s / 60, s % 60);
  } else {
    std::snprintf(text, sizeof text, "%ld s", s);
  }
  return text;
}

/// One line on stderr with share done and time left. On a terminal the line is rewritten, at most
/// ten times a second; elsewhere a new line comes every 30 seconds. Counts anything.
class progress_line {
 public:
  progress_line(std::string_view label, bool terminal)
      : label_(label), terminal_(terminal), start_(clock::now()), last_(start_) {}

  /// `done` of `total` things, with something to say about the present state.
  void update(std::size_t done, std::size_t total, std::string_view detail = {}) {
    const auto now = clock::now();
    const double since = seconds(now - last_);
    const bool end = done >= total;
    if (!end && since < (terminal_ ? 0.1 : 30.0)) return;
    last_ = now;
    const double spent = seconds(now - start_);
    const double share =
        total == 0 ? 1 : static_cast<double>(done) / static_cast<double>(total);
    const double left = share > 0 ? spent / share - spent : 0;
    char percent[16];
    std::snprintf(percent, sizeof percent, " %3.0f %%  ", 100 * share);
    std::string line = terminal_ ? "\r\x1b[K" : "";
    line += label_ + percent + duration_text(end ? spent : left) + (end ? " in all" : " left");
    if (!detail.empty()) line.append("  ").append(detail);
    if (!terminal_ || end) line += '\n';
    std::fwrite(line.data(), 1, line.size(), stderr);
    std::fflush(stderr);
  }

 private:
  using clock = std::chrono::steady_clock;
  static double seconds(clock::duration d) { return std::chrono::duration<double>(d).count(); }

  std::string label_;
  bool terminal_;
  clock::time_point start_;
  clock::time_point last_;
};

}  // namespace plmscope
