// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/atomic_file.hpp>
#include <plmscope/io/byte_source.hpp>
#include <plmscope/io/npy_header.hpp>
#include <plmscope/io/tensor_convert.hpp>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// An array of any rank in row-major order. Rank 0 is one number.
template <class T>
struct npy_array {
  std::vector<std::size_t> shape;
  std::vector<T> data;
  std::size_t trailing_bytes =
      0;  ///< behind the data in the file, ignored (NumPy ignores them too)
};

namespace npy_detail {

// Fortran order means that the first index runs fastest: out[row-major] = in[column-major].
template <class T>
std::vector<T> transposed(const std::vector<T>& in, const std::vector<std::size_t>& shape) {
  std::vector<T> out(in.size());
  std::vector<std::size_t> index(shape.size(), 0);
  for (const T& value : in) {
    std::size_t at = 0;
    for (std::size_t d = 0; d < shape.size(); ++d) at = at * shape[d] + index[d];
    out[at] = value;
    for (std::size_t d = 0; d < shape.size() && ++index[d] == shape[d]; ++d) index[d] = 0;
  }
  return out;
}

}  // namespace npy_detail

/// Reads an npy file of version 1 to 3 from memory. Numbers convert as in `safetensors_file::read`:
/// floating point to float and double, integers and bool to integers with a range check (io.126);
/// other pairs are io.409. Big-endian numbers are swapped, Fortran order becomes row-major.
/// Everything that is declared is checked against the bytes that are there before anything is
/// allocated (io.401 to io.408).
template <class T>
npy_array<T> parse_npy(std::span<const std::byte> bytes, const std::string& where = "memory") {
  const npy_header header = parse_npy_header(bytes, where);
  if (!header.convertible_to(dtype_of<T>())) {
    throw error(rules::npy_conversion,
                {.where = where,
                 .expected = "numbers that read as " + std::string(dtype_name(dtype_of<T>())),
                 .found = std::string(dtype_name(header.type))});
  }
  const std::size_t item = dtype_bits(header.type) / 8;
  std::span<const std::byte> data = bytes.subspan(header.data_offset);
  if (data.size() / item < header.elements) {
    throw error(rules::npy_truncated, {.where = where,
                                       .expected = std::to_string(header.elements) +
                                                   " entries of " + std::to_string(item) + " bytes",
                                       .found = std::to_string(data.size()) + " bytes"});
  }
  npy_array<T> out{header.shape, std::vector<T>(header.elements),
                   data.size() - header.elements * item};
  data = data.first(header.elements * item);
  std::vector<std::byte> swapped;
  if (header.big_endian) {
    swapped.assign(data.begin(), data.end());
    for (std::size_t i = 0; i < swapped.size(); i += item) {
      std::reverse(swapped.data() + i, swapped.data() + i + item);
    }
    data = swapped;
  }
  tensor_convert::read(header.type, data, std::span<T>(out.data), [&] { return where; });
  if (header.fortran_order && header.shape.size() > 1) {
    out.data = npy_detail::transposed(out.data, out.shape);
  }
  return out;
}

/// Reads an npy file.
template <class T>
npy_array<T> read_npy(const std::filesystem::path& path) {
  const mapped_file file(path);
  return parse_npy<T>(file.bytes(), path.string());
}

/// The bytes of an npy file, version 1, row-major. io.410 when `data` is not of `shape`.
template <class T>
std::vector<std::byte> npy_bytes(const std::vector<std::size_t>& shape, std::span<const T> data) {
  const std::string head = npy_header_bytes(dtype_of<T>(), shape, data.size());
  const auto head_bytes = std::as_bytes(std::span(head));
  const auto data_bytes = std::as_bytes(data);
  std::vector<std::byte> out(head_bytes.begin(), head_bytes.end());
  out.insert(out.end(), data_bytes.begin(), data_bytes.end());
  return out;
}

/// Writes an npy file atomically. float16 is written as `<f2`; npy has no bfloat16.
template <class T>
void write_npy(const std::filesystem::path& path, const std::vector<std::size_t>& shape,
               std::span<const T> data) {
  const std::string head = npy_header_bytes(dtype_of<T>(), shape, data.size());
  atomic_file file(path);
  file.write(head);
  file.write(std::as_bytes(data));
  file.commit();
}

}  // namespace plmscope::inline PLMSCOPE_ABI
