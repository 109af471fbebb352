#!/usr/bin/env bash
# Runs the stress programs: many operations in every language, and what is held before and after.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'TEXT'
usage: scripts/stress.sh [--operations N] [--leak memory|ends] [LANGUAGE ...]

Does N operations (default 1000000) of a mix of encoding, decoding, transfers, cancels and misuse in each language (c python rust go
purego java; by default all), prints a table, and fails when memory, descriptors or threads grew: tests/stress/watch.py says what an
operation is, and by how much they may. The table of docs/bindings.md.

  --leak WHAT   leak on purpose; success is when that is found
TEXT
}

operations=1000000
languages=()
options=()
while (($#)); do
  case $1 in
    --operations) operations=${2:?--operations needs a number}; shift ;;
    --leak) options=(-- --leak "${2:?--leak needs memory or ends}"); shift ;;
    --help | -h) usage; exit 0 ;;
    c | python | rust | go | purego | java) languages+=("$1") ;;
    *) echo "stress: unknown argument $1" >&2; usage >&2; exit 2 ;;
  esac
  shift
done
((${#languages[@]})) || languages=(c python rust go purego java)
cmake --preset release >/dev/null
cmake --build --preset release --target spectrumkv stress_c spectrumkv_java -- --quiet
mvn -q -B -ntp -f bindings/swig/java/pom.xml -DskipTests package
export SKV_LIBRARY=$PWD/build/release/libspectrumkv.so SKV_PYTHON=$PWD/build/venv/bin/python
exec tests/stress/stress.sh "$PWD/build/release/tests/stress/stress_c" "$PWD/build/release/bindings/all/swig/java" \
  "$operations" "${languages[@]}" "${options[@]}"
