#!/usr/bin/env bash
# One prefill and one decode instance of vLLM on this machine, with SpectrumKV between them. See demo.py for the parts.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)

usage() {
  cat <<'TEXT'
usage: examples/vllm_pd/run.sh [PART …] [--prompts N] [--requests N] [--budget F] [--characters N] [--pack]
       [--queries N] [--no-prefix-cache] [--help]

Starts `vllm serve` twice and a proxy, sends requests, and prints what came of it. Exit code 0 when every check held.
Parts: speed exact budget mixed pressure refused faults; all by default (20 to 40 minutes on 2 cores). And soak (--seconds N, default 300)
and storm (--runs N random faults, default 100), only when named.
Needs: scripts/setup.sh --vllm, and libspectrumkv.so (SPECTRUMKV_LIBRARY, or build/release).
TEXT
}
[[ ${1:-} == --help || ${1:-} == -h ]] && { usage; exit 0; }

python=${SPECTRUMKV_VLLM_PYTHON:-$root/build/vllm/bin/python}
if [[ ! -x $python ]]; then
  echo "run.sh: no $python: run scripts/setup.sh --vllm first" >&2
  exit 1
fi
export SPECTRUMKV_LIBRARY=${SPECTRUMKV_LIBRARY:-$root/build/release/libspectrumkv.so}
if [[ ! -e $SPECTRUMKV_LIBRARY ]]; then
  echo "run.sh: no $SPECTRUMKV_LIBRARY: build it (cmake --preset release && cmake --build --preset release), or set SPECTRUMKV_LIBRARY" >&2
  exit 1
fi
export PYTHONPATH=$root/bindings/python/src${PYTHONPATH:+:$PYTHONPATH}
model=${SPECTRUMKV_VLLM_MODEL:-$root/build/vllm-models/smollm2}
[[ -e $model/.complete ]] || "$python" "$here/convert.py" "$model"
exec "$python" "$here/demo.py" --model "$model" --logs "$root/build/vllm-logs" "$@"
