// SPDX-License-Identifier: MIT
#include "tests/golden.hpp"
#include "tests/io/error_id.hpp"
#include "tests/io/zip_builder.hpp"

#include <plmscope/io/weights_file.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace {

namespace fs = std::filesystem;
using plmscope::weights_file;
using namespace std::string_literals;

std::string string_object(std::string_view s) {
  std::string out = "X";
  zip_builder::put(out, s.size(), 4);
  return out.append(s);
}
std::string number(std::int64_t n) {
  std::string out = "\x8a\x08";
  zip_builder::put(out, static_cast<std::uint64_t>(n), 8);
  return out;
}
std::string global(std::string_view module, std::string_view name) {
  return "c" + std::string(module) + "\n" + std::string(name) + "\n";
}
std::string tuple(const std::vector<std::int64_t>& numbers) {
  std::string out = "(";
  for (const auto n : numbers) out += number(n);
  return out + "t";
}

struct written_tensor {
  std::string storage = "FloatStorage";
  std::string key = "0";
  std::int64_t entries = 6;
  std::int64_t offset = 0;
  std::vector<std::int64_t> shape = {2, 3};
  std::vector<std::int64_t> strides = {3, 1};
  std::string view = "";  // a sixth part of the storage's id
  std::string last = "";  // behind the hooks

  std::string text() const {
    return global("torch._utils", "_rebuild_tensor_v2") + "((" + string_object("storage") +
           global("torch", storage) + string_object(key) + string_object("cpu") + number(entries) +
           view + "tQ" + number(offset) + tuple(shape) + tuple(strides) + "\x89" +
           global("collections", "OrderedDict") + ")R" + last + "tR";
  }
};

std::string floats(std::size_t n) {
  std::string out;
  for (std::size_t i = 0; i < n; ++i) {
    const float value = static_cast<float>(i) + 0.5f;
    out.append(reinterpret_cast<const char*>(&value), 4);
  }
  return out;
}

// A file of torch.save with one dict of one tensor "w".
std::string dict_of(const std::string& value) {
  return "\x80\x02}" + string_object("w") + value + "s.";
}
zip_builder archive_of(const std::string& pickle) {
  return {.parts = {{.name = "a/data.pkl", .data = pickle},
                    {.name = "a/data/0", .data = floats(6)},
                    {.name = "a/version", .data = "3\n"}}};
}
weights_file parse(const zip_builder& archive) {
  return weights_file::parse(bytes_of(archive.text()), "test.pt");
}
weights_file parse(const written_tensor& t) { return parse(archive_of(dict_of(t.text()))); }
std::string id_of(const written_tensor& t) {
  return error_id([&] { parse(t); });
}
std::string id_of_value(const std::string& value) {
  return error_id([&] { parse(archive_of(dict_of(value))); });
}

}  // namespace

TEST_CASE("every torch file of the reference data holds what PyTorch finds in it") {
  std::map<std::string, std::string> digests;  // tests/io/golden/torch_digests.py wrote them
  std::ifstream lines(golden::repository() / "tests/io/golden/torch_digests.tsv");
  for (std::string path, count, digest; lines >> path >> count >> digest;) digests[path] = digest;
  REQUIRE(digests.size() > 50);
  std::size_t compared = 0;
  std::size_t files = 0;
  for (const std::string ending : {".pt", ".ckpt"}) {
    for (const fs::path& path : golden::files("sae_formats", ending)) {
      ++files;
      const auto file = weights_file::open(path);
      CHECK_FALSE(file.tensors().empty());
      const auto known = digests.find(path.lexically_relative(golden::root() / "sae_formats"));
      if (known == digests.end()) continue;
      ++compared;
      INFO(path);
      CHECK(file.content_hash() == known->second);
    }
  }
  if (files == 0) return;
  std::cout << "golden sae_formats: " << compared << " of " << files << " torch files as PyTorch\n";
  CHECK(compared > 0);
}

TEST_CASE("a torch file equals the safetensors file of the same tensors") {
  for (const fs::path& folder : golden::folders("sae_formats", "tensors.safetensors")) {
    INFO(folder);
    const auto expected = plmscope::safetensors_file::open(folder / "tensors.safetensors");
    const auto file = weights_file::open(folder / "tensors.pt");
    REQUIRE(file.tensors().size() == expected.tensors().size());
    double worst = 0;
    for (const auto& t : expected.tensors()) {
      const auto& ours = file.require(t.name);
      CHECK(ours.type == t.type);
      CHECK(ours.shape == t.shape);
      const bool real = plmscope::dtype_name(t.type).find('F') != std::string_view::npos;
      if (real) {
        CHECK(file.read_vector<double>(ours) == expected.read_vector<double>(t));
      } else {
        CHECK(file.read_vector<std::int64_t>(ours) == expected.read_vector<std::int64_t>(t));
      }
    }
    if (file.content_hash() != expected.content_hash()) worst = 1;
    golden::report(folder, worst, 0);
  }
}

TEST_CASE("numbers, texts and hyper-parameters stay readable") {
  const fs::path root = golden::root() / "sae_formats";
  if (!fs::exists(root / "generic_nested_checkpoint/tensors.pt") ||
      !fs::exists(root / "interprot_lightning/last.ckpt")) {
    return golden::skip("no nested checkpoints below " + root.string());
  }
  const auto nested = weights_file::open(root / "generic_nested_checkpoint/tensors.pt").root();
  CHECK(nested.at("step").integer() == 12);
  CHECK(nested.at("lr").real() == 0.0003);
  CHECK(nested.at("name").text() == "esm2");
  CHECK(nested.at("flag").boolean());
  CHECK(nested.at("none").is(plmscope::pickle_kind::none));
  const auto group = nested.at("optimizer_state").at("param_groups")[0];
  CHECK(group.at("betas")[1].real() == 0.999);
  CHECK(group.at("params")[1].integer() == 1);
  CHECK(nested.at("optimizer_state").at("state").items()[0].first.integer() == 0);

  const auto lightning = weights_file::open(root / "interprot_lightning/last.ckpt");
  const auto settings = lightning.root().at("hyper_parameters").at("args");
  CHECK(settings.name() == "argparse.Namespace");
  CHECK(settings.at("k").integer() == 6);
  CHECK(settings.at("d_hidden").integer() == 160);
  CHECK(lightning.contains("state_dict/sae_model.w_enc"));
}

TEST_CASE("views: contiguous, transposed, sliced, repeated, empty, of one number") {
  const auto read = [](const written_tensor& t) { return parse(t).read_vector<float>("w"); };
  using numbers = std::vector<float>;
  CHECK(read({}) == numbers{0.5f, 1.5f, 2.5f, 3.5f, 4.5f, 5.5f});
  CHECK(read({.shape = {3, 2}, .strides = {1, 3}}) == numbers{0.5f, 3.5f, 1.5f, 4.5f, 2.5f, 5.5f});
  CHECK(read({.offset = 1, .shape = {2, 2}, .strides = {3, 1}}) == numbers{1.5f, 2.5f, 4.5f, 5.5f});
  CHECK(read({.offset = 4, .shape = {3}, .strides = {0}}) == numbers{4.5f, 4.5f, 4.5f});
  CHECK(read({.offset = 5, .shape = {}, .strides = {}}) == numbers{5.5f});
  CHECK(read({.offset = 6, .shape = {0, 5}, .strides = {5, 1}}).empty());
  CHECK(read({.shape = {2, 1, 3}, .strides = {3, 77, 1}}).size() == 6);
  CHECK(parse(written_tensor{.shape = {2, 1, 3}, .strides = {3, 77, 1}}).require("w").contiguous());
  // Other number types of the same bytes.
  CHECK(
      parse(written_tensor{.storage = "HalfStorage", .entries = 12, .shape = {12}, .strides = {1}})
          .require("w")
          .type == plmscope::dtype::f16);
  // A parameter, a tensor with attributes, version 3 with an untyped storage.
  const std::string plain = written_tensor{}.text();
  CHECK(parse(archive_of(
                  dict_of(global("torch._utils", "_rebuild_parameter") + plain + "\x88N\x87R")))
            .contains("w"));
  const std::string v3 = global("torch._utils", "_rebuild_tensor_v3") + "((" +
                         string_object("storage") + global("torch.storage", "UntypedStorage") +
                         string_object("0") + string_object("cpu") + number(24) + "tQ" + number(0) +
                         tuple({12}) + tuple({1}) + "\x89" + "}" + global("torch", "uint16") +
                         "NtR";
  CHECK(parse(archive_of(dict_of(v3))).require("w").type == plmscope::dtype::u16);
  // The tensor alone, in lists, below attributes.
  CHECK(parse(archive_of("\x80\x02" + plain + ".")).contains("tensor"));
  CHECK(parse(archive_of("\x80\x02]" + plain + "a.")).contains("0"));
  CHECK(parse(archive_of("\x80\x02" + global("my.project", "Sae") + ")\x81}" +
                         string_object("weight") + plain + "sb."))
            .contains("weight"));
}

TEST_CASE("a tensor that leaves its storage, or whose size wraps, is refused") {
  constexpr std::int64_t huge = std::int64_t{1} << 62;
  CHECK(id_of({.offset = 1}) == "io.173");
  CHECK(id_of({.offset = -1}) == "io.173");
  CHECK(id_of({.offset = huge}) == "io.173");
  CHECK(id_of({.shape = {2, 4}}) == "io.173");
  CHECK(id_of({.shape = {2, 3}, .strides = {4, 1}}) == "io.173");
  CHECK(id_of({.shape = {2, 3}, .strides = {-3, 1}}) == "io.173");
  CHECK(id_of({.shape = {-2, 3}}) == "io.173");
  CHECK(id_of({.shape = {2, 3}, .strides = {huge - 1 + huge, 1}}) == "io.173");
  CHECK(id_of({.shape = {huge, huge}, .strides = {0, 0}}) == "io.173");
  CHECK(id_of({.shape = {huge, 4}, .strides = {4, 1}}) == "io.173");
  CHECK(id_of({.shape = {5, huge}, .strides = {huge, 1}}) == "io.173");
  CHECK(id_of({.shape = {6}, .strides = {1, 1}}) == "io.173");
  CHECK(id_of({.shape = std::vector<std::int64_t>(9, 1),
               .strides = std::vector<std::int64_t>(9, 1)}) == "io.173");
  CHECK(id_of({.offset = 7, .shape = {0}, .strides = {1}}) == "io.173");
  // One number shown as many: 2^40 of them would keep a reader busy for ever.
  CHECK(id_of({.shape = {std::int64_t{1} << 40}, .strides = {0}}) == "io.174");
  CHECK(id_of({.shape = {1 << 20}, .strides = {0}}) == "accepted");
}

TEST_CASE("a storage has a known class, a known key and its exact size") {
  CHECK(id_of({.key = "1"}) == "io.172");
  CHECK(id_of({.key = "../data.pkl"}) == "io.172");
  CHECK(id_of({.key = ""}) == "io.172");
  CHECK(id_of({.entries = 5}) == "io.172");
  CHECK(id_of({.entries = -1}) == "io.172");
  CHECK(id_of({.entries = (std::int64_t{1} << 62) + 6}) == "io.172");  // 4 n wraps to 24
  CHECK(id_of({.storage = "QInt8Storage"}) == "io.172");
  CHECK(id_of({.storage = "storage.UntypedStorage", .entries = 24}) == "io.172");
  CHECK(id_of({.view = number(1)}) == "io.172");
  CHECK(id_of({.view = "N"}) == "accepted");
  CHECK(id_of({.last = "}" + string_object("conj") + "\x88s"}) == "io.171");
  CHECK(id_of({.last = "}" + string_object("neg") + "\x89s"}) == "accepted");
  CHECK(error_text([] { parse(written_tensor{.key = "17"}); }).find("a/data/17") !=
        std::string::npos);
  CHECK(id_of_value(global("torch._utils", "_rebuild_tensor_v2") + "K\x01\x85R") == "io.173");
  CHECK(id_of_value(global("torch._utils", "_rebuild_parameter") + ")R") == "io.173");
  CHECK(id_of_value(global("torch._utils", "_rebuild_qtensor") + ")R") == "io.167");
}

TEST_CASE("hostile pickles inside an archive: names, depth, cycles, sharing, equal names") {
  CHECK(id_of_value(global("os", "system") + string_object("true") + "\x85R") == "io.166");
  CHECK(error_text([] {
          parse(archive_of(dict_of(global("os", "system") + string_object("x") + "\x85R")));
        }).find("nothing was run") != std::string::npos);
  CHECK(id_of_value(std::string(100, ']') + std::string(99, 'a')) == "io.164");
  CHECK(id_of_value("]q\x01h\x01"
                    "a") == "io.164");
  // Thirty tuples, each twice in the next: 2^30 ways to the innermost.
  std::string laughs = "]";
  for (char level = 1; level < 31; ++level) laughs += "q"s + level + "h"s + level + "\x86";
  CHECK(id_of_value(laughs) == "io.164");
  CHECK(error_id([] {
          parse(archive_of("\x80\x02}(K\x01" + written_tensor{}.text() + string_object("1") +
                           written_tensor{}.text() + "u."));
        }) == "io.175");
  CHECK(error_id([] {
          parse(archive_of("\x80\x02}" + string_object(std::string(1025, 'w')) +
                           written_tensor{}.text() + "s."));
        }) == "io.175");
  CHECK(error_id([] { parse(archive_of("\x80\x02" + written_tensor{}.text() + ".more")); }) ==
        "io.170");
}

TEST_CASE("what is no file of torch.save is refused by name") {
  const auto message = [](const std::string& bytes) {
    return error_text([&] { weights_file::parse(bytes_of(bytes), "x"); });
  };
  const auto changed = [&](auto change) {
    zip_builder b = archive_of(dict_of(written_tensor{}.text()));
    change(b);
    return message(b.text());
  };
  CHECK(changed([](zip_builder& b) { b.parts[0].name = "a/model.pkl"; }).find("io.170") !=
        std::string::npos);
  CHECK(changed([](zip_builder& b) { b.parts[2].name = "b/data.pkl"; }).find("io.170") !=
        std::string::npos);
  CHECK(changed([](zip_builder& b) { b.parts[2].name = "a/code/x.py"; }).find("TorchScript") !=
        std::string::npos);
  CHECK(changed([](zip_builder& b) {
          b.parts[2] = {.name = "a/byteorder", .data = "big"};
        }).find("io.171") != std::string::npos);
  CHECK(changed([](zip_builder& b) { b.parts[1].method = 8; }).find("io.152") != std::string::npos);
  CHECK(changed([](zip_builder& b) { b.parts[1].name = "../data/0"; }).find("io.153") !=
        std::string::npos);
  CHECK(message("version https://git-lfs.github.com/spec/v1\n").find("git LFS") !=
        std::string::npos);
  CHECK(message("<!DOCTYPE html><html>").find("a web page") != std::string::npos);
  CHECK(message("GGUF0000").find("GGUF") != std::string::npos);
  CHECK(message("\x89HDF\r\n\x1a\n").find("HDF5") != std::string::npos);
  CHECK(message("\x1f\x8b\x08" + std::string(20, 'x')).find("gzip") != std::string::npos);
  CHECK(message(dict_of(string_object("x"))).find("torch.save did not write") != std::string::npos);
  CHECK(message(std::string(257, '\0') + "ustar" + std::string(250, '\0')).find("tar archive") !=
        std::string::npos);
  CHECK(message("").find("io.101") != std::string::npos);
}

TEST_CASE("the format before PyTorch 1.6") {
  const std::string magic = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
  const std::string version = "\x80\x02M\xe9\x03.";
  const auto system = [](bool little) {
    return "\x80\x02}" + string_object("little_endian") + (little ? "\x88" : "\x89") + "s.";
  };
  const std::string value = dict_of(written_tensor{.view = "N"}.text());
  const std::string keys = "\x80\x02]" + string_object("0") + "a.";
  std::string storage;
  zip_builder::put(storage, 6, 8);
  storage += floats(6);
  const auto read = [](const std::string& file) {
    return weights_file::parse(bytes_of(file), "x");
  };
  const auto id = [&](const std::string& file) { return error_id([&] { read(file); }); };
  const std::string whole = magic + version + system(true) + value + keys + storage;
  CHECK(read(whole).read_vector<float>("w").back() == 5.5f);
  CHECK(id(magic + "\x80\x02M\xea\x03." + system(true) + value + keys + storage) == "io.171");
  CHECK(id(magic + version + system(false) + value + keys + storage) == "io.171");
  CHECK(id(whole + "x") == "io.170");
  CHECK(id(magic + version + system(true) + value + "\x80\x02].") == "io.172");
  CHECK(id(magic + version + system(true) + value +
           "\x80\x02]K\x01"
           "a." +
           storage) == "io.168");
  CHECK(id(magic + version + system(true) + value + "\x80\x02]" + string_object("1") + "a." +
           storage) == "io.172");
  std::string lie = whole;
  lie[lie.size() - 32] = 7;
  CHECK(id(lie) == "io.172");
  CHECK(id(magic + version + system(true) + dict_of(global("os", "system") + ")R") + keys) ==
        "io.166");
  for (std::size_t n = 0; n < whole.size(); ++n) CHECK(id(whole.substr(0, n)) != "accepted");
}

TEST_CASE("a torch file cut anywhere, or with any byte changed, is read or refused") {
  const std::string whole =
      archive_of(dict_of(written_tensor{.shape = {3, 2}, .strides = {1, 3}}.text())).text();
  const auto outcome = [](const std::string& file) {
    return error_id([&] {
      const auto read = weights_file::parse(bytes_of(file), "x");
      for (const auto& t : read.tensors()) plmscope::first_not_finite(t);
      static_cast<void>(read.content_hash());
    });
  };
  REQUIRE(outcome(whole) == "accepted");
  for (std::size_t n = 0; n < whole.size(); ++n) CHECK(outcome(whole.substr(0, n)) != "accepted");
  for (std::size_t i = 0; i < whole.size(); ++i) {
    for (const int flip : {0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff}) {
      std::string changed = whole;
      changed[i] = static_cast<char>(changed[i] ^ flip);
      const std::string id = outcome(changed);
      CHECK((id == "accepted" || id.starts_with("io.1")));
    }
  }
}

TEST_CASE("a file that PyTorch wrote, cut anywhere or with any byte changed") {
  const fs::path path = golden::repository() /
                        "tests/plm/golden/weights_layouts/fair/esm2_t2_tiny-contact-regression.pt";
  const std::string whole = text_of(plmscope::read_file(path));
  const auto outcome = [](const std::string& file) {
    return error_id([&] { weights_file::parse(bytes_of(file), "x").check_finite(); });
  };
  REQUIRE(outcome(whole) == "accepted");
  for (std::size_t n = 0; n < whole.size(); ++n) CHECK(outcome(whole.substr(0, n)) != "accepted");
  for (std::size_t i = 0; i < whole.size(); ++i) {
    std::string changed = whole;
    changed[i] = static_cast<char>(~changed[i]);
    const std::string id = outcome(changed);
    CHECK((id == "accepted" || id.starts_with("io.1")));
  }
}
