#!/usr/bin/env bash
# The stress program of one language (rust go python java), and the tests of its binding where those are quick, with a library built with
# AddressSanitizer: its allocator and its checks then serve the whole process. 77: it cannot be done here, and says why.
#   sanitized.sh LANGUAGE JAVA_FOLDER; SKV_LIBRARY is the library.
set -euo pipefail
language=$1 java=$2
root=$(cd "$(dirname "$0")/../.." && pwd)
: "${SKV_LIBRARY:?wanted: the library to test}"
folder=$(dirname "$SKV_LIBRARY")
operations=1600
skip() { echo "SKIPPED: $language with AddressSanitizer: $*"; exit 77; }
run() { echo "+ $*"; "$@" </dev/null; }

# Programs that are not built with it get its run time first; and libstdc++ at once, since it looks for __cxa_throw when it starts.
runtime=$(gcc -print-file-name=libasan.so)
[[ -e $runtime ]] || skip "no libasan.so of gcc's"
preload=$runtime:$(gcc -print-file-name=libstdc++.so)
export LD_LIBRARY_PATH=$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} SPECTRUMKV_LIBRARY=$SKV_LIBRARY
export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=print_stacktrace=1

case $language in
  rust)
    cd "$root/bindings/rust"
    export CARGO_TARGET_DIR=$root/build/cargo-asan SPECTRUMKV_LIB_DIR=$folder CARGO_TERM_COLOR=never
    cargo build --quiet --locked --example stress
    run env LD_PRELOAD="$preload" "$CARGO_TARGET_DIR/debug/examples/stress" "$operations" "$operations"
    # One test forgets a request, which is a leak, and says so.
    export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="env LD_PRELOAD=$preload LD_LIBRARY_PATH=$LD_LIBRARY_PATH"
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=$CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER
    run cargo test --quiet --locked --tests -p spectrumkv -- --skip a_forgotten_request_keeps_its_bytes
    ;;
  go)
    cd "$root/bindings/go"
    export GOCACHE=${GOCACHE:-$root/build/go} GOFLAGS=-buildvcs=false CGO_CFLAGS="-I$root/include" CGO_LDFLAGS="-L$folder" CC=gcc
    mkdir -p "$root/build/stress"
    # -asan also checks Go's own accesses to memory of C's.
    go build -asan -tags=spectrumkv_flags -o "$root/build/stress/go-asan" ./internal/stress/main
    run "$root/build/stress/go-asan" "$operations" "$operations"
    run go test -asan -tags=spectrumkv_flags -count=1 -run TestThroughCgo .
    ;;
  python)
    export PYTHONPATH=$root/bindings/python/src PYTHONDONTWRITEBYTECODE=1 PYTHONMALLOC=malloc
    # Python and NumPy keep objects when they end: only leaks that the library allocated are ours.
    report=$(mktemp)
    trap 'rm -f "$report"' EXIT
    run env LD_PRELOAD="$preload" LSAN_OPTIONS=exitcode=0 "${SKV_PYTHON:-$root/build/venv/bin/python}" \
      "$root/tests/stress/stress.py" "$operations" "$operations" 2> >(tee "$report" >&2)
    if grep -qE ' skv(_|::)|libspectrumkv' "$report"; then
      echo "the library's memory leaked (above)"
      exit 1
    fi
    ;;
  java)
    classes=$root/build/java
    [[ -e $java/libspectrumkv_java.so ]] || skip "no $java/libspectrumkv_java.so: build the release preset first"
    [[ -e $classes/test-classes/Stress.class ]] || skip "no $classes/test-classes/Stress.class: run the release preset's test java first"
    # The JVM has uses of its own for SIGSEGV, and never frees what it ends with.
    run env LD_PRELOAD="$preload" ASAN_OPTIONS=detect_leaks=0:handle_segv=0 java -Xmx64m -XX:+UseSerialGC \
      -Dspectrumkv.jni="$java/libspectrumkv_java.so" -cp "$classes/classes:$classes/test-classes" Stress "$operations" "$operations"
    ;;
  *) echo "sanitized: unknown language $language" >&2; exit 2 ;;
esac
