// SPDX-License-Identifier: MIT
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include "tests/golden.hpp"

#include <iostream>

namespace {

// Counts test cases as `./run test` reports them: a case that called golden::skip and checked
// nothing is skipped, neither passed nor failed.
struct tally : doctest::IReporter {
  static inline int passed = 0;
  static inline int failed = 0;
  static inline int skipped = 0;

  explicit tally(const doctest::ContextOptions&) {}
  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_run_end(const doctest::TestRunStats&) override {}
  void test_case_start(const doctest::TestCaseData&) override { golden::skip_reason().clear(); }
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_end(const doctest::CurrentTestCaseStats& stats) override {
    if (!stats.testCaseSuccess) {
      ++failed;
    } else if (!golden::skip_reason().empty() && stats.numAssertsCurrentTest == 0) {
      ++skipped;
    } else {
      ++passed;
    }
  }
  void test_case_exception(const doctest::TestCaseException&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
  void test_case_skipped(const doctest::TestCaseData&) override {}
};

}  // namespace

REGISTER_LISTENER("tally", 1, tally);

int main(int argc, char** argv) {
  doctest::Context context(argc, argv);
  const int result = context.run();
  if (context.shouldExit()) return result;
  std::cout << "cases: " << tally::passed << " passed, " << tally::failed << " failed, "
            << tally::skipped << " skipped" << std::endl;
  // A file without a test case, or a filter that matches none, must not look like success.
  if (tally::passed + tally::failed + tally::skipped == 0) {
    std::cout << "no test case ran" << std::endl;
    return 1;
  }
  return result;
}
