// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/view.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace plmscope::inline PLMSCOPE_ABI {

// The page of primitives that every backend offers as member functions. Everything above
// `backend/` is written in these words alone; a new backend implements this page and nothing else.
// Notation: m rows of a batch, d width of a row, F features, n entries of sparse codes; a vector is
// a view with one row; an empty view where allowed means "absent". Views must not overlap unless
// said. Sums are accumulated in fixed tiles in a fixed order.
//
// Memory
//   allocate<T>(n)            zeroed owning buffer with get() and size()
//   fill(x, value)            x[i, j] = value
//   entries(rows, cols, f)    f(row, col) for every place of a [rows, cols] matrix, in no order; on
//                             a device f is a struct with a PLMSCOPE_HD call operator over plain
//                             pointers into backend memory
//   copy(from, to)            element by element with conversion; equal shapes
//   upload(span, x)           host numbers into x, row by row, with conversion
//   download(x, span)         x to the host, row by row, with conversion; waits
//   synchronize()             waits until queued work is done (host backends: nothing)
//   available_bytes()         memory that can still be allocated; 0 where nobody knows
// Dense products (real arithmetic of the backend; a row of the result depends on its own row of the
// left operand only, bit for bit; with OpenBLAS that holds to rounding)
//   pack(w)                   copies weights [n, k] into the form the product likes best
//   unpack(w, out)            the weights [n, k] again, as they were rounded by packing
//   linear(x, w, bias, out, then)   out[m, n] = x[m, k] w[n, k]^T + bias, then the epilogue; the
//                             same bits as without one and the epilogue after it
//   gemm_nt(a, b, c, beta)    c[m, n] = a[m, k] b[n, k]^T + beta c; on a processor the bits of an
//   entry
//                             depend on its row of a and its row of b alone, with every provider
//   screen(w, bias, packed)   (optional) prepares weights [n, k] and bias for `screened_rows`;
//   packed
//                             keeps its memory from call to call
//   gemm_nn(a, b, c, beta)    c[m, n] = a[m, k] b[k, n] + beta c
//   gemm_tn(a, b, c, beta)    c[m, n] = a[k, m]^T b[k, n] + beta c
//   gemm_nt, gemm_nn, gemm_tn(a, b, c, beta, p)   (optional) the same with operands rounded to p
// Rows
//   add_row(x, row, alpha)    x[i, :] += alpha row
//   scale_columns(x, f)       x[i, j] *= f[j]
//   axpy(alpha, x, y)         y += alpha x
//   scale(x, alpha)           x *= alpha
//   column_sums(x, out)       out[j] = sum_i x[i, j]
//   row_norms(x, out)         out[i] = |x[i, :]|_2
//   normalize_rows(x, eps)    x[i, :] /= |x[i, :]| + eps; a row of zeros stays zero
//   project_rows(g, w, eps)   g_i -= <g_i, u_i> u_i with u_i = w_i / (|w_i| + eps)
//   row_moments(x, mean, deviation, ddof, eps)   per row: mean and
//                             sqrt(sum (x - mean)^2 / (d - ddof) + eps)
//   affine_rows(x, shift, factor, out)      out[i, :] = (x[i, :] + shift[i]) * factor[i];
//                             out may be x
//   gather_rows(x, ids, out)  out[i, :] = x[ids[i], :]
//   scatter_rows(x, ids, out) out[ids[i], :] = x[i, :]; ids are distinct; an x of one row goes to
//                             all of them
//   scatter_add_rows(x, ids, out)           out[ids[i], :] += x[i, :], likewise
//   reciprocal(alpha, x, out) out[i, j] = alpha / x[i, j], 0 where x is 0; out may be x
//   row_dots(a, b, out)       out[i] = <a_i, b_i>
//   column_dots(a, b, out)    out[j] = sum_i a[i, j] b[i, j]
//   weighted_row_sum(w, s, out, alpha)      out += alpha sum_f s[f] w[f, :]
//   add_sum(x, slot)          slot[0] += sum of x, in double; the slot stays in backend memory, so
//   add_sum_squares(x, slot)  that a training step never waits for the device
//   add_projected_squares(g, w, eps, slot)  slot[0] += sum of squares of what project_rows would
//   leave
//                             of g, which stays as it is
//   clip_factor(sum_squares, limit, out)    out[0] = min(1, limit / (sqrt(sum_squares[0]) + 1e-6))
//   all_finite(x)             no NaN, no infinity (decided on bit patterns); waits
// Selection
//   top_k_rows(pre, k, order, out)   appends one row of codes per row of pre: of its k first
//                             entries in `order` those whose value the order keeps. Ties go to the
//                             lower index; NaN comes last and is never kept.
//   top_k_rows(screened_rows{x, w, bias, packed, counts}, k, order, out)   (optional, with screen)
//                             the same codes as of x w^T + bias after gemm_nt and add_row, bit for
//                             bit, without computing most of it; adds to counts. The order's key
//                             must not spread: |key(a) - key(b)| <= |a - b|
//   batch_top_n(pre, n, order, out, last)   appends one row of codes per row of pre and leaves in
//                             out, of all its entries, old and new, the n first in `order` that the
//                             order keeps; fewer where there are fewer. Ties go to the earlier
//                             entry, by row, then feature; NaN is never kept; old entries must have
//                             come from the same order. Called with one n for the tiles of a batch,
//                             it selects what it would select from the whole. Where out has n
//                             entries, last[0] becomes the key of the n-th (infinity for n = 0);
//                             else, or when last is empty, nothing is said. pre may have no rows.
//   keep_above(pre, bound, order, out)      appends one row of codes per row of pre: the entries
//                             that the order keeps, but for NaN, with a key > bound[0], or
//                             > bound[f] for feature f when bound has F numbers; empty: all of
//                             them. On a device out makes room for every entry of pre.
//   group_max(pre, groups, zeros, out)      appends one row of codes per row of pre: the largest
//                             positive entry of each of `groups` runs of F / groups features (a
//                             divisor of F); ties go to the lower index. A run without one gives
//                             nothing, or, with `zeros`, its first feature with value 0
// Sparse codes (z = codes [m, F], or a `codes_view`)
//   each_entry(z, f)          f(row, entry, feature) for every entry, in no order; on a device f is
//                             a struct with a PLMSCOPE_HD call operator over plain pointers
//   split_rows(z, ends, offsets)   offsets[i n + g] (n = ends.cols(), m n + 1 numbers) = where part
//   g
//                             of row i begins, when rows are cut before the features ends[0],
//                             ends[1], ..; ends ascend, the last is F, rows ascend by feature
//   prefix_errors(parts, y, bias, shares, loss, rows)   parts [m n, d] are the contributions of the
//                             n parts of each row; e_g = bias + parts 0..g - y, and with L = sum_g
//                             shares[g] loss.value(i, |e_g|^2): parts become dL / d(part g), which
//                             is sum_{h >= g} s_h e_h; rows [3, m n] as in `reconstruct`, times
//                             shares
//   decode(z, w, bias, out)   out[i, :] = bias + sum_e z_e w[id_e, :]; bias may be empty
//   reconstruct(z, w, bias, y, loss, g, dz, rows)   decode fused with the loss and its pull-back,
//                             for losses that depend on a row through its squared error only:
//                             e = decode - y; rows[0, i] = |e_i|^2; rows[1, i] = loss.value(i,
//                             |e_i|^2); rows[2, i] = s = loss.slope(i, |e_i|^2), which is twice the
//                             derivative of the value; g_i = s e_i; dz_e = <g_i, w[id_e, :]>
//   sampled_dot(z, g, w, dz)  dz_e = <g_i, w[id_e, :]>
//   transpose(z, out)         compressed columns: per feature its entries in row order
//   sparse_backward(t, z, dz, g, x, d_decoder, d_encoder, d_bias, beta)   per feature f:
//                             d_decoder[f] = beta d_decoder[f] + sum_e z_e g[row_e, :]
//                             d_encoder[f] = beta d_encoder[f] + sum_e dz_e x[row_e, :]
//                             d_bias[f]    = beta d_bias[f]    + sum_e dz_e
// Optimizer
//   adam(p, g, m, v, step, factor)   one dense Adam update (Kingma & Ba 2015, algorithm 1) with the
//                             gradient times factor[0] (empty: 1)
//   adam_unit_rows(p, g, m, v, step, rows, factor)   project_rows(g, p, rows.projection_epsilon) if
//                             rows.project, adam and normalize_rows(p, rows.length_epsilon) in one
//                             pass, with the same result but for g, which stays as it is
//   sign_step(p, g, rate)     p -= rate sign(g), sign(0) = 0
// Latents
//   count_fired(z, since, tokens, least)    since[f] += tokens, then 0 for every feature with an
//                             entry of absolute value > least
//   ids_where(since, at_least, out)   ascending ids f with since[f] >= at_least into `out`
//                             (capacity F); how many as a `count`: reading it waits until it is
//                             known, not for what was queued later
// Transformer
//   embed(table, tokens, s, out)   out[i, :] = s[i] table[tokens[i], :]
//   layer_norm(x, gain, bias, eps, out)   biased variance; bias may be empty; out may be x
//   gelu(x)                   x *= (1 + erf(x / sqrt 2)) / 2, in place
//   silu_gate(gate, up, out)  out = gate / (1 + e^-gate) * up, entry by entry (SwiGLU, Shazeer
//   2020);
//                             out may be gate or up
//   rotary(q, k, head_dim, positions, cos, sin, q_scale)   q *= q_scale, then both rotated in
//                             pairs (j, j + head_dim / 2) by the row of the tables at positions[i]
//   attention(q, k, v, head_dim, offsets, longest, out)   softmax(q k^T) v per sequence (rows
//                             offsets[s] .. offsets[s + 1]) and head; no scaling inside. A NaN
//                             among a query's scores spoils its row. On a device with products in
//                             bf16 both products here have operands in bf16 (`precision.hpp`)
//   softmax_rows(x)           x[i, :] = e^(x[i, :] - max) / sum, in place; a NaN spoils its row
// Gradients of these (g: the gradient with respect to the result)
//   layer_norm_backward(x, gain, g, eps, out)   with respect to x; out may be g
//   gelu_backward(x, g)       g *= gelu'(x), in place
//   softmax_backward(p, g)    g = p o (g - <p, g>) row by row, in place; p = softmax's result

/// What `top_k_rows` of `screened_rows` did.
struct screening_counts {
  /// An entry by itself costs about as much as this many of a whole product.
  static constexpr std::size_t dear = 10;
  std::size_t rows = 0;
  std::size_t entries = 0;  ///< computed one by one
  std::size_t whole = 0;    ///< rows of which all was computed

  screening_counts& operator+=(const screening_counts& c) noexcept {
    rows += c.rows, entries += c.entries, whole += c.whole;
    return *this;
  }
};

/// What a linear map does with its result.
enum class epilogue {
  none,  ///< out = x w^T + bias
  gelu,  ///< out = gelu(x w^T + bias)
  add    ///< out += x w^T + bias (residual connection)
};

/// Selection order of TopK: largest values first; keeps positive values (so z = relu(a)).
struct by_value {
  /// What it keeps stands before what it does not: nothing else need be ranked. An order without
  /// this word may keep what it likes.
  static constexpr bool keeps_the_first = true;
  template <class T>
  PLMSCOPE_HD static constexpr T key(T a) noexcept {
    return a;
  }
  template <class T>
  PLMSCOPE_HD static constexpr bool keep(T a) noexcept {
    return a > T{0};
  }
};

/// Largest magnitudes first; keeps every non-zero value with its sign.
struct by_magnitude {
  static constexpr bool keeps_the_first = true;
  template <class T>
  PLMSCOPE_HD static constexpr T key(T a) noexcept {
    return a < T{0} ? -a : a;
  }
  template <class T>
  PLMSCOPE_HD static constexpr bool keep(T a) noexcept {
    return a != T{0};
  }
};

/// Largest values first, whatever their sign; keeps them all.
struct by_raw_value {
  static constexpr bool keeps_the_first = true;
  template <class T>
  PLMSCOPE_HD static constexpr T key(T a) noexcept {
    return a;
  }
  template <class T>
  PLMSCOPE_HD static constexpr bool keep(T) noexcept {
    return true;
  }
};

/// Numbers of one Adam update. `decay` is the decoupled weight decay already multiplied by the
/// learning rate (AdamW, Loshchilov & Hutter 2019).
template <class Real>
struct adam_step {
  Real rate;
  Real beta1;
  Real beta2;
  Real epsilon;
  Real correction1;  ///< 1 - beta1^t
  Real correction2;  ///< 1 - beta2^t
  Real decay = 0;
};

/// Rows of length 1 that Adam moves: before, the gradient loses its part along its row (else Adam's
/// moments would fill with a component that the rescaling undoes, Bricken et al. 2023); afterwards
/// rows are divided by their length.
struct unit_length_rule {
  bool project = true;
  bool clip_projected = true;        ///< the norm that clips is that of the projected gradient
  double projection_epsilon = 1e-6;  ///< added to the row's length where the gradient is projected
  double length_epsilon = 0;         ///< added to the row's length where it is rescaled
};

/// What the layers above need to know of a backend. The primitives themselves are templates and are
/// checked where they are used.
template <class B>
concept backend = requires(B& be, std::size_t n) {
  typename B::real;
  typename B::packed;
  typename B::count;
  { B::on_host } -> std::convertible_to<bool>;
  { B::id } -> std::convertible_to<std::string_view>;
  be.template allocate<float>(n);
  be.synchronize();
};

}  // namespace plmscope::inline PLMSCOPE_ABI
