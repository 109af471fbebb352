# SPDX-License-Identifier: Apache-2.0
"""examples/carriers: stores and transfer engines of others carry payloads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(("program", "name"), [("mooncake_store.py", "Mooncake store"), ("nixl_read.py", "NIXL")])
def test_a_payload_arrives_whole(program: str, name: str, root: Path) -> None:
    run = subprocess.run(
        [sys.executable, root / "examples" / "carriers" / program],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    if run.returncode == 77 and os.environ.get("SPECTRUMKV_ENGINES") != "required":
        pytest.skip(run.stderr.strip())
    assert run.returncode == 0, run.stdout + run.stderr
    lines = [line for line in run.stdout.splitlines() if line.startswith(name)]
    assert len(lines) == 2, run.stdout
    assert ": raw: " in lines[0]
    assert ": 0.28: " in lines[1]
    assert all("verified and decoded" in line for line in lines)
