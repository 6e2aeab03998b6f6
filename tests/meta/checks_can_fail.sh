#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# checks_can_fail.sh BUILD: a check that cannot fail is worth nothing. Each check of this folder gets
# a small tree that it must pass and one that it must refuse, with the reason.
set -euo pipefail
build=$1
meta=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
done_checks=0
wrong=0

accepts() {  # COMMAND...
  done_checks=$((done_checks + 1))
  "$@" > "$work/said" 2>&1 || { echo "should pass: $*"; cat "$work/said"; wrong=$((wrong + 1)); }
}
refuses() {  # REASON COMMAND...
  local reason=$1
  shift
  done_checks=$((done_checks + 1))
  if "$@" > "$work/said" 2>&1; then
    echo "should fail: $*"
    wrong=$((wrong + 1))
  elif ! grep -qF -- "$reason" "$work/said"; then
    echo "fails, but not because of '$reason': $*"
    cat "$work/said"
    wrong=$((wrong + 1))
  fi
}
fresh() { rm -rf "$work/tree"; mkdir -p "$work/tree"/{include/plmscope/{core,sae,plm,io,backend},examples,tests,benchmarks,docs,cmake}; }
put() { printf '%b' "$2" > "$work/tree/$1"; }
top='// SPDX-License-Identifier: MIT\n#pragma once\n'
in_tree=include/plmscope

# Layers.
fresh
put $in_tree/core/error.hpp "$top#include <string>\n"
put $in_tree/sae/sae.hpp "$top#include <plmscope/core/error.hpp>\n"
accepts bash "$meta/layers.sh" "$work/tree"
while IFS='|' read -r file include reason; do
  put "$in_tree/other.hpp" "$top"
  put "$in_tree/plm/esm2.hpp" "$top"
  put "$in_tree/core/kernel.cuh" "$top"
  put "$in_tree/$file" "$top  # include  $include  // why\n"
  refuses "$reason" bash "$meta/layers.sh" "$work/tree"
  rm "$work/tree/$in_tree/$file"
done << 'CASES'
sae/bad.hpp|<plmscope/plm/esm2.hpp>|sae includes <plmscope/plm/esm2.hpp>
core/bad.hpp|<plmscope/sae/sae.hpp>|core includes <plmscope/sae/sae.hpp>
core/bad.hpp|<plmscope/core/kernel.cuh>|which needs nvcc
sae/bad.hpp|<Eigen/Dense>|<Eigen/Dense> is not included here
sae/bad.hpp|<xtensor/xarray.hpp>|is not included here
io/bad.hpp|<zlib.h>|<zlib.h> is not included here
plm/bad.hpp|<fmt/format.h>|<fmt/format.h> is not included here
core/bad.hpp|"error.hpp"|own headers are <plmscope/...>
core/bad.hpp|<plmscope/core/gone.hpp>|does not exist
CASES
mkdir -p "$work/tree/$in_tree/utils"
put $in_tree/utils/bits.hpp "$top"
refuses "'utils' is not a layer" bash "$meta/layers.sh" "$work/tree"
rm -rf "$work/tree/include"
refuses "No such file" bash "$meta/layers.sh" "$work/tree"

# Lengths.
fresh
yes '// line' 2> /dev/null | head -n 400 > "$work/tree/tests/long.cpp" || true
accepts bash "$meta/lengths.sh" "$work/tree"
echo '// one more' >> "$work/tree/tests/long.cpp"
refuses "tests/long.cpp: over 400 lines" bash "$meta/lengths.sh" "$work/tree"

# Conventions.
while IFS='|' read -r text reason; do
  fresh
  put $in_tree/core/x.hpp "${text//TOP/$top}"
  refuses "$reason" bash "$meta/conventions.sh" "$work/tree"
done << 'CASES'
#pragma once\n|no SPDX line
// SPDX-License-Identifier: MIT\n#ifndef X\n|the second line is #pragma once
TOPnamespace {\n}\n|an anonymous namespace in a header
TOPnamespace plmscope {\n}\n|opens 'namespace plmscope::inline
TOPusing namespace std;\n|a using directive
TOPauto s = std::format("");\n|not in the standard library of g++ 12
TOPstd::ofstream f;\n|atomic_file
TOPauto x = std::stod("1");\n|locale
TOPauto f = [] PLMSCOPE_HD(int i) { return i; };\n|a lambda for both sides
CASES
fresh
put $in_tree/core/x.hpp "${top}namespace plmscope::inline PLMSCOPE_ABI {\n// std::format, in a comment\n}\n"
put tests/x_test.cpp "// SPDX-License-Identifier: MIT\nTEST_CASE(\"x\") {}\n"
accepts bash "$meta/conventions.sh" "$work/tree"
put tests/x.cpp "// SPDX-License-Identifier: MIT\nTEST_CASE(\"x\") {}\n"
refuses "a test case outside" bash "$meta/conventions.sh" "$work/tree"

# The error table.
kinds='enum class error_kind : int {\n  usage = 2,  ///< arguments\n  io = 6  ///< system\n};\n'
rule='inline constexpr error_rule file_open{"io.501", error_kind::io, "the file must open"};\n'
fresh
put $in_tree/core/error.hpp "$top$kinds"
put $in_tree/io/rules.hpp "$top$rule"
put $in_tree/io/file.hpp "${top}throw error(rules::file_open, {});\n"
bash "$meta/errors.sh" "$work/tree" > "$work/errors.md"
cp "$work/errors.md" "$work/tree/docs/errors.md"
accepts bash "$meta/errors.sh" "$work/tree" --check
grep -qF '| `io.501` | io | 6 | the file must open | `io/rules.hpp` |' "$work/errors.md" || {
  echo "the error table lacks its row"
  wrong=$((wrong + 1))
}
sed -i 's/must open/should open/' "$work/tree/docs/errors.md"
refuses "not what the headers say" bash "$meta/errors.sh" "$work/tree" --check
put $in_tree/io/rules.hpp "$top$rule${rule/file_open/file_close}"
refuses "the id io.501 is already" bash "$meta/errors.sh" "$work/tree"
put $in_tree/io/rules.hpp "$top${rule/, error_kind::io/}"
refuses "not of the form" bash "$meta/errors.sh" "$work/tree"
put $in_tree/io/rules.hpp "$top${rule/kind::io/kind::unknown}"
refuses "unknown kind" bash "$meta/errors.sh" "$work/tree"
put $in_tree/io/rules.hpp "$top$rule${rule//5/6}"
refuses "a rule called file_open" bash "$meta/errors.sh" "$work/tree"
put $in_tree/io/rules.hpp "$top${rule/501/502}${rule/file_open/never}"
refuses "(never) is declared, but nothing throws it" bash "$meta/errors.sh" "$work/tree" --check

# Links.
fresh
put docs/page.md '# A Page: one\n[up](../README.md#top-of-it) and [here](#a-page-one)\n'
put README.md '# Top of it\n'
accepts bash "$meta/links.sh" "$work/tree"
put docs/page.md '[gone](gone.md)\n'
refuses "the link to gone.md leads nowhere" bash "$meta/links.sh" "$work/tree"
put docs/page.md '[gone](../README.md#gone)\n'
refuses "has no heading #gone" bash "$meta/links.sh" "$work/tree"

# Compile-fail tests.
put tests/a.cpp '// expect: no such thing\nint x = 1;\n'
refuses "compiles, but should not" bash "$meta/fail.sh" "$build" "$work/tree/tests/a.cpp"
put tests/a.cpp '// expect: no such thing\n#ifndef CONTROL\nint x = y;\n#endif\n'
refuses "does not hold the sentence" bash "$meta/fail.sh" "$build" "$work/tree/tests/a.cpp"
put tests/a.cpp '// expect: y\nint x = y;\n'
refuses "the control (-DCONTROL) should compile" bash "$meta/fail.sh" "$build" "$work/tree/tests/a.cpp"
put tests/a.cpp 'int x = y;\n'
refuses "the first line is not" bash "$meta/fail.sh" "$build" "$work/tree/tests/a.cpp"

# Committed output.
put expected 'loss 1.5\nshare [0.2..0.4], done\n'
accepts bash "$meta/output_matches.sh" "$work/tree/expected" printf 'loss 1.5\nshare 0.31, done\n'
refuses "line 2" bash "$meta/output_matches.sh" "$work/tree/expected" printf 'loss 1.5\nshare 0.41, done\n'
refuses "line 2" bash "$meta/output_matches.sh" "$work/tree/expected" printf 'loss 1.5\nshare nan, done\n'
refuses "line 2" bash "$meta/output_matches.sh" "$work/tree/expected" printf 'loss 1.5\nshare 0.31; done\n'
refuses "line 1" bash "$meta/output_matches.sh" "$work/tree/expected" printf 'loss 1.6\nshare 0.31, done\n'
refuses "expected 2 lines" bash "$meta/output_matches.sh" "$work/tree/expected" printf 'loss 1.5\n'
refuses "line 3" bash "$meta/output_matches.sh" "$work/tree/expected" printf 'loss 1.5\nshare 0.31, done\nx\n'
refuses "failed: false" bash "$meta/output_matches.sh" "$work/tree/expected" false

# Code blocks of the documentation, against a program that knows one subcommand with one flag.
fresh
export PLMSCOPE_DOCS_ROOT=$work/tree
mkdir -p "$work/build/tests"
sed -E "s|^program=.*|program='$work/program'|;s|^jobs=.*|jobs=2|" "$build/tests/compiler.sh" > "$work/build/tests/compiler.sh"
printf '#!/bin/sh\necho "Subcommands:"; echo "  embed   text"; echo "  --out FILE"; echo "  --help"\n' > "$work/program"
chmod +x "$work/program"
blocks() { bash "$meta/code_blocks.sh" "$work/build" "$1"; }
page() { put docs/page.md "$1"; }
page '# Page\n```bash\n./run plmscope embed --out x.txt | cat --anything\n```\n<!-- not compiled: a sketch -->\n```text\nanything {\n```\n'
accepts blocks bash
page '```bash\n./run plmscope embed \\\\\n  --nothing\n```\n'
refuses "has no flag --nothing" blocks bash
page '```bash\n./run plmscope nothing\n```\n'
refuses "has no subcommand 'nothing'" blocks bash
page '```bash\nif true; then\n```\n'
refuses "does not parse" blocks bash
page '```python\nx\n```\n'
refuses "a block of 'python'" blocks bash
page '<!-- not compiled: lazy -->\n```cpp\nx\n```\n'
refuses "only bash and text may stay unchecked" blocks bash
page '```text\nopen\n'
refuses "not closed" blocks bash
page '<!-- run -->\n```bash\n./run false\n```\n'
put run 'exit 3\n' && chmod +x "$work/tree/run"
refuses "failed" blocks run
page '<!-- run -->\n```bash\nrm nothing\n```\n'
refuses "holds only ./run commands" blocks run
page '```cmake\nfind_package(plmscope 0.1 REQUIRED)\n```\n'
accepts blocks cmake
page '```cmake\nfind_package(plmscop REQUIRED)\n```\n'
refuses "not in tests/consume" blocks cmake
if [[ -e $meta/../../include/plmscope/plmscope.hpp ]]; then
  page '```cpp\n#include <vector>\n// A type.\nstruct twice {\n  int operator()(int x) const { return 2 * x; }\n};\nconst int four = twice{}(2);\n```\n<!-- continues -->\n```cpp\nstd::vector<int> all(\n    static_cast<unsigned>(four));\n```\n'
  accepts blocks cpp
  page '```cpp\nint main() { return missing; }\n```\n'
  refuses "docs/page.md:1 does not compile" blocks cpp
fi

echo "$done_checks checks of the checks, $wrong wrong"
((wrong == 0))
