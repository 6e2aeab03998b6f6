// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/io/safetensors.hpp>

#include <span>
#include <string>
#include <vector>

namespace stored {

using numbers = std::vector<double>;

/// The entries of a matrix of any backend, in order.
template <class B, class M>
numbers host(B& be, const M& m) {
  numbers v(m.size());
  be.download(plmscope::const_view<B>(m), std::span<double>(v));
  return v;
}

/// A tensor of a golden file.
inline numbers read(const plmscope::safetensors_file& file, const std::string& name) {
  numbers v(file.require(name).elements);
  file.read(name, std::span<double>(v));
  return v;
}

}  // namespace stored
