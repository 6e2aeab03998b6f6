#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# store_kill.sh BUILD: `plmscope harvest` is killed (SIGKILL) at random moments until a run gets to its
# end. Every file under its final name must survive unchanged, and the finished store must be byte for
# byte that of a run nobody disturbed. Then two processes write one folder at once, a full disk is
# imitated by a limit on file sizes, a damaged store is refused, and an SAE trained from a store is the
# one trained on the fly.
set -euo pipefail
cd "$(dirname "$0")/../.."
source "$1/tests/compiler.sh"
if [[ ! -x $program ]]; then
  echo "skipped: the program is not built"
  exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
head -n 81 examples/data/uniprot_demo.tsv > "$work/proteins.tsv"
harvest=("$program" harvest examples/data/esm2_mini "$work/proteins.tsv" --sites resid_post.1,final_norm
         --shard-size 1MiB --tokens 1024 --threads 1)
same() { diff -r --exclude=.lock "$1" "$2" || { echo "$1 and $2 differ"; exit 1; }; }

start=$EPOCHREALTIME
"${harvest[@]}" --out "$work/whole" > "$work/log" 2>&1 || { cat "$work/log"; exit 1; }
length=$(awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { print b - a }')
shards=$(find "$work/whole" -name 'activations-*' | wc -l)
((shards >= 5)) || { echo "only $shards shards"; exit 1; }
estimate=$("${harvest[@]}" --out "$work/none" --dry-run --json | grep -m1 '"bytes"' | tr -dc 0-9)
actual=$(cat "$work"/whole/activations-* | wc -c)
[[ $estimate == "$actual" ]] || { echo "estimated $estimate bytes, written $actual"; exit 1; }
[[ ! -e $work/none ]] || { echo "--dry-run wrote something"; exit 1; }

RANDOM=20260822
kills=0
for ((round = 0; round < 40; round++)); do
  "${harvest[@]}" --out "$work/killed" > "$work/log" 2>&1 &
  pid=$!
  # Anywhere in the time of a whole run; later rounds wait longer, so that the loop ends.
  sleep "$(awk -v r=$RANDOM -v n=$round -v t="$length" 'BEGIN { print t * (0.3 + n / 20) * r / 32768 }')"
  if ! kill -9 "$pid" 2> /dev/null; then
    wait "$pid" || { cat "$work/log"; exit 1; }
    break
  fi
  wait "$pid" 2> /dev/null && break
  kills=$((kills + 1))
  for file in "$work"/killed/activations-*; do
    [[ ! -e $file ]] || cmp "$file" "$work/whole/${file##*/}"
  done
  (($(find "$work/killed" -name '.*.tmp-*' 2> /dev/null | wc -l) <= 1)) ||
    { echo "more than one temporary file"; ls -la "$work/killed"; exit 1; }
done
"${harvest[@]}" --out "$work/killed" > "$work/log" 2>&1 || { cat "$work/log"; exit 1; }
same "$work/whole" "$work/killed"
((kills > 0)) || { echo "no run was killed"; exit 1; }

"${harvest[@]}" --out "$work/two" --part 1/2 > "$work/log" 2>&1 &
"${harvest[@]}" --out "$work/two" --part 2/2 > "$work/log2" 2>&1
wait $! || { cat "$work/log"; exit 1; }
same "$work/whole" "$work/two"

status=0
(ulimit -f 900; trap '' XFSZ; "${harvest[@]}" --out "$work/full") > "$work/log" 2>&1 || status=$?
((status == 6)) || { cat "$work/log"; echo "status $status on a full disk"; exit 1; }
[[ -z $(find "$work/full" -name 'activations-*' -o -name '*tmp*') ]] || { ls -la "$work/full"; exit 1; }

"$program" verify "$work/whole" > /dev/null 2>&1
victim=$(find "$work/whole" -name 'activations-*' | sort | sed -n 3p)
printf '\x55' | dd of="$victim" bs=1 seek=70000 conv=notrunc 2> /dev/null
status=0
"$program" verify "$work/whole" > /dev/null 2> "$work/log" || status=$?
((status == 3)) && grep -q 'plmscope.acts.115' "$work/log" || { cat "$work/log"; echo "status $status"; exit 1; }
# Training from a store of f32 gives the bytes of training on the fly, more rows than the buffer holds.
"${harvest[@]}" --out "$work/exact" --dtype f32 > "$work/log" 2>&1 || { cat "$work/log"; exit 1; }
train() {
  "$program" train "$@" --site resid_post.1 --features 256 --k 4 --steps 5 --batch 128 --seed 7 \
    --buffer 9000 > "$work/log" 2>&1 || { cat "$work/log"; exit 1; }
}
train examples/data/esm2_mini "$work/proteins.tsv" --out "$work/fly.safetensors"
train --store "$work/exact" --order proteins --out "$work/stored.safetensors"
cmp "$work/fly.safetensors" "$work/stored.safetensors"
train --store "$work/exact" --out "$work/runs.safetensors"
! cmp -s "$work/fly.safetensors" "$work/runs.safetensors" || { echo "two orders, the same SAE"; exit 1; }

echo "$kills kills, $shards shards, the same bytes"
