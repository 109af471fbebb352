#!/usr/bin/env bash
# The demo, from a fresh clone: install, build, run. Everything it makes lies under build/.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'TEXT'
usage: scripts/demo.sh [--no-setup] [options of `spectrumkv demo`]

Moves a real model's KV cache (SmolLM2-135M) between two processes over TCP and measures what is lost:
  1. scripts/setup.sh        installs what is missing (the first time: compiles llama.cpp, downloads the model)
  2. cmake --preset release  configures and builds libspectrumkv.so
  3. spectrumkv demo         prints the figures; writes build/demo/report.json and build/demo/report.png

  --no-setup        skip the first step
  --help            this text

Often used options of `spectrumkv demo` (all: build/venv/bin/python -m spectrumkv demo --help):
  --tokens N        tokens of the prompt whose cache is moved (default 1792)
  --windows N       stretches of the text to average over (default 1)
  --budgets A,B     more budgets beside 0.50 and 0.28
TEXT
}

setup=1
arguments=()
for argument in "$@"; do
  case $argument in
    --help | -h) usage; exit 0 ;;
    --no-setup) setup=0 ;;
    *) arguments+=("$argument") ;;
  esac
done

python=build/venv/bin/python
if ((setup)); then
  scripts/setup.sh
elif [[ ! -x $python ]]; then
  echo "demo: no $python: run scripts/setup.sh first, or leave --no-setup out" >&2
  exit 1
fi
cmake --preset release
cmake --build --preset release --target spectrumkv
export PYTHONPATH=$PWD/bindings/python/src${PYTHONPATH:+:$PYTHONPATH}
export SPECTRUMKV_LIBRARY=$PWD/build/release/libspectrumkv.so
exec "$python" -m spectrumkv demo --out build/demo "${arguments[@]}"
