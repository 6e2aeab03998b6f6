// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/dtype.hpp>
#include <plmscope/io/rules.hpp>
#include <plmscope/io/safetensors_header.hpp>
#include <plmscope/io/tensor_convert.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// A tensor that lies in the bytes of some file: a name, a number type, a shape, and where its
/// numbers are. `bytes` reaches from the first number to the last one; in a torch file other
/// tensors' numbers may lie in between (a transposed or sliced view), which `strides` tells.
struct stored_tensor {
  std::string name;
  dtype type = dtype::f32;
  std::vector<std::size_t> shape;    ///< empty: one number
  std::vector<std::size_t> strides;  ///< in entries, one a dimension; empty: row-major, no gaps
  std::span<const std::byte> bytes;
  std::size_t elements = 1;  ///< the product of the shape

  bool contiguous() const noexcept { return strides.empty(); }
};

/// Calls `block(first, bytes)` for the tensor's numbers in row-major order: once with all of them
/// where they lie so, else with copies of at most 4,096 numbers. Costs no memory. `block` may
/// return false to stop.
template <class Block>
void for_each_block(const stored_tensor& t, const Block& block) {
  if (t.contiguous() || t.elements == 0) {
    block(std::size_t{0}, t.bytes);
    return;
  }
  const std::size_t size = dtype_bits(t.type) / 8;
  std::array<std::byte, tensor_convert::block * 8> copy;
  std::vector<std::size_t> index(t.shape.size(), 0);
  std::size_t at = 0;  // entry in `bytes`: the sum of index * stride
  for (std::size_t first = 0; first < t.elements; first += tensor_convert::block) {
    const std::size_t n = std::min(tensor_convert::block, t.elements - first);
    for (std::size_t i = 0; i < n; ++i) {
      std::memcpy(copy.data() + i * size, t.bytes.data() + at * size, size);
      for (std::size_t d = t.shape.size(); d-- > 0;) {
        at += t.strides[d];
        if (++index[d] < t.shape[d]) break;
        at -= index[d] * t.strides[d];
        index[d] = 0;
      }
    }
    if (!block(first, std::span<const std::byte>(copy.data(), n * size))) return;
  }
}

/// Converts a tensor into `out`, which has exactly its number of entries (io.128). float and double
/// read F64, F32, F16 and BF16; integers read integers and BOOL, range-checked (io.126); float16
/// and bfloat16 read only themselves. Anything else is io.125. `where` names the file.
template <class T>
void read_tensor(const stored_tensor& t, std::span<T> out, const std::string& where) {
  const auto here = [&] { return where + ", tensor \"" + t.name + "\""; };
  if (out.size() != t.elements) {
    throw error(rules::safetensors_destination,
                {.where = here(),
                 .expected = std::to_string(t.elements) + " entries, shape " + shape_text(t.shape),
                 .found = std::to_string(out.size())});
  }
  for_each_block(t, [&](std::size_t first, std::span<const std::byte> bytes) {
    const std::size_t n = t.contiguous() ? out.size() : bytes.size() * 8 / dtype_bits(t.type);
    tensor_convert::read(t.type, bytes, out.subspan(first, n), here);
    return true;
  });
}

/// The index of the first NaN or infinity; nothing for integer types.
inline std::optional<std::size_t> first_not_finite(const stored_tensor& t) {
  std::optional<std::size_t> found;
  for_each_block(t, [&](std::size_t first, std::span<const std::byte> bytes) {
    if (const auto bad = tensor_convert::first_not_finite(t.type, bytes)) found = first + *bad;
    return !found;
  });
  return found;
}

}  // namespace plmscope::inline PLMSCOPE_ABI
