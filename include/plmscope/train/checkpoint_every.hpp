// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/durable_folder.hpp>
#include <plmscope/train/checkpoint_folder.hpp>
#include <plmscope/train/rules.hpp>
#include <plmscope/train/training_checkpoint.hpp>

#include <concepts>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace plmscope::inline PLMSCOPE_ABI {

// Whether a training saves its state: start(policies, run, reader) gives what is told of every
// step.

/// It does not.
struct no_checkpoints {
  struct session {
    template <class Run, class Reader>
    void after_step(Run&, Reader&) const noexcept {}
  };
  template <class Policies, class Run, class Reader>
  session start(const Policies&, Run&, Reader&) const noexcept {
    return {};
  }
};

/// Writes a line to stderr.
struct warn_on_stderr {
  void operator()(std::string_view text) const {
    std::fprintf(stderr, "warning: %.*s\n", static_cast<int>(text.size()), text.data());
  }
};

/// Saves everything a training needs to go on, every `steps` steps, so that a run that is killed at
/// any moment and resumed ends with the bytes of one that was not. The last step needs no
/// checkpoint.
///
/// `resume`: goes on from the newest checkpoint of the folder, or begins when there is none. One
/// that is damaged is passed over, with a warning, for the one before it (train.124 when all are).
/// A checkpoint of other data, another model, other policies or another version is refused
/// (train.125), naming what differs; of another backend or compiler it is taken with a warning, for
/// the bits may then differ. Without `resume` a folder with checkpoints is refused (train.122).
///
/// The reader needs `position()`, `seek(be, position)` and `identity()`; every state of a policy
/// `fields` (see `visit_state`). Cost of a checkpoint: its bytes (parameters and optimizer, about
/// three times the SAE) once through the CRC and to the disk.
template <class System = folder_system>
struct basic_checkpoint_every {
  std::filesystem::path folder = {};
  std::size_t steps = 1000;
  std::size_t keep = 2;
  bool resume = false;
  std::function<bool()> stop = {};  ///< asked after every step: save, and end with train.127
  std::function<void(std::string_view)> warn = warn_on_stderr();
  System system = {};

  class session {
   public:
    template <class Policies, class Run, class Reader>
    session(const basic_checkpoint_every& options, const Policies& policies, Run& run,
            Reader& reader)
        : options_(options), folder_(opened(options), options.system) {
      conditions_ = training_conditions(policies, run, reader);
      const auto there = folder_.steps();
      if (!options.resume && !there.empty()) {
        throw error(rules::checkpoint_there, {.where = folder_.path().string(),
                                              .found = folder_.file_name(there.back()),
                                              .remedy = "resume it, or choose another folder"});
      }
      for (std::size_t i = there.size(); i-- > 0;) {
        const auto file = undamaged(there[i], i == 0);
        if (!file) continue;
        conditions_.require_same(*file, options_.warn);
        restore_training(run, reader, *file);
        saved_ = run.steps();
        return;
      }
    }

    template <class Run, class Reader>
    void after_step(Run& run, Reader& reader) {
      const bool stops = options_.stop && options_.stop();
      if (stops || run.steps() % options_.steps == 0) save(run, reader);
      if (!stops) return;
      throw error(rules::training_stopped,
                  {.where = folder_.path().string(),
                   .found = "a request to stop after step " + std::to_string(run.steps()),
                   .remedy = "resume when you like"});
    }

   private:
    static const std::filesystem::path& opened(const basic_checkpoint_every& o) {
      if (!o.folder.empty() && o.steps > 0 && o.keep > 0) return o.folder;
      throw error(
          rules::checkpoint_options,
          {.found = "folder \"" + o.folder.string() + "\", every " + std::to_string(o.steps) +
                    " steps, " + std::to_string(o.keep) + " kept"});
    }

    // The checkpoint of a step, or nothing and a warning.
    std::optional<state_file> undamaged(std::size_t step, bool last) const {
      try {
        return state_file(folder_.path(step));
      } catch (const error& e) {
        if (last) throw;
        options_.warn(std::string(e.what()) + "\nthe checkpoint before it is taken");
        return std::nullopt;
      }
    }

    template <class Run, class Reader>
    void save(Run& run, Reader& reader) {
      if (saved_ == run.steps()) return;
      state_writer<typename Run::backend_type> out(run.backend());
      conditions_.write(out);
      collect_training(run, reader, out);
      folder_.add(run.steps(), out.finish(), options_.keep);
      saved_ = run.steps();
    }

    basic_checkpoint_every options_;
    checkpoint_folder<System> folder_;
    conditions conditions_;
    std::size_t saved_ = 0;
  };

  template <class Policies, class Run, class Reader>
  session start(const Policies& policies, Run& run, Reader& reader) const {
    static_assert(require_resumable<Reader, typename Run::backend_type>::value);
    return session(*this, policies, run, reader);
  }
};

using checkpoint_every = basic_checkpoint_every<>;

}  // namespace plmscope::inline PLMSCOPE_ABI
