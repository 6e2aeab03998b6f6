// SPDX-License-Identifier: MIT
#pragma once

#include "training.hpp"

#include <plmscope/train/checkpoint_every.hpp>

#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>

// What the program does about trainings that are stopped.

/// Checkpoints where the user asked for some.
struct wanted_checkpoints {
  std::optional<plmscope::checkpoint_every> every;

  class session {
   public:
    template <class Policies, class Run, class Reader>
    session(const wanted_checkpoints& wanted, const Policies& policies, Run& run, Reader& reader) {
      if (wanted.every) open_.emplace(*wanted.every, policies, run, reader);
    }
    template <class Run, class Reader>
    void after_step(Run& run, Reader& reader) {
      if (open_) open_->after_step(run, reader);
    }

   private:
    std::optional<plmscope::checkpoint_every::session> open_;
  };
  template <class Policies, class Run, class Reader>
  session start(const Policies& policies, Run& run, Reader& reader) const {
    return session(*this, policies, run, reader);
  }
};

/// As the flags say. The first SIGINT or SIGTERM then ends the training after its step, saved; the
/// second one at once.
wanted_checkpoints checkpoints_of(const training_options& options);

/// Whether one of them has come.
bool stop_wanted() noexcept;

/// One JSON object a line, each written whole. The file is touched with the first line, so that a
/// training that is refused leaves it alone.
class metrics_file {
 public:
  /// With `resumes` the lines of a file that is there stay, up to the first step that comes again.
  metrics_file(std::string path, bool resumes) : path_(std::move(path)), resumes_(resumes) {}
  void add(const plmscope::training_metrics& m);

 private:
  struct closing {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  void keep_before(std::size_t step) const;

  std::string path_;
  bool resumes_;
  std::unique_ptr<std::FILE, closing> file_;
};
