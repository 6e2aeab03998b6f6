#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# cuda_fail.sh BUILD FILE.cu: as fail.sh, by nvcc: the file does not compile, nvcc says the sentence of
# its first line (`// expect: SENTENCE`), and with -DCONTROL it does compile.
set -euo pipefail
export LC_ALL=C
build=$1
file=$2
source "$build/tests/cuda_compiler.sh"
work=$build/tests/fail
mkdir -p "$work"
name=$(basename "$file" .cu)
expected=$(sed -nE '1s|^// expect: (.+)$|\1|p' "$file")
if [[ -z $expected ]]; then
  echo "$file: the first line is not '// expect: SENTENCE'"
  exit 1
fi
if ! "${compile[@]}" -O0 -DCONTROL -c "$file" -o "$work/$name.o" > "$work/$name.log" 2>&1; then
  echo "the control (-DCONTROL) should compile"
  cat "$work/$name.log"
  exit 1
fi
if "${compile[@]}" -O0 -c "$file" -o "$work/$name.o" > "$work/$name.log" 2>&1; then
  echo "$file compiles, but should not"
  exit 1
fi
if ! grep -qF -- "$expected" "$work/$name.log"; then
  echo "the output of nvcc does not hold the sentence: $expected"
  head -n 60 "$work/$name.log"
  exit 1
fi
echo "nvcc: refused with the sentence: $expected"
