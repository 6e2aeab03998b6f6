#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# consume.sh BUILD WAY: a foreign project (tests/consume/WAY) finds, builds and runs against plmscope:
# `find_package` from a fresh install prefix, `add_subdirectory` from the sources.
set -euo pipefail
build=$1
way=$2
tests=$(cd "$(dirname "$0")/.." && pwd)
source "$build/tests/compiler.sh"
work=$build/tests/consume_$way
rm -rf "$work"
options=(-DCMAKE_CXX_COMPILER="$cxx" -DCMAKE_BUILD_TYPE=Debug)
if [[ $way == *_cuda ]]; then
  source "$build/tests/cuda_compiler.sh"
  options+=(-DCMAKE_CUDA_ARCHITECTURES=90 -DPLMSCOPE_CUBLAS_ROOT="$cublas_root")
fi
[[ -z $ccache ]] || options+=(-DCMAKE_CXX_COMPILER_LAUNCHER="$ccache")
if [[ $way == find_package* ]]; then
  cmake --install "$build" --prefix "$work/prefix" > "$work.log"
  # Headers only: an architecture or a compiled file in the package would be a mistake.
  if find "$work/prefix" -name '*.so*' -o -name '*.a' -o -type d -name 'lib*' | grep .; then
    echo "the installed package holds something compiled"
    exit 1
  fi
  options+=(-DCMAKE_PREFIX_PATH="$work/prefix")
fi
cmake -S "$tests/consume/$way" -B "$work/build" "${options[@]}" >> "$work.log" || { cat "$work.log"; exit 1; }
cmake --build "$work/build"
ran=0
for program in "$work"/build/foreign*; do
  [[ -f $program && -x $program ]] || continue
  "$program"
  ran=$((ran + 1))
done
((ran > 0))
