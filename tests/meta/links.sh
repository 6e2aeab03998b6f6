#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# links.sh [ROOT]: every relative link of every Markdown page leads to a file, and to a heading of it
# where one is named.
set -euo pipefail
cd "${1:-$(dirname "$0")/../..}"
links=0
bad=0
anchors() {  # PAGE -> the names of its headings, as Markdown hosts make them
  sed -nE 's/^#{1,6} +(.*)$/\1/p' "$1" | tr '[:upper:]' '[:lower:]' | sed -E 's/[^a-z0-9 _-]//g;s/ /-/g'
}
while read -r page; do
  while read -r target; do
    links=$((links + 1))
    file=$(dirname "$page")/${target%%#*}
    [[ -n ${target%%#*} ]] || file=$page
    if [[ ! -e $file ]]; then
      echo "$page: the link to $target leads nowhere"
      bad=$((bad + 1))
    elif [[ $target == *'#'* && $file == *.md ]] && ! anchors "$file" | grep -qxF -- "${target#*#}"; then
      echo "$page: $file has no heading #${target#*#}"
      bad=$((bad + 1))
    fi
  done < <(awk '/^ *```/ { code = !code } !code' "$page" | sed -E 's/`[^`]*`//g' |
           grep -oE '\]\([^) ]+' | sed 's/^](//' | grep -vE '^(https?|mailto):')
done < <(find . -maxdepth 1 -name '*.md' -printf '%f\n'; find docs examples -name '*.md' 2> /dev/null)
echo "$links relative links, $bad lead nowhere"
((bad == 0 && links > 0))
