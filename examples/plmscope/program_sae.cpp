// SPDX-License-Identifier: MIT
#include "program_sae.hpp"

#include <plmscope/sae/any_sae.hpp>

#include <utility>

using held = plmscope::any_sae<program_backend>;

program_sae::program_sae(std::unique_ptr<held> sae) : sae_(std::move(sae)) {}
program_sae::program_sae(program_sae&&) noexcept = default;
program_sae& program_sae::operator=(program_sae&&) noexcept = default;
program_sae::~program_sae() = default;

program_sae program_sae::open(const std::filesystem::path& path,
                              const plmscope::stated_sae& stated,
                              const plmscope::activation_source& expect, program_backend be) {
  return program_sae(std::make_unique<held>(held::open(path, stated, expect, std::move(be))));
}

bool program_sae::is_native(const std::filesystem::path& path) { return held::is_native(path); }

plmscope::sae_description program_sae::describe() const { return sae_->describe(); }
std::size_t program_sae::d_model() const { return sae_->d_model(); }
std::size_t program_sae::d_out() const { return sae_->d_out(); }
std::size_t program_sae::features() const { return sae_->features(); }
const plmscope::activation_source& program_sae::source() const { return sae_->source(); }
void program_sae::encode(plmscope::const_view<program_backend> x,
                         plmscope::codes<program_backend>& out) {
  sae_->encode(x, out);
}
void program_sae::reconstruct(plmscope::const_view<program_backend> x,
                              plmscope::view<program_backend> out,
                              plmscope::codes<program_backend>* z) {
  sae_->reconstruct(x, out, z);
}
void program_sae::save(const std::filesystem::path& path) { sae_->save(path); }
void program_sae::save_saelens(const std::filesystem::path& folder) {
  plmscope::save_saelens(*sae_, folder);
}
