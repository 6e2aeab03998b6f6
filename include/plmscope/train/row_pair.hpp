// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/core/activation_source.hpp>
#include <plmscope/core/view.hpp>
#include <plmscope/tensor/matrix.hpp>

#include <cstddef>
#include <string>
#include <utility>

namespace plmscope::inline PLMSCOPE_ABI {

/// Rows that go into a transcoder, and the rows that should come out [m, d_out].
template <class B>
struct row_pair {
  const_view<B> x;
  const_view<B> y;
};

/// A batch as a pair: an autoencoder's has no target of its own.
template <class B>
row_pair<B> pair_of(row_pair<B> rows) {
  return rows;
}
template <class B>
row_pair<B> pair_of(const_view<B> rows) {
  return {rows, {}};
}
template <class B>
row_pair<B> pair_of(view<B> rows) {
  return {rows, {}};
}

/// What a transcoder aims at.
enum class transcoding_target {
  states,  ///< y is the second site
  update   ///< y is the second site less the first: what the layers between them add (Gujral et al. 2025)
};

/// Batches for a transcoder out of rows that hold two sites side by side: the first `d_in` columns go
/// in, the others should come out.
template <class Reader, class Backend>
class transcoded_rows {
 public:
  transcoded_rows(Reader reader, std::size_t d_in,
                  transcoding_target target = transcoding_target::states)
      : reader_(std::move(reader)), d_in_(d_in), target_(target) {}

  activation_source source() const { return reader_.source(); }
  std::size_t width() const { return d_in_; }
  std::size_t target_width() const { return reader_.width() - d_in_; }
  Reader& reader() noexcept { return reader_; }
  std::size_t position() const { return reader_.position(); }
  void seek(Backend& be, std::size_t rows) { reader_.seek(be, rows); }
  std::string identity() const {
    return reader_.identity() + ", " + std::to_string(d_in_) + " columns in" +
           (target_ == transcoding_target::update ? ", updates out" : "");
  }

  row_pair<Backend> next(Backend& be, std::size_t rows) {
    const const_view<Backend> both = reader_.next(be, rows);
    const auto x = both.col_range(0, d_in_);
    const auto y = both.col_range(d_in_, both.cols() - d_in_);
    if (target_ == transcoding_target::states) return {x, y};
    update_.reshape(be, both.rows(), d_in_);
    be.copy(y, update_.all());
    be.axpy(typename Backend::real{-1}, x, update_.all());
    return {x, update_};
  }

 private:
  Reader reader_;
  std::size_t d_in_;
  transcoding_target target_;
  matrix<typename Backend::real, Backend> update_;
};

}  // namespace plmscope::inline PLMSCOPE_ABI
