#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# train_flags.sh BUILD: `plmscope train` with every policy that a flag names, on the bundled model: each
# trains, explains more than nothing, says in its file what it is, and differs from the others. Then
# transcoders and crosscoders: from the model and from a store the same bytes, resumed the same bytes, and
# what they should be against a training of one site. Then what flags that do not fit get.
set -euo pipefail
cd "$(dirname "$0")/../.."
source "$1/tests/compiler.sh"
if [[ ! -x $program ]]; then
  echo "skipped: the program is not built"
  exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
die() { [[ ! -e $work/log ]] || cat "$work/log"; echo "$1"; exit 1; }
head -n 41 examples/data/uniprot_demo.tsv > "$work/proteins.tsv"
fly=(examples/data/esm2_mini "$work/proteins.tsv")
small=(--features 160 --k 8 --steps 60 --batch 96 --buffer 4000 --dead-after 2000 --lr 2e-3 --threads 1)
train() { "$program" train "$@" "${small[@]}" > "$work/out" 2> "$work/log"; }
info() { "$program" info "$1" > "$work/out" 2> "$work/log" || die "no info on $1"; }
said() { grep -qE -- "$1" "$work/out" || { cat "$work/out"; die "info does not say '$1'"; }; }

# Every policy. FVU is of the last batch; 1 would be the mean row.
runs=0
declare -A seen
policy() {  # MOST_FVU ARG...: trains once
  local most=$1 out=$work/policy-$runs.safetensors fvu sum
  shift
  train "${fly[@]}" --site resid_post.1 "$@" --out "$out" --metrics "$work/metrics.jsonl" || die "no SAE with $*"
  fvu=$(sed -nE 's/^FVU ([0-9.e+-]+),.*/\1/p' "$work/out")
  awk -v f="$fvu" -v m="$most" 'BEGIN { exit !(f > 0 && f < m) }' || die "FVU $fvu with $*"
  sum=$(sha256sum < "$out")
  [[ -z ${seen[$sum]:-} ]] || die "the bytes of '${seen[$sum]}' with '$*'"
  seen[$sum]="$*"
  "$program" info "$out" > "$work/out" 2> "$work/log" || die "the SAE of $* does not open"
  runs=$((runs + 1))
}
policy 0.9
for s in abs_top_k batch_top_k group_max; do
  policy 0.9 --sparsifier "$s"
  said "sparsifier +$s"
done
policy 0.95 --sparsifier routed --experts 4
said 'sparsifier +routed .*experts 4'
policy 0.95 --sparsifier routed --experts 4 --chosen 2
policy 0.9 --sparsifier matching_pursuit
policy 0.9 --sparsifier matching_pursuit --tolerance 8
policy 0.9 --sparsifier orthogonal_pursuit
policy 0.9 --sparsifier matching_pursuit --dead aux_k
for s in relu gated; do
  policy 0.9 --sparsifier "$s"
  policy 0.9 --sparsifier "$s" --l1 0.01
  policy 0.9 --sparsifier "$s" --penalty log
  policy 0.9 --sparsifier "$s" --penalty log --penalty-weight 0.01
  policy 0.9 --sparsifier "$s" --penalty tanh --penalty-weight 0.01
  policy 0.9 --sparsifier "$s" --penalty p_annealing --penalty-weight 0.01
  policy 0.9 --sparsifier "$s" --penalty p_annealing --penalty-weight 0.01 --p-end 0.5
done
policy 0.9 --sparsifier jump_relu
policy 0.9 --sparsifier jump_relu --threshold 0.1 --bandwidth 2 --penalty tanh --penalty-weight 0.01
policy 0.9 --sparsifier jump_relu --pre-activation 3e-3
policy 0.9 --sparsifier jump_relu --firing-rate 0.05
policy 0.9 --orthogonality 0.25
policy 0.9 --optimizer muon
said 'training +optimizer = muon'
policy 0.9 --optimizer muon --average 0.9
policy 0.9 --average 0.9
policy 0.95 --optimizer signum_schedule_free
for loss in fvu length; do policy 0.9 --loss "$loss"; done
policy 0.9 --dead none
policy 0.9 --dead resampling --resample-every 20
policy 0.9 --clip 0
policy 0.9 --matryoshka 40 80
policy 0.9 --sampled-matryoshka 4
policy 0.9 --sampled-matryoshka 4 --importance-order
policy 0.9 --sparsifier gated --dead resampling --resample-every 20
policy 0.9 --sparsifier relu --matryoshka 40 80
policy 0.9 --sparsifier jump_relu --matryoshka 40 80 --importance-order --average 0.9 --optimizer muon
policy 0.9 --sparsifier routed --experts 4 --matryoshka 40 80
policy 0.9 --multi-k 4
policy 0.9 --multi-k 2 4
for decoder in free max; do policy 0.9 --decoder "$decoder"; done
for centring in own_bias none; do
  policy 0.9 --centring "$centring"
  said "centring +$centring"
done
for lengths in in_codes rank; do
  policy 0.9 --lengths "$lengths" --decoder free
  said "row lengths +$lengths"
done

# Screening changes no bit of a parameter; bf16 does.
for encoder in fp32 screened bf16; do
  status=0
  "$program" train "${fly[@]}" --site resid_post.1 --features 512 --k 8 --steps 30 --batch 512 --lr 2e-3 --threads 1 \
    --encoder "$encoder" --out "$work/$encoder.safetensors" > "$work/out" 2> "$work/log" || status=$?
  if [[ $encoder == bf16 ]] && ((status == 2)); then  # a processor that lacks it says so
    cp "$work/log" "$work/lacks"
    break
  fi
  ((status == 0)) || die "no SAE with --encoder $encoder"
done
parameters() { tail -c 700000 "$1"; }
cmp <(parameters "$work/fp32.safetensors") <(parameters "$work/screened.safetensors")
[[ -e $work/lacks ]] || ! cmp -s <(parameters "$work/fp32.safetensors") <(parameters "$work/bf16.safetensors") ||
  die "bf16 changes nothing"

# Transcoders and crosscoders: from the model, and from a store of the same sites.
"$program" harvest "${fly[@]}" --sites resid_post.1,resid_post.2,resid_post.3 --dtype f32 --out "$work/store" \
  --shard-size 1MiB > "$work/log" 2>&1 || die "no store"
several=0
both() {  # ARG...: the same bytes both ways, and killed and resumed
  local a=$work/fly.safetensors b=$work/stored.safetensors c=$work/resumed.safetensors kind
  train "${fly[@]}" "$@" --out "$a" || die "nothing from the model with $*"
  train --store "$work/store" --order proteins "$@" --out "$b" || die "nothing from the store with $*"
  cmp "$a" "$b" || die "other bytes from the store with $*"
  for kind in fly stored; do
    local rows=("${fly[@]}")
    [[ $kind == fly ]] || rows=(--store "$work/store")
    rm -rf "$c" "$c.checkpoints"
    "$program" train "${rows[@]}" "$@" "${small[@]}" --out "$c" --checkpoint-every 7 > "$work/log" 2>&1 || die "no $*"
    rm "$c"
    rm "$c.checkpoints/$(ls "$c.checkpoints" | grep step- | sort | tail -n 1)"
    cp -r "$c.checkpoints" "$work/kept"
    train "${rows[@]}" "$@" --out "$c" --checkpoint-every 7 --resume || die "not resumed with $*"
    rm -rf "$work/kept"
    [[ $kind == stored ]] || cmp "$a" "$c" || die "other bytes resumed with $*"
    if [[ $kind == stored ]]; then
      train "${rows[@]}" "$@" --out "$b" || die "nothing from the store with $*"
      cmp "$b" "$c" || die "other bytes resumed from the store with $*"
    fi
  done
  info "$a"
  several=$((several + 1))
}
both --site resid_post.1 --target resid_post.3
said 'kind +transcoder'
said 'site +resid_post.1$'
said 'training +target_site = resid_post.3'
said 'centring +none'
states=$(sed -nE 's/.*fvu = ([0-9.]+)/\1/p' "$work/out")
both --site resid_post.1 --target resid_post.3 --target-update
said 'training +target = update'
both --site resid_post.1 --target resid_post.3 --skip --decoder free --loss fvu
said 'kind +skip transcoder'
skipped=$(sed -nE 's/.*fvu = ([0-9.]+)/\1/p' "$work/out")
awk -v a="$states" -v b="$skipped" 'BEGIN { exit !(b < 0.7 * a) }' || die "a skip map does not help: $states, $skipped"
both --site resid_post.1,resid_post.2,resid_post.3 --sparsifier batch_top_k --lengths rank --loss length --decoder free
said 'sites +3 side by side'
said 'site +resid_post.1\+resid_post.2\+resid_post.3$'
said 'width +576 '
both --site resid_post.3,resid_post.1 --sparsifier relu --l1 0.01 --decoder free
both --site resid_post.1,resid_post.3 --dead resampling --resample-every 20

# A crosscoder of one site is an SAE.
train "${fly[@]}" --site resid_post.1 --out "$work/one.safetensors" || die "no SAE"
cmp "$work/one.safetensors" "$work/policy-0.safetensors"

# What is read of a transcoder, and what cannot be.
train "${fly[@]}" --site resid_post.1 --target resid_post.3 --out "$work/t.safetensors" || die "no transcoder"
train "${fly[@]}" --site resid_post.1,resid_post.3 --out "$work/c.safetensors" || die "no crosscoder"
"$program" concepts "${fly[0]}" "$work/t.safetensors" "$work/proteins.tsv" --min-instances 2 --no-neurons \
  --out "$work/concepts" > "$work/out" 2> "$work/log" || die "no concepts of a transcoder"
cases=0
refused() {  # STATUS ID TEXT COMMAND...
  local status=0
  "$program" "${@:4}" > "$work/out" 2> "$work/log" || status=$?
  ((status == $1)) || die "status $status instead of $1: ${*:4}"
  grep -qF "[plmscope.$2]" "$work/log" && grep -qF -- "$3" "$work/log" || die "not $2 with '$3': ${*:4}"
  cases=$((cases + 1))
}
for sae in t c; do
  refused 4 cli.129 'coder' fidelity "$work/$sae.safetensors" --model "${fly[0]}" --proteins "$work/proteins.tsv"
done
refused 4 cli.129 '2 sites' concepts "${fly[0]}" "$work/c.safetensors" "$work/proteins.tsv" --out "$work/none"

# Flags that do not fit each other: nothing is written, and the flag is named.
bad() {  # FLAG ARG...
  refused 2 cli.112 "$1" train "${fly[@]}" "${@:2}" --out "$work/bad/sae.safetensors"
  [[ ! -e $work/bad ]] || die "something was written: $*"
}
bad --k --k 8.5
bad --k --sparsifier routed --k 2.5
bad --k --sparsifier matching_pursuit --k 0.5
bad --experts --experts 4
bad --experts --sparsifier routed --experts 7 --features 160
bad --chosen --sparsifier routed --experts 4 --chosen 5
bad --chosen --chosen 2
bad --tolerance --tolerance 1
bad --tolerance --sparsifier orthogonal_pursuit --tolerance 1
bad --bandwidth --bandwidth 0.5
bad --threshold --sparsifier relu --threshold 1
bad --penalty --penalty l1
bad --penalty --sparsifier relu --penalty l0
bad --penalty --sparsifier jump_relu --penalty log
bad --l1 --l1 1
bad --l1 --sparsifier relu --penalty tanh --penalty-weight 1 --l1 1
bad --l0 --l0 1
bad --penalty-weight --sparsifier relu --penalty tanh
bad --penalty-weight --sparsifier relu --penalty-weight 1
bad --p-end --sparsifier relu --p-end 0.5
bad --pre-activation --pre-activation 1
bad --multi-k --multi-k 4 --sparsifier batch_top_k
bad --multi-k --multi-k 1
bad --multi-k --multi-k 0.01
bad --multi-k --multi-k nan
bad --matryoshka --matryoshka 64 --sparsifier gated
bad --matryoshka --matryoshka 80 40
bad --matryoshka --matryoshka 40 80 --features 60
bad --sampled-matryoshka --matryoshka 40 --sampled-matryoshka 4
bad --sampled-matryoshka --sampled-matryoshka 1
bad --matryoshka --matryoshka 40 --site resid_post.1,resid_post.3 --loss length
bad --importance-order --importance-order
bad --importance-order --importance-order --matryoshka 40 --sparsifier group_max
bad --importance-order --importance-order --matryoshka 40 --sparsifier routed
bad --firing-rate --firing-rate 0.1
bad --firing-rate --firing-rate 0.1 --sparsifier jump_relu --lengths rank
bad --encoder --encoder screened --sparsifier relu
bad --encoder --encoder bf16 --sparsifier matching_pursuit
bad --lengths --lengths in_codes --sparsifier jump_relu
bad --lengths --lengths rank --sparsifier routed
bad --lengths --lengths rank --sparsifier matching_pursuit
bad --lengths --lengths in_codes --site resid_post.1,resid_post.3
bad --target --target resid_post.3 --site resid_post.1,resid_post.2
bad --target --target resid_post.2 --sparsifier orthogonal_pursuit
bad --target-update --target-update
bad --skip --skip
bad --normalize --normalize token_layer_norm --site resid_post.1,resid_post.2
bad --average --average 0.9 --optimizer signum_schedule_free
bad --dead --dead aux_k --sparsifier gated
bad --resample-every --resample-every 10
bad --buffer --buffer 1000 --batch 512
refused 2 cli.128 'resid_post.1 twice' train "${fly[@]}" --site resid_post.1,resid_post.1
refused 2 cli.128 'as --site, too' train "${fly[@]}" --site resid_post.1 --target resid_post.1
refused 2 cli.128 'logits' train "${fly[@]}" --site resid_post.1 --target logits
refused 2 plm.107 'resid_pots.1' train "${fly[@]}" --site resid_post.1,resid_pots.1
refused 2 plm.107 '' train "${fly[@]}" --site resid_post.1,
refused 4 plm.108 'resid_post.77' train "${fly[@]}" --site resid_post.1 --target resid_post.77
refused 4 acts.113 'resid_post.4' train --store "$work/store" --site resid_post.1 --target resid_post.4
refused 2 cli.128 'demo' demo --site resid_post.1,resid_post.3 --out "$work/bad"
for flag in --features --steps --batch --aux-k --buffer --experts --sampled-matryoshka --dead-after --seed --matryoshka; do
  status=0
  "$program" train "${fly[@]}" "$flag" -5 --out "$work/bad/sae.safetensors" > "$work/out" 2> "$work/log" || status=$?
  ((status == 2)) && grep -q -- "$flag" "$work/log" || die "$flag -5 gives $status"
  cases=$((cases + 1))
done

# The page's methods train.
methods=0
while IFS= read -r flags; do
  flags=${flags//A,B/resid_post.1,resid_post.3}
  [[ $flags == *--site* ]] || flags="--site resid_post.1 $flags"
  read -ra words <<< "$flags"
  "$program" train "${fly[@]}" --features 1536 --steps 12 --batch 96 --buffer 4000 --threads 1 "${words[@]}" \
    --out "$work/method.safetensors" > "$work/out" 2> "$work/log" || die "the page's line: $flags"
  methods=$((methods + 1))
done < <(sed -n '/^| method | flags |/,/^$/p' docs/training.md | sed -nE '3,$s/^.*\| `(.*)` \|$/\1/p')
((methods >= 10)) || die "only $methods methods on the page"

# Each choice is explained where it is offered.
"$program" train --help > "$work/help"
for word in routed matching_pursuit p_annealing resampling muon screened 'Gujral et al. 2025' 'Lindsey et al. 2024'; do
  grep -qF "$word" <(tr '\n' ' ' < "$work/help" | tr -s ' ') || die "--help does not tell of $word"
done

echo "$runs policies, $methods methods, $several transcoders and crosscoders, $cases refusals"
