// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/plm/hook.hpp>
#include <plmscope/plm/rules.hpp>
#include <plmscope/plm/site.hpp>
#include <plmscope/plm/site_set.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// Refuses (plm.130) what would not fit into the memory that is free now; less than 64 MiB always
/// does.
template <class Backend>
void require_memory(const Backend& be, double bytes, const std::string& what) {
  constexpr double small = 64.0 * (1 << 20);
  if (bytes < small) return;
  const auto free = static_cast<double>(be.available_bytes());
  if (free == 0 || bytes <= free) return;
  const auto count = [](double n) { return std::to_string(static_cast<std::uint64_t>(n)); };
  throw error(rules::memory, {.where = what,
                              .expected = count(bytes) + " bytes",
                              .found = count(free) + " bytes free",
                              .remedy = "cut the sequence into windows, or read fewer sites"});
}

/// One slice of a batch on its way through a model, with the hook that looks on.
template <class Backend, class Hook>
struct forward_pass {
  Backend& be;
  Hook& hook;
  const site_set& wanted;
  batch_slice slice;

  bool wants(const site& at) const noexcept { return wanted.contains(at); }
  /// Shows a site to the hook if it asked for it. True where the pass ends.
  bool reached(const site& at, view<Backend> states) {
    if (!wants(at)) return false;
    hook(be, at, states, slice);
    return at == wanted.last();
  }
};

/// out = attention of a slice through the map of one sequence after another, each shown as
/// `attn_map{layer}`, [heads n, n]. q is scaled, q and k are rotated; `maps` is workspace. True
/// where the pass ends. Errors: plm.130.
template <class Backend, class Hook>
bool attention_by_maps(forward_pass<Backend, Hook>& pass, std::size_t layer, std::size_t heads,
                       const_view<Backend> q, const_view<Backend> k, const_view<Backend> v,
                       matrix<typename Backend::real, Backend>& maps, view<Backend> out) {
  using real = typename Backend::real;
  const std::size_t head_dim = q.cols() / heads;
  const batch_slice whole = pass.slice;
  bool end = false;
  for (std::size_t s = 0; s < whole.sequences(); ++s) {
    const auto first = static_cast<std::size_t>(whole.offsets[s]);
    const auto n = static_cast<std::size_t>(whole.offsets[s + 1]) - first;
    if (maps.size() < heads * n * n) {
      require_memory(pass.be,
                     static_cast<double>(heads) * static_cast<double>(n) * static_cast<double>(n) *
                         sizeof(real),
                     to_string(attn_map{layer}) + " of " + std::to_string(n) + " tokens");
    }
    maps.reshape(pass.be, heads * n, n);
    const auto part = [&](auto x, std::size_t h) {
      return x.row_range(first, n).col_range(h * head_dim, head_dim);
    };
    for (std::size_t h = 0; h < heads; ++h) {
      pass.be.gemm_nt(part(q, h), part(k, h), maps.all().row_range(h * n, n));
    }
    pass.be.softmax_rows(maps);
    const std::vector<std::int64_t> alone{0, static_cast<std::int64_t>(n)};
    pass.slice = {whole.first_sequence + s, whole.first_row + first, alone,
                  whole.tokens.subspan(first, n), whole.positions.subspan(first, n)};
    end = pass.reached(attn_map{layer}, maps);
    pass.slice = whole;
    if (end) continue;  // the other sequences have maps too
    for (std::size_t h = 0; h < heads; ++h) {
      pass.be.gemm_nn(maps.all().row_range(h * n, n), part(v, h), part(out, h));
    }
  }
  return end;
}

}  // namespace plmscope::inline PLMSCOPE_ABI
