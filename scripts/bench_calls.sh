#!/usr/bin/env bash
# Measures what one call costs in each language.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ ${1:-} == --help || ${1:-} == -h ]]; then
  cat <<'TEXT'
usage: scripts/bench_calls.sh

Prints the nanoseconds of one skv_payload_get (a handle check and a switch) from C, Python, Rust, Go with and without cgo, and Java:
the median of five rounds of 200,000 calls, all in one run. The table of docs/bindings.md.
TEXT
  exit 0
fi
cmake --preset release >/dev/null
cmake --build --preset release --target spectrumkv interop_c spectrumkv_java -- --quiet
mvn -q -B -ntp -f bindings/swig/java/pom.xml -DskipTests package
export SKV_LIBRARY=$PWD/build/release/libspectrumkv.so SKV_PYTHON=$PWD/build/venv/bin/python
exec tests/interop/interop.sh "$PWD/build/release/tests/interop/interop_c" "$PWD/build/release/bindings/all/swig/java" calls
