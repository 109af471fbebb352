#!/usr/bin/env bash
# SWIG makes a SWIGTYPE_ class of a parameter that no typemap knows. Names the functions that have one, and fails.
set -euo pipefail
folder=$1
mapfile -t unknown < <(find "$folder/src" -name 'SWIGTYPE_*.java')
((${#unknown[@]})) || exit 0
echo "bindings/swig: parameters without a typemap in spectrumkv.i or java.i:" >&2
grep -rhE 'public static .*SWIGTYPE_' "$folder/src" | sed 's/^ */  /' >&2
exit 1
