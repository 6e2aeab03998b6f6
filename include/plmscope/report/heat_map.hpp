// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/io/png.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace plmscope::inline PLMSCOPE_ABI {

/// A table of numbers as a picture.
struct heat_map {
  std::string title;
  std::string row_axis, column_axis;
  std::size_t columns = 0;
  std::span<const float> values;       ///< row by row from the top; NaN is drawn grey
  float low = 0, high = 1;             ///< colours run between these; beyond them they stay
  bool two_sided = false;              ///< blue below the middle, red above; else light to dark
  std::vector<std::string> row_names;  ///< empty: numbers from 1
  std::string low_name, high_name;     ///< of the legend; empty: the numbers
};

namespace heat_map_detail {

inline std::uint8_t mix(int a, int b, double share) {
  return static_cast<std::uint8_t>(std::lround(a + (b - a) * share));
}

/// 254 colours from low to high and, last, grey.
inline std::array<rgb, 255> palette(bool two_sided) {
  std::array<rgb, 255> out;
  for (std::size_t i = 0; i < 254; ++i) {
    const double x = static_cast<double>(i) / 253;
    if (two_sided) {
      const double s = std::abs(2 * x - 1);
      out[i] = x < 0.5 ? rgb{mix(247, 33, s), mix(247, 102, s), mix(247, 172, s)}
                       : rgb{mix(247, 178, s), mix(247, 24, s), mix(247, 43, s)};
    } else {
      out[i] = {mix(250, 8, x), mix(250, 48, x), mix(250, 107, x)};
    }
  }
  out[254] = {200, 200, 200};
  return out;
}

inline std::string base64(std::string_view bytes) {
  constexpr std::string_view letters =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t three = 0;
    for (std::size_t k = 0; k < 3; ++k) {
      three = three << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0u);
    }
    for (std::size_t k = 0; k < 4; ++k) {
      out += i + k > bytes.size() ? '=' : letters[(three >> (18 - 6 * k)) & 63u];
    }
  }
  return out;
}

inline std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += static_cast<unsigned char>(c) < 32 ? ' ' : c;
    }
  }
  return out;
}

inline std::string number(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", v);
  return text;
}

}  // namespace heat_map_detail

/// The map as one SVG file that needs nothing else: the cells are one image in it, axes, title and
/// legend are text that adapts to a dark page. At most about 1.4 bytes a cell.
inline std::string svg_of(const heat_map& map) {
  using namespace heat_map_detail;
  const std::size_t rows = map.columns == 0 ? 0 : map.values.size() / map.columns;
  const auto colours = palette(map.two_sided);
  std::vector<std::uint8_t> pixels;
  pixels.reserve(rows * map.columns);
  const double range = static_cast<double>(map.high) - static_cast<double>(map.low);
  for (std::size_t i = 0; i < rows * map.columns; ++i) {
    const double x = (static_cast<double>(map.values[i]) - static_cast<double>(map.low)) / range;
    pixels.push_back(std::isnan(x)
                         ? std::uint8_t{254}
                         : static_cast<std::uint8_t>(std::lround(253 * std::clamp(x, 0.0, 1.0))));
  }
  const auto n = static_cast<double>(std::max<std::size_t>(std::max(rows, map.columns), 1));
  const double cell = std::clamp(720 / n, 0.5, 24.0);
  const double width = cell * static_cast<double>(map.columns);
  const double height = cell * static_cast<double>(rows);
  constexpr double left = 64;
  constexpr double top = 56;
  std::string out;
  const auto text = [&](double x, double y, std::string_view what, std::string_view more = {}) {
    out += "<text x=\"" + number(x) + "\" y=\"" + number(y) + "\" " + std::string(more) + ">" +
           escaped(what) + "</text>\n";
  };
  const double wide = std::max(left + width + 24, 360.0);
  const double high = top + height + 84;
  out += "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " + number(wide) + " " +
         number(high) + "\" width=\"" + number(wide) + "\" font-family=\"sans-serif\" " +
         "font-size=\"12\" role=\"img\" aria-label=\"" + escaped(map.title) + "\">\n" +
         "<style>text{fill:#222}@media(prefers-color-scheme:dark){text{fill:#ddd}}</style>\n";
  text(left, 22, map.title, "font-size=\"15\" font-weight=\"bold\"");
  text(left + width / 2, top + height + 34, map.column_axis, "text-anchor=\"middle\"");
  out += "<g transform=\"translate(14," + number(top + height / 2) + ") rotate(-90)\">";
  text(0, 0, map.row_axis, "text-anchor=\"middle\"");
  out += "</g>\n<image x=\"" + number(left) + "\" y=\"" + number(top) + "\" width=\"" +
         number(width) + "\" height=\"" + number(height) +
         "\" preserveAspectRatio=\"none\" style=\"image-rendering:pixelated\" " +
         "href=\"data:image/png;base64," + base64(png_image(map.columns, pixels, colours)) +
         "\"/>\n";
  // About eight labels an axis, at round numbers.
  const auto step_of = [](std::size_t count) {
    std::size_t step = 1;
    while (count / step > 10) step *= step % 3 == 2 ? 5 : 2;  // 1, 2, 10, 20, 100 ...
    return step;
  };
  const auto centre = [&](std::size_t i) { return cell * (static_cast<double>(i) + 0.5); };
  for (std::size_t c = 0, step = step_of(map.columns); c < map.columns; ++c) {
    if ((c + 1) % step != 0 && map.columns > 1) continue;
    text(left + centre(c), top + height + 15, std::to_string(c + 1), "text-anchor=\"middle\"");
  }
  const std::size_t row_step = map.row_names.empty() ? step_of(rows) : 1;
  for (std::size_t r = 0; r < rows; ++r) {
    if ((r + 1) % row_step != 0 && rows > 1) continue;
    text(left - 6, top + centre(r) + 4,
         r < map.row_names.size() ? map.row_names[r] : std::to_string(r + 1),
         "text-anchor=\"end\"");
  }
  std::vector<std::uint8_t> ramp(254);
  for (std::size_t i = 0; i < ramp.size(); ++i) ramp[i] = static_cast<std::uint8_t>(i);
  const double legend = top + height + 50;
  out += "<image x=\"" + number(left) + "\" y=\"" + number(legend) +
         "\" width=\"160\" height=\"10\" preserveAspectRatio=\"none\" "
         "href=\"data:image/png;base64," +
         base64(png_image(ramp.size(), ramp, colours)) + "\"/>\n";
  text(left, legend + 24,
       map.low_name.empty() ? number(static_cast<double>(map.low)) : map.low_name);
  text(left + 160, legend + 24,
       map.high_name.empty() ? number(static_cast<double>(map.high)) : map.high_name,
       "text-anchor=\"end\"");
  out += "</svg>\n";
  return out;
}

}  // namespace plmscope::inline PLMSCOPE_ABI
