#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# precompiled.sh BUILD: the umbrella header, precompiled for the checks that compile many short files
# behind it: code_blocks.sh and fail.sh. Whoever includes it gets the same, in a tenth of the time.
set -euo pipefail
cd "$(dirname "$0")/../.."
source "$1/tests/compiler.sh"
rm -rf "${precompiled:?}"
mkdir -p "$precompiled/plmscope"
ln -s "$PWD/include/plmscope/plmscope.hpp" "$precompiled/plmscope/plmscope.hpp"
compilers=("$cxx")
if [[ $cxx != *clang* ]] && command -v clang++-19 > /dev/null; then compilers+=(clang++-19); fi
for compiler in "${compilers[@]}"; do
  # The arguments of its user, a line each. g++ takes NAME.gch where it finds NAME.
  file=$precompiled/plmscope/plmscope.hpp.gch
  arguments=(-I "$precompiled" -include plmscope/plmscope.hpp)
  if [[ $compiler == *clang* ]]; then
    file=$precompiled/plmscope.pch
    arguments=(-include-pch "$file")
  fi
  "$compiler" "${plain[@]}" -x c++-header "$precompiled/plmscope/plmscope.hpp" -o "$file"
  printf '%s\n' "${arguments[@]}" > "$precompiled/${compiler##*/}"
done
ls -s "$precompiled"
