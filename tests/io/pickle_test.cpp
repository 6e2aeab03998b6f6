// SPDX-License-Identifier: MIT
#include "tests/io/error_id.hpp"
#include "tests/io/zip_builder.hpp"

#include <plmscope/io/pickle_reader.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <string>
#include <string_view>

namespace {

using plmscope::pickle_kind;
using plmscope::pickle_value;
using namespace std::string_literals;

pickle_value parse(const std::string& pickle) {
  return plmscope::read_pickle(bytes_of("\x80\x02" + pickle), "test.pkl");
}
std::string id_of(const std::string& pickle) {
  return error_id([&] { parse(pickle); });
}
std::string message(const std::string& pickle) {
  return error_text([&] { parse(pickle); });
}

std::string text(std::string_view s) {
  std::string out = "X";
  zip_builder::put(out, s.size(), 4);
  return out.append(s);
}
std::string global(std::string_view module, std::string_view name) {
  return "c" + std::string(module) + "\n" + std::string(name) + "\n";
}

}  // namespace

TEST_CASE("scalars, texts and containers of protocols 2 to 4") {
  CHECK(parse("N.").is(pickle_kind::none));
  CHECK(parse("\x88.").boolean());
  CHECK_FALSE(parse("\x89.").boolean());
  CHECK(parse("K\xff.").integer() == 255);
  CHECK(parse("M\x34\x12.").integer() == 0x1234);
  CHECK(parse("J\xfe\xff\xff\xff.").integer() == -2);
  CHECK(parse("\x8a\0."s).integer() == 0);
  CHECK(parse("\x8a\x03\0\0\x80."s).integer() == -8388608);
  CHECK(parse("\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f.").integer() == 9223372036854775807);
  CHECK(parse("\x8a\x09\0\0\0\0\0\0\0\0\x01."s).raw() == "\0\0\0\0\0\0\0\0\x01"s);
  CHECK(parse("G\x3f\xe0\0\0\0\0\0\0."s).real() == 0.5);
  CHECK(parse("K\x07.").real() == 7.0);
  CHECK(parse(text("h\xc3\xa9llo") + ".").text() == "h\xc3\xa9llo");
  CHECK(parse("\x8c\x02hi.").text() == "hi");
  CHECK(parse("U\x02hi.").text() == "hi");
  CHECK(parse("C\x02\xff\x01.").raw() == "\xff\x01");
  CHECK(parse(").").size() == 0);
  const auto triple = parse("K\x01K\x02K\x03\x87.");
  CHECK(triple.is(pickle_kind::tuple));
  CHECK(triple[2].integer() == 3);
  const auto list = parse(
      "](K\x01K\x02"
      "eK\x03"
      "a.");
  REQUIRE(list.size() == 3);
  CHECK(list[1].integer() == 2);
  CHECK(parse("\x8f(K\x01K\x02\x90.").size() == 2);
  CHECK(parse("(K\x01K\x02\x91.").is(pickle_kind::set));
  // {"a": 1, "a": 2, 3: None}: the last of two equal keys counts, as in Python.
  const auto dict = parse("}(" + text("a") + "K\x01" + text("a") + "K\x02K\x03Nu.");
  CHECK(dict.size() == 3);
  CHECK(dict.at("a").integer() == 2);
  CHECK(dict.items()[2].first.integer() == 3);
  CHECK_FALSE(dict.find("b"));
  // Protocol 4 frames, memo and names from the stack.
  const auto framed = parse("\x95\x10\0\0\0\0\0\0\0"s +
                            "\x8c\x0b"
                            "collections\x94\x8c\x0bOrderedDict\x94\x93)R.");
  CHECK(framed.is(pickle_kind::dict));
}

TEST_CASE("objects are described, never made") {
  // argparse.Namespace with attributes, as protocol 2 writes it.
  const auto space = parse(global("argparse", "Namespace") + ")\x81}" + text("k") + "K\x40sb.");
  CHECK(space.is(pickle_kind::object));
  CHECK(space.name() == "argparse.Namespace");
  CHECK(space.at("k").integer() == 64);
  CHECK(space.arguments().size() == 0);
  CHECK(space.state().size() == 1);
  // A dict subclass that nobody has installed.
  const auto custom = parse(global("some.project", "Config") + ")\x81(" + text("lr") + "K\x05u.");
  CHECK(custom.at("lr").integer() == 5);
  CHECK(custom.size() == 1);
  CHECK(parse(global("some.project", "Model") + ".").name() == "some.project.Model");
  // numpy's scalar keeps its parts; bytes of protocol 2 are bytes.
  const auto scalar =
      parse(global("numpy.core.multiarray", "scalar") + "N" + global("_codecs", "encode") +
            text("\xc3\xbf\x01") + text("latin1") + "\x86R\x86R.");
  CHECK(scalar.arguments()[1].raw() == "\xff\x01");
  CHECK(parse(global("torch", "Size") + "(K\x02K\x03t\x85R.")[1].integer() == 3);
  CHECK(parse(global("collections", "OrderedDict") + "]](" + text("a") +
              "K\x01"
              "ea\x85R.")
            .at("a")
            .integer() == 1);
  // Ordered dicts have attributes beside their entries.
  const auto with_state = parse("}" + text("w") + "K\x01s}" + text("_metadata") + "Nsb.");
  CHECK(with_state.at("w").integer() == 1);
  CHECK(with_state.find("_metadata")->is(pickle_kind::none));
}

TEST_CASE("asking for what is not there says what is") {
  const auto value = parse("}(" + text("alpha") + "K\x01" + text("beta") + "Nu.");
  const std::string missing = error_text([&] { value.at("gamma"); });
  CHECK(missing.find("io.168") != std::string::npos);
  CHECK(missing.find("a dict with alpha beta") != std::string::npos);
  CHECK(error_id([&] { value.text(); }) == "io.168");
  CHECK(error_id([&] { value.at("alpha").text(); }) == "io.168");
  CHECK(error_id([&] { value.at("alpha").boolean(); }) == "io.168");
  CHECK(error_id([&] { value.at("beta").real(); }) == "io.168");
  CHECK(error_id([&] { value[0]; }) == "io.168");
  CHECK(error_id([&] { value.name(); }) == "io.168");
  CHECK(error_id([&] { value.at("alpha").items(); }) == "io.168");
  CHECK(error_id([] { parse(").")[0]; }) == "io.168");
  CHECK(pickle_value().is(pickle_kind::none));
  CHECK(pickle_value().size() == 0);
}

TEST_CASE("names that act are refused before anything is made of them") {
  for (const auto& [module, name] : {std::pair{"os", "system"},
                                     {"posix", "system"},
                                     {"nt", "system"},
                                     {"subprocess", "Popen"},
                                     {"builtins", "eval"},
                                     {"builtins", "exec"},
                                     {"builtins", "getattr"},
                                     {"__builtin__", "eval"},
                                     {"builtins", "__import__"},
                                     {"sys", "modules"},
                                     {"importlib", "import_module"},
                                     {"torch.hub", "load"},
                                     {"torch", "load"},
                                     {"torch.storage", "_load_from_bytes"},
                                     {"os.path", "join"},
                                     {"pickle", "loads"},
                                     {"runpy", "_run_code"},
                                     {"socket", "socket"}}) {
    const std::string full = std::string(module) + "." + name;
    INFO(full);
    CHECK(id_of(global(module, name) + ".") == "io.166");
    CHECK(message(global(module, name) + text("x") + "\x85R.").find(full) != std::string::npos);
    // The same through the stack, and hidden behind a memo entry.
    CHECK(id_of(text(module) + text(name) + "\x93.") == "io.166");
    CHECK(id_of(text(module) + "q\x01" + text(name) + "q\x02h\x01h\x02\x93.") == "io.166");
  }
  CHECK(message(global("os", "system") + text("true") + "\x85R.").find("nothing was run") !=
        std::string::npos);
}

TEST_CASE("calls of unknown functions are refused with their name") {
  const std::string call = global("some.project", "make_model") + ")R.";
  CHECK(id_of(call) == "io.167");
  CHECK(message(call).find("some.project.make_model") != std::string::npos);
  CHECK(id_of("K\x01)R.") == "io.167");                                        // a number is called
  CHECK(id_of(global("collections", "OrderedDict") + "K\x01R.") == "io.167");  // with no tuple
  CHECK(id_of(global("collections", "OrderedDict") + "]K\x01"
                                                     "a\x85R.") == "io.167");
  CHECK(id_of(global("torch", "Size") + "K\x01\x85R.") == "io.167");
  CHECK(id_of(global("_codecs", "encode") + "K\x01\x85R.") == "io.167");
  CHECK(id_of(global("_codecs", "encode") + text("\xc4\x80") + text("latin1") + "\x86R.") ==
        "io.165");
  // What an object returned by a call would be called with.
  CHECK(id_of(global("argparse", "Namespace") + ")R)R.") == "io.167");
}

TEST_CASE("opcodes outside of the subset are refused by name") {
  for (const char op : {'i',    'o',    'd',    'l',    'p',    'g',    'I',    'L',    'F',
                        'S',    'V',    'P',    '0',    '1',    '2',    '\x82', '\x83', '\x84',
                        '\x8b', '\x8e', '\x92', '\x96', '\x97', '\x98', '\x01', '\xff'}) {
    INFO(int{op});
    CHECK(id_of("((K\x01K\x01" + std::string(1, op) + std::string(12, '\n')) == "io.161");
  }
  CHECK(message("\x82\x01.").find("EXT") != std::string::npos);
  CHECK(message("\x97.").find("buffer of protocol 5") != std::string::npos);
  CHECK(id_of("\x80\x06.") == "io.161");
  CHECK(id_of("\x80\x01.") == "io.161");
}

TEST_CASE("stack, marks, memo and texts are checked") {
  for (const char* bad : {".",
                          "\x85.",
                          "\x86.",
                          "t.",
                          "u.",
                          "s.",
                          "a.",
                          "e.",
                          "b.",
                          "R.",
                          "\x81.",
                          "\x93.",
                          "Q.",
                          "q\x01.",
                          "K\x01K\x02.",
                          "(K\x01.",
                          "(.",
                          "K\x01(\x85.",
                          "K\x01K\x02"
                          "a.",
                          "](K\x01u.",
                          "}(K\x01u.",
                          "}K\x01"
                          "a.",
                          "K\x01}b.",
                          "K\x01K\x02\x93.",
                          "K\x01)\x81.",
                          "\x8f(K\x01u."}) {
    INFO(bad);
    const std::string id = id_of(bad);
    CHECK((id == "io.162" || id == "io.167"));
  }
  CHECK(id_of("h\x01.") == "io.163");
  CHECK(id_of("Nq\x01h\x02.") == "io.163");
  CHECK(id_of("Nr\xff\xff\xff\xff.") == "io.163");
  CHECK(id_of("Nr\0\0\x20\0."s) == "io.163");  // 2^21
  CHECK(id_of("j\0\0\0\0."s) == "io.163");
  CHECK(id_of(text("\xff") + ".") == "io.165");
  CHECK(id_of("c\nx\n.") == "io.165");
  CHECK(id_of("ca b\nx\n.") == "io.165");
  CHECK(id_of("c" + std::string(300, 'm') + "\nx\n.") == "io.165");
  CHECK(id_of("cmodule without end") == "io.165");
  CHECK(id_of("N") == "io.160");
  CHECK(id_of("X\xff\xff\xff\xffoops.") == "io.160");
  CHECK(id_of("\x8d\xff\xff\xff\xff\xff\xff\xff\xffoops.") == "io.160");
  CHECK(id_of("N.N.") == "io.160");
  CHECK(error_id([] { plmscope::read_pickle({}, "empty"); }) == "io.160");
}

TEST_CASE("what would grow without bound is refused") {
  CHECK(id_of(std::string(std::size_t{3} << 20, ')')) == "io.164");
  CHECK(id_of(std::string(std::size_t{17} << 20, 'N')) == "io.164");
  CHECK(id_of(std::string(std::size_t{17} << 20, '(')) == "io.164");
  CHECK(id_of(std::string(std::size_t{65} << 20, '\x80')) == "io.161");
  // One long list, copied by every call.
  std::string copies =
      "](" + std::string(100'000, 'N') + "e\x85q\x01" + global("torch", "Size") + "q\x02";
  for (int i = 0; i < 200; ++i) copies += "h\x02h\x01R";
  CHECK(id_of(copies + ".") == "io.164");
  // Depth alone costs nothing: the tree is flat, and goes away without recursion.
  const std::string deep = ")" + std::string(1'000'000, '\x85') + ".";
  CHECK(id_of(deep) == "accepted");
  // A list that contains itself.
  const auto loop = parse(
      "]q\x01h\x01"
      "a.");
  CHECK(loop[0][0][0].is(pickle_kind::list));
}

TEST_CASE("a pickle cut anywhere, or with any byte changed, is read or refused") {
  const std::string whole = "\x80\x02}q\x01(" + text("lr") + "G\x3f\xe0\0\0\0\0\0\0"s +
                            text("space") + global("argparse", "Namespace") + "q\x02)\x81q\x03}" +
                            text("k") + "K\x40sb" + text("list") +
                            "](K\x01M\x02\x01J\x03\0\0\x80\x8a\x02\x01\x02"s + "ex" + ".";
  const std::string good = whole.substr(0, whole.size() - 2) + "u.";
  REQUIRE(plmscope::read_pickle(bytes_of(good), "x").at("space").at("k").integer() == 64);
  const auto outcome = [](const std::string& pickle) {
    return error_id([&] { plmscope::read_pickle(bytes_of(pickle), "x"); });
  };
  for (std::size_t n = 0; n < good.size(); ++n) CHECK(outcome(good.substr(0, n)) != "accepted");
  for (std::size_t i = 0; i < good.size(); ++i) {
    for (int flip = 1; flip < 256; ++flip) {
      std::string changed = good;
      changed[i] = static_cast<char>(changed[i] ^ flip);
      const std::string id = outcome(changed);
      CHECK((id == "accepted" || id.starts_with("io.16")));
    }
  }
}
