// SPDX-License-Identifier: MIT
#include <tests/plm/error_text.hpp>

#include <plmscope/plm/site.hpp>

#include <doctest/doctest.h>

#include <string>
#include <vector>

namespace {

using plmscope::site;

bool holds(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("sites print and parse back") {
  const std::vector<site> all{plmscope::embeddings{},   plmscope::resid_pre{0},
                              plmscope::resid_post{0},  plmscope::resid_pre{1},
                              plmscope::resid_post{12}, plmscope::final_norm{},
                              plmscope::logits{}};
  const std::vector<std::string> names{"embeddings",  "resid_pre.0",   "resid_post.0",
                                       "resid_pre.1", "resid_post.12", "final_norm",
                                       "logits"};
  for (std::size_t i = 0; i < all.size(); ++i) {
    CHECK(to_string(all[i]) == names[i]);
    CHECK(plmscope::parse_site(names[i]) == all[i]);
    // The order is that of the forward pass.
    for (std::size_t j = 0; j < all.size(); ++j) CHECK((all[i] < all[j]) == (i < j));
  }
  CHECK(site(plmscope::resid_pre{3}) != site(plmscope::resid_post{3}));
  // Every kind, with the names of the comment in site.hpp.
  for (int k = 0; k <= static_cast<int>(plmscope::site_kind::logits); ++k) {
    const site at(static_cast<plmscope::site_kind>(k), 7);
    CHECK(plmscope::parse_site(to_string(at)) == at);
    CHECK((to_string(at).find(".7") != std::string::npos) == at.in_block());
  }
}

TEST_CASE("texts that are no site are refused with the nearest names") {
  for (const char* text :
       {"", ".", "resid_post", "resid_post.", "resid_post.-1", "resid_post.4x", "resid_post.04",
        "resid_post. 4", "resid_post.99999999999999999999", "embeddings.0", "logits.1", "Logits",
        "resid_middle.3", "mlp_out", "final_norm "}) {
    CAPTURE(text);
    CHECK(error_of([&] { plmscope::parse_site(text); }).starts_with("plm.107 "));
  }
  CHECK(holds(error_of([] { plmscope::parse_site("resid_pots.3"); }), "nearest: resid_post.L"));
  CHECK(holds(error_of([] { plmscope::parse_site("embedding"); }), "nearest: embeddings"));
  CHECK(holds(error_of([] { plmscope::parse_site("logit"); }), "nearest: logits"));
  CHECK(holds(error_of([] { plmscope::parse_site(std::string(100'000, 'r')); }), "nearest: "));
}

TEST_CASE("a block outside of the model is refused; others never are") {
  CHECK_NOTHROW(plmscope::check_site(plmscope::resid_post{5}, 6));
  const std::string text = error_of([] { plmscope::check_site(plmscope::resid_pre{6}, 6); });
  CHECK(text.starts_with("plm.108 "));
  CHECK(holds(text, "a block from 0 to 5"));
  CHECK_NOTHROW(plmscope::check_site(plmscope::final_norm{}, 1));
}

TEST_CASE("Hugging Face's hidden states") {
  CHECK(plmscope::hidden_state_site(0, 6) == site(plmscope::embeddings{}));
  CHECK(plmscope::hidden_state_site(1, 6) == site(plmscope::resid_post{0}));
  CHECK(plmscope::hidden_state_site(5, 6) == site(plmscope::resid_post{4}));
  CHECK(plmscope::hidden_state_site(6, 6) == site(plmscope::final_norm{}));
  CHECK(error_of([] { plmscope::hidden_state_site(7, 6); }).starts_with("plm.108 "));
}
