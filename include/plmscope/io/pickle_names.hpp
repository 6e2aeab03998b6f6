// SPDX-License-Identifier: MIT
#pragma once

#include <plmscope/config.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <string_view>

namespace plmscope::inline PLMSCOPE_ABI {

/// What a pickle may name. A name is text that is compared, never something that is looked up or
/// run; the lists below decide what becomes of it.
namespace pickle_names {

/// What calling a name gives.
enum class meaning {
  unknown,
  dict,         ///< no arguments, or a list of pairs; a factory is ignored
  set,          ///< of the entries of one list
  tuple,        ///< of the entries of one tuple or list
  bytes,        ///< `_codecs.encode(text, "latin1")`: how bytes look in protocol 2
  description,  ///< an object that holds name and arguments
};

struct call {
  std::string_view name;
  meaning gives;
};

/// Everything that REDUCE may name. Classes that are instantiated in the usual way of protocol 2
/// (NEWOBJ and BUILD) need no entry: they are always descriptions.
inline constexpr std::array<call, 47> calls{{
    {"collections.OrderedDict", meaning::dict},
    {"collections.defaultdict", meaning::dict},
    {"builtins.dict", meaning::dict},
    {"builtins.set", meaning::set},
    {"builtins.frozenset", meaning::set},
    {"__builtin__.set", meaning::set},
    {"__builtin__.frozenset", meaning::set},
    {"torch.Size", meaning::tuple},
    {"_codecs.encode", meaning::bytes},
    {"torch._utils._rebuild_tensor", meaning::description},
    {"torch._utils._rebuild_tensor_v2", meaning::description},
    {"torch._utils._rebuild_tensor_v3", meaning::description},
    {"torch._utils._rebuild_parameter", meaning::description},
    {"torch._utils._rebuild_parameter_with_state", meaning::description},
    {"torch._tensor._rebuild_from_type_v2", meaning::description},
    {"torch.device", meaning::description},
    {"torch.serialization._get_layout", meaning::description},
    {"torch.torch_version.TorchVersion", meaning::description},
    {"argparse.Namespace", meaning::description},
    {"types.SimpleNamespace", meaning::description},
    {"copyreg._reconstructor", meaning::description},
    {"copy_reg._reconstructor", meaning::description},
    {"numpy.dtype", meaning::description},
    {"numpy.ndarray", meaning::description},
    {"numpy.core.multiarray.scalar", meaning::description},
    {"numpy.core.multiarray._reconstruct", meaning::description},
    {"numpy._core.multiarray.scalar", meaning::description},
    {"numpy._core.multiarray._reconstruct", meaning::description},
    {"builtins.complex", meaning::description},
    {"__builtin__.complex", meaning::description},
    {"builtins.range", meaning::description},
    {"builtins.slice", meaning::description},
    {"builtins.bytearray", meaning::description},
    {"pathlib.Path", meaning::description},
    {"pathlib.PurePath", meaning::description},
    {"pathlib.PosixPath", meaning::description},
    {"pathlib.PurePosixPath", meaning::description},
    {"pathlib.WindowsPath", meaning::description},
    {"pathlib._local.PosixPath", meaning::description},
    {"datetime.datetime", meaning::description},
    {"datetime.date", meaning::description},
    {"datetime.timedelta", meaning::description},
    {"datetime.timezone", meaning::description},
    {"decimal.Decimal", meaning::description},
    {"fractions.Fraction", meaning::description},
    {"uuid.UUID", meaning::description},
    {"functools.partial", meaning::description},
}};

constexpr meaning meaning_of(std::string_view name) noexcept {
  const auto at =
      std::find_if(calls.begin(), calls.end(), [&](const call& c) { return c.name == name; });
  return at == calls.end() ? meaning::unknown : at->gives;
}

/// Modules that act on the system, the interpreter or the network: no file of weights names them.
inline constexpr std::array<std::string_view, 34> acting_modules{
    "os",         "posix",   "nt",      "posixpath",  "ntpath",          "sys",
    "subprocess", "shutil",  "socket",  "importlib",  "runpy",           "pty",
    "ctypes",     "pickle",  "_pickle", "marshal",    "webbrowser",      "operator",
    "_operator",  "asyncio", "signal",  "threading",  "multiprocessing", "platform",
    "tempfile",   "pdb",     "timeit",  "pip",        "urllib",          "requests",
    "http",       "smtplib", "dill",    "cloudpickle"};

/// Of the built-in names only plain types are harmless.
inline constexpr std::array<std::string_view, 18> plain_builtins{
    "set", "frozenset", "bytearray", "bytes", "complex", "range", "slice", "object",  "float",
    "int", "bool",      "str",       "list",  "dict",    "tuple", "type",  "unicode", "long"};

/// Whether a name stands for something that acts: `os.system`, `builtins.eval`, `torch.hub.load`.
constexpr bool acts(std::string_view module, std::string_view name) noexcept {
  const std::string_view top = module.substr(0, module.find('.'));
  if (top == "builtins" || top == "__builtin__") {
    return std::find(plain_builtins.begin(), plain_builtins.end(), name) == plain_builtins.end();
  }
  if (module == "torch.hub" || module == "torch.utils.cpp_extension") return true;
  if (name == "load" || name == "_load" || name == "_load_from_bytes") {
    return module == "torch" || module == "torch.serialization" || module == "torch.storage";
  }
  return std::find(acting_modules.begin(), acting_modules.end(), top) != acting_modules.end();
}

}  // namespace pickle_names
}  // namespace plmscope::inline PLMSCOPE_ABI
