#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# defects.sh LIBRARIES PROGRAM: on the simulated device a sound kernel gives its result, and each defect
# of PROGRAM is found and ends it with 70.
set -euo pipefail
libraries=$1
program=$2
checks=0
wrong=0
check() {  # DEFECT STATUS SENTENCE
  local said status=0
  said=$(LD_PRELOAD=$(printf '%s ' "$libraries"/lib*.so.*) "$program" "$1" 2>&1) || status=$?
  checks=$((checks + 1))
  if [[ $status != "$2" || $said != *"$3"* ]]; then
    echo "$1 ends with $status instead of $2, or does not say '$3':"
    echo "$said"
    wrong=$((wrong + 1))
  fi
}
check sound 0 'sound: 1552 '
check no_barrier 70 'a race in shared memory: read after a write'
check blocks_meet 70 'a race: written after a write'
check out_of_bounds 70 'out of bounds'
check misaligned 70 'misaligned'
check never_written 70 'memory is read that was never written'
check shared_never_written 70 'shared memory is read that nobody has written'
check barrier_of_some 70 'a barrier that some threads never reach'
check waits_for_ever 70 'threads wait for ever'
check reads_of_two_blocks 70 'a race: written after a read'
check lanes_meet 70 'a race: written after a write'
check shuffle_for_barrier 70 'a race in shared memory: read after a write'
check sound_warps 0 'sound_warps: 1 '
check atomic_and_plain 70 'a race in shared memory: an atomic after a write'
check halves_of_blocks 70 'a race: written after a write'
check different_barriers 70 'lanes of a warp wait at different barriers'
check before_local 70 'outside of local memory'
check much_shared 0 'error 1'  # cudaErrorInvalidValue
check host_memory 70 'no address of the device'
check too_early 0 '-2.19029e+24'    # what stood in pinned memory before
check touches_device_memory 139 ''  # SIGSEGV, as from a GPU's memory
echo "$checks programs, $wrong wrong"
((wrong == 0))
