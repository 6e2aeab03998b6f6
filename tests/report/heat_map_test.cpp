// SPDX-License-Identifier: MIT
#include <plmscope/report/heat_map.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace {

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t n = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

}  // namespace

TEST_CASE("base64 as in RFC 4648") {
  using plmscope::heat_map_detail::base64;
  CHECK(base64("") == "");
  CHECK(base64("f") == "Zg==");
  CHECK(base64("fo") == "Zm8=");
  CHECK(base64("foo") == "Zm9v");
  CHECK(base64("foob") == "Zm9vYg==");
  CHECK(base64("fooba") == "Zm9vYmE=");
  CHECK(base64("foobar") == "Zm9vYmFy");
  CHECK(base64("\xff\xfe\xfd") == "//79");
}

TEST_CASE("a map becomes one file with its cells, its legend and its texts") {
  const std::vector<float> values{0, 0.5f, 1, std::nanf(""), 2, -1};
  const plmscope::heat_map map{.title = "a < b & \"c\"",
                               .row_axis = "rows",
                               .column_axis = "columns",
                               .columns = 3,
                               .values = values,
                               .row_names = {"first", "second"},
                               .low_name = {},
                               .high_name = "much"};
  const std::string svg = svg_of(map);
  CHECK(svg.starts_with("<svg "));
  CHECK(svg.ends_with("</svg>\n"));
  CHECK(count(svg, "data:image/png;base64,") == 2);
  CHECK(count(svg, "a &lt; b &amp; &quot;c&quot;") == 2);
  CHECK(count(svg, "a < b") == 0);
  for (const char* text : {">rows<", ">columns<", ">first<", ">second<", ">much<", ">0<", ">3<"}) {
    CAPTURE(text);
    CHECK(count(svg, text) == 1);
  }
  CHECK(count(svg, "nan") == 0);
}

TEST_CASE("maps of any size have few labels and finite numbers") {
  for (const std::size_t n : {0u, 1u, 2u, 9u, 100u, 1000u}) {
    const std::vector<float> values(n * n, 0.5f);
    const std::string svg = svg_of(plmscope::heat_map{.title = {},
                                                      .row_axis = {},
                                                      .column_axis = {},
                                                      .columns = n,
                                                      .values = values,
                                                      .two_sided = true,
                                                      .row_names = {},
                                                      .low_name = {},
                                                      .high_name = {}});
    CAPTURE(n);
    CHECK(count(svg, "<text") <= 27);
    CHECK(count(svg, "nan") == 0);
    CHECK(count(svg, "inf") == 0);
    CHECK(svg.size() < 6000 + 2 * n * n);
  }
}
