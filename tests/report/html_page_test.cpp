// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <plmscope/io/utf8.hpp>
#include <plmscope/report/html_page.hpp>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

#include <tests/report/sample_report.hpp>

namespace {

std::size_t occurrences(std::string_view text, std::string_view what) {
  std::size_t n = 0;
  for (std::size_t at = text.find(what); at != std::string_view::npos;) {
    ++n;
    at = text.find(what, at + 1);
  }
  return n;
}

std::string_view between(std::string_view text, std::string_view from, std::string_view to) {
  const std::size_t begin = text.find(from);
  REQUIRE(begin != std::string_view::npos);
  const std::size_t start = begin + from.size();
  const std::size_t end = text.find(to, start);
  REQUIRE(end != std::string_view::npos);
  return text.substr(start, end - start);
}

constexpr std::string_view data_open = "<script type=\"application/json\" id=\"data\">";

}  // namespace

TEST_CASE("html page: hostile text in every field stays data") {
  const std::string plain = plmscope::html_page(sample_report::with_text("plain"));
  REQUIRE(occurrences(plain, "<script") == 2);
  for (const std::string hostile :
       {"<script>alert(1)</script>", "</script><script>alert(1)</script>",
        "</SCRIPT ><ScRiPt src=//x.example/a.js>", "<img src=x onerror=alert(1)>",
        "<svg/onload=alert(1)>", "\"><iframe srcdoc='<script>alert(1)</script>'>",
        "' onmouseover='alert(1)", "javascript:alert(1)", "<!--<script>", "-->", "]]>", "<![CDATA[",
        "&lt;script&gt;alert(1)&lt;/script&gt;", "{{constructor.constructor('alert(1)')()}}",
        "\\u003cscript\\u003e", "\\\";alert(1);//", "\xe2\x80\xa8</script>", "\xff</script>",
        "</style><script>alert(1)</script>", "</title><script>alert(1)</script>",
        "<base href=//x.example>", "<meta http-equiv=refresh content=0>",
        "\xc0\xbcscript\xc0\xbe"}) {
    CAPTURE(hostile);
    const std::string page = plmscope::html_page(sample_report::with_text(hostile));
    CHECK(occurrences(page, "<script") == 2);
    CHECK(occurrences(page, "</script") == 2);
    CHECK(occurrences(page, "<ScRiPt") == 0);
    CHECK(occurrences(page, "</SCRIPT") == 0);
    const std::string_view data = between(page, data_open, "</script>");
    CHECK(data.find_first_of("<>&") == std::string_view::npos);
    CHECK(data.find("\xe2\x80\xa8") == std::string_view::npos);
    CHECK(plmscope::first_invalid_utf8(page) == std::string_view::npos);
    // Outside the data the page is the same for every report.
    CHECK(page.substr(0, page.find(data_open)) == plain.substr(0, plain.find(data_open)));
    CHECK(page.substr(page.find("</script>")) == plain.substr(plain.find("</script>")));
  }
}

TEST_CASE("html page: the security policy names the script and the style that are there") {
  const std::string page = plmscope::html_page(sample_report::small());
  const std::string_view policy = between(page, "Content-Security-Policy\" content=\"", "\"");
  using plmscope::html_page_detail::source_expression;
  const std::string_view style = between(page, "<style>", "</style>");
  const std::string_view script = between(page, "<script>", "</script>");
  CHECK(policy.find("default-src 'none'") != std::string_view::npos);
  CHECK(policy.find("style-src '" + source_expression(style) + "'") != std::string_view::npos);
  CHECK(policy.find("script-src '" + source_expression(script) + "'") != std::string_view::npos);
  CHECK(policy.find("unsafe") == std::string_view::npos);
  // FIPS 180-4's digest of "abc" (ba7816bf ... f20015ad) in base 64.
  CHECK(source_expression("abc") == "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
}

TEST_CASE("html page: nothing is loaded, nothing is parsed from text") {
  const std::string page = plmscope::html_page(plmscope::feature_report{});
  for (const std::string_view banned :
       {"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function",
        "srcdoc", "fetch(", "XMLHttpRequest", "import(", "@import", "url(", "<link", "src="}) {
    CAPTURE(banned);
    CHECK(occurrences(page, banned) == 0);
  }
  CHECK(occurrences(page, "https://") == 1);  // the link of an accession
  const auto odd = [](char c) { return c != '\n' && (c < 0x20 || c >= 0x7f); };
  CHECK(std::none_of(page.begin(), page.end(), odd));  // plain ASCII, whatever the server says
}

TEST_CASE("html page: light, dark, narrow and print are provided for") {
  const std::string page = plmscope::html_page(plmscope::feature_report{});
  for (const std::string_view needed :
       {"prefers-color-scheme: dark", "@media print", "@media (max-width: 30rem)",
        "width=device-width", "<html lang=\"en\">", "<noscript>", "aria-live"}) {
    CAPTURE(needed);
    CHECK(occurrences(page, needed) >= 1);
  }
}

TEST_CASE("html page: every element that the script asks for is in the markup") {
  const std::string page = plmscope::html_page(plmscope::feature_report{});
  const std::string_view script = between(page, "<script>", "</script>");
  std::size_t asked = 0;
  for (std::size_t at = script.find("byId('"); at != std::string_view::npos;
       at = script.find("byId('", at + 1)) {
    const std::string_view id = script.substr(at + 6, script.find('\'', at + 6) - at - 6);
    if (script.substr(at + 6 + id.size(), 2) != "')") continue;  // byId('f' + ...)
    CAPTURE(id);
    CHECK(occurrences(page, "id=\"" + std::string(id) + "\"") == 1);
    ++asked;
  }
  CHECK(asked > 20);
}

TEST_CASE("html page: an empty report and a missing score are said, not drawn as zero") {
  const std::string page = plmscope::html_page(plmscope::feature_report{});
  CHECK(between(page, data_open, "</script>").find("\"concepts\":[],\"features\":[]") !=
        std::string_view::npos);
  const std::string_view script = between(page, "<script>", "</script>");
  CHECK(script.find("const score = v => v === null ? 'n/a'") != std::string_view::npos);
  CHECK(script.find("No concept was scored.") != std::string_view::npos);
  CHECK(script.find("The report holds no features.") != std::string_view::npos);
}

TEST_CASE("html page: 1,536 features with six proteins each stay below 4 MB") {
  const std::string page = plmscope::html_page(sample_report::large(1536, 60));
  MESSAGE("bytes of the page: ", page.size());
  CHECK(page.size() < 4'000'000);
  // Further proteins cost only their tracks: three characters a residue and a little around it.
  const std::size_t more = plmscope::html_page(sample_report::large(1536, 61)).size() - page.size();
  CHECK(more <= 1536u * 6u * 4u);
}

TEST_CASE("html page: written whole, replacing what was there") {
  const auto path = std::filesystem::temp_directory_path() / "plmscope_html_page_test.html";
  std::ofstream(path) << "old";
  plmscope::write_html(path, sample_report::small());
  std::ifstream in(path, std::ios::binary);
  const std::string read{std::istreambuf_iterator<char>(in), {}};
  CHECK(read == plmscope::html_page(sample_report::small()));
  std::filesystem::remove(path);
}
