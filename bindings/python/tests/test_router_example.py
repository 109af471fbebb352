# SPDX-License-Identifier: Apache-2.0
"""examples/router.py: several workers of each kind, one of which is killed under load."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path


def test_the_router_survives_a_worker_that_dies(root: Path) -> None:
    run = subprocess.run(
        [sys.executable, root / "examples" / "router.py", "--requests", "30", "--kill-after", "8"],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.startswith("30 requests")
    assert re.search(r"\(killed\)", run.stdout)
    assert "wrong: 0" in run.stdout
