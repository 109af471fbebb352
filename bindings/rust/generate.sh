#!/usr/bin/env bash
# Makes spectrumkv-sys/src/{types,link,dlopen}.rs from include/spectrumkv.h with bindgen (needs libclang).
# With --check nothing is written and files that are out of date are named.
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/build/cargo}
exec cargo run --quiet --locked -p spectrumkv-generate -- "$root/include/spectrumkv.h" "$PWD/spectrumkv-sys/src" "$@"
