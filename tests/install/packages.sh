#!/usr/bin/env bash
# The packages, unpacked and used: Debian's by a consumer through pkg-config and find_package, the wheel in an environment of its
# own, and what each of them says about itself.
set -euo pipefail
here=$1
root=$(cd "$here/../.." && pwd)
cd "$root"
scripts/package.sh --deb --wheel >/dev/null
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
packages=build/packages
version=$(sed -nE 's/^#define SKV_VERSION_(MAJOR|MINOR|PATCH) ([0-9]+)$/\2/p' include/spectrumkv.h | paste -sd.)
abi=$(sed -nE 's/^#define SKV_ABI_VERSION ([0-9]+)$/\1/p' include/spectrumkv.h)
fail() { echo "$*"; exit 1; }

runtime=$(ls $packages/libspectrumkv"${abi}"_"${version}"_*.deb) || fail "no package libspectrumkv$abi of version $version"
development=$(ls $packages/libspectrumkv-dev_"${version}"_*.deb) || fail "no package libspectrumkv-dev of version $version"
[[ $(dpkg-deb -f "$development" Depends) == "libspectrumkv$abi (= $version)" ]] || fail "-dev does not depend on its library"
dpkg-deb -f "$runtime" Depends | grep -q 'libc6 (>= ' || fail "the library's dependencies are missing"
dpkg-deb -c "$runtime" | grep -qE 'libspectrumkv\.so$|\.h$' && fail "development files in the library's package"
dpkg-deb -I "$runtime" shlibs | grep -q "^libspectrumkv $abi libspectrumkv$abi" || fail "no shlibs entry for $abi"
dpkg-deb -x "$runtime" "$work/stage"
dpkg-deb -x "$development" "$work/stage"
folder=$(dirname "$(find "$work/stage" -name libspectrumkv.so)")
read -ra options <<<"$(PKG_CONFIG_PATH=$folder/pkgconfig pkg-config --cflags --libs spectrumkv)"
"${CC:-cc}" "$here/consumer/consumer.c" "${options[@]}" -o "$work/consumer"
LD_LIBRARY_PATH=$folder "$work/consumer"
cmake -S "$here/consumer" -B "$work/build" -DCMAKE_PREFIX_PATH="$work/stage/usr" >/dev/null
cmake --build "$work/build" >/dev/null
LD_LIBRARY_PATH=$folder "$work/build/consumer"

# Rust and Go find it by pkg-config, as their users do.
export PKG_CONFIG_PATH=$folder/pkgconfig
(cd bindings/rust && CARGO_TARGET_DIR=$root/build/cargo-installed LD_LIBRARY_PATH=$folder \
  cargo run --quiet --locked -p spectrumkv --example roundtrip -- 0.4)
# Go's cache does not know that pkg-config would answer differently; it does know CGO_CFLAGS.
(cd bindings/go && CGO_CFLAGS="-O2 -g -I$work" GOCACHE=${GOCACHE:-$root/build/go} GOFLAGS=-buildvcs=false LD_LIBRARY_PATH=$folder go run ./examples/roundtrip)

wheel=$(ls $packages/spectrumkv-"$version"-py3-none-manylinux*.whl) || fail "no wheel of version $version that auditwheel calls portable"
PATH=$PWD/build/venv/bin:$PATH build/venv/bin/python -m auditwheel show "$wheel" | grep -i consistent
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-index --disable-pip-version-check "$wheel"
cd "$work"
env -u SPECTRUMKV_LIBRARY -u PYTHONPATH -u LD_LIBRARY_PATH "$work/venv/bin/python" - "$version" <<'PYTHON'
import sys
import spectrumkv as skv

library = skv.library()
assert library.path.startswith(sys.prefix), library.path
assert library.version() == skv.__version__ == sys.argv[1]
print("wheel:", skv.Engine().describe(), library.version())
PYTHON
