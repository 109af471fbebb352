#!/usr/bin/env bash
# The header's ABI against the committed baseline, by libabigail: additions are fine, anything else fails with abidiff's report.
# That the library exports what the header declares is exports.sh's matter, that it defines it so the compiler's.
#
#   baseline.sh ROOT [HEADER]       compare
#   baseline.sh ROOT --update       make the baseline again: a deliberate break of the ABI, so raise SKV_ABI_VERSION
set -euo pipefail
root=$1 header=${2:-$1/include/spectrumkv.h}
baseline=${SKV_BASELINE:-$root/tests/abi/baseline.abi}
update=0
[[ $header == --update ]] && update=1 header=$root/include/spectrumkv.h
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/include"
cp "$header" "$work/include/spectrumkv.h"
python3 -B "$root/tests/abi/stub.py" "$root" "$work/include/spectrumkv.h" >"$work/stub.c"
"${CC:-cc}" -std=c99 -g -O0 -fPIC -shared -I"$work/include" -Wl,-soname,libspectrumkv.so "$work/stub.c" -o "$work/stub.so"
abidw --headers-dir "$work/include" --drop-private-types --no-corpus-path --no-comp-dir-path --no-show-locs \
  --no-architecture --type-id-style hash "$work/stub.so" >"$work/now.abi"
# Which file a type comes from is not its ABI.
sed -i -E "s# (path|comp-dir-path)='[^']*'##g" "$work/now.abi"
if ((update)); then
  cp "$work/now.abi" "$baseline"
  echo "wrote $baseline"
  exit 0
fi
# Structs that carry their size may grow at their end (docs/abi.md), which frozen.py checks field by field: a suppression of
# growth here would also hide a field that moved.
for name in skv_receipt skv_endpoint_stats; do
  printf '[suppress_type]\nname = %s\n' "$name"
done >"$work/grow"
status=0
abidiff --no-show-locs --suppressions "$work/grow" "$baseline" "$work/now.abi" >"$work/report" || status=$?
# Exit status of abidiff, a set of bits: 1 and 2 it could not run, 4 something differs, 8 incompatibly.
if ((status & 11)) || grep -qE "[1-9][0-9]* (Removed|Changed)" "$work/report"; then
  cat "$work/report"
  echo "the ABI of the header is not the baseline's; if that is deliberate: tests/abi/baseline.sh . --update, and raise SKV_ABI_VERSION"
  exit 1
fi
grep -E "\[A\]" "$work/report" || true
echo "compatible with the baseline"
