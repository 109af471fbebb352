#!/usr/bin/env bash
# Packages both crates and builds them from their packages, the safe one with the other's package. SPECTRUMKV_LIB_DIR is set.
set -euo pipefail
cd "$(dirname "$0")"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$(cd ../.. && pwd)/build/cargo}
# Cargo keeps what it unpacked of a version for good, but ours changes until it is published.
find "${CARGO_HOME:-$HOME/.cargo}/registry" -maxdepth 3 -name 'spectrumkv-sys-*' -exec rm -rf {} +
exec cargo package --quiet --locked --allow-dirty -p spectrumkv-sys -p spectrumkv
