#!/usr/bin/env bash
# Builds the interop program of each language and runs interop_test.py over them. Java's classes are those of the test "java".
# With a third argument "calls" the price of one call is measured instead (optimised builds), with "model" the payload is a real model's.
set -euo pipefail
c=$1 java=$2 what=${3:-test}
root=$(cd "$(dirname "$0")/../.." && pwd)
: "${SKV_LIBRARY:?wanted: the library to test}"
folder=$(dirname "$SKV_LIBRARY")
export LD_LIBRARY_PATH=$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} SPECTRUMKV_LIBRARY=$SKV_LIBRARY
export PYTHONPATH=$root/bindings/python/src PYTHONDONTWRITEBYTECODE=1
bin=$root/build/interop
mkdir -p "$bin"

release=() profile=debug jit=-XX:TieredStopAtLevel=1
[[ $what == calls ]] && release=(--release) profile=release jit=-server
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/build/cargo}
(cd "$root/bindings/rust" && SPECTRUMKV_LIB_DIR=$folder cargo build --quiet --locked "${release[@]}" --example interop)
export GOCACHE=${GOCACHE:-$root/build/go} GOFLAGS=-buildvcs=false
(cd "$root/bindings/go" && CGO_CFLAGS="-I$root/include" CGO_LDFLAGS="-L$folder" \
  go build -tags=spectrumkv_flags -o "$bin/go" ./internal/interop/main)
(cd "$root/bindings/go/purego" && CGO_ENABLED=0 go build -o "$bin/purego" ./internal/interop)

classes=$root/build/java
compare=("$root/tests/interop/interop_test.py")
[[ $what == calls ]] && compare+=(--calls)
[[ $what == model ]] && compare=("$root/tests/interop/model_test.py")
exec "$SKV_PYTHON" "${compare[@]}" \
  "c=$c" \
  "python=$SKV_PYTHON $root/tests/interop/interop.py" \
  "rust=$CARGO_TARGET_DIR/$profile/examples/interop" \
  "go=$bin/go" \
  "purego=$bin/purego" \
  "java=java $jit -Dspectrumkv.jni=$java/libspectrumkv_java.so -cp $classes/classes:$classes/test-classes Interop"
