// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <plmscope/report/sparse_track.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace {

// The reading that the page does, written again from the format's description.
std::vector<plmscope::report_activation> decode(std::string_view track, double scale) {
  std::vector<plmscope::report_activation> out;
  const auto digit = [&](std::size_t i) {
    const std::size_t d = plmscope::sparse_track::digits.find(track.at(i));
    REQUIRE(d != std::string_view::npos);
    return d;
  };
  std::size_t next = 0;
  for (std::size_t at = 0; at < track.size();) {
    std::size_t unit = 1;
    for (bool more = true; more; unit *= 32) {
      const std::size_t d = digit(at++);
      next += d % 32 * unit;
      more = d >= 32;
    }
    const double level = static_cast<double>(digit(at) * 64 + digit(at + 1));
    at += 2;
    out.push_back({next - 1, static_cast<float>((level - 2048.0) / 2047.0 * scale)});
  }
  return out;
}

}  // namespace

TEST_CASE("sparse track: known texts") {
  using plmscope::sparse_track::encode;
  CHECK(encode({}, 1.0).empty());
  CHECK(encode({{0, 1.0f}}, 1.0) == "B__");            // distance 1, level 4095
  CHECK(encode({{31, 1.0f}}, 1.0) == "gB__");          // distance 32 in two digits
  CHECK(encode({{4, 0.0f}, {5, -2.0f}}, 2.0) == "FgABAB");  // zero is 2048, minus the scale is 1
}

TEST_CASE("sparse track: what is written is read back, to a 2047th of the scale") {
  std::mt19937_64 random(20240229);
  for (int round = 0; round < 200; ++round) {
    const double scale = std::exp(std::uniform_real_distribution<double>(-6.0, 6.0)(random));
    std::uniform_real_distribution<double> value(-scale, scale);
    std::vector<plmscope::report_activation> in;
    std::size_t position = 0;
    for (int i = 0; i < round; ++i) {
      position += 1 + static_cast<std::size_t>(random() % (round % 3 == 0 ? 40000u : 3u));
      in.push_back({position, static_cast<float>(value(random))});
    }
    const auto out = decode(plmscope::sparse_track::encode(in, scale), scale);
    REQUIRE(out.size() == in.size());
    double worst = 0.0;
    for (std::size_t i = 0; i < in.size(); ++i) {
      REQUIRE(out[i].position == in[i].position);
      worst = std::max(worst, std::fabs(static_cast<double>(out[i].value - in[i].value)) / scale);
    }
    CHECK(worst <= 1.0 / 2047.0);
  }
}

TEST_CASE("sparse track: an active residue is never written as inactive") {
  using plmscope::sparse_track::level;
  CHECK(level(1e-9, 10.0) == 2049);
  CHECK(level(-1e-9, 10.0) == 2047);
  CHECK(level(0.0, 10.0) == 2048);
  CHECK(level(99.0, 10.0) == 4095);
  CHECK(level(-99.0, 10.0) == 1);
}
