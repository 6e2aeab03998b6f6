#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# cuda_headers.sh BUILD: every .cuh compiles alone and twice in one file by nvcc, without a warning.
set -euo pipefail
cd "$(dirname "$0")/../.."
source "$1/tests/cuda_compiler.sh"
work=$1/tests/cuda_headers
mkdir -p "$work"
bad=0
count=0
while read -r header; do
  name=${header//\//.}
  count=$((count + 1))
  printf '#include <%s>\n#include <%s>\n' "$header" "$header" > "$work/$name.cu"
  if ! "${compile[@]}" -Werror=all-warnings -O0 -c "$work/$name.cu" -o "$work/$name.o" > "$work/$name.log" 2>&1; then
    echo "--- $header does not compile alone"
    head -n 30 "$work/$name.log"
    bad=$((bad + 1))
  fi
done < <(cd include && find plmscope -name '*.cuh' -o -path '*/thrust/*.hpp' | LC_ALL=C sort)
echo "$count headers, $bad do not compile alone"
((bad == 0 && count > 0))
