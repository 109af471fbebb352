# SPDX-License-Identifier: Apache-2.0
"""Dropped tokens. llama.cpp masks a token by not having its cell, so a restored state holds the kept cells only; their
positions stay. All layers of one of its caches share their cells: drops that differ between them cannot be masked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spectrumkv.constants import Half, Tier
from spectrumkv.eval.arms import ArmError
from spectrumkv.payload import Payload
from spectrumkv.state_blob import Bytes, Cells, Plane, Stream, parse

Mask = NDArray[np.bool_]


class DropError(ArmError):
    """Tokens are dropped in a way that llama.cpp cannot mask."""


def kept_tokens(payload: Payload) -> list[tuple[Mask, Mask]]:
    """Per layer, for K and V, which tokens of the payload were sent."""

    def sent(layer: int, half: Half) -> Mask:
        return np.not_equal(np.frombuffer(payload.tiers(layer, half), np.uint8), np.uint8(Tier.DROP))

    layers = []
    for layer in range(payload.layers):
        keys = sent(layer, Half.K)
        layers.append((keys, sent(layer, Half.V) if payload.segment(layer).v_dim else keys))
    return layers


def keep_cells(state: Bytes, kept: Sequence[tuple[Mask, Mask]]) -> Bytes:
    """The state without the dropped tokens' cells; the same state if there are none.

    Raises `DropError` if the layers of a cache, or K and V, drop different tokens, or if the last token is dropped:
    llama.cpp continues from the last cell's position.
    """
    if all(mask.all() for pair in kept for mask in pair):
        return state
    blob = parse(state)
    first = 0
    for stream in blob.streams:
        masks = [mask for pair in kept[first : first + len(stream.keys)] for mask in pair]
        mask = masks[0]
        for number, other in enumerate(masks):
            if not np.array_equal(mask, other):
                raise DropError(
                    f"layer {first + number // 2} drops other tokens than layer {first}: wanted equal drops in all"
                    " layers of a cache"
                )
        if not mask[-1]:
            raise DropError(f"the last token ({stream.cells.positions[-1]}) is dropped: wanted it kept")
        if len(mask) != len(stream.cells) or (np.diff(stream.cells.positions) <= 0).any():
            raise DropError(f"{len(mask)} tokens for {len(stream.cells)} cells: wanted one each, in order")
        _keep(stream, mask)
        first += len(stream.keys)
    return blob.pack()


def _keep(stream: Stream, mask: Mask) -> None:
    cells = stream.cells
    extension = None if cells.extension is None else cells.extension[mask]
    ids = cells.ids[np.repeat(mask, cells.id_counts)]
    stream.cells = Cells(cells.positions[mask], cells.id_counts[mask], ids, extension)
    for planes in (stream.keys, stream.values):
        planes[:] = [_keep_rows(plane, mask) for plane in planes]


def _keep_rows(plane: Plane, mask: Mask) -> Plane:
    if not plane.transposed:
        return Plane(plane.ggml_type, plane.data[mask])
    columns = plane.data.reshape(plane.data.shape[0], len(mask), plane.element_bytes)[:, mask]
    data = np.ascontiguousarray(columns).reshape(plane.data.shape[0], -1)
    return Plane(plane.ggml_type, data, transposed=True, element_bytes=plane.element_bytes)
