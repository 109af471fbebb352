# SPDX-License-Identifier: Apache-2.0
"""Summaries as rows of text, for the terminal and for the page."""

from __future__ import annotations

from typing import Any, Final

P1_COLUMNS: Final = (
    "arm",
    "windows",
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


P2_COLUMNS: Final = ("arm", "windows", "nominal", "perplexity", "ΔPPL %", "ΔPPL 95 %")


def p2_cells(entry: dict[str, Any]) -> list[str]:
    """One arm of `p2.summary`."""
    return [
        entry["arm"],
        str(entry["windows"]),
        f"{entry['ratio']:.4f}",
        f"{entry['ppl']:.4f}",
        f"{100 * entry['ppl_delta']:+.3f}",
        _interval(entry["ppl_delta_interval"], 100, "+.3f"),
    ]


P4_COLUMNS: Final = ("keys", "arm", "of raw", "B/element", "logit SNR dB", "attention KL", "output SNR dB", "verdict")


def p4_cells(row: dict[str, Any]) -> list[str]:
    """One row of P4's results."""
    if "error" in row:
        return [row["inject"], row["arm"], "–", "–", "–", "–", "–", "refused"]
    snr = row["logit_snr_db"]
    return [
        row["inject"],
        row["arm"] + (" *" if row["note"] else ""),
        f"{row['payload_bytes'] / row['raw_bytes']:.4f}",
        f"{row['bytes_per_element']:.3f}",
        _decibels(snr),
        f"{row['attention_kl']:.4f}",
        _decibels(row["output_snr_db"]),
        "broken" if snr is not None and snr < row["floor_db"] else "fine",
    ]


def _decibels(value: float | None) -> str:
    return "exact" if value is None else f"{value:.1f}"


def niah_columns(entries: list[dict[str, Any]]) -> list[str]:
    """Columns of a retrieval table: one a depth at the end."""
    depths = [f"{100 * float(depth):.0f} %" for depth in _depths(entries)]
    return ["arm", "contexts", "cases", "of raw", "success %", "95 %", "of raw's %", "of its clear %", *depths]


def niah_cells(entry: dict[str, Any], entries: list[dict[str, Any]]) -> list[str]:
    """One arm of `niah.summary`."""
    by_depth = entry["by_depth"]
    return [
        entry["arm"] + (" *" if entry["note"] else ""),
        str(entry["windows"]),
        str(entry["cases"]),
        f"{entry['ratio']:.4f}",
        f"{100 * entry['success']:.1f}",
        _interval(entry["success_interval"], 100, ".0f"),
        f"{100 * entry['of_raw']:.1f}",
        f"{100 * entry['of_clear']:.1f} ({entry['clear_cases']})" if entry["clear_cases"] else "–",
        *(f"{100 * by_depth[depth]:.0f}" if depth in by_depth else "–" for depth in _depths(entries)),
    ]


def _depths(entries: list[dict[str, Any]]) -> list[str]:
    return sorted({depth for entry in entries for depth in entry["by_depth"]}, key=float)


def notes(entries: list[dict[str, Any]]) -> list[str]:
    """What the stars of a table mean."""
    return list(dict.fromkeys(f"* {entry['arm']}: {entry['note']}" for entry in entries if entry.get("note")))


def _interval(bounds: list[float] | None, factor: float, form: str) -> str:
    return "–" if bounds is None else " … ".join(format(factor * bound, form) for bound in bounds)
