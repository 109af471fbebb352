# SPDX-License-Identifier: Apache-2.0
"""Style and types of this package: ruff, its formatter, mypy --strict. Exit code 1 if any finds something."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CHECKS = (("ruff", "check", "src", "tests"), ("ruff", "format", "--check", "src", "tests"), ("mypy", "--strict"))


def main() -> int:
    failed = 0
    for check in CHECKS:
        print("$", *check, flush=True)
        here = Path(__file__).resolve().parents[1]
        failed += subprocess.run([sys.executable, "-m", *check], cwd=here, check=False).returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
