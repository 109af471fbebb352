#!/usr/bin/env bash
# The public header compiles clean, included twice, in every C and C++ standard under gcc and clang.
set -euo pipefail
root=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf '#include <spectrumkv.h>\n#include <spectrumkv.h>\nint skv_header_test(void);\nint skv_header_test(void) { return (int)sizeof(skv_error) == 256 ? 0 : 1; }\n' >"$work/t.c"
cp "$work/t.c" "$work/t.cc"
count=0
for compiler in "$CC" "$CLANG_C"; do
  for standard in c99 c11 c17; do
    "$compiler" -std=$standard -Wall -Wextra -Wpedantic -Werror -Wstrict-prototypes -I"$root/include" -fsyntax-only "$work/t.c"
    count=$((count + 1))
  done
done
for compiler in "$CXX" "$CLANG_CXX"; do
  for standard in c++11 c++14 c++17 c++20; do
    "$compiler" -std=$standard -Wall -Wextra -Wpedantic -Werror -I"$root/include" -fsyntax-only "$work/t.cc"
    count=$((count + 1))
  done
done
echo "header clean in $count compilations"
