# SPDX-License-Identifier: Apache-2.0
"""The demo on the real model: its figures, and what happens when one of its processes dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

KEYS = {
    "budget", "codec", "raw_bytes", "payload_bytes", "ratio", "kl", "ppl_delta", "top1", "bit_equal", "encode_ms",
    "decode_ms", "transfer_ms",
}  # fmt: skip


def start(out: Path, *arguments: str) -> subprocess.Popen[str]:
    # A shell's background job ignores SIGINT and so would what it starts: Ctrl-C is part of what is tested.
    return subprocess.Popen(
        ["env", "--default-signal=INT", sys.executable, "-m", "spectrumkv", "demo", "--out", str(out), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str, Path]:
    out = tmp_path_factory.mktemp("demo")
    # As scripts/demo.sh runs it, 1792 tokens, but on one thread: ggml spins, and a busy machine makes two slower than one.
    process = start(out, "--threads", "1")
    text, _ = process.communicate(timeout=600)
    assert process.returncode == 0, text
    return json.loads((out / "report.json").read_text()), text, out


def find(report: dict[str, Any], codec: str, budget: float) -> dict[str, Any]:
    (run,) = [run for run in report["runs"] if run["codec"] == codec and run["budget"] == budget]
    return run


def test_the_report_has_what_it_promises(outcome: tuple[dict[str, Any], str, Path]) -> None:
    report, text, out = outcome
    assert report["tokens"] == 1792
    assert report["model"] and report["machine"]
    assert all(set(run) >= KEYS for run in report["runs"])
    assert (out / "report.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in out.iterdir()) == ["report.json", "report.png"]
    assert "original:" in text and "received:" in text


def test_raw_is_bit_equal(outcome: tuple[dict[str, Any], str, Path]) -> None:
    raw = find(outcome[0], "default", 1.0)
    assert raw["bit_equal"]
    assert raw["kl"] == 0.0
    assert raw["ppl_delta"] == 0.0
    assert raw["samples"][0]["original"] == raw["samples"][0]["received"]
    assert raw["raw_bytes"] == 1792 * 23040


def test_a_quarter_of_the_bytes_loses_little(outcome: tuple[dict[str, Any], str, Path]) -> None:
    run = find(outcome[0], "default", 0.28)
    assert run["ratio"] <= 0.280
    assert run["kl"] <= 0.004
    assert abs(run["ppl_delta"]) <= 0.01
    assert run["scored"] == "queries"


def test_half_of_the_bytes_loses_nothing(outcome: tuple[dict[str, Any], str, Path]) -> None:
    run = find(outcome[0], "default", 0.5)
    assert run["ratio"] <= 0.5
    assert run["kl"] <= 0.0001


def test_it_beats_the_paper_at_equal_bytes(outcome: tuple[dict[str, Any], str, Path]) -> None:
    for budget in (0.5, 0.28):
        ours, papers = find(outcome[0], "default", budget), find(outcome[0], "paper", budget)
        assert ours["payload_bytes"] <= papers["payload_bytes"] * 1.01
        assert ours["kl"] < papers["kl"] / 3


# ---------------------------------------------------------------------------------------------- when one dies


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pid: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


@pytest.fixture(params=["decode process: load", "window 1 of 1, arm 1 of"], ids=["while prefilling", "between arms"])
def running(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A demo at a certain point of its work, and the decode process's id."""
    process = start(tmp_path, "--tokens", "256", "--threads", "1")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(request.param):
            break
    (child,) = children(process.pid)
    yield process, child
    process.kill()
    process.wait()
    if not gone(child, 10):
        os.kill(child, signal.SIGKILL)
        pytest.fail(f"decode process {child} was left behind")


def test_the_decode_process_dies(running: tuple[subprocess.Popen[str], int]) -> None:
    process, child = running
    os.kill(child, signal.SIGKILL)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "killed by signal 9" in text
    assert "Traceback" not in text


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_the_prefill_process_dies(running: tuple[subprocess.Popen[str], int], kill: signal.Signals) -> None:
    process, child = running
    os.kill(process.pid, kill)
    text, _ = process.communicate(timeout=30)
    assert process.returncode != 0, text
    assert gone(child, 15)
