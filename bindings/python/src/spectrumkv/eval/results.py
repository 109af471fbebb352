# SPDX-License-Identifier: Apache-2.0
"""Results in a JSON file that a run adds to row by row, and that a later run with the same settings goes on with.

The file is ``{"kind", "settings", "machine", "rows": [...]}``. A row is what one arm gave in one window and names both
(``"window"``, ``"arm"``). Settings are what makes rows comparable: a file with others is refused.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from spectrumkv.eval.machine import machine

Row = dict[str, Any]


class ResultsError(ValueError):
    """A file that is not one of results, or one of another run's."""


def read(path: Path) -> dict[str, Any]:
    """A results file's content. Raises `ResultsError`, OSError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ResultsError(f"{path}: not JSON ({error})") from None
    wanted = {"kind": str, "settings": dict, "rows": list}
    for name, kind in wanted.items():
        if not isinstance(content, dict) or not isinstance(content.get(name), kind):
            raise ResultsError(f'{path}: no "{name}" of type {kind.__name__}: wanted a file of spectrumkv eval')
    for row in content["rows"]:
        if not isinstance(row, dict) or not isinstance(row.get("arm"), str) or not isinstance(row.get("window"), int):
            raise ResultsError(f"{path}: a row without window and arm: wanted a file of spectrumkv eval")
    return dict(content)


class Results:
    """The results of one run, kept in ``path``; nothing is written if it is None."""

    def __init__(self, path: Path | None, kind: str, settings: dict[str, Any]) -> None:
        """Opens or begins a file. Raises `ResultsError` if it is of another kind or of other settings."""
        self.path = path
        self.content: dict[str, Any] = {"kind": kind, "settings": settings, "machine": machine(), "rows": []}
        if path is not None and path.exists():
            found = read(path)
            if found["kind"] != kind:
                raise ResultsError(f'{path}: results of "{found["kind"]}", this run is "{kind}": give another file')
            for name in sorted(settings.keys() | found["settings"].keys()):
                there, here = found["settings"].get(name), settings.get(name)
                if there != here:
                    raise ResultsError(
                        f"{path}: made with {name} {json.dumps(there)}, this run has {json.dumps(here)}:"
                        " use the same settings or give another file"
                    )
            self.content = found

    @property
    def rows(self) -> list[Row]:
        """Every row."""
        return list(self.content["rows"])

    def row(self, window: int, arm: str) -> Row | None:
        """What this arm gave in this window, if it was run and not refused."""
        for row in self.content["rows"]:
            if row["window"] == window and row["arm"] == arm and "error" not in row:
                return dict(row)
        return None

    def add(self, window: int, arm: str, facts: Row) -> None:
        """Adds a row, in place of one that was refused earlier, and writes the file: whole or not at all."""
        rows = [row for row in self.content["rows"] if (row["window"], row["arm"]) != (window, arm)]
        self.content["rows"] = [*rows, {"window": window, "arm": arm, **facts}]
        if self.path is not None:
            write(self.path, self.content)


def write(path: Path, content: dict[str, Any]) -> None:
    """Replaces a file by this content, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        part.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
