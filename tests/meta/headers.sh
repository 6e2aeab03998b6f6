#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# headers.sh BUILD [FILTER]: every header compiles alone and twice in one file, without a warning.
# BUILD/tests/compiler.sh says how this build compiles and which headers' libraries are missing.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=$1
filter=${2:-}
source "$build/tests/compiler.sh"
work=$build/tests/headers
mkdir -p "$work"

# With a list of what it read (-MD), ccache need not preprocess by itself first.
check() {
  local header=$1 name=${1//\//.}
  printf '#include <%s>\n#include <%s>\n' "$header" "$header" > "$work/$name.cpp"
  if ! CCACHE_DEPEND=1 $ccache "${compile[@]}" -fsyntax-only -MD -MF "$work/$name.d" "$work/$name.cpp" \
    > "$work/$name.log" 2>&1; then
    echo "--- $header does not compile alone"
    head -n 30 "$work/$name.log"
    touch "$work/$name.failed"
  fi
}
export -f check
export work

rm -f "$work"/*.failed
(cd include && find plmscope -name '*.hpp' | LC_ALL=C sort) | grep -F -- "$filter" |
  grep -vxF -f <(printf '%s\n' "${left_out[@]:-none}") > "$work/list"
# A function travels to the workers of xargs through the environment, an array does not.
xargs -P "$jobs" -n 1 bash -c 'source "$0/tests/compiler.sh"; check "$1"' "$build" < "$work/list"
count=$(wc -l < "$work/list")
bad=$(find "$work" -name '*.failed' | wc -l)
[[ ${#left_out[@]} -eq 0 ]] || echo "left out, library not installed: ${left_out[*]}"
echo "$count headers, $bad do not compile alone"
((bad == 0 && count > 0))
