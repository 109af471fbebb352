# SPDX-License-Identifier: Apache-2.0
"""Runs the Python in the guides, as a new user would: each page's blocks in order, in one program, in an empty folder. A ``text`` block
right behind a Python block is what that block prints.

    tests/docs/guides.py ROOT PAGE …
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

_BLOCK = re.compile(r"^```python\n(.*?)^```$(?:\n\n^```text\n(.*?)^```$)?", re.M | re.S)


def run(page: Path) -> int:
    """How many of a page's blocks ran and printed what it says."""
    text = page.read_text()
    names: dict[str, Any] = {"__name__": "__main__"}
    count = 0
    for match in _BLOCK.finditer(text):
        line = text[: match.start()].count("\n") + 2
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                exec(compile("\n" * (line - 1) + match[1], str(page), "exec"), names)
        except BaseException as error:
            raise SystemExit(f"{page.name}:{line}: {type(error).__name__}: {error}") from error
        if match[2] is not None and printed.getvalue() != match[2]:
            raise SystemExit(f"{page.name}:{line} printed\n{printed.getvalue()}where the page has\n{match[2]}")
        if match[2] is None and printed.getvalue():
            print(printed.getvalue(), end="")
        count += 1
    return count


root = Path(sys.argv[1])
for name in sys.argv[2:]:
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        blocks = run(root / "docs" / "guides" / name)
    if not blocks:
        raise SystemExit(f"{name}: no Python in it")
    print(f"{name}: {blocks} blocks ran", flush=True)
