#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# fail.sh BUILD FILE.cpp: the file does not compile, the compiler says the sentence of its first line
# (`// expect: SENTENCE`; a line `// expect (clang): SENTENCE` may follow where the words are the
# compiler's), and with -DCONTROL it does compile, so that a typing error cannot pass. Tried with this
# build's compiler and, where installed, with clang++-19, behind the umbrella header of precompiled.sh.
set -euo pipefail
export LC_ALL=C  # plain quotes in messages
build=$1
file=$2
source "$build/tests/compiler.sh"
work=$build/tests/fail
mkdir -p "$work"
name=$(basename "$file" .cpp)
expected=$(sed -nE '1s|^// expect: (.+)$|\1|p' "$file")
expected_clang=$(sed -nE '2s|^// expect \(clang\): (.+)$|\1|p' "$file")
if [[ -z $expected ]]; then
  echo "$file: the first line is not '// expect: SENTENCE'"
  exit 1
fi
compilers=("$cxx")
if [[ $cxx != *clang* ]] && command -v clang++-19 > /dev/null; then
  compilers+=(clang++-19)
fi
for compiler in "${compilers[@]}"; do
  sentence=$expected
  [[ $compiler != *clang* || -z $expected_clang ]] || sentence=$expected_clang
  mapfile -t umbrella < <(cat "$precompiled/${compiler##*/}" 2> /dev/null)
  command=("$compiler" "${umbrella[@]}" "${plain[@]}" -fsyntax-only)
  if ! "${command[@]}" -DCONTROL "$file" > "$work/$name.log" 2>&1; then
    echo "$compiler: the control (-DCONTROL) should compile"
    cat "$work/$name.log"
    exit 1
  fi
  if "${command[@]}" "$file" > "$work/$name.log" 2>&1; then
    echo "$compiler: $file compiles, but should not"
    exit 1
  fi
  if ! grep -qF -- "$sentence" "$work/$name.log"; then
    echo "$compiler: its output does not hold the sentence: $sentence"
    head -n 60 "$work/$name.log"
    exit 1
  fi
  echo "$compiler: refused with the sentence: $sentence"
done
