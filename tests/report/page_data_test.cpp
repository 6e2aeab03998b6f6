// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <plmscope/core/error.hpp>
#include <plmscope/report/page_data.hpp>

#include <limits>
#include <string>

#include <tests/report/sample_report.hpp>

#if __has_include(<nlohmann/json.hpp>)
#include <nlohmann/json.hpp>
#define SAMPLE_HAS_JSON 1
#endif

using plmscope::page_data;

namespace {

std::string error_id(const plmscope::feature_report& report) {
  try {
    page_data::json(report);
  } catch (const plmscope::error& e) {
    return std::string(e.id());
  }
  return "none";
}

}  // namespace

TEST_CASE("page data: rows have the order that the script reads") {
  const std::string json = page_data::json(sample_report::small());
  CAPTURE(json);
  CHECK(json.find(R"("names":["Signal peptide","plain"])") != std::string::npos);
  CHECK(json.find(R"("concepts":[[0,1,7,1.5,0.75,0.8,0.7,0.5,0.625,0.4,1234,56,0.125,0.25]])") !=
        std::string::npos);
  CHECK(json.find(R"("proteins":[["P12345","plain","plain","plain","MKTAYIAKQR"]])") !=
        std::string::npos);
  CHECK(json.find(R"("features":[[7,0,4,0.01,0.5,4,[[1,0.5,0.25]],[[0,"B__JoA",[0,4,6,10]]]]])") !=
        std::string::npos);
  CHECK(json.find(R"("splits":[["plain",2,9]])") != std::string::npos);
}

TEST_CASE("page data: a missing number is null, a missing name is -1") {
  plmscope::feature_report r;
  r.concepts.emplace_back().name = "Lipidation";
  r.features.emplace_back().id = 3;
  const std::string json = page_data::json(r);
  CAPTURE(json);
  CHECK(json.find(R"("concepts":[[0,0,null,null,null,null,null,null,null,null,0,0,null,null]])") !=
        std::string::npos);
  CHECK(json.find(R"("features":[[3,-1,null,null,null,0,[],[]]])") != std::string::npos);
  CHECK(json.find(R"("fvu":null)") != std::string::npos);
}

TEST_CASE("page data: one protein is stored once, different ones are kept apart") {
  plmscope::feature_report r = sample_report::small();
  r.features.push_back(r.features[0]);
  r.features.push_back(r.features[0]);
  r.features[2].top_proteins[0].organism = "Homo sapiens";
  const std::string json = page_data::json(r);
  CHECK(json.find(R"("proteins":[["P12345","plain","plain","plain","MKTAYIAKQR"],)"
                  R"(["P12345","plain","Homo sapiens","plain","MKTAYIAKQR"]])") !=
        std::string::npos);
}

TEST_CASE("page data: one byte of a sequence is one residue") {
  plmscope::feature_report r = sample_report::small();
  r.features[0].top_proteins[0].sequence = "MK \xce\xb2 <QRA";
  CHECK(page_data::json(r).find(R"("MK????\u003cQRA")") != std::string::npos);
}

TEST_CASE("page data: activations above the stated maximum widen the scale") {
  plmscope::feature_report r = sample_report::small();
  r.features[0].max_activation = 2.0;
  CHECK(page_data::json(r).find(R"([[7,0,2,0.01,0.5,4,)") != std::string::npos);
}

TEST_CASE("page data: positions, values and spans are checked") {
  CHECK(error_id(sample_report::small()) == "none");
  auto with = [](auto change) {
    plmscope::feature_report r = sample_report::small();
    change(r.features[0].top_proteins[0]);
    return error_id(r);
  };
  using protein = plmscope::report_protein;
  CHECK(with([](protein& p) { p.activations = {{10, 1.0f}}; }) == "report.101");
  CHECK(with([](protein& p) { p.activations = {{3, 1.0f}, {3, 1.0f}}; }) == "report.101");
  CHECK(with([](protein& p) { p.activations = {{4, 1.0f}, {3, 1.0f}}; }) == "report.101");
  CHECK(with([](protein& p) {
          p.activations[0].value = std::numeric_limits<float>::quiet_NaN();
        }) == "report.102");
  CHECK(with([](protein& p) {
          p.activations[0].value = std::numeric_limits<float>::infinity();
        }) == "report.102");
  CHECK(with([](protein& p) { p.annotations = {{4, 11}}; }) == "report.103");
  CHECK(with([](protein& p) { p.annotations = {{5, 4}}; }) == "report.103");
  CHECK(with([](protein& p) { p.annotations = {{10, 10}}; }) == "none");
}

#ifdef SAMPLE_HAS_JSON
TEST_CASE("page data: a JSON parser reads every text back") {
  for (const std::string text :
       {"plain", "", "</script>", "\"\\\n\t", "\xe2\x80\xa8", "\xce\xb2"}) {
    const auto json = nlohmann::json::parse(page_data::json(sample_report::with_text(text)));
    CHECK(json.at("title") == text);
    CHECK(json.at("model").at("name") == text);
    CHECK(json.at("sae").at("sparsifier") == text);
    CHECK(json.at("dataset").at("splits").at(0).at(0) == text);
    CHECK(json.at("notes").at(0) == text);
    CHECK(json.at("names").at(0) == text);
    CHECK(json.at("proteins").at(0).at(1) == text);
    CHECK(json.at("concepts").at(0).size() == 14);
    CHECK(json.at("features").at(0).size() == 8);
  }
}
#endif
