#!/usr/bin/env bash
# Installs into a stage and builds a consumer twice: through find_package and through pkg-config.
set -euo pipefail
here=$1 build=$2 cmake=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$cmake" --install "$build" --prefix "$work/stage" >/dev/null
flags=()
[[ -n ${SKV_SANITIZE:-} ]] && flags+=("-fsanitize=$SKV_SANITIZE")
"$cmake" -S "$here/consumer" -B "$work/build" -DCMAKE_PREFIX_PATH="$work/stage" -DCMAKE_C_FLAGS="${flags[*]}" >/dev/null
"$cmake" --build "$work/build" >/dev/null
"$work/build/consumer"
pc=$(find "$work/stage" -name spectrumkv.pc -printf '%h')
read -ra options <<<"$(PKG_CONFIG_PATH=$pc pkg-config --cflags --libs spectrumkv)"
library=$(find "$work/stage" -name 'libspectrumkv.so' -printf '%h')
"$CC" "${flags[@]}" "$here/consumer/consumer.c" "${options[@]}" -Wl,-rpath,"$library" -o "$work/by-pkg-config"
"$work/by-pkg-config"
