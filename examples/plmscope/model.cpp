// SPDX-License-Identifier: MIT
#include "model.hpp"

program_model open_model(const std::filesystem::path& name, const common_options& options) {
  return program_model::load(name, open_backend(options));
}
