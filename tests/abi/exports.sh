#!/usr/bin/env bash
# Exported symbols equal tests/abi/exports.txt and the header's SKV_API functions; nothing else is visible; NEEDED holds
# system libraries only.
set -euo pipefail
root=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
nm -D --defined-only "$SKV_LIBRARY" | awk '$2 != "A" {print $3}' | sed 's/@.*//' | sort >"$work/exported"
sort "$root/tests/abi/exports.txt" >"$work/listed"
grep -oE '^SKV_API [^(]*\(' "$root/include/spectrumkv.h" | grep -oE 'skv_[a-z0-9_]+\($' | tr -d '(' | sort >"$work/declared"
diff -u "$work/declared" "$work/listed" || { echo "tests/abi/exports.txt (+) is not the header's list (-)"; exit 1; }
diff -u "$work/listed" "$work/exported" || { echo "the library exports (+) something else than tests/abi/exports.txt (-)"; exit 1; }
nm -D --defined-only --with-symbol-versions "$SKV_LIBRARY" | grep -q 'skv_version@@SPECTRUMKV_0' || { echo "no version node SPECTRUMKV_0"; exit 1; }
readelf -d "$SKV_LIBRARY" | grep -q 'SONAME.*\[libspectrumkv.so.0\]' || { echo "SONAME is not libspectrumkv.so.0"; exit 1; }
if [[ -z ${SKV_SANITIZE:-} ]]; then
  readelf -d "$SKV_LIBRARY" | sed -n 's/.*NEEDED.*\[\(.*\)\].*/\1/p' | grep -vE '^(libc|libm|libstdc\+\+|libgcc_s|libssl|libcrypto|libzstd|ld-linux-[a-z0-9-]+)\.so' && { echo "unexpected NEEDED"; exit 1; }
  # Nor anything behind them.
  ldd "$SKV_LIBRARY" | grep -iE 'nccl|cuda|nvidia|libucp' && { echo "linked with what is loaded at run time"; exit 1; }
fi
echo "$(wc -l <"$work/exported") exports as listed"
