#!/usr/bin/env bash
# The Rust crates: generated files, formatting, clippy, tests with both ways to find the library, documentation, packages.
# SKV_LIBRARY is the library to test. Part: fast, more (the feature dlopen,
# leaks, examples, documentation, packages, semver), or all (default).
set -euo pipefail
cd "$(dirname "$0")"
part=${1:-all}
: "${SKV_LIBRARY:?wanted: the library to test}"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$(cd ../.. && pwd)/build/cargo} CARGO_TERM_COLOR=never
export SPECTRUMKV_LIB_DIR LD_LIBRARY_PATH SPECTRUMKV_LIBRARY=$SKV_LIBRARY
SPECTRUMKV_LIB_DIR=$(dirname "$SKV_LIBRARY")
LD_LIBRARY_PATH=$SPECTRUMKV_LIB_DIR${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
run() { echo "+ $*"; "$@"; }

if [[ $part != more ]]; then
  run cargo fmt --all --check
  run ./generate.sh --check
  run cargo clippy --quiet --locked --workspace --exclude spectrumkv-api --all-targets -- -D warnings
  run cargo test --quiet --locked
fi
[[ $part == fast ]] && exit 0
run cargo clippy --quiet --locked --all-targets --no-default-features --features dlopen -- -D warnings
run cargo test --quiet --locked --no-default-features --features dlopen
run cargo test --quiet --locked --test transport -- --ignored --nocapture nothing_leaks

# The two sides of the transfer, as processes of their own.
run cargo build --quiet --locked --examples
uri=unix://@skv-rust-example-$$
timeout 60 "$CARGO_TARGET_DIR/debug/examples/prefill" "$uri" &
prefill=$!
for ((i = 0; i < 100; i++)); do
  grep -q "@skv-rust-example-$$" /proc/net/unix && break
  sleep 0.1
done
timeout 60 "$CARGO_TARGET_DIR/debug/examples/decode" "$uri"
wait "$prefill"
run timeout 60 "$CARGO_TARGET_DIR/debug/examples/roundtrip"

# As on docs.rs: without the library.
run env -u SPECTRUMKV_LIB_DIR DOCS_RS=1 RUSTDOCFLAGS="-D warnings" cargo doc --quiet --locked --no-deps --all-features
run ./package.sh

# Items that are gone need another version; a listing with one more is what a crate with one fewer looks like.
run cargo clippy --quiet --locked -p spectrumkv-api -- -D warnings
run ./semver.sh
more=$(mktemp)
(cat api/spectrumkv.txt && echo "pub fn spectrumkv::Engine::gone(&self)") >"$more"
if message=$(./semver.sh --against "$more" 2>&1) && [[ $message != SKIPPED* ]]; then
  echo "an item is gone, and nothing was said: $message"; exit 1
fi
rm "$more"
[[ $message == SKIPPED* ]] || grep -q "spectrumkv::Engine::gone" <<<"$message" || { echo "$message"; exit 1; }

# Without it, a program that links says what is missing.
if message=$(env -u SPECTRUMKV_LIB_DIR PKG_CONFIG_PATH=/nowhere PKG_CONFIG_LIBDIR=/nowhere CARGO_TARGET_DIR="$CARGO_TARGET_DIR/without" \
  cargo check --quiet --locked -p spectrumkv-sys 2>&1); then
  echo "built without a library"; exit 1
fi
grep -q "libspectrumkv was not found: set SPECTRUMKV_LIB_DIR" <<<"$message" || { echo "$message"; exit 1; }
