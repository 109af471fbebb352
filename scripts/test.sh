#!/usr/bin/env bash
# Builds and runs the tests.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'TEXT'
usage: scripts/test.sh [--fast] [--sanitizers] [--label LABEL] [--engines] [--aarch64] [--help]

Builds the release preset and runs every test through ctest: labels abi unit parity golden faults python rust go
swig interop e2e gpu.
Then builds and runs abi, unit, golden and faults tests again under AddressSanitizer + UBSan (with it the stress programs of all
languages), and faults and abi_turns under TSan.

  --fast         release build only, without e2e (a real model), the slow part of the bindings' tests and sanitizers
  --sanitizers   only the sanitizer part
  --label LABEL  only tests with this label, release build
  --aarch64      also unit, parity and golden tests cross-built for 64-bit Arm, under qemu-user: the NEON kernels
                 (scripts/setup.sh --aarch64; 6 to 10 minutes on 2 cores, most of it compiling and emulating)
  --engines      also real serving engines and stacks (label engines; scripts/setup.sh --vllm and --stacks install them)
TEXT
}

fast=0
only_sanitizers=0
engines=0
aarch64=0
label=
for ((i = 1; i <= $#; i++)); do
  case ${!i} in
    --fast) fast=1 ;;
    --sanitizers) only_sanitizers=1 ;;
    --engines) engines=1 ;;
    --aarch64) aarch64=1 ;;
    --label) i=$((i + 1)); label=${!i:?--label needs a value} ;;
    --help | -h) usage; exit 0 ;;
    *) echo "test: unknown argument ${!i}" >&2; usage >&2; exit 2 ;;
  esac
done

jobs=$(nproc)
cmake_options=()
build() {  # preset, targets (default: all)
  local preset=$1
  shift
  cmake --preset "$preset" "${cmake_options[@]}" >/dev/null
  cmake --build --preset "$preset" -j "$jobs" ${1:+--target "$@"} -- --quiet
}
run() {  # preset, further ctest arguments
  local preset=$1
  shift
  ctest --test-dir "build/$preset" --output-on-failure --no-tests=error "$@"
}

if [[ ! -x build/venv/bin/python ]]; then
  echo "test: build/venv is missing: run ./scripts/setup.sh first" >&2
  exit 1
fi
export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=print_stacktrace=1 TSAN_OPTIONS=halt_on_error=1

# SPECTRUMKV_CUDA=ON, as CI sets it: no nvcc is an error rather than a build without CUDA.
[[ -n ${SPECTRUMKV_CUDA:-} ]] && cmake_options=("-DSPECTRUMKV_CUDA=$SPECTRUMKV_CUDA")
if ((!only_sanitizers)); then
  build release
  cmake_options=()
  arguments=()
  [[ -n $label ]] && arguments+=(-L "^$label\$")
  left_out=()
  ((fast)) && left_out+=(e2e slow)
  if ((engines)) || [[ $label == engines ]]; then
    export SPECTRUMKV_ENGINES=required  # one that is not installed fails
  else
    left_out+=(engines)
    echo "test: real serving engines (label engines) are left out: --engines runs them" >&2
  fi
  ((${#left_out[@]})) && arguments+=(-LE "^($(IFS='|'; echo "${left_out[*]}"))\$")
  run release "${arguments[@]}"
fi
if ((!fast)) && [[ -z $label ]]; then
  build asan
  run asan -j "$jobs" -L '^(unit|golden|parity)$'
  run asan -L '^(faults|abi)$'
  build tsan skv_faults skv_late skv_stress abi_turns  # a third of the tree is tests that do not run here
  run tsan -L '^(faults)$'
  run tsan -R '^abi_turns$'
fi
# Its own tree, so its own step: the tests keep their labels there.
if ((aarch64)); then
  if [[ ! -d build/aarch64-libraries ]]; then
    echo "test: build/aarch64-libraries is missing: run ./scripts/setup.sh --aarch64 first" >&2
    exit 1
  fi
  build aarch64
  arguments=()
  [[ -n $label ]] && arguments+=(-L "^$label\$")
  run aarch64 -j "$jobs" "${arguments[@]}"
elif ((!fast)) && [[ -z $label ]]; then
  echo "test: the NEON kernels (64-bit Arm, under qemu-user) are left out: --aarch64 runs them" >&2
fi
