// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/dtype.hpp>
#include <plmscope/io/pickle_value.hpp>
#include <plmscope/io/rules.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace plmscope::inline PLMSCOPE_ABI {

namespace torch_storages {

struct type_row {
  std::string_view storage;  ///< empty: has no class of its own
  std::string_view scalar;
  dtype type;
};

/// The number types of PyTorch that have a dtype here.
inline constexpr std::array<type_row, 18> types{{
    {"torch.FloatStorage", "torch.float32", dtype::f32},
    {"torch.HalfStorage", "torch.float16", dtype::f16},
    {"torch.BFloat16Storage", "torch.bfloat16", dtype::bf16},
    {"torch.DoubleStorage", "torch.float64", dtype::f64},
    {"torch.LongStorage", "torch.int64", dtype::i64},
    {"torch.IntStorage", "torch.int32", dtype::i32},
    {"torch.ShortStorage", "torch.int16", dtype::i16},
    {"torch.CharStorage", "torch.int8", dtype::i8},
    {"torch.ByteStorage", "torch.uint8", dtype::u8},
    {"torch.BoolStorage", "torch.bool", dtype::boolean},
    {"torch.ComplexFloatStorage", "torch.complex64", dtype::c64},
    {"", "torch.uint16", dtype::u16},
    {"", "torch.uint32", dtype::u32},
    {"", "torch.uint64", dtype::u64},
    {"", "torch.float8_e4m3fn", dtype::f8_e4m3},
    {"", "torch.float8_e5m2", dtype::f8_e5m2},
    {"", "torch.float8_e4m3fnuz", dtype::f8_e4m3fnuz},
    {"", "torch.float8_e5m2fnuz", dtype::f8_e5m2fnuz},
}};

}  // namespace torch_storages

/// What a torch pickle says of a storage: the run of numbers that tensors are views of.
struct torch_storage_id {
  std::string_view key;
  std::optional<dtype> type;  ///< nothing for an untyped storage, which counts bytes
  std::size_t entries = 0;
  std::size_t bytes = 0;
};

/// Reads the persistent id ("storage", class, key, location, entries[, view]). Errors io.172.
inline torch_storage_id read_storage_id(const pickle_tree& tree, pickle_cell id) {
  const auto refuse = [&](std::string found) {
    throw error(rules::torch_storage, {.where = tree.where,
                                       .expected = "(\"storage\", class, key, location, entries)",
                                       .found = std::move(found)});
  };
  using kind = pickle_kind;
  if (id.kind != kind::tuple) refuse(std::string(to_string(id.kind)));
  const auto& parts = tree.node(id).items;
  if (parts.size() < 5 || parts.size() > 6 || parts[0].kind != kind::text ||
      tree.node(parts[0]).text != "storage" || parts[1].kind != kind::global ||
      parts[2].kind != kind::text || parts[4].kind != kind::integer) {
    refuse("a tuple of " + std::to_string(parts.size()) + " other values");
  }
  if (parts.size() == 6 && parts[5].kind != kind::none) refuse("a view of another storage");
  torch_storage_id out{.key = tree.node(parts[2]).text, .type = {}};
  const std::string& storage = tree.node(parts[1]).text;
  std::size_t size = 1;
  if (storage != "torch.storage.UntypedStorage" && storage != "torch.UntypedStorage") {
    const auto row =
        std::find_if(torch_storages::types.begin(), torch_storages::types.end(),
                     [&](const torch_storages::type_row& r) { return r.storage == storage; });
    if (row == torch_storages::types.end()) refuse("the class " + storage);
    out.type = row->type;
    size = dtype_bits(row->type) / 8;
  }
  const auto entries = std::bit_cast<std::int64_t>(parts[4].bits);
  if (entries < 0) refuse(std::to_string(entries) + " entries");
  out.entries = static_cast<std::size_t>(entries);
  if (__builtin_mul_overflow(out.entries, size, &out.bytes)) {
    refuse(std::to_string(entries) + " entries");
  }
  return out;
}

}  // namespace plmscope::inline PLMSCOPE_ABI
