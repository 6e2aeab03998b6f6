#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# program.sh PROGRAM: the program with --backend cuda says what it says with --backend cpu, and the same
# bytes twice.
set -euo pipefail
program=$1
here=$(cd "$(dirname "$0")/../.." && pwd)
model=$here/examples/data/esm2_mini
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
printf '>a\nMKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVG\n>b\nMSKGEELFTG\n>c\nG\n' > few.fasta
head -n 12 "$here/examples/data/uniprot_demo.tsv" > few.tsv

# same FILE FILE: the same words, and numbers within 0.1 % of each other.
same() {
  awk -v names="$1 and $2" '
    function number(w) { return w ~ /^-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?$/ }
    function abs(x) { return x < 0 ? -x : x }
    { gsub(/[,:%"]/, " ") }
    NR == FNR { want[FNR] = $0; lines = FNR; next }
    {
      others = FNR
      n = split(want[FNR], w)
      m = split($0, h)
      good = n == m
      for (i = 1; i <= n && good; i++) {
        good = w[i] == h[i] || (number(w[i]) && number(h[i]) && \
               abs(w[i] - h[i]) <= 1e-3 * abs(w[i]) + 2e-4)
      }
      if (!good) { print names ", line " FNR ": " want[FNR] "   " $0; bad = 1 }
    }
    END { if (others != lines) { print names ": " lines " and " others + 0 " lines"; bad = 1 } exit bad }
  ' "$1" "$2"
}
# both COMMAND...: on either backend, with the same result.
both() {
  "$program" "$@" --backend cpu > cpu.txt
  "$program" "$@" --backend cuda > cuda.txt
  same cpu.txt cuda.txt
}

both score "$model" few.fasta --json
for sparsifier in top_k batch_top_k; do
  both train "$model" few.tsv --features 64 --k 4 --steps 6 --batch 64 --sparsifier "$sparsifier" --out sae
done
cp sae once
"$program" train "$model" few.tsv --features 64 --k 4 --steps 6 --batch 64 --sparsifier batch_top_k \
  --backend cuda --out sae > again.txt
cmp sae once
both fidelity sae --model "$model" --proteins few.fasta --json
"$program" harvest "$model" few.fasta --sites resid_post.1 --precision bf16 --backend cuda --out store
"$program" verify store
echo "both backends agree"
