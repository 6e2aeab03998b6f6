// SPDX-License-Identifier: MIT
#include "command.hpp"
#include "other_backend.hpp"

#include <plmscope/core/error.hpp>
#include <plmscope/core/thread_pool.hpp>
#include <plmscope/version.hpp>

#include <fmt/format.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>

namespace {

void warn_about_openblas() {
  // Named here because it costs half the speed without a word; see docs/getting_started.md.
#if defined(PLMSCOPE_PROGRAM_GEMM_OPENBLAS)
  if (const char* core = std::getenv("OPENBLAS_CORETYPE")) {
    fmt::print(stderr, "note: OPENBLAS_CORETYPE={} decides which kernel OpenBLAS runs\n", core);
  }
#endif
}

/// CLI11 reads -5 as 2^64 - 5 where a flag counts something.
void refuse_negative_counts(CLI::App& app) {
  const CLI::Validator not_negative(
      [](std::string& text) {
        return text.starts_with('-') ? "a whole number from 0 is expected, not " + text
                                     : std::string();
      },
      "");
  for (CLI::Option* flag : app.get_options()) {
    if (flag->get_type_name().starts_with("UINT")) flag->check(not_negative);
  }
  for (CLI::App* command : app.get_subcommands({})) refuse_negative_counts(*command);
}

std::string version() {
  return fmt::format("plmscope {}.{}.{}", PLMSCOPE_VERSION_MAJOR, PLMSCOPE_VERSION_MINOR,
                     PLMSCOPE_VERSION_PATCH);
}

}  // namespace

std::size_t common_options::thread_count() const {
  return threads == 0 ? plmscope::available_threads() : threads;
}

void add_common(CLI::App& command, common_options& options, const std::string& example) {
  command.add_flag("--json", options.as_json, "Print one JSON object instead of text");
  command.add_option("--threads", options.threads, "Threads; results are the same for any number")
      ->check(CLI::Range(1, 1024));
  command.add_option("--seed", options.seed, "Seed of everything random")->capture_default_str();
  command.add_flag("--dry-run", options.dry_run, "Check the input and say what would be done");
  command.add_option("--backend", options.backend, "cpu, or cuda where it was built")
      ->check(CLI::IsMember({"cpu", "cuda"}));
  command
      .add_option("--precision", options.precision,
                  "Of dense products with a model's weights: fp32; bf16 and int8 where the "
                  "processor has them; bf16 and tf32 with --backend cuda")
      ->check(CLI::IsMember({"fp32", "tf32", "bf16", "int8"}));
  command.footer("Example:\n  " + example +
                 "\n\nExit codes: 0 done, 2 usage, 3 malformed input, "
                 "4 files that do not belong together,\n5 too large, 6 input/output, 7 not a "
                 "number, 8 interrupted, 70 a bug.");
}

void print_result(const common_options& options, const json_object& object,
                  const std::string& text) {
  if (options.as_json) {
    fmt::print("{}\n", object.dump(2, ' ', false, json_object::error_handler_t::replace));
  } else {
    std::fwrite(text.data(), 1, text.size(), stdout);
  }
}

std::filesystem::path bundled(const std::string& name) {
  const char* set = std::getenv("PLMSCOPE_BUNDLE");
  const std::filesystem::path root =
      set != nullptr && *set != '\0'
          ? std::filesystem::path(set)
          : std::filesystem::path(PLMSCOPE_SOURCE_DIR) / "examples" / "data";
  return root / name;
}

json_object number_or_null(double value) {
  return std::isfinite(value) ? json_object(value) : json_object();
}

int main(int argc, char** argv) {
  CLI::App app(
      "Opens up protein language models: runs ESM-2, trains sparse autoencoders on it, "
      "names their features, and asks them about a sequence. Everything offline.",
      "plmscope");
  app.set_version_flag("--version", version());
  app.require_subcommand(1);
  app.footer("Example:\n  plmscope demo\n\nEvery subcommand has --help with an example.");
  add_demo(app);
  add_ask(app);
  add_train(app);
  add_sweep(app);
  add_concepts(app);
  add_fidelity(app);
  add_embed(app);
  add_contacts(app);
  add_score(app);
  add_harvest(app);
  add_merge(app);
  add_verify(app);
  add_info(app);
  add_convert(app);
  refuse_negative_counts(app);
  try {
    run_other_backend(argc, argv);
    app.parse(argc, argv);
    warn_about_openblas();
    return 0;
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  } catch (const plmscope::error& e) {
    fmt::print(stderr, "error: {}\n", e.what());
    return e.exit_code();
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "error: not enough memory\n");
    return 5;
  } catch (const std::exception& e) {
    fmt::print(stderr, "error: unexpected: {}\nThis is a bug of plmscope; please report it.\n",
               e.what());
    return 70;
  }
}
