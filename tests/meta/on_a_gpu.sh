#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# on_a_gpu.sh COMMAND...: runs it where there is a GPU; elsewhere says so and counts as skipped.
set -euo pipefail
if ! nvidia-smi -L > /dev/null 2>&1; then
  echo "skipped: no GPU on this machine; compiled, not run"
  exit 0
fi
exec "$@"
