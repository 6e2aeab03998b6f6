// SPDX-License-Identifier: MIT
#include "checkpoints.hpp"

#include <plmscope/io/atomic_file.hpp>
#include <plmscope/io/byte_source.hpp>

#include <fmt/format.h>

#include <csignal>
#include <string_view>

namespace {

volatile std::sig_atomic_t asked_to_stop = 0;

extern "C" void ask_to_stop(int signal) {
  asked_to_stop = 1;
  std::signal(signal, SIG_DFL);
}

}  // namespace

wanted_checkpoints checkpoints_of(const training_options& o) {
  if (o.checkpoint_every == 0) return {};
  std::signal(SIGINT, ask_to_stop);
  std::signal(SIGTERM, ask_to_stop);
  plmscope::checkpoint_every every;
  every.folder = o.checkpoints;
  every.steps = o.checkpoint_every;
  every.resume = o.resume;
  every.stop = stop_wanted;
  return {every};
}

bool stop_wanted() noexcept { return asked_to_stop != 0; }

void metrics_file::add(const plmscope::training_metrics& m) {
  if (path_.empty()) return;
  if (file_ == nullptr) {
    const bool goes_on = resumes_ && std::filesystem::is_regular_file(path_);
    if (goes_on) keep_before(m.step);
    file_.reset(std::fopen(path_.c_str(), goes_on ? "a" : "w"));
    if (file_ == nullptr) throw plmscope::error(plmscope::rules::file_open, {.where = path_});
  }
  fmt::print(file_.get(), "{}\n", metrics_json(m).dump());
  std::fflush(file_.get());
}

// What the stopped run wrote from `step` on, or not to the end of the line, comes again.
void metrics_file::keep_before(std::size_t step) const {
  const auto bytes = plmscope::read_file(path_);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  std::size_t kept = 0;
  for (std::size_t end; (end = text.find('\n', kept)) != std::string_view::npos; kept = end + 1) {
    const auto line = nlohmann::json::parse(text.substr(kept, end - kept), nullptr, false);
    if (!line.is_object() || !line.contains("step") || !line["step"].is_number_unsigned() ||
        line["step"].get<std::size_t>() >= step) {
      break;
    }
  }
  plmscope::write_file_atomically(path_, text.substr(0, kept));
}
