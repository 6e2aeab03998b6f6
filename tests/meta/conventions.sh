#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# conventions.sh [ROOT]: what every source file has, and what no header has.
set -euo pipefail
cd "${1:-$(dirname "$0")/../..}"
failures=0
complain() {
  echo "$1: $2"
  failures=$((failures + 1))
}
# refuse FILE REGEX MESSAGE: comments do not count.
refuse() {
  local hit
  hit=$(sed 's|//.*||' "$1" | grep -nE -m1 -- "$2" | cut -d: -f1) || return 0
  complain "$1:$hit" "$3"
}

headers=0
while read -r file; do
  headers=$((headers + 1))
  { read -r first && read -r second; } < "$file" || true
  [[ $first == "// SPDX-License-Identifier: MIT" ]] || complain "$file:1" "no SPDX line"
  [[ $second == "#pragma once" ]] || complain "$file:2" "the second line is #pragma once"
  refuse "$file" '^namespace \{|^namespace$' "an anonymous namespace in a header"
  refuse "$file" '^using namespace' "a using directive in a header"
  refuse "$file" '\bstd::(format|expected|mdspan|print)\b' "not in the standard library of g++ 12"
  refuse "$file" '\] *(PLMSCOPE_HD|__host__)' "a lambda for both sides; see PLMSCOPE_DEVICE"
  refuse "$file" '\bstd::(ofstream|endl)\b' "files are written by io/atomic_file.hpp"
  refuse "$file" '\bstd::(stof|stod|strtod|strtof|atof|stringstream|istringstream)\b' \
    "depends on the locale; use std::from_chars"
  if grep -q '^namespace plmscope' "$file"; then
    grep -q '^namespace plmscope::inline PLMSCOPE_ABI {$' "$file" ||
      complain "$file" "opens 'namespace plmscope::inline PLMSCOPE_ABI {'"
  fi
done < <(find include -name '*.hpp' -o -name '*.cuh' | LC_ALL=C sort)

while read -r file; do
  head -n 3 "$file" | grep -q 'SPDX-License-Identifier: MIT' || complain "$file:1" "no SPDX line"
  # A test case outside X_test.cpp would run under no CTest entry.
  [[ $file == *_test.cpp ]] || refuse "$file" '^ *TEST_CASE' "a test case outside of *_test.cpp"
done < <(find examples tests benchmarks cmake -type f \( -name '*.cpp' -o -name '*.cu' -o -name '*.cmake' \
           -o -name '*.sh' -o -name '*.py' -o -name CMakeLists.txt -o -path 'tests/*.hpp' \) | LC_ALL=C sort)

((headers > 0)) || complain include "no header found"
echo "$headers headers, $failures broken conventions"
((failures == 0))
