# SPDX-License-Identifier: Apache-2.0
"""Every function of the header is in every binding: in its raw layer without exception, and in what users see unless
bindings/not-wrapped.txt says why not. Names what is missing.

    coverage.py ROOT [HEADER]
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

root = Path(sys.argv[1]).resolve()
sys.path.insert(0, str(root / "bindings" / "generate"))
import go_table  # noqa: E402
import header  # noqa: E402


def text(files: Iterable[Path]) -> str:
    found = [path.read_text() for path in files]
    assert found, "no files"
    return "\n".join(found)


def files(folder: str, pattern: str, *without: str) -> list[Path]:
    return [path for path in sorted((root / folder).glob(pattern)) if path.name not in without]


def go_member(name: str) -> str:
    return rf"\babi\.Lib\.{go_table.camel(name)}\b"


# Where each layer names a function, and how.
Layer = tuple[list[Path], Callable[[str], str]]
RAW: dict[str, Layer] = {
    "python": (files("bindings/python/src/spectrumkv", "_abi.py"), lambda name: rf'"{name}": \('),
    "rust (link)": (files("bindings/rust/spectrumkv-sys/src", "link.rs"), lambda name: rf"pub fn {name}\("),
    "rust (dlopen)": (files("bindings/rust/spectrumkv-sys/src", "dlopen.rs"), lambda name: rf"pub unsafe fn {name}\("),
    "go (cgo)": (files("bindings/go/internal/abi", "cgo.go"), lambda name: rf"C\.{name}\("),
    "go (purego)": (files("bindings/go/purego", "table.go"), lambda name: rf'"{name}":'),
}
USER: dict[str, Layer] = {
    "python": (files("bindings/python/src/spectrumkv", "*.py"), lambda name: rf'[".]{name}\b(?!":)'),
    "rust": (files("bindings/rust/spectrumkv/src", "*.rs", "constants.rs"), lambda name: rf"sys::{name}\b"),
    "go": (files("bindings/go", "*.go", "constants.go"), go_member),
    "java": (
        files("bindings/swig/java/src/main/java/org/spectrumkv", "*.java"),
        lambda name: rf"Native(\.|::){name}\b",
    ),
}


def exceptions() -> set[tuple[str, str]]:
    found = set()
    for line in (root / "bindings" / "not-wrapped.txt").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            binding, name, reason = line.split(None, 2)
            assert reason
            found.add((binding, name))
    return found


def main() -> int:
    path = Path(sys.argv[2]) if len(sys.argv) > 2 else root / "include" / "spectrumkv.h"
    functions = [function.name for function in header.read(path).functions]
    problems = []
    for binding, (paths, how) in RAW.items():
        body = text(paths)
        problems += [
            f"{binding}: {name} is missing: run scripts/generate.sh"
            if binding != "python"
            else f"{binding}: {name} is missing in _abi.py"
            for name in functions
            if not re.search(how(name), body)
        ]
    allowed = exceptions()
    # SWIG wraps what it includes; only an %ignore could hide a function. Java's may hide what its users do not get.
    for path in files("bindings/swig", "*.i"):
        problems += [
            f"swig: {name} is ignored"
            for name in re.findall(r"%ignore\s+(skv_\w+)", path.read_text())
            if path.name != "java.i" or ("java", name) not in allowed
        ]
    for binding, (paths, how) in USER.items():
        body = text(paths)
        for name in functions:
            there = re.search(how(name), body) is not None
            if not there and (binding, name) not in allowed:
                problems.append(
                    f"{binding}: {name} has no wrapper: write one, or say why not in bindings/not-wrapped.txt"
                )
            if there and (binding, name) in allowed:
                problems.append(f"bindings/not-wrapped.txt: {binding} {name} is wrapped")
    problems += [
        f"bindings/not-wrapped.txt: {binding} {name}: no such binding or function"
        for binding, name in sorted(allowed)
        if binding not in USER or name not in functions
    ]
    for problem in problems:
        print(problem)
    if not problems:
        print(
            f"{len(functions)} functions in {len(RAW) + 1} raw layers and {len(USER)} bindings, {len(allowed)} exceptions"
        )
    return 1 if problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except header.HeaderError as error:
        sys.exit(f"the header: {error}")
