// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/plm/hook.hpp>
#include <plmscope/plm/site.hpp>
#include <plmscope/plm/token_selection.hpp>
#include <plmscope/steer/latent_edit.hpp>
#include <plmscope/tensor/codes.hpp>
#include <plmscope/tensor/host_codes.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// What `splice` does with the error of the reconstruction, x - x'.
enum class error_term {
  dropped,  ///< states become the reconstruction, as when fidelity is measured
  kept      ///< only what the edited latents add or take away changes, as when steering
};

struct splice_options {
  tokens where = tokens::all();
  error_term error = error_term::dropped;
  std::vector<latent_edit> latents = {};  ///< in order; none: the codes as they are
};

/// A hook that puts an SAE into the forward pass: the states x of chosen tokens become x', the
/// decoded codes z' after `latents` have been edited, or with `error_term::kept` x + (x'(z') -
/// x'(z)). The difference is taken of decodings, so a token whose codes no edit changes keeps its
/// bits, and the error term costs no rounding. The SAE must live as long; that it was trained at
/// this site of this model is the caller's to check (`sae.source`). Codes pass through the host
/// where latents are edited. Errors: `sae_width`, steer.101, plm.131.
template <class Sae>
class splice {
 public:
  using backend_type = typename Sae::backend_type;
  using real = typename Sae::real;

  splice(Sae& sae, site at, splice_options options = {})
      : sae_(&sae), at_(at), options_(std::move(options)) {
    check_latents(options_.latents, sae.features());
  }

  std::array<site, 1> sites() const noexcept { return {at_}; }

  void operator()(backend_type& be, site, view<backend_type> states, const batch_slice& slice) {
    const auto ids = options_.where.rows(slice);
    const bool kept = options_.error == error_term::kept;
    if (ids.empty() || (kept && options_.latents.empty())) return;
    ids_.reshape(be, 1, ids.size());
    be.upload(std::span<const std::uint32_t>(ids), ids_.all());
    const const_view<backend_type, std::uint32_t> rows = ids_;
    x_.reshape(be, ids.size(), states.cols());
    be.gather_rows(states, rows, x_);
    sae_->encode(x_, codes_);
    if (options_.latents.empty()) {
      sae_->decode(codes_, x_);
    } else {
      auto edited = to_host(be, codes_);
      edit_latents(options_.latents, edited);
      from_host(be, edited, edited_);
      if (kept) {
        before_.reshape(be, ids.size(), states.cols());
        sae_->decode(codes_, before_);
      }
      sae_->decode(edited_, x_);
    }
    if (!kept) {
      be.scatter_rows(x_, rows, states);
    } else {
      be.axpy(real{-1}, before_, x_);
      be.scatter_add_rows(x_, rows, states);
    }
  }

 private:
  Sae* sae_;
  site at_;
  splice_options options_;
  codes<backend_type> codes_;
  codes<backend_type> edited_;
  matrix<real, backend_type> x_;
  matrix<real, backend_type> before_;
  matrix<std::uint32_t, backend_type> ids_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
