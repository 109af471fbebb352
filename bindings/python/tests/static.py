# SPDX-License-Identifier: Apache-2.0
"""Style and types: ruff, its formatter, mypy --strict. Exit code 1 if any finds something.

Types of this package and of the measurements made with it; style also of the programs around the other bindings, which follow the same rules."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_AROUND = (
    "../generate",
    "../swig",
    "../../bench/peers",
    "../../bench/logit_probe.py",
    "../../bench/scoring.py",
    "../../bench/stacks",
    "../../bench/ttft",
    "../../examples/carriers",
    "../../examples/slot_migration.py",
    "../../examples/vllm_pd",
    *(f"../../tests/abi/{name}.py" for name in ("coverage", "frozen", "stub", "versions")),
    "../../tests/interop",
    "../../tests/stress",
    "../../tests/docs",
)
_CONFIG = ("--config", "pyproject.toml")
CHECKS = (
    ("ruff", "check", "src", "tests"),
    ("ruff", "format", "--check", "src", "tests"),
    ("ruff", "check", *_CONFIG, *_AROUND),
    ("ruff", "format", "--check", *_CONFIG, *_AROUND),
    ("mypy", "--strict"),
    # What they are compared with is installed elsewhere.
    (
        "mypy",
        "--strict",
        "--disable-error-code",
        "import-not-found",
        "../../bench/ttft",
        "../../bench/scoring.py",
        "../../bench/logit_probe.py",
    ),
)


def main() -> int:
    failed = 0
    for check in CHECKS:
        print("$", *check, flush=True)
        here = Path(__file__).resolve().parents[1]
        failed += subprocess.run([sys.executable, "-m", *check], cwd=here, check=False).returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
