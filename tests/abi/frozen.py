# SPDX-License-Identifier: Apache-2.0
"""Constants of the frozen header keep their values, no value of a status or key is reused for another name, and structs keep
their fields: those that carry their size may have more behind them, the others not.

frozen.py ROOT [HEADER]
"""

from __future__ import annotations

import sys
from pathlib import Path

root = Path(sys.argv[1])
sys.path.insert(0, str(root / "bindings" / "generate"))
import generate  # noqa: E402
import header  # noqa: E402

now = header.read(Path(sys.argv[2]) if len(sys.argv) > 2 else root / "include" / "spectrumkv.h")
frozen = header.read(root / "tests" / "abi" / "frozen" / "spectrumkv.h")
values = {constant.name: constant.value for constant in now.constants}
problems = []
for constant in frozen.constants:
    if constant.name.startswith(("SKV_VERSION_", "SKV_WIRE_", "SKV_ABI_VERSION")):
        continue
    if constant.name not in values:
        problems.append(f"{constant.name} is gone")
    elif values[constant.name] != constant.value:
        problems.append(f"{constant.name} was {constant.value} and is {values[constant.name]}")
structs = {struct.name: struct.fields for struct in now.structs}
for struct in frozen.structs:
    old = [(field.name, str(field.type), field.length) for field in struct.fields]
    new = [(field.name, str(field.type), field.length) for field in structs.get(struct.name, ())]
    if new[: len(old)] != old:
        problems.append(f"{struct.name}: a field was changed, moved or removed")
    elif len(new) > len(old) and old[0][0] != "struct_size":
        problems.append(f"{struct.name} has grown, and does not carry its size")
groups, _plain = generate.grouped(now.constants)
for name, (_text, members) in groups.items():
    seen: dict[int, str] = {}
    for constant, _group in members:
        if constant.value in seen:
            problems.append(f"{name}: {constant.name} and {seen[constant.value]} are both {constant.value}")
        seen[constant.value] = constant.name
for problem in problems:
    print(problem)
if not problems:
    print(f"{len(frozen.constants)} constants and {len(frozen.structs)} structs as frozen")
sys.exit(1 if problems else 0)
