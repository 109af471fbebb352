#!/usr/bin/env bash
# Everything that needs a GPU, in one unattended run on a bare machine.
# Single quotes keep what an inner shell expands; functions are called through it.
# shellcheck disable=SC2016,SC2329
set -uo pipefail
cd "$(dirname "$0")/.." || exit

usage() {
  cat <<'TEXT'
usage: scripts/gpu-verify.sh [--out DIR] [--seconds N] [--build-only | --prebuilt] [--no-gpu] [--help]

Builds the library, its GPU tests and benchmark for the GPU of this machine, with nvcc from the PATH, CUDACXX or
build/cuda (scripts/setup.sh --cuda), and runs, in this order and each with a deadline of its own:
  parity     payloads and decoded rows of the CUDA engine against the CPU's, byte for byte; refusals; graphs; streams
  sanitizer  compute-sanitizer's memcheck, racecheck and initcheck on a small part of them
  bench      the kernels beside a device-to-device copy: Qwen2.5-7B's geometry, 512 and 4096 tokens
  peers      torch.compile's and Triton's absmax quantizers beside the same copy (bench/peers/gpu_quantizers.py)
  nccl       plane nccl with the real NCCL (SPECTRUMKV_NCCL_LIBRARY, build/nccl or the system's): a rank with itself, ends on one
             device, two processes on one, two devices where there are
  pd         examples/gpu_pd.py: torch's tensors between two processes
  python     torch and CuPy tensors through the Python package, on their current streams
Writes DIR/gpu-verify.json (every step's status, and the benchmarks' figures) and a log of each step; prints the JSON.
Exits 0 only when no step failed. A step whose tool is missing is "missing", which fails too, but for CuPy.

  --out DIR    default build/gpu-verify
  --seconds N  for the whole run, default 520; steps that no longer fit are "skipped", which fails
  --build-only build into build/gpu and stop: for a machine that lacks the library's other dependencies
  --prebuilt   run what another machine built there (same processor family, no older C library)
  --no-gpu     exercise what needs no GPU: the build, and that every step notices there is none
TEXT
}

out=build/gpu-verify
limit=520
gpu=1
build_here=1
run_here=1
for ((i = 1; i <= $#; i++)); do
  case ${!i} in
    --out) i=$((i + 1)); out=${!i:?--out needs a folder} ;;
    --seconds) i=$((i + 1)); limit=${!i:?--seconds needs a number} ;;
    --build-only) run_here=0 ;;
    --prebuilt) build_here=0 ;;
    --no-gpu) gpu=0 ;;
    --help | -h) usage; exit 0 ;;
    *) echo "gpu-verify: unknown argument ${!i}" >&2; usage >&2; exit 2 ;;
  esac
done

mkdir -p "$out"
build=build/gpu
python=${SPECTRUMKV_PYTHON:-python3}
steps=()
failed=0
bench_json=null
peers_json=null
SECONDS=0

say() { printf 'gpu-verify: %s\n' "$*" >&2; }

# step NAME SECONDS COMMAND...: runs it with its log in $out/NAME.log, and notes "ok", "failed" (and how) or "skipped".
step() {
  local name=$1 most=$2 status start rc=0
  shift 2
  local left=$((limit - SECONDS))
  start=$SECONDS
  if ((left < 5)); then
    status=skipped
  else
    ((most > left)) && most=$left
    say "$name (at most $most s)"
    timeout --kill-after=5 "$most" "$@" >"$out/$name.log" 2>&1 || rc=$?
    case $rc in
      0) status=ok ;;
      77) status=missing ;;
      124 | 137) status="timed out" ;;
      *) status=failed ;;
    esac
  fi
  note "$name" "$status" "$rc" "$((SECONDS - start))"
}

note() {  # NAME STATUS RC SECONDS
  steps+=("{\"step\": \"$1\", \"status\": \"$2\", \"exit\": $3, \"seconds\": $4}")
  say "$1: $2"
  if [[ $2 != ok ]]; then
    failed=1
    [[ -f $out/$1.log ]] && tail -n 30 "$out/$1.log" >&2
  fi
}

# For the GPU that is here; without one for Hopper, or what SPECTRUMKV_GPU_ARCHITECTURES says.
configure() {
  local arch generator=()
  arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d '. ')
  command -v ninja >/dev/null && generator=(-G Ninja)
  command -v ccache >/dev/null && generator+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache -DCMAKE_CUDA_COMPILER_LAUNCHER=ccache)
  cmake -S . -B "$build" "${generator[@]}" -DCMAKE_BUILD_TYPE=Release -DSPECTRUMKV_CUDA=ON \
    -DCMAKE_CUDA_ARCHITECTURES="${SPECTRUMKV_GPU_ARCHITECTURES:-${arch:-90}-real}"
}

no_gpu_is_noticed() {  # COMMAND...: must say that there is no GPU
  local text
  text=$("$@" 2>&1)
  printf '%s\n' "$text"
  grep -qE 'no GPU|torch is not installed|SKV_E_UNAVAILABLE|UNAVAILABLE' <<<"$text"
}

sanitize() {  # TOOL
  local tool
  tool=$(command -v compute-sanitizer) || { echo "compute-sanitizer is not on the PATH"; return 77; }
  SPECTRUMKV_REQUIRE_GPU=1 "$tool" --tool "$1" --error-exitcode 9 --leak-check "$([[ $1 == memcheck ]] && echo full || echo no)" \
    "$build/tests/gpu/gpu_tests" \
    --gtest_filter='CudaCodec.LayersOneByOne*:CudaEngine.RefusesDamaged*:Shapes/CudaShapes*dim72*:Shapes/CudaShapes*dim576*'
}

export -f configure no_gpu_is_noticed sanitize
export build out SPECTRUMKV_PEERS_PYTHON=$python SPECTRUMKV_LIBRARY="$PWD/$build/libspectrumkv.so"
export PYTHONPATH="$PWD/bindings/python/src${PYTHONPATH:+:$PYTHONPATH}"

if ((build_here)); then
  step configure 60 bash -c configure
  step build "$((run_here && gpu ? 300 : limit))" cmake --build "$build" -j "$(nproc)" --target spectrumkv gpu_tests cuda_bench
fi
if ((!run_here)); then
  :
elif ((gpu)); then
  export SPECTRUMKV_REQUIRE_GPU=1
  step parity 150 "$build/tests/gpu/gpu_tests" --gtest_brief=1 --gtest_filter='-NcclOnGpu.*'
  step nccl 80 "$build/tests/gpu/gpu_tests" --gtest_filter='NcclOnGpu.*:-*TwoProcesses*'
  # NCCL reads its environment once a process.
  step nccl-two-processes 60 "$build/tests/gpu/gpu_tests" --gtest_filter='*TwoProcesses*'
  step pd 90 "$python" examples/gpu_pd.py --tokens 1024 --rounds 3
  step bench 60 bash -c '"$build/bench/cuda_bench" >"$out/bench.json"'
  [[ -s $out/bench.json ]] && "$python" -m json.tool "$out/bench.json" >/dev/null && bench_json=$(<"$out/bench.json")
  step peers 90 bash -c '"$SPECTRUMKV_PEERS_PYTHON" bench/peers/gpu_quantizers.py --check >&2 &&
    "$SPECTRUMKV_PEERS_PYTHON" bench/peers/gpu_quantizers.py >"$out/peers.json"'
  [[ -s $out/peers.json ]] && "$python" -m json.tool "$out/peers.json" >/dev/null && peers_json=$(<"$out/peers.json")
  step python 60 "$python" tests/gpu/check_python.py
  for tool in memcheck racecheck initcheck; do step "sanitizer-$tool" 90 bash -c "sanitize $tool"; done
else
  unset SPECTRUMKV_REQUIRE_GPU
  step parity 60 bash -c 'no_gpu_is_noticed "$build/tests/gpu/gpu_tests" --gtest_brief=1'
  step bench 60 bash -c 'no_gpu_is_noticed "$build/bench/cuda_bench"'
  step pd 60 bash -c "no_gpu_is_noticed '$python' examples/gpu_pd.py"
  step peers 60 bash -c 'no_gpu_is_noticed "$SPECTRUMKV_PEERS_PYTHON" bench/peers/gpu_quantizers.py'
  step python 60 bash -c "no_gpu_is_noticed '$python' tests/gpu/check_python.py"
fi

# Free text goes through Python: it may hold anything.
"$python" - "$out/gpu-verify.json" "$failed" "$SECONDS" "[$(IFS=,; echo "${steps[*]}")]" "$bench_json" "$peers_json" <<'PY'
import json, subprocess, sys
path, failed, seconds, steps, bench, peers = sys.argv[1:]
def line(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip().splitlines()
    except (OSError, subprocess.TimeoutExpired):
        return []
result = {
    "ok": failed == "0",
    "seconds": int(seconds),
    "gpu": (line("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader") or [None])[0],
    "commit": (line("git", "rev-parse", "HEAD") or [None])[0],
    "steps": json.loads(steps),
    "bench": json.loads(bench),
    "peers": json.loads(peers),
}
with open(path, "w") as file:
    json.dump(result, file, indent=1)
print(json.dumps(result, indent=1))
PY
exit "$failed"
