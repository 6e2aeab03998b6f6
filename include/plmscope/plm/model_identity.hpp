// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <cstddef>
#include <filesystem>
#include <string>
#include <system_error>

namespace plmscope::inline PLMSCOPE_ABI {

/// Which model a state came from.
struct model_identity {
  std::string name;          ///< of the folder or file
  std::string content_hash;  ///< as `safetensors_file::content_hash`; empty when not computed
  std::size_t layers = 0;
  std::size_t d_model = 0;

  friend bool operator==(const model_identity&, const model_identity&) = default;
};

/// What a model in this file is called: by the folder of a `model.safetensors`, else by the file.
inline std::string model_name(const std::filesystem::path& file) {
  std::error_code ignored;
  if (file.filename() != "model.safetensors") return file.stem().string();
  return std::filesystem::weakly_canonical(file, ignored).parent_path().filename().string();
}

}  // namespace plmscope::inline PLMSCOPE_ABI
