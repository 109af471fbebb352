#!/usr/bin/env bash
# Builds the stress programs of the languages named and runs watch.py over them. Java's classes are those of the test "java".
#   stress.sh C_PROGRAM JAVA_FOLDER OPERATIONS NAME... [-- further options of watch.py]
# SKV_LIBRARY is the library to test.
set -euo pipefail
c=$1 java=$2 operations=$3
shift 3
root=$(cd "$(dirname "$0")/../.." && pwd)
: "${SKV_LIBRARY:?wanted: the library to test}"
folder=$(dirname "$SKV_LIBRARY")
export LD_LIBRARY_PATH=$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} SPECTRUMKV_LIBRARY=$SKV_LIBRARY
export PYTHONPATH=$root/bindings/python/src PYTHONDONTWRITEBYTECODE=1
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/build/cargo} GOCACHE=${GOCACHE:-$root/build/go} GOFLAGS=-buildvcs=false
bin=$root/build/stress
mkdir -p "$bin"
python=${SKV_PYTHON:-$root/build/venv/bin/python}

programs=()
while (($#)) && [[ $1 != -- ]]; do
  case $1 in
    c) command=$c ;;
    python) command="$python $root/tests/stress/stress.py" ;;
    rust)
      (cd "$root/bindings/rust" && SPECTRUMKV_LIB_DIR=$folder cargo build --quiet --locked --example stress)
      command=$CARGO_TARGET_DIR/debug/examples/stress
      ;;
    go)
      (cd "$root/bindings/go" && CGO_CFLAGS="-I$root/include" CGO_LDFLAGS="-L$folder" \
        go build -tags=spectrumkv_flags -o "$bin/go" ./internal/stress/main)
      command=$bin/go
      ;;
    purego)
      (cd "$root/bindings/go/purego" && CGO_ENABLED=0 go build -o "$bin/purego" ./internal/stress)
      command=$bin/purego
      ;;
    java)
      # A small heap, so that a leak on it is an error too.
      command="java -Xmx64m -XX:+UseSerialGC -Dspectrumkv.jni=$java/libspectrumkv_java.so"
      command+=" -cp $root/build/java/classes:$root/build/java/test-classes Stress"
      ;;
    *) echo "stress: unknown language $1" >&2; exit 2 ;;
  esac
  programs+=("$1=$command")
  shift
done
(($#)) && shift
exec "$python" "$root/tests/stress/watch.py" "$operations" "${programs[@]}" "$@"
