# SPDX-License-Identifier: Apache-2.0
"""A C file that defines every function of a header and does nothing: its debug information is the header's ABI.

stub.py ROOT HEADER > stub.c
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(sys.argv[1]) / "bindings" / "generate"))
import header

print("#include <spectrumkv.h>")
for function in header.read(Path(sys.argv[2])).functions:
    unused = " ".join(f"(void){p.name};" for p in function.parameters)
    result = "" if str(function.result) == "void" else " return 0;"
    print(f"{function} {{ {unused}{result} }}")
