#!/usr/bin/env bash
# The crate's public items against api/spectrumkv.txt: what is gone or changed needs a version that Cargo takes for incompatible.
#   semver.sh [--update] [--against LISTING]
# rustdoc's JSON is for nightly toolchains; RUSTC_BOOTSTRAP lets this one make it, in a target folder of its own.
set -euo pipefail
cd "$(dirname "$0")"
listing=api/spectrumkv.txt
options=()
while (($#)); do
  case $1 in
    --update) options=(--update) ;;
    --against) listing=${2:?--against needs a file}; shift ;;
    *) echo "semver: unknown argument $1" >&2; exit 2 ;;
  esac
  shift
done
target=${CARGO_TARGET_DIR:-$(cd ../.. && pwd)/build/cargo}
version=$(sed -nE 's/^version = "(.*)"/\1/p' Cargo.toml)
env -u SPECTRUMKV_LIB_DIR DOCS_RS=1 RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$target/api" \
  cargo rustdoc --quiet --locked -p spectrumkv --lib -- -Z unstable-options --output-format json --cap-lints allow
status=0
CARGO_TARGET_DIR=$target cargo run --quiet --locked -p spectrumkv-api -- "$target/api/doc/spectrumkv.json" "$version" "$listing" "${options[@]}" || status=$?
((status == 3)) || exit "$status"
echo "SKIPPED: $(rustc --version) makes JSON that public-api (bindings/rust/api/Cargo.toml) cannot read"
