#!/usr/bin/env bash
# The example in the header's opening comment is extracted, compiled as C99 and run.
set -euo pipefail
root=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sed -n '/EXAMPLE-BEGIN/,/EXAMPLE-END/p' "$root/include/spectrumkv.h" | sed '1d;$d;s/^ \* \{0,1\}//' >"$work/example.c"
[[ -s $work/example.c ]] || { echo "no example found in the header"; exit 1; }
flags=()
[[ -n ${SKV_SANITIZE:-} ]] && flags+=("-fsanitize=$SKV_SANITIZE")
"$CC" -std=c99 -Wall -Wextra -Wpedantic -Werror "${flags[@]}" -I"$root/include" "$work/example.c" "$SKV_LIBRARY" \
  -Wl,-rpath,"$(dirname "$SKV_LIBRARY")" -o "$work/example"
output=$("$work/example")
echo "$output"
# "N bytes, k A -> B": fewer bytes than 0.40 of the 16-bit size (262144), and close values.
awk -v line="$output" 'BEGIN { n = split(line, f, /[ ,]+/); a = f[4]; b = f[6]; d = a - b; if (d < 0) d = -d;
  exit !(n == 6 && f[1] > 0 && f[1] <= 104857 && d < 0.1) }' || { echo "unexpected output"; exit 1; }
