# SPDX-License-Identifier: Apache-2.0
"""What a worker counts between two reports to vLLM."""

from __future__ import annotations

import threading
from typing import Any, Final

COUNTERS: Final = {
    "encoded": "Requests whose KV cache was encoded.",
    "encode_failures": "Requests whose KV cache could not be encoded; they are recomputed where they go.",
    "encoded_bytes": "Payload bytes that were encoded.",
    "encoded_raw_bytes": "The same elements at 16 bits each.",
    "fallbacks": "Requests encoded with more bits than the budget asked for: no verdict, or too short.",
    "queries_used": "Requests whose rows got their bits by their prompt's last queries, not by keys and values alone.",
    "sent": "Payloads pulled.",
    "send_failures": "Pulls that were begun and did not end well.",
    "unknown_pulls": "Pulls of a handle that is not here.",
    "expired": "Payloads that nobody pulled in time, or that made room for others.",
    "loaded": "Requests whose KV cache was loaded.",
    "loaded_bytes": "Payload bytes that were loaded.",
    "loaded_tokens": "Tokens that were not computed here.",
    "load_failures": "Requests whose KV cache could not be loaded; they are recomputed.",
    "refused": "Requests whose parameters do not fit; they are computed here.",
}
"""Name -> what it counts."""

TIMES: Final = {
    "encode_seconds": "From the end of a request to its payload's last byte.",
    "load_seconds": "From the start of a pull to the last decoded layer.",
}
"""Name -> what it measures, one value a request."""


class Tally:
    """Thread-safe; `take` hands over what was counted since the last time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._times: dict[str, list[float]] = {}

    def count(self, name: str, amount: int = 1) -> None:
        with self._lock:
            self._counts[name] = self._counts.get(name, 0) + amount

    def time(self, name: str, seconds: float) -> None:
        with self._lock:
            self._times.setdefault(name, []).append(seconds)

    def take(self) -> dict[str, Any]:
        """``{counter: int, time: [seconds]}``, without what is nothing; can be pickled and merged."""
        with self._lock:
            taken: dict[str, Any] = {**self._counts, **self._times}
            self._counts, self._times = {}, {}
        return taken


def merge(into: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Adds one report to another."""
    for name, value in other.items():
        into[name] = into[name] + value if name in into else value
    return into


def summary(data: dict[str, Any]) -> dict[str, int | float]:
    """One number a line of vLLM's log."""
    out: dict[str, int | float] = {name: data[name] for name in COUNTERS if name in data}
    for name in TIMES:
        values = sorted(data.get(name, ()))
        if values:
            out[f"{name}_mean"] = round(sum(values) / len(values), 4)
            out[f"{name}_p90"] = round(values[int(0.9 * (len(values) - 1))], 4)
    if data.get("encoded_raw_bytes"):
        out["ratio"] = round(data["encoded_bytes"] / data["encoded_raw_bytes"], 4)
    return out
