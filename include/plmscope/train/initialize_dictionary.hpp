// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>
#include <plmscope/sae/sae.hpp>
#include <plmscope/tensor/codes.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <cstddef>
#include <limits>
#include <span>

namespace plmscope::inline PLMSCOPE_ABI {

/// Lengths before a training: decoder rows of `length`, encoder rows the decoder's times
/// `encoder_factor` (of that length themselves where the widths differ). SAELens: length 0.1;
/// Conerly et al. 2025: `encoder_factor` d / F. Length 0 is a decoder of zeros (sparsify's
/// transcoders) and leaves the encoder. For dictionaries that do not fix lengths; directions that
/// are zero stay so.
template <class Sae>
void initialize_lengths(Sae& model, double length, double encoder_factor = 1) {
  using backend = typename Sae::backend_type;
  using real = typename backend::real;
  auto& be = model.backend();
  auto& p = model.parameters();
  if (length == 0) {
    be.fill(p.decoder.all(), real{0});
    return;
  }
  be.normalize_rows(p.decoder, real{0});
  be.scale(p.decoder, static_cast<real>(length));
  if (p.encoder.cols() == p.decoder.cols()) {
    be.copy(const_view<backend>(p.decoder), p.encoder.all());
    be.scale(p.encoder, static_cast<real>(encoder_factor));
  } else {
    be.normalize_rows(p.encoder, real{0});
    be.scale(p.encoder, static_cast<real>(length * encoder_factor));
  }
}

/// Mean squared error of a row [m, d_in] at the scale of the dictionary, summed over dimensions;
/// `y` are a transcoder's targets. Waits for the device.
template <class Sae, class Rows>
double reconstruction_error(Sae& model, Rows x, Rows y = {}) {
  using backend = typename Sae::backend_type;
  using real = typename backend::real;
  auto& be = model.backend();
  codes<backend> z;
  model.encode(x, z);
  const const_view<backend> target = model.target(y);
  const auto& p = model.directions();
  matrix<real, backend> result(be, target.rows(), target.cols());
  be.decode(z, const_view<backend>(p.decoder), const_view<backend>(p.decoder_bias), result);
  if (model.settings().skip) be.gemm_nt(model.normalized(), p.skip, result, real{1});
  be.axpy(real{-1}, target, result);
  matrix<double, backend> slot(be, 1, 1);
  be.add_sum_squares(const_view<backend>(result), slot.all());
  double sum = 0;
  be.download(const_view<backend, double>(slot), std::span<double>(&sum, 1));
  return sum / static_cast<double>(target.rows());
}

/// The length in 0.1, 0.2, .. 5, then in hundredths around the best, at which `initialize_lengths`
/// reconstructs rows best, as Llamascopium starts; leaves the model at it and returns it. An error
/// that is not finite is never best. Cost: 68 forward passes of the rows.
template <class Sae, class Rows>
double search_length(Sae& model, Rows x, Rows y = {}, double encoder_factor = 1) {
  double best = 1, least = std::numeric_limits<double>::infinity();
  const auto attempt = [&](int hundredths) {
    const double length = hundredths / 100.0;
    initialize_lengths(model, length, encoder_factor);
    const double error = reconstruction_error(model, x, y);
    if (error < least) least = error, best = length;
  };
  for (int h = 10; h <= 500; h += 10) attempt(h);
  const int around = static_cast<int>(best * 100 + 0.5);
  for (int h = around - 9; h <= around + 9; ++h) {
    if (h > 0 && h != around) attempt(h);
  }
  initialize_lengths(model, best, encoder_factor);
  return best;
}

}  // namespace plmscope::inline PLMSCOPE_ABI
