#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# lengths.sh [ROOT]: no source file of include/, examples/, tests/ or benchmarks/ is over 400 lines.
set -euo pipefail
cd "${1:-$(dirname "$0")/../..}"
limit=400
find include examples tests benchmarks -type f \
     \( -name '*.hpp' -o -name '*.cuh' -o -name '*.cpp' -o -name '*.cu' -o -name '*.py' -o -name '*.sh' \
        -o -name '*.js' -o -name '*.css' -o -name '*.html' -o -name '*.cmake' -o -name CMakeLists.txt \) \
     -not -path 'examples/data/*' -not -path 'examples/expected/*' -exec awk '
  FNR == 1 { files++; if (max < lines) { max = lines; longest = name } lines = 0; name = FILENAME }
  { lines++ }
  lines == limit + 1 { print FILENAME ": over " limit " lines"; over++ }
  END {
    if (max < lines) { max = lines; longest = name }
    print files + 0 " files, longest " longest " with " max + 0 " lines, " over + 0 " over " limit
    exit (over > 0 || files == 0)
  }' limit="$limit" {} +
