# SPDX-License-Identifier: Apache-2.0
"""Summaries as rows of text, for the terminal and for the page."""

from __future__ import annotations

from typing import Any, Final

P1_COLUMNS: Final = (
    "arm",
    "of raw",
    "KL",
    "KL 95 %",
    "KL less first 95 %",
    "ΔPPL %",
    "ΔPPL 95 %",
    "top-1 %",
    "dropped",
)


def p1_cells(entry: dict[str, Any]) -> list[str]:
    """One arm of `p1.summary`."""
    return [
        entry["arm"] + (" *" if entry["note"] else ""),
        str(entry["windows"]),
        f"{entry['ratio']:.4f}",
        "0, bit-equal" if entry["bit_equal"] else f"{entry['kl']:.6f}",
        _interval(entry["kl_interval"], 1, ".6f"),
        _interval(entry["kl_less"], 1, "+.6f"),
        f"{100 * entry['ppl_delta']:+.3f}",
        _interval(entry["ppl_delta_interval"], 100, "+.3f"),
        f"{100 * entry['top1']:.2f}",
        str(entry["dropped"] or "–"),
    ]


def notes(entries: list[dict[str, Any]]) -> list[str]:
    """What the stars of a table mean."""
    return [f"* {entry['arm']}: {entry['note']}" for entry in entries if entry["note"]]


def _interval(bounds: list[float] | None, factor: float, form: str) -> str:
    return "–" if bounds is None else " … ".join(format(factor * bound, form) for bound in bounds)
