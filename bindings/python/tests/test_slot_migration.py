# SPDX-License-Identifier: Apache-2.0
"""examples/slot_migration.py: a conversation moves between two llama.cpp server processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.e2e
def test_the_second_server_goes_on_with_the_same_text(root: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed: run scripts/setup.sh")
    program = root / "examples" / "slot_migration.py"
    run = subprocess.run(
        [sys.executable, program, "--characters", "1500", "--predict", "12", "--threads", "1"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    raw, small = (line for line in run.stdout.splitlines() if " second server: " in line)
    assert raw.split(":")[0].strip() == "raw"
    assert "1 evaluated; 12 of 12 tokens" in raw
    assert "(0.280 of raw) moved" in small
    assert "raw: the same text" in run.stdout
