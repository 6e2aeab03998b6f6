// SPDX-License-Identifier: MIT
#pragma once

#include "backend.hpp"

#include <plmscope/core/activation_source.hpp>
#include <plmscope/sae/description.hpp>
#include <plmscope/sae/formats/published_sae.hpp>
#include <plmscope/tensor/codes.hpp>

#include <cstddef>
#include <filesystem>
#include <memory>

namespace plmscope::inline PLMSCOPE_ABI {
template <class Backend>
class any_sae;
}

/// `any_sae` of the program's backend behind a pointer, so that one file of the program compiles what
/// every kind of SAE can do.
class program_sae {
 public:
  explicit program_sae(std::unique_ptr<plmscope::any_sae<program_backend>> sae);
  program_sae(program_sae&&) noexcept;
  program_sae& operator=(program_sae&&) noexcept;
  ~program_sae();

  /// As `any_sae::open`.
  static program_sae open(const std::filesystem::path& path, const plmscope::stated_sae& stated,
                          const plmscope::activation_source& expect, program_backend be);

  /// Whether the path is a file that says it is an SAE of ours.
  static bool is_native(const std::filesystem::path& path);

  plmscope::sae_description describe() const;
  std::size_t d_model() const;
  std::size_t d_out() const;
  std::size_t features() const;
  const plmscope::activation_source& source() const;
  void encode(plmscope::const_view<program_backend> x, plmscope::codes<program_backend>& out);
  void reconstruct(plmscope::const_view<program_backend> x, plmscope::view<program_backend> out,
                   plmscope::codes<program_backend>* z = nullptr);
  void save(const std::filesystem::path& path);
  void save_saelens(const std::filesystem::path& folder);

 private:
  std::unique_ptr<plmscope::any_sae<program_backend>> sae_;
};
