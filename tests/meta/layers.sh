#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# layers.sh [ROOT]: reads every include of include/plmscope and fails where
#   - a header includes a layer that does not stand to its left;
#   - a .hpp includes a .cuh;
#   - a third-party library is included outside the one place that may know it.
set -euo pipefail
root=${1:-$(dirname "$0")/../..}
cd "$root/include/plmscope"

# Every layer with all that stand to its left.
declare -A left=(
  [core]=""
  [backend]="core"
  [tensor]="core backend"
  [io]="core backend tensor"
  [plm]="core backend tensor io"
  [sae]="core backend tensor io"
  [acts]="core backend tensor io plm"
  [train]="core backend tensor io sae"
  [distributed]="core backend tensor io sae"
  [eval]="core backend tensor io plm sae acts"
  [interpret]="core backend tensor io plm sae acts eval"
  [steer]="core backend tensor io plm sae acts"
  [report]="core backend tensor io plm sae acts eval interpret steer"
  [bridge]="core backend tensor io plm sae acts train distributed eval interpret steer report"
)
layers=" ${!left[*]} "
failures=0
headers=0

complain() {
  echo "include/plmscope/$1:$2: $3"
  failures=$((failures + 1))
}

# Whether header $1 may include the third-party name $2; the names left are the standard library's.
third_party_allowed() {
  case $2 in
    Eigen/* | unsupported/Eigen/*) [[ $1 == backend/cpu/* || $1 == tensor/eigen.hpp ]] ;;
    xtensor/* | xtl/*) [[ $1 == bridge/xtensor.hpp ]] ;;
    zlib.h) [[ $1 == io/gzip.hpp ]] ;;
    oneapi/* | dnnl*) [[ $1 == backend/cpu/gemm_onednn.hpp ]] ;;
    cblas.h | openblas_config.h) [[ $1 == backend/cpu/gemm_openblas.hpp ]] ;;
    cub/* | thrust/* | cuda* | cublas*) [[ $1 == backend/cuda/* || $1 == backend/thrust/* || $1 == *.cuh ]] ;;
    immintrin.h) [[ $1 == backend/* || $1 == core/* ]] ;;
    malloc.h) [[ $1 == core/available_memory.hpp ]] ;;
    sched.h | unistd.h | fcntl.h | sys/*.h) ;;
    */* | *.*) return 1 ;;
  esac
}

while read -r file; do
  headers=$((headers + 1))
  layer=${file%%/*}
  if [[ $file == */* && $layers != *" $layer "* ]]; then
    complain "$file" 1 "'$layer' is not a layer; see the layer rule in CONTRIBUTING.md"
    continue
  fi
  while IFS=: read -r line name; do
    if [[ $name == '"'* ]]; then
      complain "$file" "$line" "includes $name; own headers are <plmscope/...>"
      continue
    fi
    name=${name#<}
    name=${name%>}
    if [[ $file == *.hpp && $name == *.cuh ]]; then
      complain "$file" "$line" "a .hpp includes <$name>, which needs nvcc"
    fi
    if [[ $name != plmscope/* ]]; then
      third_party_allowed "$file" "$name" || complain "$file" "$line" "<$name> is not included here"
      continue
    fi
    name=${name#plmscope/}
    [[ -e $name ]] || complain "$file" "$line" "<plmscope/$name> does not exist"
    case $name in
      fwd.hpp | config.hpp | version.hpp) continue ;;
      plmscope.hpp | cuda.cuh)
        [[ $file == cuda.cuh ]] || complain "$file" "$line" "a header includes the umbrella"
        continue ;;
    esac
    other=${name%%/*}
    case $file in
      plmscope.hpp | cuda.cuh)
        [[ $other != bridge ]] || complain "$file" "$line" "the umbrella includes bridge/" ;;
      */*)
        [[ $layer == "$other" || " ${left[$layer]} " == *" $other "* ]] ||
          complain "$file" "$line" "$layer includes <plmscope/$name>; it may know: ${left[$layer]:-nothing}" ;;
      *) complain "$file" "$line" "includes <plmscope/$name>, but stands below every layer" ;;
    esac
  done < <(sed -nE 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*(<[^>]*>|"[^"]*").*/\1/;t show;d;:show;=;p' "$file" |
           paste -d: - -)
done < <(find . -name '*.hpp' -o -name '*.cuh' | sed 's|^\./||' | LC_ALL=C sort)

if ((headers == 0)); then
  echo "no header found below $root/include/plmscope"
  exit 1
fi
echo "$headers headers, $failures broken rules"
((failures == 0))
