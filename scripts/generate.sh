#!/usr/bin/env bash
# Makes every generated file of the bindings from include/spectrumkv.h.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'TEXT'
usage: scripts/generate.sh [--check] [--help]

After a change of include/spectrumkv.h, makes again what is generated from it and committed:
  bindings/rust/spectrumkv-sys/src/{types,link,dlopen}.rs    bindgen (needs libclang)
  bindings/rust/spectrumkv/src/constants.rs
  bindings/go/constants.go, bindings/go/internal/abi/{table,cgo}.go, bindings/go/purego/table.go
SWIG's code is made while building and not committed.

  --check   write nothing; name what is out of date and the functions that are missing, and fail
TEXT
}

arguments=()
for argument in "$@"; do
  case $argument in
    --help | -h) usage; exit 0 ;;
    --check) arguments+=(--check) ;;
    *) echo "generate: unknown argument $argument" >&2; usage >&2; exit 2 ;;
  esac
done
failed=0
python3 -B bindings/generate/generate.py "${arguments[@]}" || failed=1
bindings/rust/generate.sh "${arguments[@]}" || failed=1
exit "$failed"
