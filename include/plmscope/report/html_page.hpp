// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>
#include <plmscope/io/atomic_file.hpp>
#include <plmscope/io/sha256.hpp>
#include <plmscope/report/feature_report.hpp>
#include <plmscope/report/page_cards.hpp>
#include <plmscope/report/page_data.hpp>
#include <plmscope/report/page_markup.hpp>
#include <plmscope/report/page_residues.hpp>
#include <plmscope/report/page_script.hpp>
#include <plmscope/report/page_style.hpp>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace plmscope::inline PLMSCOPE_ABI {

namespace html_page_detail {

/// The name of a script or style in a content security policy: `sha256-` and the digest in base 64.
/// Computed from the text itself, the policy cannot fall behind an edit.
inline std::string source_expression(std::string_view text) {
  static constexpr char digits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  sha256 hash;
  hash.update(text);
  const sha256::digest digest = hash.finish();
  const auto byte = [&](std::size_t i) { return i < 32 ? std::uint32_t{digest[i]} : 0u; };
  std::string out = "sha256-";
  for (std::size_t i = 0; i < 32; i += 3) {
    const std::uint32_t group = byte(i) << 16 | byte(i + 1) << 8 | byte(i + 2);
    for (int shift = 18; shift >= 0; shift -= 6) out += digits[group >> shift & 63];
  }
  out.back() = '=';  // 32 bytes are 43 digits and one pad
  return out;
}

}  // namespace html_page_detail

/// The report as one HTML page that needs nothing else: no network, no server, no other file.
/// Text of the report reaches the page only as data (JSON that cannot leave its element, drawn
/// through textContent), and the content security policy allows no script or style but the page's
/// own. Throws what page_data throws.
inline std::string html_page(const feature_report& report) {
  using html_page_detail::source_expression;
  const std::string script = std::string(page_script::text) + std::string(page_cards::text) +
                             std::string(page_residues::text);
  std::string page(page_markup::head_begin);
  page += "default-src 'none'; script-src '" + source_expression(script) +
          "'; style-src '" + source_expression(page_style::text) +
          "'; base-uri 'none'; form-action 'none'";
  page += page_markup::head_style;
  page += page_style::text;
  page += page_markup::body_begin;
  page += page_data::json(report);
  page += page_markup::body_script;
  page += script;
  page += page_markup::body_end;
  return page;
}

/// Writes the page to `path`: either the whole page is there afterwards, or what was there before.
inline void write_html(const std::filesystem::path& path, const feature_report& report) {
  write_file_atomically(path, html_page(report));
}

}  // namespace plmscope
