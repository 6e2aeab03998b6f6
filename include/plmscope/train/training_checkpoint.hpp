// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/train/policy_text.hpp>
#include <plmscope/train/rules.hpp>
#include <plmscope/train/state_fields.hpp>
#include <plmscope/train/state_file.hpp>
#include <plmscope/version.hpp>

#include <concepts>
#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <string_view>

namespace plmscope::inline PLMSCOPE_ABI {

namespace resume_concepts {

template <class R, class B>
concept has_position = requires(R& r, B& be, std::size_t position) {
  { r.position() } -> std::convertible_to<std::size_t>;
  r.seek(be, position);
};

template <class R>
concept has_identity = requires(const R& r) {
  { r.identity() } -> std::convertible_to<std::string>;
};

}  // namespace resume_concepts

/// The sentences a user reads when a training cannot be resumed on a reader; one per requirement.
template <class R, class B>
struct require_resumable {
  static_assert(resume_concepts::has_position<R, B>,
                "plmscope: checkpoints need to know where a reader is: add `std::size_t position() "
                "const` and `void seek(B& be, std::size_t position)`");
  static_assert(resume_concepts::has_identity<R>,
                "plmscope: checkpoints are refused for other rows: add `std::string identity() "
                "const` to the reader, a text that is the same exactly for the same rows in the "
                "same order");
  static constexpr bool value = true;
};

/// What a training depends on beside its state.
struct conditions {
  std::map<std::string, std::string> same;     ///< must be the same in a run that resumes
  std::map<std::string, std::string> machine;  ///< should be, for the same bits

  template <class Writer>
  void write(Writer& out) const {
    for (const auto& [key, value] : same) out.text("same." + key, value);
    for (const auto& [key, value] : machine) out.text("machine." + key, value);
  }

  /// Refuses (train.125) a file of other conditions; warn(text) where only the machine is another.
  template <class Warn>
  void require_same(const state_file& file, const Warn& warn) const {
    compare(file, "same.", same, [&](const auto& key, const auto& expected, const auto& found) {
      throw error(
          rules::checkpoint_other,
          {.where = file.where() + ", " + key,
           .expected = expected,
           .found = found,
           .remedy = "resume with what the training began with, or begin in another folder"});
    });
    compare(file, "machine.", machine,
            [&](const auto& key, const auto& expected, const auto& found) {
              warn(file.where() + " was written with " + key + ' ' + expected + ", this is " +
                   found + ": the bits may differ from those of an undisturbed run");
            });
  }

 private:
  // different(key, in the file, here) for every key that differs.
  template <class Different>
  static void compare(const state_file& file, const std::string& prefix,
                      const std::map<std::string, std::string>& here, const Different& different) {
    for (const auto& [key, value] : here) {
      const std::string there = file.text(prefix + key);
      if (there != value) different(key, there, value);
    }
    for (const auto& [key, value] : file.metadata()) {
      if (!std::string_view(key).starts_with(prefix)) continue;
      const std::string name = key.substr(prefix.size());
      if (!here.contains(name)) different(name, value, std::string("nothing of the kind"));
    }
  }
};

template <class Policies, class Run, class Reader>
conditions training_conditions(const Policies& policies, Run& run, const Reader& reader) {
  using backend = typename Run::backend_type;
  const auto& model = run.model();
  conditions c;
  c.same = {{"version", std::to_string(PLMSCOPE_VERSION_MAJOR) + '.' +
                            std::to_string(PLMSCOPE_VERSION_MINOR) + '.' +
                            std::to_string(PLMSCOPE_VERSION_PATCH)},
            {"numbers", policy_detail::type_name<typename backend::real>()},
            {"rows", reader.identity()},
            {"model.d_model", std::to_string(model.d_model())},
            {"model.features", std::to_string(model.features())},
            {"model", policy_text(model.settings())}};
  policies.settings([&](std::string_view name, const auto& value) {
    c.same[std::string(name)] = policy_text(value);
  });
  c.machine = {{"backend", policy_detail::type_name<backend>()}, {"compiler", __VERSION__}};
  if constexpr (requires { run.backend().precision(); }) {
    c.machine["precision"] = policy_text(run.backend().precision());
  }
#if defined(__AVX512F__)
  c.machine["instructions"] = "AVX-512";
#elif defined(__AVX2__) && defined(__FMA__)
  c.machine["instructions"] = "AVX2";
#else
  c.machine["instructions"] = "any";
#endif
  return c;
}

/// The state of a run and the place of its reader, into `out`.
template <class Run, class Reader, class Writer>
void collect_training(Run& run, Reader& reader, Writer& out) {
  const std::size_t position = reader.position();
  visit_state(out, "", run);
  out.number("reader.position", position);
}

/// The state of a run and the place of its reader, from a file. Errors: train.126.
template <class Run, class Reader>
void restore_training(Run& run, Reader& reader, const state_file& file) {
  state_reader<typename Run::backend_type> in(run.backend(), file);
  visit_state(in, "", run);
  std::size_t position = 0;
  in.number("reader.position", position);
  in.finish();
  reader.seek(run.backend(), position);
}

}  // namespace plmscope::inline PLMSCOPE_ABI
