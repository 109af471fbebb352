# SPDX-License-Identifier: Apache-2.0
"""Whether this library is twice as fast as a peer at comparable or better error, from the rows of one tensor."""

from __future__ import annotations

import math
from typing import Any

Row = dict[str, Any]
COMPARABLE = 1.1
"""An error at most this many times the peer's."""
SAME_BYTES = 1.03
"""A few scales and headers more are no more bytes."""
ENOUGH = 2.0
"""The ratio of speeds that this library is meant to have."""


def error(row: Row) -> float:
    """What two rows of a tensor are compared by: the error of attention's output where there is a prompt, else that of K and V
    together."""
    output = row.get("output_error")
    return float(math.hypot(row["k_error"], row["v_error"]) if output is None else output)


def verdict(row: Row, rows: list[Row]) -> Row | None:
    """Beside this library's fastest row of comparable or better error and no more bytes; where it has none, beside its smallest of such
    an error, and the peer is the smaller one. None for this library's own and for copies."""
    if row["own"] or row["yardstick"]:
        return None
    wanted = error(row) * COMPARABLE
    able = [own for own in rows if own["own"] and (own["lossless"] or not row["lossless"]) and error(own) <= wanted]
    if not able:
        return None

    def faster(own: Row) -> dict[str, float]:
        return {phase: own[f"{phase}_vs_memcpy"] / row[f"{phase}_vs_memcpy"] for phase in ("encode", "decode")}

    fitting = [own for own in able if own["of_raw"] <= row["of_raw"] * SAME_BYTES]
    own = (
        max(fitting, key=lambda own: min(faster(own).values()))
        if fitting
        else min(able, key=lambda own: float(own["of_raw"]))
    )
    times = faster(own)
    return {
        "beside": own["method"],
        "encode_times": times["encode"],
        "decode_times": times["decode"],
        "bytes_times": own["of_raw"] / row["of_raw"],
        "error_times": error(own) / error(row) if error(row) else 1.0,
        "twice": min(times.values()) >= ENOUGH,
        "peer_smaller": not fitting,
    }
