#!/usr/bin/env bash
# A test of the tests: each gate of the ABI is shown a deliberate break, must fail, and must name it.
set -euo pipefail
root=$1
here=$root/tests/abi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
count=0

# refuses NAME TEXT COMMAND...: the command must fail and print TEXT.
refuses() {
  local name=$1 text=$2 status=0
  shift 2
  "$@" >"$work/output" 2>&1 || status=$?
  if ((status == 0)) || ! grep -qF -- "$text" "$work/output"; then
    echo "FAILED: $name: exit $status, wanted a failure that says \"$text\":"
    cat "$work/output"
    exit 1
  fi
  count=$((count + 1))
}

# broken SED-EXPRESSION: a copy of the header with a change, which must be one.
broken() {
  sed -E "$1" "$root/include/spectrumkv.h" >"$work/spectrumkv.h"
  ! cmp -s "$root/include/spectrumkv.h" "$work/spectrumkv.h" || { echo "FAILED: $1 changes nothing"; exit 1; }
}

# tree: a root whose header is the broken one, for the gates that take only a root.
tree() {
  rm -rf "$work/root"
  mkdir -p "$work/root/include" "$work/root/tests/abi"
  cp "$here/exports.txt" "$work/root/tests/abi/"
  cp "$work/spectrumkv.h" "$work/root/include/"
}

added='s/^SKV_API void skv_plan_destroy\(skv_plan\* plan\);/&\nSKV_API skv_status skv_brand_new(skv_engine* engine, int64_t value, skv_error* err);/'
broken "$added"
tree
refuses "a function that is not exported" skv_brand_new "$here/exports.sh" "$work/root"
refuses "a function without bindings, in the raw layers" "rust (link): skv_brand_new is missing" python3 -B "$here/coverage.py" "$root" "$work/spectrumkv.h"
for binding in "rust (dlopen)" "go (cgo)" "go (purego)" python; do
  refuses "a function without $binding" "$binding: skv_brand_new is missing" python3 -B "$here/coverage.py" "$root" "$work/spectrumkv.h"
done
for binding in rust go java python; do
  refuses "a function that $binding does not wrap" "$binding: skv_brand_new has no wrapper" python3 -B "$here/coverage.py" "$root" "$work/spectrumkv.h"
done
refuses "generated files out of date" "skv_brand_new is missing" python3 -B "$root/bindings/generate/generate.py" --check "$work/spectrumkv.h"
"$here/baseline.sh" "$root" "$work/spectrumkv.h" >"$work/output" && grep -q skv_brand_new "$work/output" || {
  echo "FAILED: an added function is compatible, and named"; cat "$work/output"; exit 1; }

tree
sed -i '/^skv_version$/d' "$work/root/tests/abi/exports.txt"
cp "$root/include/spectrumkv.h" "$work/root/include/"
refuses "an export that is not listed" skv_version "$here/exports.sh" "$work/root"

# A library that shows more than the header: exports, and a needed library.
"${CC:-cc}" -shared -fPIC -x c - -o "$work/libmore.so" <<<'int skv_more(void) { return 0; } int helper(void) { return 1; }'
refuses "symbols that are not hidden" helper env SKV_LIBRARY="$work/libmore.so" "$here/exports.sh" "$root"

broken 's/^SKV_API skv_status skv_plan_bytes\(const skv_plan\* plan, uint64_t\* out/SKV_API skv_status skv_plan_bytes(const skv_plan* plan, uint32_t* out/'
refuses "a parameter of another type" skv_plan_bytes "$here/baseline.sh" "$root" "$work/spectrumkv.h"
broken 's/^SKV_API void skv_plan_destroy\(skv_plan\* plan\);//'
refuses "a function that is gone" skv_plan_destroy "$here/baseline.sh" "$root" "$work/spectrumkv.h"
broken 's/^  uint64_t k_rows\[8\];/  uint64_t k_rows[9];/'
refuses "a struct of another layout" "skv_receipt: a field" python3 -B "$here/frozen.py" "$root" "$work/spectrumkv.h"
broken 's/^  int32_t status;/&\n  int32_t more;/'
refuses "a field in the middle" skv_error "$here/baseline.sh" "$root" "$work/spectrumkv.h"
broken 's/^typedef struct skv_receipt \{/&\n  int32_t first;/'
refuses "a field before the others of a struct that may grow" "skv_receipt: a field" python3 -B "$here/frozen.py" "$root" "$work/spectrumkv.h"
broken 's/^  char message\[248\];/&\n  int32_t more;/'
refuses "a frozen struct that grows" "skv_error has grown" python3 -B "$here/frozen.py" "$root" "$work/spectrumkv.h"
broken 's/^  int32_t native;/  int64_t native;/'
refuses "the frozen error struct" skv_error "$here/baseline.sh" "$root" "$work/spectrumkv.h"

broken 's/^#define SKV_E_BUDGET \(-40\)/#define SKV_E_BUDGET (-45)/'
refuses "a status of another value" "SKV_E_BUDGET was -40 and is -45" python3 -B "$here/frozen.py" "$root" "$work/spectrumkv.h"
broken 's/^#define SKV_PLAN_CHUNK 2/#define SKV_PLAN_CHUNK 2\n#define SKV_PLAN_OTHER 2/'
refuses "a value that is used twice" "SKV_PLAN_OTHER and SKV_PLAN_CHUNK are both 2" python3 -B "$here/frozen.py" "$root" "$work/spectrumkv.h"
broken 's/^#define SKV_TIER_RAW 5//'
refuses "a constant that is gone" "SKV_TIER_RAW is gone" python3 -B "$here/frozen.py" "$root" "$work/spectrumkv.h"

broken 's/^#define SKV_VERSION_MINOR 1/#define SKV_VERSION_MINOR 2/'
refuses "packages of another version" "bindings/rust/Cargo.toml: version" python3 -B "$here/versions.py" "$root" "$work/spectrumkv.h"

for line in 'enum class skv_kind { a };' 'static inline bool skv_is(int x) { return x; }' 'void skv_old();'; do
  broken "s/^typedef int32_t skv_status;/&\n$line/"
  tree
  refuses "a header that is not C99 and C++11: $line" error: "$here/header_in_every_standard.sh" "$work/root"
done
broken 's/^typedef int32_t skv_status;/&\nSKV_API skv_status skv_callback(void (*f)(int), skv_error* err);/'
refuses "a parameter that no binding can express" skv_callback python3 -B "$here/coverage.py" "$root" "$work/spectrumkv.h"
# SWIG takes what the header has, but for what its interface hides or cannot express.
mkdir -p "$work/hidden/bindings"
cp -r "$root"/bindings/{generate,go,python,rust,swig,not-wrapped.txt} "$work/hidden/bindings/"
sed -i '1i %ignore skv_plan_bytes;' "$work/hidden/bindings/swig/java.i"
refuses "a function that SWIG's interface hides" "swig: skv_plan_bytes is ignored" python3 -B "$here/coverage.py" "$work/hidden" "$root/include/spectrumkv.h"
broken 's/^SKV_API void skv_plan_destroy\(skv_plan\* plan\);/&\nSKV_API skv_status skv_brand_new(skv_engine* engine, struct skv_new* value, skv_error* err);/'
mkdir -p "$work/java/src"
swig=$(command -v swig4.0 || command -v swig)
"$swig" -java -c++ -module Native -package org.spectrumkv.raw -DSWIGWORDSIZE64 -I"$work" -I"$root/bindings/swig" -outdir "$work/java/src" \
  -o "$work/java/wrap.cc" "$root/bindings/swig/spectrumkv.i"
refuses "a parameter that SWIG's interface does not know" skv_brand_new "$root/bindings/swig/check_generated.sh" "$work/java"
# The parse tree of SWIG against the ctypes table: the same check that test_referee.py makes, here of a header with one more.
broken "$added"
"$swig" -xml -c++ -DSWIGWORDSIZE64 -I"$work" -I"$root/bindings/swig" -o "$work/spectrumkv.xml" "$root/bindings/swig/spectrumkv.i"
refuses "a function that the ctypes table lacks" "in the ctypes table only: skv_brand_new" env SKV_SWIG_XML="$work/spectrumkv.xml" \
  PYTHONPATH="$(dirname "$SKV_LIBRARY")/bindings/all/swig/python:$root/bindings/python/src" SPECTRUMKV_LIBRARY="$SKV_LIBRARY" \
  PYTHONDONTWRITEBYTECODE=1 "${SKV_PYTHON:-$root/build/venv/bin/python}" -m pytest -q -p no:cacheprovider \
  "$root/bindings/swig/test_referee.py" -k test_every_prototype
echo "$count breaks refused"
