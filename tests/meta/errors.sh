#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# errors.sh [ROOT]: prints docs/errors.md as the headers declare it, one line
#   inline constexpr error_rule NAME{"ID", error_kind::KIND, "RULE"};
# per rule; fails where an id or a name stands twice, a declaration has another form, or (--check) a
# rule is never thrown.
# errors.sh [ROOT] --check compares that with the committed docs/errors.md instead of printing it.
set -euo pipefail
cd "${1:-$(dirname "$0")/../..}"
mode=${2:-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# KIND EXIT_CODE, from the enumeration itself.
sed -nE 's/^ *([a-z_]+) = ([0-9]+),? *\/\/\/< (.*)$/\1\t\2\t\3/p' \
  <(sed -n '/^enum class error_kind/,/^};/p' include/plmscope/core/error.hpp) > "$work/kinds"

find include examples -name '*.hpp' | LC_ALL=C sort | xargs awk '
  function complain(text) { print FILENAME ":" FNR ": " text > "/dev/stderr"; bad++ }
  /inline constexpr error_rule / {
    line = $0
    # A rule may be broken after the brace or a comma; it ends with "};".
    while (line !~ /};[ \t]*$/ && (getline more) > 0) { sub(/^[ \t]+/, "", more); line = line (line ~ /{$/ ? "" : " ") more }
    if (line !~ /^ *inline constexpr error_rule [a-z0-9_]+\{"[a-z]+\.[0-9][0-9][0-9]", error_kind::[a-z]+, ".*"\};[ \t]*$/) {
      complain("not of the form: inline constexpr error_rule NAME{\"ID\", error_kind::KIND, \"RULE\"};")
      next
    }
    match(line, /error_rule [a-z0-9_]+/); name = substr(line, RSTART + 11, RLENGTH - 11)
    match(line, /"[a-z]+\.[0-9]+"/); id = substr(line, RSTART + 1, RLENGTH - 2); rest = substr(line, RSTART + RLENGTH)
    match(rest, /error_kind::[a-z]+/); kind = substr(rest, RSTART + 12, RLENGTH - 12); rest = substr(rest, RSTART + RLENGTH)
    match(rest, /".*"/); rule = substr(rest, RSTART + 1, RLENGTH - 2)
    gsub(/" "/, "", rule); gsub(/\\"/, "\"", rule); gsub(/\\\\/, "\\", rule); gsub(/\|/, "\\|", rule)
    gsub(/__/, "\\_\\_", rule); gsub(/</, "\\&lt;", rule)
    if (id in ids) complain("the id " id " is already that of " ids[id])
    if (name in names) complain("a rule called " name " is already in " names[name])
    ids[id] = name; names[name] = FILENAME
    header = FILENAME; sub(/^include\/plmscope\//, "", header)
    print id "\t" name "\t" kind "\t" rule "\t" header
  }
  END { exit (bad > 0) }' > "$work/rules"
sort -t. -k1,1 -k2,2n "$work/rules" > "$work/sorted"
if [[ ! -s $work/sorted ]]; then
  echo "no error rule found in the headers" >&2
  exit 1
fi

# A rule that nothing breaks on would be a promise nobody keeps.
unused=0
while IFS=$'\t' read -r id name _; do
  if ! grep -rqE "rules::$name\b" --include='*.hpp' --include='*.cuh' --include='*.cpp' \
         --exclude=rules.hpp include examples; then
    echo "$id ($name) is declared, but nothing throws it" >&2
    unused=$((unused + 1))
  fi
done < "$work/sorted"

{
  cat << 'TEXT'
# Errors

Everything plmscope throws is a `plmscope::error` and prints its id as `[plmscope.ID]`, the rule that
was broken, where, what was expected, what was found, and what to do. The program ends with the exit
code of the kind. `./run docs` writes this page from the headers; a test compares the two.

| kind | exit code | meaning |
| --- | --- | --- |
TEXT
  awk -F '\t' '{ print "| " $1 " | " $2 " | " $3 " |" }' "$work/kinds"
  printf '\n| id | kind | exit code | rule | declared in |\n| --- | --- | --- | --- | --- |\n'
  awk -F '\t' '
    NR == FNR { code[$1] = $2; next }
    !($3 in code) { print "unknown kind " $3 " of " $1 > "/dev/stderr"; bad = 1 }
    { print "| `" $1 "` | " $3 " | " code[$3] " | " $4 " | `" $5 "` |" }
    END { exit bad }' "$work/kinds" "$work/sorted"
} > "$work/errors.md"

if [[ $mode != --check ]]; then
  cat "$work/errors.md"
elif ! diff -u docs/errors.md "$work/errors.md"; then
  echo "docs/errors.md is not what the headers say; ./run docs writes it"
  exit 1
else
  echo "$(wc -l < "$work/sorted") error rules, all in docs/errors.md, $unused never thrown"
  ((unused == 0))
fi
