#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# train_kill.sh BUILD: `plmscope train` is killed (SIGKILL) at random moments and resumed until a run gets
# to its end: the SAE has the bytes of a training that nobody disturbed, on activations computed on the
# fly and on those of a store, and the log has the same lines. Then SIGTERM, other options, and a
# damaged checkpoint.
set -euo pipefail
cd "$(dirname "$0")/../.."
source "$1/tests/compiler.sh"
if [[ ! -x $program ]]; then
  echo "skipped: the program is not built"
  exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
head -n 61 examples/data/uniprot_demo.tsv > "$work/proteins.tsv"
fly=(examples/data/esm2_mini "$work/proteins.tsv")
stored=(--store "$work/store")
options=(--site resid_post.1 --features 384 --k 8 --steps 240 --batch 128 --buffer 5000 --seed 7
         --dead-after 2000 --threads 1)
die() { cat "$work/log"; echo "$1"; exit 1; }
train() { "$program" train "$@" "${options[@]}" > "$work/log" 2>&1; }
lines() { sed 's/,"seconds":.*//' "$1"; }
"$program" harvest "${fly[@]}" --sites resid_post.1 --out "$work/store" --shard-size 1MiB > "$work/log" 2>&1 ||
  die "no store"

RANDOM=20260822
kills=0
late=0
for kind in fly stored; do
  declare -n rows=$kind
  out=$work/$kind.safetensors
  start=$EPOCHREALTIME
  train "${rows[@]}" --out "$work/whole.safetensors" --metrics "$work/whole.jsonl" || die "no SAE"
  length=$(awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { print b - a }')
  saving=("${rows[@]}" "${options[@]}" --out "$out" --metrics "$work/$kind.jsonl" --checkpoint-every 10 --resume)
  for ((round = 0; round < 6; round++)); do
    "$program" train "${saving[@]}" > "$work/log" 2>&1 &
    pid=$!
    sleep "$(awk -v r=$RANDOM -v t="$length" 'BEGIN { print t * (0.2 + 0.7 * r / 32768) }')"
    if ! kill -9 "$pid" 2> /dev/null; then
      wait "$pid" || die "a resumed training failed"
      break
    fi
    wait "$pid" 2> /dev/null && break
    kills=$((kills + 1))
    [[ ! -e $out ]] || cmp "$out" "$work/whole.safetensors"
    [[ ! -e $out.checkpoints/step-000000000010.safetensors ]] && late=$((late + 1))
    (($(find "$out.checkpoints" -name '.*.tmp-*' 2> /dev/null | wc -l) <= 1)) || die "temporary files stay"
  done
  "$program" train "${saving[@]}" > "$work/log" 2>&1 || die "the last resumed training failed"
  cmp "$out" "$work/whole.safetensors"
  cmp <(lines "$work/$kind.jsonl") <(lines "$work/whole.jsonl")
  (($(find "$out.checkpoints" -name 'step-*' | wc -l) == 2)) || die "not two checkpoints"
done
((kills > 2)) || die "only $kills kills"
((late > 0)) || die "no run was killed after a checkpoint"

# Asked to stop, it saves its state and says so; resumed, it ends with the same bytes.
gentle=(--out "$work/gentle.safetensors" --checkpoint-every 100000)
"$program" train "${stored[@]}" "${options[@]}" "${gentle[@]}" > "$work/log" 2>&1 &
pid=$!
sleep "$(awk -v t="$length" 'BEGIN { print t * 0.5 }')"
kill -TERM "$pid" 2> /dev/null || true
status=0
wait "$pid" || status=$?
if ((status != 0)); then
  ((status == 8)) && grep -q 'plmscope.train.127' "$work/log" || die "status $status after SIGTERM"
  status=0
  train "${stored[@]}" "${gentle[@]}" || status=$?
  ((status == 2)) && grep -q 'plmscope.train.122' "$work/log" || die "status $status without --resume"
  status=0
  train "${stored[@]}" "${gentle[@]}" --resume --lr 0.1 || status=$?
  ((status == 4)) && grep -q 'plmscope.train.125' "$work/log" || die "status $status with another rate"
  train "${stored[@]}" "${gentle[@]}" --resume || die "the stopped training does not go on"
fi
cmp "$work/gentle.safetensors" "$work/whole.safetensors"

# The newest checkpoint is damaged: the one before it is taken.
victim=$(find "$work/fly.safetensors.checkpoints" -name 'step-*' | sort | tail -n 1)
printf '\x55' | dd of="$victim" bs=1 seek=70000 conv=notrunc 2> /dev/null
train "${fly[@]}" --out "$work/fly.safetensors" --metrics "$work/fly.jsonl" --checkpoint-every 10 --resume ||
  die "a damaged checkpoint is not passed over"
grep -q 'plmscope.train.124' "$work/log" || die "no warning of the damaged checkpoint"
train "${fly[@]}" --out "$work/once.safetensors" || die "no SAE"
cmp "$work/fly.safetensors" "$work/once.safetensors"

echo "$kills kills, the same bytes"
