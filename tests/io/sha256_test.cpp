// SPDX-License-Identifier: MIT
#include <plmscope/io/sha256.hpp>

#include <doctest/doctest.h>

#include <string>

using plmscope::sha256;

TEST_CASE("SHA-256 gives the published digests") {
  const auto hex = [](std::string_view text) {
    sha256 h;
    h.update(text);
    return h.hex();
  };
  // FIPS 180-4 examples.
  CHECK(hex("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(hex("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(hex(std::string(1'000'000, 'a')) ==
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("SHA-256 does not depend on how the data are cut") {
  const std::string text(300, 'x');
  for (std::size_t length = 0; length <= text.size(); ++length) {
    sha256 whole;
    whole.update(std::string_view(text).substr(0, length));
    sha256 pieces;
    for (std::size_t i = 0; i < length; i += 7)
      pieces.update(std::string_view(text).substr(i, std::min<std::size_t>(7, length - i)));
    CHECK(whole.hex() == pieces.hex());
  }
}
