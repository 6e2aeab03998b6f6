#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# code_blocks.sh BUILD KIND: the code blocks of README.md and docs/**/*.md are true.
#   cpp     every C++ block compiles
#   cuda    every CUDA block compiles by nvcc
#   bash    every bash block parses, and `./run plmscope SUBCOMMAND --flag` exists in its --help
#   run     the bash blocks marked <!-- run --> succeed (10 minutes each at most)
#   cmake   every line of a CMake block stands in a CMakeLists.txt of tests/consume, which are built
# How a block becomes a file, and the marks, are described in code_blocks.awk.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "${PLMSCOPE_DOCS_ROOT:-$here/../..}"
build=$1
kind=$2
source "$build/tests/compiler.sh"
work=$build/tests/code_blocks_$kind
rm -rf "${work:?}"
mkdir -p "$work"
mapfile -t pages < <(find README.md docs -name '*.md' 2> /dev/null | LC_ALL=C sort)
if ((${#pages[@]} == 0)); then
  echo "skipped: there is no README.md and no page in docs yet"
  exit 0
fi
awk -v out="$work" -f "$here/code_blocks.awk" "${pages[@]}" > "$work/index"

count=0
bad=0
fail() {
  echo "$1: $2"
  bad=$((bad + 1))
}

check_flags() {  # FILE PLACE: the flags of every plmscope command line of a bash block
  local command subcommand word help
  while read -r command; do
    subcommand=
    help=$("$program" --help)
    for word in $command; do
      case $word in
        "|" | "||" | "&&" | ";" | ">" | "#"*) break ;;
        -[0-9]* | -) ;;
        -*)
          grep -qE -- "(^|[ ,])${word%%=*}([ ,=]|\$)" <<< "$help" ||
            fail "$2" "'plmscope $subcommand' has no flag ${word%%=*}" ;;
        *)
          if [[ -z $subcommand ]]; then
            subcommand=$word
            if ! grep -qE "^ +$subcommand( |\$)" <<< "$help"; then
              fail "$2" "plmscope has no subcommand '$subcommand'"
              break
            fi
            help+=$'\n'$("$program" "$subcommand" --help)
          fi ;;
      esac
    done
  done < <(sed -e ':join' -e '/\\$/{N;s/\\\n */ /;b join' -e '}' "$1" |
           sed -nE 's/^ *([A-Z_]+=[^ ]+ )*(\.\/run )?plmscope +(.*)$/\3/p')
}

case $kind in
  cpp)
    awk -F '\t' '$1 == "cpp"' "$work/index" > "$work/list"
    count=$(wc -l < "$work/list")
    compile_block() {
      source "$1/tests/compiler.sh"
      # Every block includes the umbrella header first; precompiled.sh may have been there.
      mapfile -t umbrella < <(cat "$precompiled/${cxx##*/}" 2> /dev/null)
      if ! "$cxx" "${umbrella[@]}" "${plain[@]}" -fsyntax-only "$2" > "$2.log" 2>&1; then
        echo "--- $3 does not compile"
        grep -E 'error|required from here' "$2.log" | head -n 12
        touch "$2.failed"
      fi
    }
    export -f compile_block
    awk -F '\t' '{ print $3; print $4 }' "$work/list" |
      xargs -r -P "$jobs" -n 2 bash -c 'compile_block "$0" "$1" "$2"' "$build"
    bad=$(find "$work" -name '*.failed' | wc -l) ;;
  cuda)
    if [[ ! -e $build/tests/cuda_compiler.sh ]]; then
      echo "skipped: this build has no nvcc"
      exit 0
    fi
    source "$build/tests/cuda_compiler.sh"
    while IFS=$'\t' read -r language mark file place; do
      [[ $language == cuda ]] || continue
      count=$((count + 1))
      cp "$file" "$file.cu"
      "${compile[@]}" -O0 -c "$file.cu" -o "$file.o" > "$file.log" 2>&1 ||
        fail "$place" "does not compile: $(grep -m1 error "$file.log")"
    done < "$work/index" ;;
  bash)
    while IFS=$'\t' read -r language mark file place; do
      [[ $language == bash ]] || continue
      count=$((count + 1))
      bash -n "$file" || fail "$place" "does not parse"
      if [[ -x $program ]]; then check_flags "$file" "$place"; fi
    done < "$work/index"
    [[ -x $program ]] || echo "the program is not built: its flags were not checked"
    unchecked=$(awk -F '\t' '$2 ~ /^not compiled/' "$work/index" | wc -l)
    echo "$unchecked blocks marked as not compiled"
    awk -F '\t' '$2 ~ /^not compiled/ { print "  " $4 " " $2 }' "$work/index" ;;
  run)
    # In a folder that looks like this one but has no results of earlier runs.
    mkdir "$work/here"
    for entry in * ; do
      [[ $entry == out || $entry == build ]] || ln -s "$PWD/$entry" "$work/here/$entry"
    done
    cd "$work/here"
    while IFS=$'\t' read -r language mark file place; do
      [[ $mark == run ]] || continue
      count=$((count + 1))
      echo "--- $place"
      if grep -qvE '^ *(#|$|\./run |[^.]*\\$|  )' "$file"; then
        fail "$place" "a block that runs holds only ./run commands"
      elif ! PLMSCOPE_BUILD=$build PLMSCOPE_USE_BUILT=1 timeout 600 bash -eu "$file" < /dev/null; then
        fail "$place" "failed"
      fi
    done < "$work/index" ;;
  cmake)
    cat "$here"/../consume/*/CMakeLists.txt > "$work/known"
    while IFS=$'\t' read -r language mark file place; do
      [[ $language == cmake ]] || continue
      count=$((count + 1))
      while read -r line; do
        grep -qF -- "$line" "$work/known" || fail "$place" "not in tests/consume: $line"
      done < <(grep -vE '^ *(#|$)' "$file" | sed 's/ *#.*//;s/^ *//')
    done < "$work/index" ;;
esac
echo "$count blocks of ${#pages[@]} pages, $bad wrong"
((bad == 0))
