// SPDX-License-Identifier: MIT
#include <plmscope/core/error.hpp>

#include <doctest/doctest.h>

#include <stdexcept>
#include <string>

namespace {

using plmscope::error;
using plmscope::error_kind;
using plmscope::error_rule;

constexpr error_rule rule{"core.199", error_kind::malformed, "a rule of this test"};

TEST_CASE("the text holds the id, the rule and what is known, in this order") {
  const error e(rule, {.where = "file.txt:3", .expected = "a", .found = "b", .remedy = "do c"});
  CHECK(std::string(e.what()) ==
        "[plmscope.core.199] a rule of this test\n  at:       file.txt:3\n  expected: a\n"
        "  found:    b\n  remedy:   do c");
  CHECK(std::string(error(rule, {}).what()) == "[plmscope.core.199] a rule of this test");
  CHECK(std::string(error(rule, {.found = "b"}).what()) ==
        "[plmscope.core.199] a rule of this test\n  found:    b");
}

TEST_CASE("id, kind, exit code and details") {
  const error e(rule, {.found = "b"});
  CHECK(e.id() == "core.199");
  CHECK(e.kind() == error_kind::malformed);
  CHECK(e.exit_code() == 3);
  CHECK(e.details().found == "b");
  CHECK(error({"x.101", error_kind::usage, ""}, {}).exit_code() == 2);
  CHECK(error({"x.101", error_kind::mismatch, ""}, {}).exit_code() == 4);
  CHECK(error({"x.101", error_kind::resource, ""}, {}).exit_code() == 5);
  CHECK(error({"x.101", error_kind::io, ""}, {}).exit_code() == 6);
  CHECK(error({"x.101", error_kind::numeric, ""}, {}).exit_code() == 7);
  CHECK(error({"x.101", error_kind::interrupted, ""}, {}).exit_code() == 8);
  CHECK_THROWS_AS(throw error(rule, {}), std::runtime_error);
}

TEST_CASE("control bytes are shown, never sent to the terminal") {
  std::string hostile;
  for (int c = 0; c < 0x20; ++c) hostile += static_cast<char>(c);
  hostile += '\x7f';
  for (const auto& details :
       {plmscope::error_details{.where = hostile}, plmscope::error_details{.expected = hostile},
        plmscope::error_details{.found = hostile}, plmscope::error_details{.remedy = hostile}}) {
    const std::string text = error(rule, details).what();
    for (const char c : text) {
      CHECK((static_cast<unsigned char>(c) >= 0x20 || c == '\n' || c == '\t'));
      CHECK(c != '\x7f');
    }
    CHECK(text.find("\\x1b") != std::string::npos);
    CHECK(text.find("\\x00") != std::string::npos);
    CHECK(text.find("\\x7f") != std::string::npos);
  }
}

TEST_CASE("text beyond ASCII stays, but not the control characters of Latin-1 in UTF-8") {
  const std::string words = "caf\xc3\xa9 \xce\xb1-helix";
  CHECK(std::string(error(rule, {.found = words}).what()).find(words) != std::string::npos);
  // U+009B is "ESC [" in one character to terminals that know it.
  const std::string text = error(rule, {.found = "\xc2\x9b" "31m"}).what();
  CHECK(text.find("\xc2\x9b") == std::string::npos);
}

TEST_CASE("long text is cut") {
  const std::string text = error(rule, {.found = std::string(1'000'000, 'x')}).what();
  CHECK(text.size() < 2200);
  CHECK(text.ends_with("x ..."));
  const std::string whole = error(rule, {.found = std::string(2000, 'x')}).what();
  CHECK(whole.ends_with("x"));
}

}  // namespace
