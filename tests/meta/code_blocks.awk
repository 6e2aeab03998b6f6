# SPDX-License-Identifier: MIT
# Takes the fenced code blocks out of Markdown pages: awk -v out=DIR -f code_blocks.awk PAGE...
# Writes one file per block to DIR and prints "LANGUAGE<tab>MARK<tab>FILE<tab>PAGE:LINE" for each.
#
# A block of C++ without `int main` becomes a program: lines that declare something (struct, class,
# template, namespace, using, concept, enum, static_assert, constexpr, inline, #include) stand at file
# scope, everything else in main, in the order of the page. A comment before the fence changes that:
#   <!-- continues -->  the block goes on where the page's previous C++ block ended
#   <!-- run -->        a bash block of ./run commands is executed, not only checked
#   <!-- not compiled: REASON -->  for bash and text only
function flush_item() {
  if (item == "") return
  if (file_scope) declarations = declarations item; else statements = statements item
  item = ""; pending = ""
}
function complain(text) { print FILENAME ":" FNR ": " text > "/dev/stderr"; bad = 1 }
# Braces and parentheses still open, strings and comments left aside.
function opened(line,   n, i, c, code) {
  code = line
  gsub(/\\./, "", code); gsub(/"[^"]*"/, "", code); gsub(/'.'/, "", code); sub(/\/\/.*$/, "", code)
  n = 0
  for (i = 1; i <= length(code); i++) {
    c = substr(code, i, 1)
    if (c == "{" || c == "(" || c == "[") n++
    if (c == "}" || c == ")" || c == "]") n--
  }
  return n
}
function add_cpp(line,   word, code) {
  if (line ~ /^ *#/) { flush_item(); includes = includes line "\n"; return }
  code = line; sub(/\/\/.*$/, "", code)
  if (depth == 0 && item == "") {
    if (code ~ /^[ \t]*$/) { pending = pending line "\n"; return }   # comments go with what follows
    word = code; sub(/^[ \t]*/, "", word); sub(/[^A-Za-z_].*$/, "", word)
    file_scope = (word ~ /^(struct|class|template|namespace|using|concept|enum|static_assert|constexpr|inline)$/)
    item = "#line " FNR " \"" FILENAME "\"\n"
    pending = ""
  }
  item = item line "\n"
  depth += opened(line)
  if (depth == 0 && code ~ /[;}][ \t]*$/) flush_item()
}
function close_block(   file, name) {
  name = FILENAME; gsub(/[^A-Za-z0-9]/, "_", name)
  file = out "/" name "_" start "." (language == "bash" ? "sh" : language)
  if (language == "cpp") {
    flush_item()
    if (whole) {
      printf "#line %d \"%s\"\n%s", start + 1, FILENAME, text > file
    } else {
      printf "#include <plmscope/plmscope.hpp>\n%s%s\nint main() {\n%s}\n", includes, declarations, statements > file
    }
  } else {
    printf "%s", text > file
  }
  close(file)
  print language "\t" mark "\t" file "\t" FILENAME ":" start
  blocks++
}
FNR == 1 {
  if (inside) { print page ": a code block is not closed" > "/dev/stderr"; bad = 1 }
  inside = 0; mark = "-"; includes = declarations = statements = ""; page = FILENAME
}
!inside && /^ *```/ {
  language = $0; sub(/^ *```/, "", language); sub(/[ \t].*$/, "", language)
  inside = 1; start = FNR; text = ""; item = ""; pending = ""; depth = 0; whole = 0
  if (language == "cpp" && mark != "continues") includes = declarations = statements = ""
  if (language !~ /^(cpp|cuda|bash|cmake|text)$/) complain("a block of '" language "'; use cpp, cuda, bash, cmake or text")
  if (mark ~ /^not compiled/ && language !~ /^(bash|text)$/) complain("only bash and text may stay unchecked")
  if (mark == "run" && language != "bash") complain("only bash blocks run")
  if (mark == "continues" && language != "cpp") complain("only C++ blocks continue")
  next
}
inside && /^ *```[ \t]*$/ { inside = 0; close_block(); mark = "-"; next }
inside {
  text = text $0 "\n"
  if (language == "cpp") { if ($0 ~ /^int main/) whole = 1; add_cpp($0) }
  next
}
/^<!-- (run|continues|not compiled: .+) -->$/ { mark = $0; sub(/^<!-- /, "", mark); sub(/ -->$/, "", mark); next }
/[^ \t]/ { mark = "-" }
END {
  if (inside) { print page ": a code block is not closed" > "/dev/stderr"; bad = 1 }
  exit bad
}
