# SPDX-License-Identifier: Apache-2.0
"""A link between two network namespaces whose rate a token bucket keeps."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

PREFILL: Final = "10.79.0.1"
DECODE: Final = "10.79.0.2"

_CLONE_NEWNET: Final = 0x40000000
_LATENCY: Final = "100ms"  # of the bucket's queue: longer than TCP's windows here, so that it does not drop


class LinkError(RuntimeError):
    """The machine does not let us make one."""


def _run(*command: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise LinkError(f"{' '.join(command)}: {result.stderr.strip()}")


class Link:
    """Two namespaces and a veth pair. This process moves into the prefill end's. A context manager."""

    def __init__(self) -> None:
        self._tag = f"ttft{os.getpid()}"
        self._ends = (f"{self._tag}p", f"{self._tag}d")
        try:
            for end in self._ends:
                _run("ip", "netns", "add", end)
            _run("ip", "link", "add", "ttft0", "netns", self._ends[0], "type", "veth", "peer", "name", "ttft0", "netns", self._ends[1])  # fmt: skip
            for end, address in zip(self._ends, (PREFILL, DECODE)):
                _run("ip", "-n", end, "addr", "add", f"{address}/24", "dev", "ttft0")
                _run("ip", "-n", end, "link", "set", "ttft0", "up")
                _run("ip", "-n", end, "link", "set", "lo", "up")
        except (LinkError, OSError):
            self.close()
            raise

    def enter(self) -> None:
        """Moves the calling thread, and what it starts from now on, into the prefill end's namespace."""
        libc = ctypes.CDLL(None, use_errno=True)
        with Path(f"/var/run/netns/{self._ends[0]}").open("rb") as file:
            if libc.setns(file.fileno(), _CLONE_NEWNET) != 0:
                raise LinkError(f"setns: {os.strerror(ctypes.get_errno())}")

    @property
    def decode_prefix(self) -> list[str]:
        """What runs a command at the decode end."""
        return ["ip", "netns", "exec", self._ends[1]]

    @property
    def prefill_prefix(self) -> list[str]:
        """What runs a command at the prefill end."""
        return ["ip", "netns", "exec", self._ends[0]]

    def set_rate(self, gigabits: float) -> None:
        """Both directions. The bucket holds 0.1 ms, at least two of the largest segments that TCP hands down (64 KiB)."""
        burst = max(128 * 1024, round(gigabits * 1e9 / 8 * 1e-4))
        for end in self._ends:
            _run("ip", "netns", "exec", end, "tc", "qdisc", "replace", "dev", "ttft0", "root", "tbf",
                 "rate", f"{round(gigabits * 1000)}mbit", "burst", str(burst), "latency", _LATENCY)  # fmt: skip

    def missing(self) -> str:
        """Why delay and loss cannot be emulated; "" if they can."""
        try:
            _run("ip", "netns", "exec", self._ends[1], "tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms")  # fmt: skip
        except LinkError as error:
            return str(error)
        _run("ip", "netns", "exec", self._ends[1], "tc", "qdisc", "del", "dev", "lo", "root")
        return ""

    def close(self) -> None:
        """Removes everything."""
        for end in self._ends:
            with contextlib.suppress(LinkError, OSError):
                _run("ip", "netns", "del", end)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def facts(link: Link) -> dict[str, Any]:
    """For the results."""
    return {
        "rate": f"tbf on both ends of a veth pair, latency {_LATENCY}",
        "delay_and_loss": link.missing() or "none set",
    }
