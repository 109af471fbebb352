#!/usr/bin/env bash
# Time to the first token over emulated links, raw beside this library (docs/results/transport.md). Needs root for the
# network namespaces, and what scripts/setup.sh installs.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
export PYTHONPATH=$root/bench:$root/bindings/python/src${PYTHONPATH:+:$PYTHONPATH}
export SPECTRUMKV_LIBRARY=${SPECTRUMKV_LIBRARY:-$root/build/release/libspectrumkv.so}
exec "$root/build/venv/bin/python" -m ttft "$@"
