#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# output_matches.sh EXPECTED COMMAND...: the command succeeds and prints what EXPECTED says, word by
# word. Where EXPECTED has [LOW..HIGH], the word is a number in that range: what depends on the
# rounding of one processor or provider is stated honestly.
set -euo pipefail
expected=$1
shift
actual=$(mktemp)
trap 'rm -f "$actual"' EXIT
if ! "$@" > "$actual"; then
  cat "$actual"
  echo "failed: $*"
  exit 1
fi
if [[ ! -e $expected ]]; then
  cat "$actual"
  echo "$expected does not exist; the output above would be its content"
  exit 1
fi
awk '
  function number(word) { return word ~ /^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$/ }
  function matches(want, have,   ends, n) {
    if (want == have) return 1
    if (want !~ /^\[[-+.eE0-9]+\.\.[-+.eE0-9]+\]$/) return 0
    n = index(want, "..")
    ends[1] = substr(want, 2, n - 2)
    ends[2] = substr(want, n + 2, length(want) - n - 2)
    return number(have) && have + 0 >= ends[1] + 0 && have + 0 <= ends[2] + 0
  }
  # Every word splits off, with punctuation at its end, so that "[1..2]%" is a range and a sign.
  function same(want, have,   w, h, i, n, m, tail) {
    n = split(want, w)
    m = split(have, h)
    if (n != m) return 0
    for (i = 1; i <= n; i++) {
      if (w[i] == h[i]) continue
      if (match(w[i], /\].*$/)) {
        tail = substr(w[i], RSTART + 1)
        if (tail != "") {
          if (substr(h[i], length(h[i]) - length(tail) + 1) != tail) return 0
          h[i] = substr(h[i], 1, length(h[i]) - length(tail))
          w[i] = substr(w[i], 1, RSTART)
        }
      }
      if (!matches(w[i], h[i])) return 0
    }
    return 1
  }
  NR == FNR { want[FNR] = $0; wanted = FNR; next }
  { lines = FNR }
  FNR > wanted || !same(want[FNR], $0) {
    print "line " FNR
    print "  expected: " (FNR > wanted ? "(nothing)" : want[FNR])
    print "  printed:  " $0
    bad++
  }
  END {
    if (lines < wanted) { print "expected " wanted " lines, printed " lines + 0 "; next: " want[lines + 1]; bad++ }
    if (bad == 0) print "the output is as committed"
    exit (bad > 0)
  }' "$expected" "$actual"
