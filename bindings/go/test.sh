#!/usr/bin/env bash
# The Go modules: vet, tests through cgo (race detector, cgo's pointer checks, leaks, fuzzing) and through purego, examples.
# SKV_LIBRARY is the library to test. Part: fast, more (race detector, cgo's pointer checks,
# fuzzing, examples), or all (default).
set -euo pipefail
cd "$(dirname "$0")"
part=${1:-all}
: "${SKV_LIBRARY:?wanted: the library to test}"
root=$(cd ../.. && pwd)
folder=$(dirname "$SKV_LIBRARY")
export GOCACHE=${GOCACHE:-$root/build/go} GOFLAGS=-buildvcs=false LD_LIBRARY_PATH=$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export CGO_CFLAGS="-I$root/include" CGO_LDFLAGS="-L$folder"
tags=-tags=spectrumkv_flags
run() { echo "+ $*"; "$@"; }

unformatted=$(gofmt -l .)
[[ -z $unformatted ]] || { echo "not formatted: $unformatted"; exit 1; }
if [[ $part != more ]]; then
  run go vet $tags ./...
  (cd purego && CGO_ENABLED=0 run go vet ./...)
  run go test $tags -count=1 ./...
  (cd purego && CGO_ENABLED=0 run go test -count=1 ./...)
fi
[[ $part == fast ]] && exit 0
run go test $tags -count=1 -race -run TestThroughCgo .
GOEXPERIMENT=cgocheck2 run go test $tags -count=1 -run TestThroughCgo .
run go test $tags -run '^$' -fuzz FuzzOpen -fuzztime 200000x -parallel 2 -test.fuzzcachedir "$root/build/go-fuzz" .

# The two sides of the transfer, as processes of their own: one through cgo, one without it.
bin=$root/build/go-examples
run go build $tags -o "$bin/" ./examples/...
(cd purego && CGO_ENABLED=0 run go build -o "$bin/decode-purego" ./examples/decode)
uri=unix://@skv-go-example-$$
timeout 60 "$bin/prefill" "$uri" &
prefill=$!
for ((i = 0; i < 100; i++)); do
  grep -q "@skv-go-example-$$" /proc/net/unix && break
  sleep 0.1
done
SPECTRUMKV_LIBRARY=$SKV_LIBRARY timeout 60 "$bin/decode-purego" "$uri"
wait "$prefill"
run timeout 60 "$bin/roundtrip"
