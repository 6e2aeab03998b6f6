// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <plmscope/report/json_text.hpp>

#include <limits>
#include <string>
#include <string_view>

namespace {

std::string quoted(std::string_view text) {
  std::string out;
  plmscope::json_text::append_string(out, text);
  return out;
}

std::string number(double value, int digits = 4) {
  std::string out;
  plmscope::json_text::append_number(out, value, digits);
  return out;
}

}  // namespace

TEST_CASE("json text: characters that could leave a script element are escaped") {
  CHECK(quoted("</script><!--&") == R"("\u003c/script\u003e\u003c!--\u0026")");
  CHECK(quoted("a\xe2\x80\xa8z\xe2\x80\xa9") == R"("a\u2028z\u2029")");
  CHECK(quoted("\xe2\x80\xa7") == "\"\xe2\x80\xa7\"");  // the neighbour of U+2028 stays
}

TEST_CASE("json text: quotes, backslashes and control bytes") {
  CHECK(quoted("a\"b\\c") == R"("a\"b\\c")");
  CHECK(quoted(std::string_view("\0\x1f\t\n\x7f", 5)) == R"("\u0000\u001f\u0009\u000a\u007f")");
  CHECK(quoted("") == R"("")");
}

TEST_CASE("json text: bytes that are not UTF-8 become U+FFFD, the rest stays") {
  CHECK(quoted("\xce\xb2-barrel") == "\"\xce\xb2-barrel\"");
  CHECK(quoted("a\xff\xfez") == R"("a\ufffd\ufffdz")");
  CHECK(quoted("\xed\xa0\x80") == R"("\ufffd\ufffd\ufffd")");  // a lone surrogate
  CHECK(quoted("\xe2\x80") == R"("\ufffd\ufffd")");            // cut short
  CHECK(quoted("\xff<") == R"("\ufffd\u003c")");
}

TEST_CASE("json text: numbers") {
  CHECK(number(0.123456) == "0.1235");
  CHECK(number(0.0) == "0");
  CHECK(number(1234567.0, 9) == "1234567");
  CHECK(number(std::numeric_limits<double>::quiet_NaN()) == "null");
  CHECK(number(std::numeric_limits<double>::infinity()) == "null");
  CHECK(number(-std::numeric_limits<double>::infinity()) == "null");
}
