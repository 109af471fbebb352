#!/usr/bin/env bash
# Builds and runs the benchmarks: encode and decode beside memcpy of the same tensor, in one run, and beside other quantizers.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'TEXT'
usage: scripts/bench.sh [--quick] [--no-peers] [--json FILE] [--check [FILE]] [options of Google Benchmark]

Prints, for six shapes of at least 256 MiB, the rates of encode and decode with digests on, and vs_memcpy: the median
of memcpy's time over the codec's, both timed in every iteration. About 5 minutes. --json and --check also time
other quantizers on the same tensors (bench/peers/cpu.sh), about 10 minutes more.

  --quick         the 4-bit default of two shapes only, no peers
  --no-peers      this library only
  --json FILE     write the ratios as JSON
  --check [FILE]  compare the ratios with FILE (default docs/results/performance.json), say what moved, exit 1 if one fell
TEXT
}

arguments=()
json=
baseline=
peers=1
for ((i = 1; i <= $#; i++)); do
  case ${!i} in
    --help | -h) usage; exit 0 ;;
    --quick) peers=0; arguments+=('--benchmark_filter=(llama3-8b|smollm2-135m)/4bit/') ;;
    --no-peers) peers=0 ;;
    --json) i=$((i + 1)); json=${!i:?--json needs a file} ;;
    --check)
      baseline=docs/results/performance.json
      next=$((i + 1))
      if ((next <= $#)) && [[ ${!next} != -* ]]; then i=$next; baseline=${!i}; fi
      ;;
    *) arguments+=("${!i}") ;;
  esac
done
cmake --preset release >/dev/null
cmake --build --preset release --target codec_bench -- --quiet
[[ -z $json && -z $baseline ]] && exec build/release/bench/codec_bench "${arguments[@]}"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
build/release/bench/codec_bench "${arguments[@]}" "--benchmark_out=$work/codec.json" --benchmark_out_format=json
ratios=("$work/codec.json")
if ((peers)); then
  bench/peers/cpu.sh --json "$work/peers.json"
  ratios+=(--peers "$work/peers.json")
fi
[[ -n $json ]] && ratios+=(--out "$json")
[[ -n $baseline ]] && ratios+=(--check "$baseline")
python3 bench/ratios.py "${ratios[@]}"
