# SPDX-License-Identifier: Apache-2.0
"""llama.cpp's sequence state, ``llama_state_seq_get_data``, taken apart and put together again. Pure Python and numpy.

Seen with libllama 0.5.0; everything is little-endian and unaligned::

    u32 magic 0xaf143cd8 | u32 sequence id | cache, one or more to the end

    cache   u32 n_stream | n_stream streams
    stream  u32 n_cells | nothing more if 0, else: cells | u32 v_trans | u32 n_layer | K planes | V planes
    cell    i32 position | u32 n_ids | i32 x, i32 y, i32 token if the model has extended cells | i32 ids[n_ids]
    K       i32 ggml type | u64 row bytes                        | u8 rows[n_cells][row bytes]
    V       i32 ggml type | u64 row bytes                        | u8 rows[n_cells][row bytes]           v_trans 0
            i32 type | u32 element bytes | u32 width             | u8 rows[width][n_cells][element bytes]  v_trans 1

A row is one token's kv-heads, head-major. ``v_trans`` is 0 with flash attention, 1 without. Models with a sliding window
(iSWA, Gemma) write two caches in turn: full attention, then the window. Two facts are the model's and not in the blob,
so the caller says them: whether cells are extended (M-RoPE and n-gram models) and whether there are V planes (not with
multi-head latent attention).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

MAGIC: Final = 0xAF143CD8
F32: Final = 0
F16: Final = 1
BF16: Final = 30
_FORMATS: Final = {F32: "<f4", F16: "<f2", BF16: "<u2"}

Bytes = NDArray[np.uint8]


class StateBlobError(ValueError):
    """The bytes are not a sequence state, or one of a layout that is not known here."""


@dataclass
class Plane:
    """K or V of one layer.

    ``data`` is uint8 ``[cells, row bytes]``, or ``[width, cells * element bytes]`` when ``transposed``. It is a view of
    the parsed blob. Types other than f32, f16 and bf16 are opaque: llama.cpp may store them rotated.
    """

    ggml_type: int
    data: Bytes
    transposed: bool = False
    element_bytes: int = 0
    """Bytes of one element; only the transposed layout states it, else 0."""

    @property
    def stored(self) -> NDArray[np.generic]:
        """The elements as they lie, bf16 as uint16: ``[cells, width]``, or ``[width, cells]`` when transposed."""
        code = _FORMATS.get(self.ggml_type)
        if code is None:
            raise StateBlobError(f"ggml type {self.ggml_type}: wanted f32 (0), f16 (1) or bf16 (30)")
        if self.data.shape[1] % np.dtype(code).itemsize:
            raise StateBlobError(f"rows of {self.data.shape[1]} bytes are not whole elements of {code}")
        return self.data.view(code)

    def values(self, heads: int) -> NDArray[np.float32]:
        """The elements as float32 ``[cells, heads, dim]``, a copy, whatever the layout."""
        stored = self.stored
        if self.ggml_type == BF16:
            stored = (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
        rows = np.ascontiguousarray(stored.T if self.transposed else stored, dtype=np.float32)
        if heads <= 0 or rows.shape[1] % heads:
            raise StateBlobError(f"rows of {rows.shape[1]} elements for {heads} heads")
        return rows.reshape(rows.shape[0], heads, -1).copy()


@dataclass
class Cells:
    """Which tokens the rows are."""

    positions: NDArray[np.int32]
    """``[cells]``, in the order of the rows; not necessarily sorted."""
    id_counts: NDArray[np.uint32]
    """``[cells]``: how many sequence ids each cell has."""
    ids: NDArray[np.int32]
    """``[sum of id_counts]``: the ids, cell after cell."""
    extension: NDArray[np.int32] | None = None
    """``[cells, 3]``: x, y, token; only where the model has extended cells."""

    def __len__(self) -> int:
        return len(self.positions)


@dataclass
class Stream:
    """The cells of one stream with all their layers. No planes if there are no cells."""

    cells: Cells
    v_trans: int
    keys: list[Plane]
    values: list[Plane]


@dataclass
class KVCache:
    """One cache; sliding-window models have two."""

    streams: list[Stream]


@dataclass
class StateBlob:
    """A whole sequence state. ``parse(blob).pack()`` gives the same bytes."""

    sequence_id: int
    caches: list[KVCache]

    @property
    def streams(self) -> list[Stream]:
        """The streams that have cells, cache after cache."""
        return [stream for cache in self.caches for stream in cache.streams if len(stream.cells)]

    def pack(self) -> Bytes:
        """The bytes that ``llama_state_seq_set_data`` takes."""
        parts: list[bytes | Bytes] = [struct.pack("<Ii", MAGIC, self.sequence_id)]
        for cache in self.caches:
            parts.append(struct.pack("<I", len(cache.streams)))
            for stream in cache.streams:
                parts.extend(_pack_stream(stream))
        return np.concatenate([np.frombuffer(part, np.uint8) if isinstance(part, bytes) else part for part in parts])


def parse(blob: Bytes | bytes, *, extended_cells: bool = False, has_values: bool = True) -> StateBlob:
    """Takes a state apart. The planes are views: keep ``blob`` unchanged while they are used.

    Raises :class:`StateBlobError` on anything else than a whole state.
    """
    reader = _Reader(np.frombuffer(blob, np.uint8) if isinstance(blob, bytes) else np.ascontiguousarray(blob, np.uint8))
    magic, sequence_id = reader.read("<Ii")
    if magic != MAGIC:
        raise StateBlobError(f"magic 0x{magic:08x}: wanted 0x{MAGIC:08x}")
    caches: list[KVCache] = []
    while reader.left or not caches:
        (n_stream,) = reader.read("<I")
        caches.append(KVCache([_read_stream(reader, extended_cells, has_values) for _ in range(n_stream)]))
    return StateBlob(sequence_id, caches)


class _Reader:
    def __init__(self, data: Bytes) -> None:
        self.data = data.reshape(-1)
        self.at = 0

    @property
    def left(self) -> int:
        return len(self.data) - self.at

    def take(self, size: int) -> Bytes:
        if size > self.left:
            raise StateBlobError(f"{size} bytes wanted at {self.at} of {len(self.data)}")
        self.at += size
        return self.data[self.at - size : self.at]

    def read(self, layout: str) -> tuple[int, ...]:
        return struct.unpack(layout, self.take(struct.calcsize(layout)).tobytes())


def _read_stream(reader: _Reader, extended: bool, has_values: bool) -> Stream:
    (count,) = reader.read("<I")
    if count == 0:
        none = np.empty(0, np.int32)
        return Stream(Cells(none, none.astype(np.uint32), none), 0, [], [])
    cells = _read_cells(reader, count, extended)
    v_trans, n_layer = reader.read("<II")
    if v_trans not in (0, 1):
        raise StateBlobError(f"v_trans {v_trans}: wanted 0 or 1")
    if n_layer * 12 > reader.left:
        raise StateBlobError(f"{n_layer} layers in {reader.left} bytes")
    keys = [_read_rows(reader, count) for _ in range(n_layer)]
    read_values = _read_columns if v_trans else _read_rows
    values = [read_values(reader, count) for _ in range(n_layer)] if has_values else []
    return Stream(cells, v_trans, keys, values)


def _read_cells(reader: _Reader, count: int, extended: bool) -> Cells:
    # One id a cell is the rule: then cells are records of equal size.
    words = 6 if extended else 3
    start = reader.at
    if count * words * 4 <= reader.left:
        records = reader.take(count * words * 4).view("<i4").reshape(count, words)
        if (records[:, 1] == 1).all():
            extension = records[:, 2:5].copy() if extended else None
            ones = np.ones(count, np.uint32)
            return Cells(records[:, 0].copy(), ones, records[:, -1].copy(), extension)
    reader.at = start
    if count * (words - 1) * 4 > reader.left:
        raise StateBlobError(f"{count} cells in {reader.left} bytes")
    positions = np.empty(count, np.int32)
    counts = np.empty(count, np.uint32)
    extensions = np.empty((count, 3), np.int32)
    ids: list[Bytes] = []
    for i in range(count):
        positions[i], counts[i] = reader.read("<iI")
        if extended:
            extensions[i] = reader.read("<iii")
        ids.append(reader.take(int(counts[i]) * 4))
    return Cells(positions, counts, np.concatenate(ids).view("<i4"), extensions if extended else None)


def _read_rows(reader: _Reader, count: int) -> Plane:
    ggml_type, row_bytes = reader.read("<iQ")
    return Plane(ggml_type, reader.take(count * row_bytes).reshape(count, row_bytes))


def _read_columns(reader: _Reader, count: int) -> Plane:
    ggml_type, element, width = reader.read("<iII")
    data = reader.take(width * count * element).reshape(width, count * element)
    return Plane(ggml_type, data, transposed=True, element_bytes=element)


def _pack_stream(stream: Stream) -> Iterator[bytes | Bytes]:
    count = len(stream.cells)
    yield struct.pack("<I", count)
    if count == 0:
        return
    yield _pack_cells(stream.cells)
    yield struct.pack("<II", stream.v_trans, len(stream.keys))
    for plane in [*stream.keys, *stream.values]:
        if plane.transposed:
            if plane.data.shape[1] != count * plane.element_bytes:
                raise StateBlobError(f"columns of {plane.data.shape[1]} bytes for {count} cells")
            yield struct.pack("<iII", plane.ggml_type, plane.element_bytes, plane.data.shape[0])
        else:
            if plane.data.shape[0] != count:
                raise StateBlobError(f"{plane.data.shape[0]} rows for {count} cells")
            yield struct.pack("<iQ", plane.ggml_type, plane.data.shape[1])
        yield plane.data.reshape(-1)


def _pack_cells(cells: Cells) -> bytes:
    head = [cells.positions.astype("<i4"), cells.id_counts.astype("<u4").view("<i4")]
    if cells.extension is not None:
        head.extend(cells.extension.astype("<i4").T)
    fixed = np.stack(head, axis=1)
    if (cells.id_counts == 1).all():
        return np.concatenate([fixed, cells.ids.astype("<i4")[:, None]], axis=1).tobytes()
    ends = np.cumsum(cells.id_counts)[:-1]
    ids = np.split(cells.ids.astype("<i4"), ends)
    return b"".join(row.tobytes() + own.tobytes() for row, own in zip(fixed, ids))
