#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# `./run gpu`: on a machine with a GPU builds everything for it, runs the tests, NVIDIA's checkers and
# the benchmark, and prints one table. Also into benchmarks/results/DATE-GPU.txt, to be committed.
#   PLMSCOPE_BUILD   build folder (default: build)
#   PLMSCOPE_PYTHON  Python with torch for the rival (default: python3; absent: no ratios)
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
build=${PLMSCOPE_BUILD:-$root/build}
python=${PLMSCOPE_PYTHON:-python3}
if ! gpu=$(nvidia-smi --query-gpu=name,compute_cap --format=csv,noheader 2> /dev/null | head -n 1) || [[ -z $gpu ]]; then
  echo "run gpu: there is no GPU here (nvidia-smi finds none)" >&2
  exit 5
fi
name=${gpu%%,*}
arch=$(tr -dc '0-9' <<< "${gpu##*,}")
started=$SECONDS
work=$build/gpu
mkdir -p "$work" benchmarks/results
export PLMSCOPE_CMAKE_ARGS="${PLMSCOPE_CMAKE_ARGS:-} -DPLMSCOPE_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=$arch"

# The build, of what is for a GPU alone, and the tests by ./run: its last line counts them.
export PLMSCOPE_TARGETS="plmscope_cuda_program_target test_cuda test_thrust cuda_examples bench_gpu"
PLMSCOPE_BUILD=$build PLMSCOPE_TEST_OUTPUT=all ./run test -L cuda > "$work/test.log" 2>&1 || failed=1

# The program: the whole way from sequences to a report.
demo_started=$SECONDS
"$build/examples/plmscope-cuda" demo --out "$work/demo" > "$work/demo.log" 2>&1 || failed=1
demo="$((SECONDS - demo_started)) s; $(tail -n 1 "$work/demo.log")"

checked=""
if command -v compute-sanitizer > /dev/null; then
  for tool in memcheck racecheck initcheck synccheck; do
    if compute-sanitizer --tool "$tool" --error-exitcode 9 "$build/tests/cuda/test_cuda" \
        --source-file='*/primitives_s*_test.cpp,*/tensor_attention_test.cpp,*/device_training_test.cpp' > "$work/$tool.log" 2>&1; then
      checked+="$tool clean; "
    else
      checked+="$tool FAILED ($work/$tool.log); "
      failed=1
    fi
  done
else
  checked="compute-sanitizer is not installed"
fi

"$build/benchmarks/bench_gpu" > "$work/ours.txt" || failed=1
if "$python" -c 'import torch; assert torch.cuda.is_available()' 2> /dev/null; then
  "$python" benchmarks/gpu_rival.py > "$work/rival.txt" || failed=1
else
  : > "$work/rival.txt"
fi

value() { awk -v name="$2" '$1 == name { print $2 }' "$work/$1.txt"; }
# ratio NAME OURS RIVAL INVERT: times are better when lower, rates when higher.
ratio() {
  local ours rival
  ours=$(value ours "$2")
  rival=$(value rival "$3")
  if [[ -z $ours || -z $rival ]]; then
    printf 'ratio %-32s not measured\n' "$1"
  else
    awk -v n="$1" -v a="$ours" -v b="$rival" -v time="$4" \
      'BEGIN { printf "ratio %-32s %.2f\n", n, time ? b / a : a / b }'
  fi
}
{
  echo "plmscope on $name, $(date -u +%Y-%m-%d), $(grep -c . <(git log --oneline)) commits, $(git rev-parse --short HEAD)"
  echo "tests: $(tail -n 1 "$work/test.log")"
  grep '^golden ' "$work/test.log" || true
  echo "checks: $checked"
  echo "plmscope demo --backend cuda: $demo"
  cat "$work/ours.txt"
  sed 's/^/rival /' "$work/rival.txt"
  ratio step_fp32_to_dense_fp32 step_fp32 step_dense_fp32 1
  ratio step_bf16_to_dense_fp32 step_bf16 step_dense_fp32 1
  ratio step_bf16_to_dense_bf16 step_bf16 step_dense_bf16 1
  ratio step_bf16_to_bag_bf16 step_bf16 step_bag_bf16 1
  ratio esm2_bf16 esm2_bf16 esm2_bf16 0
  echo "wall time: $((SECONDS - started)) s"
} | tee "benchmarks/results/$(date -u +%Y-%m-%d)-${name// /_}.txt"
[[ -z ${failed:-} ]]
