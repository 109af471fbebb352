#!/usr/bin/env bash
# Builds and runs the benchmarks: encode and decode beside memcpy of the same tensor, in one run.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'TEXT'
usage: scripts/bench.sh [--quick] [--json FILE] [options of Google Benchmark]

Prints, for five model geometries of at least 256 MiB, the rates of encode and decode with digests on, and vs_memcpy:
the median of memcpy's time over the codec's, both timed in every iteration. The whole takes about 3 minutes.

  --quick      the 4-bit default of two geometries only
  --json FILE  also write the results as JSON
TEXT
}

arguments=()
for ((i = 1; i <= $#; i++)); do
  case ${!i} in
    --help | -h) usage; exit 0 ;;
    --quick) arguments+=('--benchmark_filter=(llama3-8b|smollm2-135m)/4bit/') ;;
    --json) i=$((i + 1)); arguments+=("--benchmark_out=${!i:?--json needs a file}" --benchmark_out_format=json) ;;
    *) arguments+=("${!i}") ;;
  esac
done
cmake --preset release >/dev/null
cmake --build --preset release --target codec_bench -- --quiet
exec build/release/bench/codec_bench "${arguments[@]}"
