# SPDX-License-Identifier: Apache-2.0
"""The state parser on synthetic blobs, written here field by field and independently of its packer."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from spectrumkv import state_blob
from spectrumkv.state_blob import BF16, F16, F32, StateBlobError, parse

SIZE = {F32: 4, F16: 2, BF16: 2, 8: 34}  # 8: Q8_0, whose block of 32 elements has 34 bytes
HEADS, DIM = 2, 16


def random_bytes(size: int, seed: int) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8).tobytes()


def stream(
    cells: int, ggml_type: int = F16, v_trans: int = 0, layers: int = 3, ids: int = 1, ext: bool = False, v: bool = True
) -> bytes:
    if cells == 0:
        return struct.pack("<I", 0)
    width = HEADS * DIM
    row = width // 32 * SIZE[8] if ggml_type == 8 else width * SIZE[ggml_type]
    out = struct.pack("<I", cells)
    for i in range(cells):
        own = ids if i % 2 else 1
        out += struct.pack("<iI", 7 + i, own) + (struct.pack("<iii", i, -i, 100 + i) if ext else b"")
        out += struct.pack(f"<{own}i", *range(own))
    out += struct.pack("<II", v_trans, layers)
    for layer in range(layers):
        out += struct.pack("<iQ", ggml_type, row) + random_bytes(cells * row, layer)
    for layer in range(layers if v else 0):
        if v_trans:
            out += struct.pack("<iII", ggml_type, SIZE[ggml_type], width)
        else:
            out += struct.pack("<iQ", ggml_type, row)
        out += random_bytes(cells * row, 100 + layer)
    return out


def blob(*caches: list[bytes], sequence: int = 0) -> bytes:
    out = struct.pack("<Ii", 0xAF143CD8, sequence)
    for streams in caches:
        out += struct.pack("<I", len(streams)) + b"".join(streams)
    return out


@pytest.mark.parametrize("v_trans", [0, 1])
@pytest.mark.parametrize("ggml_type", [F32, F16, BF16])
def test_round_trip(ggml_type: int, v_trans: int) -> None:
    raw = blob([stream(37, ggml_type, v_trans)], sequence=3)
    parsed = parse(raw)
    assert parsed.sequence_id == 3
    (only,) = parsed.streams
    assert (only.v_trans, len(only.keys), len(only.values)) == (v_trans, 3, 3)
    assert only.cells.positions.tolist() == list(range(7, 44))
    assert only.values[0].transposed == bool(v_trans)
    assert parsed.pack().tobytes() == raw


@pytest.mark.parametrize(
    ("caches", "options"),
    [
        ([[stream(20)], [stream(8, layers=2)]], {}),
        ([[stream(0), stream(5), stream(0)]], {}),
        ([[stream(0)]], {}),
        ([[stream(6, ids=3)]], {}),
        ([[stream(6, ids=0)]], {}),
        ([[stream(6, ext=True)]], {"extended_cells": True}),
        ([[stream(6, ids=2, ext=True)]], {"extended_cells": True}),
        ([[stream(6, v=False)]], {"has_values": False}),
        ([[stream(9, 8)]], {}),
    ],
    ids=["iswa", "streams", "empty", "ids", "no-ids", "extended", "extended-ids", "no-values", "quantized"],
)
def test_round_trip_of_other_layouts(caches: list[list[bytes]], options: dict[str, bool]) -> None:
    raw = blob(*caches)
    parsed = parse(np.frombuffer(raw, np.uint8), **options)
    assert len(parsed.caches) == len(caches)
    assert parsed.pack().tobytes() == raw


@pytest.mark.parametrize(("ggml_type", "low"), [(F32, 0), (F16, 13), (BF16, 16)])
def test_values_do_not_depend_on_layout(ggml_type: int, low: int) -> None:
    """The same elements, token-major and transposed, are the same float32 [cells, heads, dim]."""
    cells, width = 5, HEADS * DIM
    wanted = np.random.default_rng(4).normal(size=(cells, width)).astype(np.float32)
    wanted = ((wanted.view(np.uint32) >> low) << low).view(np.float32)  # exact in every type
    stored: dict[int, np.ndarray] = {
        F32: wanted,
        F16: wanted.astype(np.float16),
        BF16: (wanted.view(np.uint32) >> 16).astype(np.uint16),
    }
    rows = stored[ggml_type]
    size = rows.dtype.itemsize
    plain = state_blob.Plane(ggml_type, rows.view(np.uint8).reshape(cells, -1))
    columns = np.ascontiguousarray(rows.T).view(np.uint8).reshape(width, cells * size)
    turned = state_blob.Plane(ggml_type, columns, transposed=True, element_bytes=size)
    assert plain.stored.shape == (cells, width)
    assert turned.stored.shape == (width, cells)
    for plane in (plain, turned):
        got = plane.values(HEADS)
        assert got.shape == (cells, HEADS, DIM)
        if ggml_type == F16:  # small values round in f16
            np.testing.assert_allclose(got.reshape(cells, width), wanted, rtol=1e-3, atol=1e-6)
        else:
            np.testing.assert_array_equal(got.reshape(cells, width), wanted)


def test_planes_are_views_that_pack_writes() -> None:
    raw = np.frombuffer(blob([stream(4)]), np.uint8).copy()
    parsed = parse(raw)
    parsed.streams[0].keys[0].data[:] = 0
    assert np.array_equal(parsed.pack(), raw)


def test_every_cut_is_an_error() -> None:
    raw = blob([stream(3, layers=2)], [stream(2, v_trans=1, layers=1)])
    boundary = len(blob([stream(3, layers=2)]))  # a whole state with one cache
    for size in range(len(raw)):
        if size != boundary:
            with pytest.raises(StateBlobError):
                parse(raw[:size])


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (0, 1, "magic"),
        (8, 0xFFFFFFFF, "wanted at"),
        (12, 0xFFFFFFFF, "cells in"),
        (52, 2, "v_trans"),
        (56, 2**31, "layers"),
    ],
)
def test_wrong_fields_are_errors(at: int, value: int, message: str) -> None:
    raw = bytearray(blob([stream(3)]))
    raw[at : at + 4] = struct.pack("<I", value)
    with pytest.raises(StateBlobError, match=message):
        parse(bytes(raw))


def test_huge_rows_are_errors() -> None:
    raw = bytearray(blob([stream(3)]))
    raw[64:72] = b"\xff" * 8  # row bytes of the first K plane
    with pytest.raises(StateBlobError, match="wanted at"):
        parse(bytes(raw))


def test_opaque_types_have_no_values() -> None:
    (only,) = parse(blob([stream(3, 8)])).streams
    with pytest.raises(StateBlobError, match="ggml type 8"):
        only.keys[0].values(HEADS)


def test_pack_checks_shapes() -> None:
    parsed = parse(blob([stream(3)]))
    parsed.streams[0].keys[1].data = parsed.streams[0].keys[1].data[:2]
    with pytest.raises(StateBlobError, match="2 rows for 3 cells"):
        parsed.pack()
