// SPDX-License-Identifier: MIT
#include "checkpoints.hpp"
#include "rules.hpp"
#include "store.hpp"
#include "sweep_activations.hpp"
#include "sweep_figures.hpp"
#include "sweep_input.hpp"
#include "sweep_records.hpp"

#include <plmscope/acts/read_activations.hpp>
#include <plmscope/core/available_memory.hpp>
#include <plmscope/core/progress.hpp>
#include <plmscope/train/progress_bar.hpp>
#include <plmscope/train/rules.hpp>
#include <plmscope/version.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <set>
#include <span>

namespace {

struct sweep_command {
  common_options common;
  std::string file;
  std::string out;
  std::size_t memory = 0;  // bytes; 0: half of what is free
};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Time left over the whole sweep, by operations: what is trained or measured costs more or less
/// than estimated, but every piece counts once.
class sweep_progress {
 public:
  explicit sweep_progress(double operations)
      : total_(std::max(operations, 1.0)), line_("sweep", plmscope::progress_bar::on_terminal()) {}

  void begin(std::string what, double operations) {
    done_ += piece_;
    piece_ = operations;
    what_ = std::move(what);
    at(0);
  }
  void at(double share, const std::string& detail = {}) {
    const double now = std::min(done_ + share * piece_, 0.9999 * total_);
    line_.update(static_cast<std::size_t>(1e6 * now / total_), 1'000'000, what_ + "  " + detail);
  }
  void end(const std::string& what) { line_.update(1, 1, what); }
  std::function<void(std::size_t, std::size_t)> rows() {
    return [this](std::size_t done, std::size_t all) {
      at(static_cast<double>(done) / static_cast<double>(std::max<std::size_t>(all, 1)));
    };
  }

 private:
  double total_;
  double done_ = 0;
  double piece_ = 0;
  std::string what_;
  plmscope::progress_line line_;
};

class sweep {
 public:
  explicit sweep(const sweep_command& o)
      : o_(o),
        in_(o.file, o.common),
        plan_(in_.plan()),
        memory_(o.memory > 0 ? o.memory
                             : static_cast<std::size_t>(plmscope::available_memory() / 2)) {
    for (std::size_t m = 0; m < plan_.models.size(); ++m) {
      forward_left_.push_back(in_.forward_operations(m));
    }
  }

  void say_what() {
    const auto records = sweep_records::read(o_.out);
    json_object out = heading();
    std::string text =
        fmt::format("{:<48} {:>9} {:>10} {:>10}\n", "run", "features", "SAE", "operations");
    double operations = 0;
    std::size_t bytes = 0;
    std::set<std::size_t> models;
    for (const auto& run : plan_.runs) {
      const bool finished = records.contains(run.name);
      if (finished) require_same(run, records.at(run.name));
      const std::size_t size = in_.sae_bytes(run);
      const double work = in_.training_operations(run) + in_.figure_operations(run);
      if (!finished) operations += work, bytes += size, models.insert(run.model);
      out["runs"].push_back({{"run", run.name},
                             {"features", in_.features(run)},
                             {"bytes", size},
                             {"operations", work},
                             {"finished", finished}});
      text += fmt::format("{:<48} {:>9} {:>10} {:>10.1e}{}\n", run.name, in_.features(run),
                          size_text(size), work, finished ? "  finished" : "");
    }
    std::size_t activations = 0;
    for (const std::size_t m : models) {
      operations += in_.forward_operations(m);
      activations = std::max(activations, in_.activation_bytes(m));
    }
    const double speed = operations_a_second(o_.common);
    out["to_write_bytes"] = bytes;
    out["operations"] = operations;
    out["operations_a_second"] = speed;
    out["activation_bytes"] = activations;
    out["in_memory"] = activations <= memory_;
    text += fmt::format(
        "\n{} runs on {} residues of {} proteins; {} of SAEs to write to {}\n"
        "activations   {}, {} (limit {})\n"
        "time          about {}: {:.1e} operations, {:.1e} a second measured just now\n",
        plan_.runs.size(), in_.residues(), in_.proteins().size(), size_text(bytes), o_.out,
        size_text(activations), activations <= memory_ ? "in memory" : "on disk",
        size_text(memory_), plmscope::duration_text(operations / speed), operations, speed);
    print_result(o_.common, out, text);
  }

  void train() {
    const auto start = std::chrono::steady_clock::now();
    sweep_records records(o_.out);
    records_ = &records;
    std::vector<const sweep_run*> todo;
    double operations = 0;
    std::set<std::size_t> models;
    for (const auto& run : plan_.runs) {
      if (is_finished(run)) continue;
      todo.push_back(&run);
      operations += in_.training_operations(run) + in_.figure_operations(run);
      models.insert(run.model);
    }
    for (const std::size_t m : models) operations += in_.forward_operations(m);
    sweep_progress progress(operations);
    progress_ = &progress;
    const std::size_t before = plan_.runs.size() - todo.size();
    for (const std::size_t m : models) {
      std::vector<const sweep_run*> of_model;
      for (const auto* run : todo) {
        if (run->model == m) of_model.push_back(run);
      }
      train_model(m, of_model);
    }
    if (!todo.empty()) progress.end("");
    json_object out = heading();
    std::map<std::string, json_object> by_name;
    for (const auto& run : plan_.runs) {
      out["runs"].push_back(*records.find(run.name));
      by_name[run.name] = *records.find(run.name);
    }
    out["finished_before"] = before;
    out["seconds"] = seconds_since(start);
    print_result(o_.common, out,
                 comparison_table(plan_, by_name) +
                     fmt::format("\n{} runs, {} of them finished before; SAEs and {} in {}\n",
                                 plan_.runs.size(), before, sweep_records::file_name, o_.out));
  }

 private:
  json_object heading() const {
    return {{"file", o_.file},
            {"out", o_.out},
            {"proteins", in_.proteins().size()},
            {"residues", in_.residues()}};
  }

  void require_same(const sweep_run& run, const json_object& record) const {
    const std::string other = differences(record["asked"], in_.asked(run));
    if (other.empty()) return;
    throw plmscope::error(
        plmscope::rules::sweep_other,
        {.where = fmt::format("{}/{}, {}", o_.out, sweep_records::file_name, run.name),
         .found = other,
         .remedy = "give what is new a name of its own, or the sweep another --out"});
  }

  std::filesystem::path sae_file(const sweep_run& run) const {
    return records_->folder() / (run.name + ".safetensors");
  }

  /// Whether a run need not be trained or measured again. What its record says must hold.
  bool is_finished(const sweep_run& run) const {
    const json_object* record = records_->find(run.name);
    if (record == nullptr) return false;
    require_same(run, *record);
    if (!has_sae(run)) {
      fmt::print(stderr, "note: {} is gone and is trained again\n", sae_file(run).string());
      return false;
    }
    records_->drop_checkpoints(sae_file(run).string() + ".checkpoints");
    return has_figures(*record, "fidelity") && has_figures(*record, "concepts");
  }
  /// Whether a record has the figures of that name as the file asks for them, if it does. Those
  /// that are no longer asked for stay.
  bool has_figures(const json_object& record, const char* name) const {
    const json_object asked = in_.measured();
    return !asked.contains(name) || (record.contains(name) && record.contains("measured") &&
                                     record["measured"].contains(name) &&
                                     differences(record["measured"][name], asked[name]).empty());
  }
  bool has_sae(const sweep_run& run) const {
    const json_object* record = records_->find(run.name);
    if (record == nullptr || !std::filesystem::exists(sae_file(run))) return false;
    const std::string hash = file_hash(sae_file(run));
    if ((*record)["sha256"] == hash) return true;
    throw plmscope::error(plmscope::rules::sweep_other,
                          {.where = sae_file(run).string(),
                           .expected = "sha256 " + (*record)["sha256"].get<std::string>(),
                           .found = hash,
                           .remedy = "move the file away: the run is then done again"});
  }

  void train_model(std::size_t m, const std::vector<const sweep_run*>& runs) {
    program_model esm = open_model(plan_.models[m].path, o_.common);
    std::vector<std::string> needed;
    for (const auto& site : plan_.sites) {
      if (std::ranges::any_of(runs, [&](const auto* run) { return run->site == site; })) {
        needed.push_back(site);
      }
    }
    sweep_activations activations(esm, in_.proteins(), {plan_.sites, needed, o_.out, memory_});
    fmt::print(stderr, "{}: {} runs; activations of {} sites {}\n", plan_.models[m].name,
               runs.size(), needed.size(), activations.text());
    for (const auto* run : runs) finish(esm, activations, *run);
    if (scoring_) scoring_->states.reset();
  }

  void finish(program_model& esm, sweep_activations& activations, const sweep_run& run) {
    json_object record;
    const auto file = sae_file(run);
    if (has_sae(run)) {
      record = *records_->find(run.name);
    } else {
      record = {{"run", run.name},
                {"model", plan_.models[run.model].path},
                {"policy", plan_.policies[run.policy].name},
                {"asked", in_.asked(run)},
                {"measured", json_object::object()},
                {"sae", run.name + ".safetensors"}};
      train_run(esm, activations, run, file, record);
    }
    progress_->begin(run.name + ", figures", in_.figure_operations(run));
    program_sae sae =
        program_sae::open(file, {}, esm.source(plmscope::parse_site(run.site)), esm.backend());
    if (!record.contains("rows")) {
      activations.with_rows(
          run.site, o_.common.seed, figure_rows, progress_->rows(), [&](row_feed rows) {
            record["rows"] = measure_rows(esm.backend(), sae, std::move(rows), activations.rows());
          });
    }
    if (!has_figures(record, "fidelity")) {
      record["fidelity"] =
          measure_loss(esm, sae, in_.loss_sequences(), o_.common, progress_->rows());
    }
    if (!has_figures(record, "concepts")) {
      record["concepts"] =
          measure_concepts(esm, sae, in_.annotated(), concept_input(esm, activations),
                           *plan_.concepts, progress_->rows());
    }
    record["measured"].update(in_.measured());
    records_->put(std::move(record));
    records_->drop_checkpoints(file.string() + ".checkpoints");
    stop_if_asked(run);
  }

  /// Concepts and split once for all SAEs, states once for those of a model where memory suffices.
  const scoring_input& concept_input(program_model& esm, const sweep_activations& activations) {
    if (!scoring_) {
      scoring_ = prepare_scoring(in_.annotated(), plan_.concepts->scoring, o_.common);
    }
    if (scoring_->states) return *scoring_;
    const auto sequences = plmscope::sequences_of(in_.annotated());
    const auto same = [&](const auto& p, const std::string& s) { return p.sequence == s; };
    if (std::ranges::equal(in_.proteins(), sequences, same)) {
      scoring_->states = activations.memory();
    }
    std::size_t residues = 0;
    for (const auto& s : sequences) residues += s.size();
    std::vector<plmscope::site> sites;
    for (const auto& site : activations.needed()) sites.push_back(plmscope::parse_site(site));
    const std::size_t bytes = plmscope::activation_memory::bytes(esm, sites, residues);
    const std::size_t taken = activations.memory() ? activations.bytes() : 0;
    if (!scoring_->states && bytes <= memory_ - std::min(memory_, taken)) {
      scoring_->states =
          std::make_shared<plmscope::activation_memory>(plmscope::activation_memory::of(
              esm, sites, std::span<const std::string>(sequences), progress_->rows()));
    }
    return *scoring_;
  }

  void train_run(program_model& esm, sweep_activations& activations, const sweep_run& run,
                 const std::filesystem::path& file, json_object& record) {
    training_options training = in_.training(run);
    training.site = run.site;
    training.metrics = (records_->folder() / (run.name + ".metrics.jsonl")).string();
    training.checkpoint_every = plan_.checkpoint_every;
    training.checkpoints = file.string() + ".checkpoints";
    training.resume = true;
    training.report = [&](const plmscope::training_metrics& m) {
      progress_->at(
          static_cast<double>(m.step + 1) / static_cast<double>(m.steps),
          fmt::format("FVU {:.3f}  L0 {:.1f}  dead {:.1f} %", m.fvu, m.l0, 100 * m.dead_share));
    };
    common_options common = o_.common;
    common.seed = run.seed;
    if (!activations.ready()) {
      progress_->begin(plan_.models[run.model].name + ", activations",
                       std::exchange(forward_left_[run.model], 0.0));
    }
    activations.with_rows(
        run.site, run.seed, training.buffer_rows, progress_->rows(), [&](row_feed rows) {
          progress_->begin(run.name, in_.training_operations(run));
          const auto start = std::chrono::steady_clock::now();
          trained t = fit_sae(esm.backend(), std::move(rows), training, common);
          t.model.save(file);
          record["sha256"] = file_hash(file);
          record["bytes"] = std::filesystem::file_size(file);
          record["last"] = metrics_json(t.last);
          record["seconds"] = seconds_since(start);
          record["by"] =
              fmt::format("plmscope {}.{}.{}, {}", PLMSCOPE_VERSION_MAJOR, PLMSCOPE_VERSION_MINOR,
                          PLMSCOPE_VERSION_PATCH, o_.common.backend);
        });
  }

  void stop_if_asked(const sweep_run& run) const {
    if (!stop_wanted()) return;
    throw plmscope::error(plmscope::rules::training_stopped,
                          {.where = o_.out,
                           .found = "a request to stop after " + run.name,
                           .remedy = "run the sweep again when you like"});
  }

  sweep_command o_;
  sweep_input in_;
  const sweep_plan& plan_;
  std::size_t memory_;
  std::vector<double> forward_left_;  // operations
  std::optional<scoring_input> scoring_;
  sweep_records* records_ = nullptr;
  sweep_progress* progress_ = nullptr;
};

}  // namespace

void add_sweep(CLI::App& app) {
  auto o = std::make_shared<sweep_command>();
  CLI::App* c = app.add_subcommand(
      "sweep", "Train SAEs for every model, site, policy and seed of a file, and compare them");
  c->add_option("file", o->file, "Sweep file (TOML); see docs/sweeps.md")->required();
  c->add_option("--out", o->out, "Folder of SAEs and records; else the name of FILE without .toml");
  c->add_option("--memory", o->memory,
                "Activations of a model that take more than this, such as 16GiB, lie on disk; else "
                "half of the memory that is free")
      ->transform(CLI::AsSizeValue(false));
  add_common(*c, o->common,
             "plmscope sweep layers.toml\n\nwith layers.toml, keys of [training] and [policies.*] "
             "being flags of `plmscope train`:\n"
             "  proteins = \"uniref50.fasta.gz\"\n"
             "  models = [\"facebook/esm2_t6_8M_UR50D\"]\n"
             "  sites = [\"resid_post.1\", \"resid_post.3\"]\n"
             "  seeds = [1, 2, 3]\n"
             "  [training]\n"
             "  features = 4096\n"
             "  steps = 20000\n"
             "  [policies.topk_64]\n"
             "  k = 64\n"
             "  [policies.jump_64]\n"
             "  sparsifier = \"jump_relu\"\n"
             "  k = 64\n"
             "  [fidelity]\n"
             "  first = 100\n"
             "  [concepts]\n"
             "  proteins = \"uniprot_sprot.tsv.gz\"\n\n"
             "Killed or stopped (Ctrl-C), the same line goes on where it was.");
  c->callback([o] {
    if (o->out.empty()) {
      const std::filesystem::path file(o->file);
      o->out = (file.extension() == ".toml" ? std::filesystem::path(file).replace_extension()
                                            : std::filesystem::path(o->file + ".sweep"))
                   .string();
    }
    sweep job(*o);
    o->common.dry_run ? job.say_what() : job.train();
  });
}
