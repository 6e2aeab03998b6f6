#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# sweep.sh BUILD: every SAE of `plmscope sweep` has the bytes of `plmscope train` alone, with activations
# in memory and on disk; its figures are those of `fidelity` and `concepts`; finished runs are not
# repeated, and a folder that holds something else is refused; killed (SIGKILL) at random moments and
# started again, it ends with the same SAEs and records. Then what hostile files get.
set -euo pipefail
cd "$(dirname "$0")/../.."
source "$1/tests/compiler.sh"
if [[ ! -x $program ]]; then
  echo "skipped: the program is not built"
  exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
die() { cat "$work/log"; echo "$1"; exit 1; }
head -n 61 examples/data/uniprot_demo.tsv > "$work/proteins.tsv"
model=examples/data/esm2_mini
common=(--features 160 --steps 60 --batch 96 --buffer 9000 --dead-after 2000)

write_sweep() {  # FILE EXTRA_POLICY_LINES...
  cat > "$1" << TOML
proteins = "$work/proteins.tsv"
sites = ["resid_post.1", "final_norm"]
seeds = [3, 7]
checkpoint-every = 10
[models]
mini = "$model"
again = "$model/"
[training]
features = 160
steps = 60
batch = 96
buffer = 9000
dead-after = 2000
k = 8
[policies.top]
[policies.jump]
sparsifier = "jump_relu"
k = 12.5
[fidelity]
first = 4
[concepts]
proteins = "$work/proteins.tsv"
min-instances = 4
min-name-score = 0.1
TOML
  local line
  for line in "${@:2}"; do echo "$line" >> "$1"; done
}
sweep() { "$program" sweep "$@" --threads 1 > "$work/out" 2> "$work/log"; }
refused() {  # STATUS ID TEXT ARG...
  local status=0
  "$program" sweep "${@:4}" > "$work/out" 2> "$work/log" || status=$?
  ((status == $1)) || die "status $status instead of $1: ${*:4}"
  grep -qF "[plmscope.$2]" "$work/log" && grep -qF -- "$3" "$work/log" || die "not $2 with '$3'"
}
# Records without what depends on the clock, in the order of names.
records() { sed -E 's/"seconds":[-+.e0-9]+//g' "$1/runs.jsonl" | LC_ALL=C sort; }
same_sweep() {
  local file
  for file in "$1"/*.safetensors; do cmp "$file" "$2/${file##*/}"; done
  diff <(records "$1") <(records "$2") > "$work/log" || die "other records in $2"
  diff <(cd "$1" && ls) <(cd "$2" && ls | grep -v '^activations-') > "$work/log" || die "other files in $2"
}

write_sweep "$work/one.toml"
sweep "$work/one.toml" --dry-run --json || die "no dry run"
[[ ! -e $work/one ]] || die "a dry run wrote something"
(($(grep -c '"finished": false' "$work/out") == 16)) || die "not 16 runs"
start=$EPOCHREALTIME
sweep "$work/one.toml" || die "no sweep"
length=$(awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { print b - a }')
cp "$work/out" "$work/table"
grep -q 'in memory' "$work/log" || die "does not say where activations are"
(($(wc -l < "$work/one/runs.jsonl") == 16)) || die "not 16 records"
(($(grep -cE '^(mini|again) +(resid_post.1|final_norm) +(top|jump) +[37] ' "$work/table") == 16)) || die "no table"
grep -q 'loss recovered' "$work/table" && grep -q 'Mean +- ' "$work/table" || die "columns are missing"
[[ -z $(find "$work/one" -name '*.checkpoints') ]] || die "checkpoints stay"

# The bytes of `train`.
for site in resid_post.1 final_norm; do
  for seed in 3 7; do
    for policy in top jump; do
      flags=(--k 8)
      [[ $policy == top ]] || flags=(--k 12.5 --sparsifier jump_relu)
      "$program" train "$model" "$work/proteins.tsv" --site "$site" --seed "$seed" "${common[@]}" \
        "${flags[@]}" --out "$work/alone.safetensors" --threads 2 > "$work/log" 2>&1 || die "no SAE"
      for name in mini again; do
        cmp "$work/alone.safetensors" "$work/one/$name-$site-$policy-seed$seed.safetensors"
      done
    done
  done
done

# The figures of `fidelity` and `concepts`.
sae=$work/one/mini-resid_post.1-top-seed3.safetensors
record=$(grep '"run":"mini-resid_post.1-top-seed3"' "$work/one/runs.jsonl")
"$program" fidelity "$sae" --model "$model" --proteins "$work/proteins.tsv" --first 4 --json > "$work/log" 2>&1
for figure in recovered_zero fvu l0; do
  value=$(grep -A1 "\"$figure\": {" "$work/log" | sed -nE 's/.*"value": ([-+.e0-9]+),?/\1/p')
  [[ -n $value ]] && grep -qF "\"$figure\":{\"value\":$value," <<< "$record" || die "$figure is not $value"
done
"$program" concepts "$model" "$sae" "$work/proteins.tsv" --min-instances 4 --no-neurons --json \
  --out "$work/concepts" > "$work/log" 2>&1 || die "no concepts"
# Among those whose feature reaches the score on both sides and beats the amino acid on held-out ones.
awk '/"by_domain"/ { d = 1 } /"by_residue"/ { d = 0 }
  d && /"validation_f1"/ { v = $2 + 0 } d && /"held_out_f1"/ { h = $2 + 0 }
  d && /"amino_acid_f1"/ { a = $2 + 0; if (v >= 0.1 && h >= 0.1 && h > a) n++ } END { print n + 0 }' \
  "$work/log" > "$work/most"
found=$(sed -E 's/.*"concepts":\{"found":([0-9]+).*/\1/' <<< "$record")
((found > 0 && found <= $(cat "$work/most"))) || die "$found concepts, at most $(cat "$work/most")"

# From disk the same; again, nothing is done; the folder is what is asked for, or refused.
sweep "$work/one.toml" --out "$work/disk" --memory 1KiB || die "no sweep from disk"
grep -q "in $work/disk/activations-" "$work/log" || die "not from disk"
same_sweep "$work/one" "$work/disk"
cp "$work/one/runs.jsonl" "$work/before"
sweep "$work/one.toml" || die "no second sweep"
cmp "$work/before" "$work/one/runs.jsonl"
grep -q '16 of them finished before' "$work/out" || die "runs were repeated"
diff <(grep -v 'finished before' "$work/table") <(grep -v 'finished before' "$work/out") || die "another table"
write_sweep "$work/other.toml"
sed -i 's/^k = 12.5/k = 12/' "$work/other.toml"
refused 4 cli.125 'settings.k: 12.5, asked for 12' "$work/other.toml" --out "$work/one"
refused 4 cli.125 'settings.k: 12.5, asked for 12' "$work/other.toml" --out "$work/one" --dry-run
cmp "$work/before" "$work/one/runs.jsonl"

# Flags of every policy are keys; those of transcoders are not.
cat > "$work/flags.toml" << TOML
proteins = "$work/proteins.tsv"
sites = ["resid_post.1"]
models = ["$model"]
[training]
features = 160
steps = 60
batch = 96
buffer = 9000
k = 8
[policies.switch]
sparsifier = "routed"
experts = 4
optimizer = "muon"
average = 0.9
[policies.annealed]
sparsifier = "relu"
penalty = "p_annealing"
penalty-weight = 0.01
dead = "resampling"
resample-every = 20
loss = "fvu"
matryoshka = [40, 80]
importance-order = true
orthogonality = 0.25
TOML
sweep "$work/flags.toml" || die "no sweep of other policies"
keys=(--features 160 --steps 60 --batch 96 --buffer 9000 --k 8 --seed 1 --site resid_post.1 --threads 2)
"$program" train "$model" "$work/proteins.tsv" "${keys[@]}" --sparsifier routed --experts 4 --optimizer muon \
  --average 0.9 --out "$work/alone.safetensors" > "$work/log" 2>&1 || die "no Switch SAE"
cmp "$work/alone.safetensors" "$work/flags/esm2_mini-resid_post.1-switch-seed1.safetensors"
"$program" train "$model" "$work/proteins.tsv" "${keys[@]}" --sparsifier relu --penalty p_annealing \
  --penalty-weight 0.01 --dead resampling --resample-every 20 --loss fvu --matryoshka 40 80 --importance-order --orthogonality 0.25 \
  --out "$work/alone.safetensors" > "$work/log" 2>&1 || die "no annealed SAE"
cmp "$work/alone.safetensors" "$work/flags/esm2_mini-resid_post.1-annealed-seed1.safetensors"

# A sweep grows: a policy more, other concepts; what is there stays.
write_sweep "$work/more.toml" 'protocol = "residue"' '[policies.wide]' 'features = 200'
sed -i '/^again/d' "$work/more.toml"
before=$(stat -c '%i %Y' "$sae")
sweep "$work/more.toml" --out "$work/one" || die "a sweep does not grow"
[[ $before == "$(stat -c '%i %Y' "$sae")" ]] || die "an SAE was written again"
(($(wc -l < "$work/one/runs.jsonl") == 20)) || die "not 20 records"
grep '"run":"mini-resid_post.1-top-seed3"' "$work/one/runs.jsonl" | grep -q '"protocol":"residue"' ||
  die "figures were not measured again"
sed '/^\[fidelity\]/,/^first/d' "$work/more.toml" > "$work/less.toml"
cp "$work/one/runs.jsonl" "$work/before"
sweep "$work/less.toml" --out "$work/one" || die "a sweep does not shrink"
cmp "$work/before" "$work/one/runs.jsonl"

# An SAE that is gone is trained again; one that changed, and a record that is none, are refused.
cp "$sae" "$work/kept"
rm "$sae"
sweep "$work/more.toml" --out "$work/one" || die "a lost SAE is not trained again"
cmp "$work/kept" "$sae"
printf 'x' >> "$sae"
refused 4 cli.125 "$sae" "$work/more.toml" --out "$work/one"
sed -i '2s/.$//' "$work/one/runs.jsonl"
refused 3 cli.126 'runs.jsonl:2' "$work/more.toml" --out "$work/one"

# Killed.
RANDOM=20261121
kills=0
for records in 0 1 4 9 14; do  # when there are so many, or soon after
  "$program" sweep "$work/one.toml" --out "$work/killed" --threads 1 > "$work/log" 2>&1 &
  pid=$!
  until (($(cat "$work/killed/runs.jsonl" 2> /dev/null | wc -l) >= records)) || ! kill -0 "$pid" 2> /dev/null; do
    sleep 0.01
  done
  sleep "$(awk -v r=$RANDOM -v t="$length" 'BEGIN { print t / 16 * r / 32768 }')"
  if kill -9 "$pid" 2> /dev/null; then kills=$((kills + 1)); fi
  wait "$pid" 2> /dev/null || true
done
sweep "$work/one.toml" --out "$work/killed" || die "the last sweep failed"
sweep "$work/one.toml" --out "$work/undisturbed" || die "no sweep"
same_sweep "$work/undisturbed" "$work/killed"
((kills > 2)) || die "only $kills kills"

# Asked to stop, it says so; two at once are refused.
"$program" sweep "$work/one.toml" --out "$work/gentle" --threads 1 > "$work/out" 2> "$work/log" &
pid=$!
until [[ -e $work/gentle/mini-resid_post.1-top-seed3.metrics.jsonl ]]; do sleep 0.02; done
refused 6 cli.127 'another process' "$work/one.toml" --out "$work/gentle"
kill -TERM "$pid"
status=0
wait "$pid" || status=$?
((status == 8)) || die "status $status after SIGTERM"
sweep "$work/one.toml" --out "$work/gentle" || die "the stopped sweep does not go on"
same_sweep "$work/undisturbed" "$work/gentle"

# Hostile files: what stands after | must be said, with the id before it.
base="proteins='$work/proteins.tsv'
models=['$model']
sites=['resid_post.1']
"
cases=0
bad() {  # STATUS ID SAID TEXT: TEXT after the keys that are needed
  printf "$4" > "$work/bad.toml"
  refused "$1" "$2" "$3" "$work/bad.toml" --out "$work/bad" --dry-run
  [[ ! -e $work/bad ]] || die "something was written"
  cases=$((cases + 1))
}
p='[policies.a]\n'
bad 3 cli.120 'bad.toml:1:' 'models = ['
bad 3 cli.120 'bad.toml:' "${base}a = '\\xff\\xfe'\n"
bad 3 cli.120 'bad.toml:' "${base}seeds = [1]\nseeds = [2]\n"
bad 3 cli.120 'bad.toml:' "a = $(printf '[%.0s' {1..400})"
bad 3 cli.121 'no models' "proteins='x'\nsites=['resid_post.1']\n$p"
bad 3 cli.121 'no policies' "$base"
bad 3 cli.121 'bad.toml:4:1' "${base}sede = 1\n$p"
bad 3 cli.121 'did you mean seeds?' "${base}sede = [1]\n$p"
bad 3 cli.121 'did you mean policies?' "$base[polices.a]\n"
bad 3 cli.121 'did you mean sparsifier?' "$base${p}sparsifer = 'top_k'\n"
bad 3 cli.121 '"site"' "$base${p}site = 'resid_post.2'\n"
bad 3 cli.121 '"target"' "$base${p}target = 'resid_post.2'\n"
bad 3 cli.122 'true or false' "$base${p}matryoshka = [8]\nimportance-order = 'yes'\n"
bad 3 cli.122 'true or false' "$base${p}matryoshka = [8]\nimportance-order = 1\n"
bad 2 cli.112 '--importance-order' "$base${p}importance-order = true\n"
bad 2 cli.112 'policy a, --experts' "$base${p}experts = 4\n"
bad 3 cli.121 '"metrics"' "$base[training]\nmetrics = '/etc/passwd'\n$p"
bad 3 cli.121 'no proteins in [concepts]' "$base$p[concepts]\n"
bad 3 cli.122 'bad.toml:5:' "$base${p}k = '16'\n"
bad 3 cli.122 'a whole number' "$base${p}steps = 10.5\n"
bad 3 cli.122 'a finite number' "$base${p}lr = nan\n"
bad 3 cli.122 'a finite number' "$base${p}k = inf\n"
bad 3 cli.122 'steps' "$base${p}steps = -1\n"
bad 3 cli.122 'features' "$base${p}features = -5\n"
bad 2 cli.112 'features' "$base${p}features = 9000000000000000000\n"
bad 2 cli.112 'steps' "$base${p}steps = 9000000000000000000\n"
bad 3 cli.120 'bad.toml:5:' "$base${p}k = 99999999999999999999\n"
bad 3 cli.122 'sparsifier' "$base${p}sparsifier = 'top'\n"
bad 3 cli.122 'a list' "$base${p}k = [8, 16]\n"
bad 3 cli.122 'a table' "$base${p}k = {a = 1}\n"
bad 3 cli.122 'true or false' "$base${p}k = true\n"
bad 3 cli.122 'a date or a time' "$base${p}k = 2026-01-01\n"
bad 3 cli.122 'an empty one' "${base}seeds = []\n$p"
bad 3 cli.122 'seeds' "${base}seeds = [-1]\n$p"
bad 3 cli.122 'policies' "${base}policies = 3\n"
bad 3 cli.122 'an empty text' "proteins='x'\nsites=['resid_post.1']\nmodels=['']\n$p"
bad 3 cli.122 'a list or a table' "proteins='x'\nsites=['resid_post.1']\nmodels='x'\n$p"
bad 3 cli.123 '"../../evil"' "$base[policies.'../../evil']\n"
bad 3 cli.123 '".."' "proteins='x'\nsites=['resid_post.1']\nmodels=['a/..']\n$p"
bad 3 cli.123 '".hidden"' "$base[policies.'.hidden']\n"
bad 3 cli.123 'two models called esm2_mini' "proteins='x'\nsites=['resid_post.1']\nmodels=['a/esm2_mini','b/esm2_mini']\n$p"
bad 3 cli.123 '1 twice' "${base}seeds = [1, 2, 1]\n$p"
bad 3 cli.123 'resid_post.1 twice' "proteins='x'\nmodels=['x']\nsites=['resid_post.1','resid_post.1']\n$p"
bad 3 cli.124 'no policies' "$base[policies]\n"
bad 3 cli.124 'no models' "proteins='x'\nsites=['resid_post.1']\nmodels=[]\n$p"
bad 3 cli.124 '1 to 10000 runs' "${base}seeds = [$(seq -s, 1 10001)]\n$p"
bad 2 cli.112 'policy a' "$base${p}k = 8.5\n"
bad 2 cli.112 'gated' "$base${p}sparsifier = 'gated'\nmatryoshka = [8, 16]\n"
bad 2 cli.112 'k up to 4' "$base${p}features = 4\nk = 8\n"
bad 2 plm.107 'nearest' "proteins='x'\nmodels=['x']\nsites=['resid_pots.1']\n$p"
bad 4 plm.108 'resid_post.77' "proteins='$work/proteins.tsv'\nmodels=['$model']\nsites=['resid_post.77']\n$p"
bad 6 io.501 'nothing.fasta' "proteins='$work/nothing.fasta'\nmodels=['$model']\nsites=['resid_post.1']\n$p"
head -c 1100000 /dev/zero | tr '\0' '#' > "$work/bad.toml"
refused 5 io.504 '1048576' "$work/bad.toml" --out "$work/bad"
refused 6 io.501 'none.toml' "$work/none.toml"
refused 6 io.502 "$work" "$work"

# The page shows the file of the examples, which the program takes.
block=$(sed -n '/^```text/,/^```$/p' docs/sweeps.md | sed '1d;/^```$/,$d')
diff <(grep -v '^#' examples/sweep.toml) <(echo "$block") > "$work/log" || die "docs/sweeps.md shows another file"
sweep examples/sweep.toml --out "$work/example" --dry-run || die "the example is refused"

echo "16 SAEs of 'train', $kills kills, $((cases + 3)) hostile files"
