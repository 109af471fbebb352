# SPDX-License-Identifier: Apache-2.0
"""Where the bytes of a payload go: the sections of docs/wire-format.md, counted from header and maps."""

from __future__ import annotations

import struct
from collections import Counter
from typing import Final

from spectrumkv.constants import DType, Half, Tier, Transform
from spectrumkv.payload import Payload

HEADER_BYTES: Final = 128
SEGMENT_HEADER_BYTES: Final = 64
_ALIGN: Final = 16
_RUNS_OFFSET: Final = {Half.K: 44, Half.V: 48}
NAMES: Final = (
    "headers",
    "vectors",
    "maps",
    "scales",
    "2-bit",
    "4-bit",
    "+2 bits (6)",
    "+2 bits (8)",
    "raw",
    "padding",
)
"""Sections in the order of the format; K and V count together in `sizes`."""


def sizes(payload: Payload) -> dict[str, int]:
    """Bytes by section name, summing to the payload's size."""
    total: Counter[str] = Counter(dict.fromkeys(NAMES, 0))
    total["headers"] = HEADER_BYTES
    for layer in range(payload.layers):
        total.update(segment_sizes(payload, layer))
    return {name: total[name] for name in NAMES}


def segment_sizes(payload: Payload, layer: int) -> dict[str, int]:
    """Bytes of one segment by section name."""
    segment = payload.segment(layer)
    head = payload.data[segment.offset : segment.offset + SEGMENT_HEADER_BYTES]
    total: Counter[str] = Counter(headers=SEGMENT_HEADER_BYTES)
    for half, dim, transforms in (
        (Half.K, segment.k_dim, segment.k_transforms),
        (Half.V, segment.v_dim, segment.v_transforms),
    ):
        if dim == 0:
            continue
        rows = Counter(payload.tiers(layer, half))
        row = segment.heads * dim
        (runs,) = struct.unpack_from("<I", head, _RUNS_OFFSET[half])
        vectors = (Transform.MEAN in transforms) + (Transform.BALANCE in transforms)
        two, four, six, eight = (rows[tier] for tier in (Tier.TWO_BIT, Tier.FOUR_BIT, Tier.SIX_BIT, Tier.EIGHT_BIT))
        parts = (
            ("vectors", -(-segment.tokens // segment.chunk) * row * 2 * vectors),
            ("maps", 4 * runs if runs else 24 * -(-segment.tokens // 64)),
            ("scales", (two + four + six + eight) * segment.heads * 2),
            ("2-bit", two * row // 4),
            ("4-bit", (four + six + eight) * row // 2),
            ("+2 bits (6)", (six + eight) * row // 4),
            ("+2 bits (8)", eight * row // 4),
            ("raw", rows[Tier.RAW] * row * DType(segment.raw_dtype).itemsize),
        )
        for name, size in parts:
            total[name] += size
            total["padding"] += -size % _ALIGN
    return dict(total)
