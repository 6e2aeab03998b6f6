// SPDX-License-Identifier: MIT
#pragma once

#include "fit.hpp"
#include "model.hpp"

#include <plmscope/acts/activation_memory.hpp>
#include <plmscope/io/fasta.hpp>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

/// The activations that all SAEs of a model are trained on, from one pass over it: in memory where
/// they take no more than `memory_limit`, else in a store in the folder. Rows and their order are
/// those of `train` with the same seed, bit for bit, either way.
class sweep_activations {
 public:
  struct request {
    std::vector<std::string> sites;   // of the whole sweep: what a store holds
    std::vector<std::string> needed;  // of the runs that are not finished: what memory holds
    std::filesystem::path folder;     // where a store is made
    std::size_t memory_limit = 0;
  };

  /// Nothing is computed before the first use. The model and the proteins must outlive it.
  sweep_activations(program_model& esm, const std::vector<plmscope::protein_sequence>& proteins,
                    request asked);
  ~sweep_activations();

  const std::vector<std::string>& needed() const noexcept { return asked_.needed; }
  /// Residues.
  std::size_t rows() const noexcept { return memory_ ? memory_->rows() : rows_; }
  std::size_t width(const std::string& site) const;
  /// Bytes that the needed sites take.
  std::size_t bytes() const noexcept { return bytes_; }
  bool in_memory() const noexcept { return store_.empty(); }
  /// Whether a store of an earlier start has everything, so that the model need not run.
  bool ready() const;
  /// "in memory, 1.2 GB" or "in FOLDER, 12 GB".
  std::string text() const;

  /// The states of the same sequences, where they are in memory by now; else nothing.
  std::shared_ptr<const plmscope::activation_memory> memory() const noexcept { return memory_; }

  /// Calls `use` with the rows of a site in the order of a training with that seed.
  /// `progress(rows done, rows to do)` while the model runs.
  void with_rows(const std::string& site, std::uint64_t seed, std::size_t buffer_rows,
                 const std::function<void(std::size_t, std::size_t)>& progress,
                 const std::function<void(row_feed)>& use);

 private:
  void compute(const std::function<void(std::size_t, std::size_t)>& progress);

  program_model& esm_;
  const std::vector<plmscope::protein_sequence>& proteins_;
  request asked_;
  std::size_t rows_ = 0;
  std::size_t bytes_ = 0;
  std::filesystem::path store_;  // empty: in memory
  std::string proteins_hash_;
  std::shared_ptr<const plmscope::activation_memory> memory_;
  bool computed_ = false;
};
