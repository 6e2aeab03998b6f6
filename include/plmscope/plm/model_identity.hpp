// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <cstddef>
#include <string>

namespace plmscope::inline PLMSCOPE_ABI {

/// Which model a state came from.
struct model_identity {
  std::string name;          ///< of the folder or file
  std::string content_hash;  ///< as `weights_file::content_hash`; empty when not computed
  std::size_t layers = 0;
  std::size_t d_model = 0;

  friend bool operator==(const model_identity&, const model_identity&) = default;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
