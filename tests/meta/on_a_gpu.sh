#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# on_a_gpu.sh [--else LIBRARIES] COMMAND...: runs it where there is a GPU. Elsewhere on the simulated
# device whose libraries are in that folder (tests/cuda/simulator); without one says so and counts as
# skipped.
set -euo pipefail
libraries=
if [[ $1 == --else ]]; then
  libraries=$2
  shift 2
fi
if nvidia-smi -L > /dev/null 2>&1; then exec "$@"; fi
if [[ -z $libraries ]]; then
  echo "skipped: no GPU on this machine; compiled, not run"
  exit 0
fi
LD_PRELOAD=$(printf '%s ' "$libraries"/lib*.so.*)
export LD_PRELOAD
exec "$@"
