#!/usr/bin/env bash
# Other people's quantizers and compressors beside this library's codec on the CPU, in one run on the same tensors
# (docs/results/performance.md). Peers: what scripts/setup.sh installs (ggml), and with --peers torch's, LMCache's, FBGEMM's,
# quanto's and Blosc's; those that are missing are skipped, and said so.
#
#   bench/peers/cpu.sh --json OUT [--quick]        all tensors; --quick: few rounds on tensors of 32 MiB
#   bench/peers/cpu.sh --check                     every peer's round trip on a tiny tensor, nothing timed
#   bench/peers/cpu.sh --page IN.json OUT.svg      the chart and, on stdout, the tables
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
venv=$root/build/venv/bin/python
stacks=${SPECTRUMKV_STACKS:-$root/build/stacks}/bin/python
packages=${SPECTRUMKV_PEERS:-$root/build/peers}
[[ -x $venv ]] || { echo "no $venv: run scripts/setup.sh" >&2; exit 1; }
export SPECTRUMKV_LIBRARY=${SPECTRUMKV_LIBRARY:-$root/build/release/libspectrumkv.so}
export PYTHONPATH=$root/bench/peers:$root/bindings/python/src${PYTHONPATH:+:$PYTHONPATH}

if [[ ${1:-} == --page ]]; then
  shift
  exec "$venv" -m cpu.page "$@"
fi
# One thread everywhere.
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 NUMEXPR_MAX_THREADS=1 BLOSC_NTHREADS=1
# Memory that torch frees stays with the process (the most that glibc allows): its peers would else pay for page faults.
export MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=4294967296

prompt=$root/build/peers-prompt.npz
if [[ " $* " != *" --check "* && " $* " != *" --help "* && ! -s $prompt ]]; then
  "$venv" -m cpu.capture "$prompt"  # in the environment that has llama.cpp; kept
fi
export PYTHONPATH=$PYTHONPATH:$packages
python=$venv
if [[ -x $stacks ]]; then python=$stacks; fi
exec "$python" -m cpu --prompt "$prompt" "$@"
