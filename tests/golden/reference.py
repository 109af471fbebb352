# SPDX-License-Identifier: Apache-2.0
"""A codec in plain Python, written from docs/wire-format.md alone; it shares no code with the library.

    reference.py make DIR      writes the golden set
    reference.py check FILE    prints SKV_OK or the status the file is refused with
    reference.py decode FILE   prints its facts and the SHA-256 of the decoded tensors
    reference.py apply BASE UPGRADE RESULT   joins a payload and an upgrade of it

f32 arithmetic is done in binary64 and rounded once: for + - * / and sqrt that is exact.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
import sys
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from pathlib import Path

from xxh3 import xxh3_64

F16, BF16, F32 = 1, 2, 3
DTYPES = {"f16": F16, "bf16": BF16, "f32": F32}
EMBEDDED, PAPER = 0, 1
MEAN, BALANCE, HADAMARD8, HADAMARD16 = 1, 2, 4, 8
DROP, RAW = 0, 5
HEADER, SEGMENT_HEADER, ALIGN, LEAF = 128, 64, 16, 65536
SUM_BLOCK = 32
F16_MAX = 65504.0
HEADER_FORMAT = struct.Struct("<4sBBHIIQ32s16sQQI28s")  # without its digest
SEGMENT_FORMAT = struct.Struct("<4sIQIHHQHHHBBBBBBIII")  # likewise
VECTORS, MAP = ("vectors", "map")
ROW_SECTIONS = ("scales", "two", "nibble", "plane2", "plane3", "raw")
ADDED_SECTIONS = ("scales", "two", "nibble", "plane1", "plane2", "plane3", "raw")
BASE = "base"
UPGRADE = 1  # flag
STEPS = [(0, 0), *((a, b) for a in range(6) for b in range(a + 1, 6))]
PAPER_STEPS = {(0, 0), (0, 2), (0, 4), (0, 5), (2, 5), (4, 5)}


class RefusedError(Exception):
    """Bytes that are no payload, or values that cannot be encoded."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = f"SKV_E_{status}"


def require(condition: bool, status: str, message: str) -> None:
    if not condition:
        raise RefusedError(status, message)


# ---------------------------------------------------------------------------------------------------- numbers


def f32(values: Iterable[float]) -> list[float]:
    """Rounds to binary32, nearest even; overflow gives Inf."""
    return array("f", values).tolist()


def f32_bits(value: float) -> int:
    return int.from_bytes(array("f", (value,)).tobytes(), "little")


def f16_bits(value: float) -> int:
    """The binary16 nearest (ties to even) to a binary32; overflow gives Inf."""
    if math.isnan(value):
        bits = f32_bits(value)
        return bits >> 16 & 0x8000 | 0x7E00 | bits >> 13 & 0x3FF
    try:
        return int.from_bytes(struct.pack("<e", value), "little")
    except OverflowError:
        return 0xFC00 if value < 0 else 0x7C00


def bf16_bits(value: float) -> int:
    bits = f32_bits(value)
    if bits & 0x7FFFFFFF > 0x7F800000:
        return bits >> 16 | 0x40
    return bits + 0x7FFF + (bits >> 16 & 1) >> 16


def f16_values(data: bytes) -> list[float]:
    return list(struct.unpack(f"<{len(data) // 2}e", data))


def f16(value: float) -> float:
    return f16_values(struct.pack("<H", f16_bits(value)))[0]


def element_bytes(dtype: int) -> int:
    return 4 if dtype == F32 else 2


def of_f32_bits(bits: Iterable[int]) -> list[float]:
    return array("f", array("I", bits).tobytes()).tolist()


def to_floats(data: bytes, dtype: int) -> list[float]:
    """Widens exactly; a NaN keeps its sign and mantissa."""
    if dtype == F32:
        return list(struct.unpack(f"<{len(data) // 4}f", data))
    words = struct.unpack(f"<{len(data) // 2}H", data)
    if dtype == BF16:
        return of_f32_bits(w << 16 for w in words)
    nans = of_f32_bits((w & 0x8000) << 16 | 0x7F800000 | (w & 0x3FF) << 13 for w in words)
    return [nan if math.isnan(value) else value for value, nan in zip(f16_values(data), nans)]


def saturate(value: float) -> float:
    return max(-F16_MAX, min(F16_MAX, value)) if math.isfinite(value) else value


def from_floats(values: list[float], dtype: int) -> bytes:
    """The text's conversion of f32 to a destination."""
    if dtype == F32:
        return struct.pack(f"<{len(values)}f", *values)
    convert = bf16_bits if dtype == BF16 else lambda value: f16_bits(saturate(value))
    return struct.pack(f"<{len(values)}H", *map(convert, values))


# ---------------------------------------------------------------------------------------------------- objects


@dataclass
class Half:
    """K or V of a layer: data is token-major in the layer's dtype."""

    dim: int
    transforms: int = 0
    tiers: bytes = b""
    data: bytes = b""
    measured: bytes = b""  # tiers of the first base, whose quantized rows were measured; empty: tiers
    steps: bytes = b""  # of an upgrade


@dataclass
class Layer:
    tokens: int
    heads: int
    dtype: int
    raw_dtype: int
    chunk: int
    code: int
    halves: tuple[Half, Half]
    first_head: int = 0
    first_position: int = 0
    group: int = 0

    def raw_bytes(self) -> int:
        return 2 * self.tokens * self.heads * sum(half.dim for half in self.halves)


@dataclass
class Payload:
    layers: list[Layer]
    fingerprint: bytes = bytes(32)
    request_id: bytes = bytes(16)
    budget_bytes: int = 0
    scored: int = 0
    upgrade: bool = False


@dataclass
class Section:
    half: int
    name: str
    offset: int
    size: int


@dataclass
class Segment:
    """A parsed segment; sections lie at offsets from its first byte."""

    layer: Layer
    runs: tuple[int, int]
    data: bytes
    sections: list[Section] = field(default_factory=list)
    base_digest: int = 0
    base_bytes: int = 0

    def section(self, half: int, name: str) -> bytes:
        found = next(s for s in self.sections if (s.half, s.name) == (half, name))
        return self.data[found.offset : found.offset + found.size]


# ---------------------------------------------------------------------------------------------------- layout


def quantized(tier: int) -> bool:
    return 1 <= tier <= 4


def in_section(name: str, tier: int) -> bool:
    """Whether a row of a tier has bytes in a section."""
    return {
        "scales": quantized(tier),
        "two": tier == 1,
        "nibble": tier in (2, 3, 4),
        "plane2": tier in (3, 4),
        "plane3": tier == 4,
        "raw": tier == RAW,
    }[name]


def in_added(name: str, step: int) -> bool:
    """Whether a row has bytes in a section of an upgrade."""
    before, after = STEPS[step]
    return (
        step != 0
        and {
            "scales": before == 0 and quantized(after),
            "two": (before, after) == (0, 1),
            "nibble": before == 0 and after in (2, 3, 4),
            "plane1": before == 1 and quantized(after),
            "plane2": before in (0, 1, 2) and after in (3, 4),
            "plane3": before in (0, 1, 2, 3) and after == 4,
            "raw": after == RAW,
        }[name]
    )


def row_size(name: str, layer: Layer, dim: int) -> int:
    elements = layer.heads * dim
    return {
        "scales": layer.heads * 2,
        "nibble": elements // 2,
        "raw": elements * element_bytes(layer.raw_dtype),
    }.get(name, elements // 4)


def align(value: int) -> int:
    return -(-value // ALIGN) * ALIGN


def chunk_count(layer: Layer) -> int:
    return -(-layer.tokens // layer.chunk)


def vectors_size(layer: Layer, half: int) -> int:
    flags = layer.halves[half].transforms
    return chunk_count(layer) * layer.heads * layer.halves[half].dim * 2 * ((flags & 1) + (flags >> 1 & 1))


def map_size(layer: Layer, half: int, runs: int) -> int:
    if layer.halves[half].dim == 0:
        return 0
    return 4 * runs if runs else 24 * -(-layer.tokens // 64)


def map_runs(tiers: bytes) -> list[tuple[int, int]]:
    return [(tier, len(list(same))) for tier, same in groupby(tiers)]


def written_runs(layer: Layer, half: int) -> int:
    """The number of runs when the writer uses the run form, else 0."""
    runs = len(map_runs(layer.halves[half].tiers))
    return runs if 4 * runs < 24 * -(-layer.tokens // 64) else 0


def head_sections(layer: Layer, runs: tuple[int, int]) -> tuple[list[Section], int]:
    """Vectors and maps, which do not depend on the tiers, and where they end."""
    sections, at = [], SEGMENT_HEADER
    for half in (0, 1):
        for name, size in ((VECTORS, vectors_size(layer, half)), (MAP, map_size(layer, half, runs[half]))):
            sections.append(Section(half, name, align(at), size))
            at = align(at) + size
    return sections, at


def row_counts(runs: list[tuple[int, int]]) -> list[int]:
    """Rows by tier of a map given as (tier, count)."""
    return [sum(count for tier, count in runs if tier == wanted) for wanted in range(8)]


def all_sections(layer: Layer, runs: tuple[int, int], rows: list[list[int]]) -> tuple[list[Section], int]:
    """Where everything lies and how long the segment is; rows: by tier, of K and of V."""
    sections, at = head_sections(layer, runs)
    for half, part in enumerate(layer.halves):
        for name in ROW_SECTIONS:
            count = sum(rows[half][tier] for tier in range(8) if in_section(name, tier))
            sections.append(Section(half, name, align(at), count * row_size(name, layer, part.dim)))
            at = align(at) + sections[-1].size
    return sections, align(at)


def steps_size(layer: Layer, half: int, runs: int) -> int:
    if layer.halves[half].dim == 0:
        return 0
    return 4 * runs if runs else 32 * -(-layer.tokens // 64)


def upgrade_head_sections(layer: Layer, runs: tuple[int, int]) -> tuple[list[Section], int]:
    sections = [Section(0, BASE, SEGMENT_HEADER, 16)]
    at = SEGMENT_HEADER + 16
    for half in (0, 1):
        sections.append(Section(half, MAP, align(at), steps_size(layer, half, runs[half])))
        at = align(at) + sections[-1].size
    return sections, at


def upgrade_sections(layer: Layer, runs: tuple[int, int], rows: list[list[int]]) -> tuple[list[Section], int]:
    """The same of an upgrade; rows: by step, of K and of V."""
    sections, at = upgrade_head_sections(layer, runs)
    for half, part in enumerate(layer.halves):
        for name in ADDED_SECTIONS:
            count = sum(rows[half][step] for step in range(16) if in_added(name, step))
            sections.append(Section(half, name, align(at), count * row_size(name, layer, part.dim)))
            at = align(at) + sections[-1].size
    return sections, align(at)


# ---------------------------------------------------------------------------------------------------- digests


def segment_digest(segment: bytes) -> int:
    leaves = [segment[at : at + LEAF] for at in range(SEGMENT_HEADER, len(segment), LEAF)]
    return xxh3_64(segment[:56] + b"".join(xxh3_64(leaf).to_bytes(8, "little") for leaf in leaves))


def sealed_segment(segment: bytes) -> bytes:
    return segment[:56] + segment_digest(segment).to_bytes(8, "little") + segment[64:]


def sealed_header(header: bytes) -> bytes:
    return header[:120] + xxh3_64(header[:120]).to_bytes(8, "little") + header[128:]


# ---------------------------------------------------------------------------------------------------- maps


def write_map(tiers: bytes, run_form: bool) -> bytes:
    if run_form:
        return b"".join(struct.pack("<I", tier << 29 | count) for tier, count in map_runs(tiers))
    words = -(-len(tiers) // 64)
    planes = [sum((tier >> bit & 1) << t for t, tier in enumerate(tiers)) for bit in range(3)]
    return b"".join(plane.to_bytes(8 * words, "little") for plane in planes)


def read_map(data: bytes, tokens: int, runs: int) -> list[tuple[int, int]]:
    """The map as (tier, count), whatever its form; never longer than data."""
    if runs:
        out = [(word >> 29, word & 0x1FFFFFFF) for (word,) in struct.iter_unpack("<I", data)]
        require(all(count > 0 for _, count in out), "MALFORMED", "run count 0")
        require(all(a[0] != b[0] for a, b in pairwise(out)), "MALFORMED", "neighbouring runs of equal tier")
        require(sum(count for _, count in out) == tokens, "MALFORMED", "runs do not sum to the tokens")
        return out
    size = len(data) // 3
    planes = [int.from_bytes(data[i * size : (i + 1) * size], "little") for i in range(3)]
    require(all(plane >> tokens == 0 for plane in planes), "MALFORMED", "map bits beyond the last token")
    return map_runs(bytes(sum((planes[bit] >> t & 1) << bit for bit in range(3)) for t in range(tokens)))


def write_steps(steps: bytes, run_form: bool) -> bytes:
    if run_form:
        return b"".join(struct.pack("<I", step << 28 | count - 1) for step, count in map_runs(steps))
    words = -(-len(steps) // 64)
    planes = [sum((step >> bit & 1) << t for t, step in enumerate(steps)) for bit in range(4)]
    return b"".join(plane.to_bytes(8 * words, "little") for plane in planes)


def read_steps(data: bytes, tokens: int, runs: int) -> list[tuple[int, int]]:
    """The steps as (step, count), whatever their form; never longer than data."""
    if runs:
        out = [(word >> 28, (word & 0xFFFFFFF) + 1) for (word,) in struct.iter_unpack("<I", data)]
        require(all(a[0] != b[0] for a, b in pairwise(out)), "MALFORMED", "neighbouring runs of equal step")
        require(sum(count for _, count in out) == tokens, "MALFORMED", "runs do not sum to the tokens")
        return out
    size = len(data) // 4
    planes = [int.from_bytes(data[i * size : (i + 1) * size], "little") for i in range(4)]
    require(all(plane >> tokens == 0 for plane in planes), "MALFORMED", "step bits beyond the last token")
    return map_runs(bytes(sum((planes[bit] >> t & 1) << bit for bit in range(4)) for t in range(tokens)))


# ---------------------------------------------------------------------------------------------------- transforms


def hadamard_points(transforms: int) -> int:
    return 8 if transforms & HADAMARD8 else 16 if transforms & HADAMARD16 else 1


def butterflies(values: list[float], points: int) -> list[float]:
    """Step 6 over one (token, head)."""
    stride = len(values) // points
    h = 1
    while h < points:
        new = [0.0] * len(values)
        for k in range(points):
            if k & h:
                continue
            for i in range(stride):
                low, high = i + k * stride, i + (k + h) * stride
                new[low] = values[low] + values[high]
                new[high] = values[low] - values[high]
        values = f32(new)
        h *= 2
    return values


@dataclass
class Vectors:
    """The channel vectors of a chunk as stored (empty: the flag is off)."""

    mean: list[float]
    balance: list[float]

    def stored(self) -> bytes:
        values = self.mean + self.balance
        return struct.pack(f"<{len(values)}e", *values)


def channel_vectors(rows: list[list[float]], tiers: bytes, heads: int, dim: int, transforms: int) -> Vectors:
    """Steps 2 to 4."""
    width = heads * dim
    counted = [row for row, tier in zip(rows, tiers) if quantized(tier)]
    require(all(math.isfinite(x) for row in counted for x in row), "NON_FINITE", "row")
    mean: list[float] = []
    balance: list[float] = []
    if transforms & MEAN:
        total = [0.0] * width
        for begin in range(0, len(rows), SUM_BLOCK):
            block = [0.0] * width
            for t in range(begin, min(begin + SUM_BLOCK, len(rows))):
                if quantized(tiers[t]):
                    block = f32(map(float.__add__, block, rows[t]))
            total = f32(map(float.__add__, total, block))
        mean = [f16(m) for m in f32(s / len(counted) for s in total)] if counted else total
        require(all(map(math.isfinite, mean)), "OVERFLOW", "mean")
    if transforms & BALANCE:
        balance = [1.0] * width
    if transforms & BALANCE and counted:
        mu = mean or [0.0] * width
        low = [min(column) for column in zip(*counted)]
        high = [max(column) for column in zip(*counted)]
        above, below = f32(map(float.__sub__, high, mu)), f32(map(float.__sub__, mu, low))
        g = f32(math.sqrt(max(a, b)) for a, b in zip(above, below))
        for begin in range(0, width, dim):
            average = 0.0
            for value in g[begin : begin + dim]:
                average = f32([average + value])[0]
            average = f32([average / dim])[0]
            if average != 0:
                ratios = f32(value / average for value in g[begin : begin + dim])
                balance[begin : begin + dim] = [f16(max(ratio, 2.0**-6)) for ratio in ratios]
    return Vectors(mean, balance)


# ---------------------------------------------------------------------------------------------------- encoding


def pack_strided(values: list[int], per_byte: int) -> bytes:
    """Codes that share a byte are len / per_byte apart."""
    bits = 8 // per_byte
    stride = len(values) // per_byte
    return bytes(sum(values[j + m * stride] << bits * m for m in range(per_byte)) for j in range(stride))


def quantize_row(
    row: list[float], layer: Layer, half: Half, vectors: Vectors, tier: int
) -> Iterator[tuple[str, bytes]]:
    """Steps 5 to 9 of one row: pieces for the sections."""
    if vectors.mean:
        row = f32(map(float.__sub__, row, vectors.mean))
    if vectors.balance:
        row = f32(map(float.__mul__, row, f32(1 / b for b in vectors.balance)))
    limit = 7 if layer.code == PAPER and tier == 2 else 127
    for begin in range(0, len(row), half.dim):
        y = butterflies(row[begin : begin + half.dim], hadamard_points(half.transforms))
        require(all(map(math.isfinite, y)), "NON_FINITE", "row")
        scale = f16(f32([max(map(abs, y)) / limit])[0])
        require(math.isfinite(scale), "OVERFLOW", "scale")
        q = [0] * half.dim
        if scale:
            inverse = f32([1 / scale])[0]
            q = [round(max(-limit, min(limit, v))) for v in f32(v * inverse for v in y)]
        u = [(v + 8) * 16 for v in q] if limit == 7 else [v + 128 for v in q]
        yield "scales", struct.pack("<e", scale)
        if tier == 1:
            yield "two", pack_strided([v >> 6 for v in u], 4)
            continue
        yield "nibble", pack_strided([v >> 4 for v in u], 2)
        if tier >= 3:
            yield "plane2", pack_strided([v >> 2 & 3 for v in u], 4)
        if tier == 4:
            yield "plane3", pack_strided([v & 3 for v in u], 4)


def raw_row(data: bytes, layer: Layer) -> bytes:
    if layer.raw_dtype == layer.dtype:
        return data
    values = to_floats(data, layer.dtype)
    convert = f16_bits if layer.raw_dtype == F16 else bf16_bits
    out = struct.pack(f"<{len(values)}H", *map(convert, values))
    for before, after in zip(values, to_floats(out, layer.raw_dtype)):
        require(math.isfinite(after) or not math.isfinite(before), "OVERFLOW", "raw row")
    return out


def encode_half(layer: Layer, half: Half) -> dict[str, bytes]:
    """The content of a half's sections."""
    out = {name: bytearray() for name in (VECTORS, *ROW_SECTIONS)}
    width = layer.heads * half.dim
    size = width * element_bytes(layer.dtype)
    for begin in range(0, layer.tokens if half.dim else 0, layer.chunk):
        end = min(begin + layer.chunk, layer.tokens)
        tiers = half.tiers[begin:end]
        data = [half.data[t * size : (t + 1) * size] for t in range(begin, end)]
        rows = [to_floats(row, layer.dtype) for row in data]
        measured = (half.measured or half.tiers)[begin:end]
        vectors = channel_vectors(rows, measured, layer.heads, half.dim, half.transforms)
        out[VECTORS] += vectors.stored()
        for tier, row, source in zip(tiers, rows, data):
            if quantized(tier):
                for name, piece in quantize_row(row, layer, half, vectors, tier):
                    out[name] += piece
            elif tier == RAW:
                out["raw"] += raw_row(source, layer)
    return {name: bytes(content) for name, content in out.items()}


def encode_segment(ordinal: int, layer: Layer) -> bytes:
    runs = (written_runs(layer, 0), written_runs(layer, 1) if layer.halves[1].dim else 0)
    sections, size = all_sections(layer, runs, [row_counts(map_runs(half.tiers)) for half in layer.halves])
    contents = [encode_half(layer, half) for half in layer.halves]
    for half, part in enumerate(layer.halves):
        contents[half][MAP] = write_map(part.tiers, runs[half] > 0)
    out = bytearray(size)
    SEGMENT_FORMAT.pack_into(
        out, 0, b"SEG1", ordinal, size, layer.tokens, layer.heads, layer.first_head, layer.first_position,
        layer.halves[0].dim, layer.halves[1].dim, layer.chunk, layer.dtype, layer.raw_dtype, layer.code,
        layer.halves[0].transforms, layer.halves[1].transforms, layer.group, *runs, 0,
    )  # fmt: skip
    for section in sections:
        content = contents[section.half][section.name]
        assert len(content) == section.size, (section, len(content))
        out[section.offset : section.offset + section.size] = content
    return sealed_segment(bytes(out))


def with_header(payload: Payload, segments: bytes) -> bytes:
    header = HEADER_FORMAT.pack(
        b"SKV1", 1, 0, HEADER, UPGRADE if payload.upgrade else 0, len(payload.layers), HEADER + len(segments),
        payload.fingerprint, payload.request_id, sum(layer.raw_bytes() for layer in payload.layers),
        payload.budget_bytes, payload.scored, bytes(28),
    )  # fmt: skip
    return sealed_header(header + bytes(8)) + segments


def encode(payload: Payload) -> bytes:
    return with_header(payload, b"".join(encode_segment(i, layer) for i, layer in enumerate(payload.layers)))


# ---------------------------------------------------------------------------------------------------- upgrades


def added_pieces(
    row: list[float], source: bytes, layer: Layer, half: Half, vectors: Vectors, step: int
) -> dict[str, bytes]:
    """What one row needs for a step."""
    before, after = STEPS[step]
    if after == RAW:
        return {"raw": raw_row(source, layer)}
    pieces: dict[str, bytes] = dict.fromkeys(ADDED_SECTIONS, b"")
    for name, piece in quantize_row(row, layer, half, vectors, after):
        pieces[name] += piece
        if name == "nibble":
            pieces["plane1"] += pack_strided([code & 3 for code in unpack_strided(piece, 2)], 4)
    return {name: pieces[name] for name in ADDED_SECTIONS if in_added(name, step)}


def added_half(layer: Layer, half: Half, steps: bytes) -> dict[str, bytes]:
    """Contents of the row sections of an upgrade; half.measured: the tiers its vectors were measured with."""
    out = dict.fromkeys(ADDED_SECTIONS, b"")
    size = layer.heads * half.dim * element_bytes(layer.dtype)
    for begin in range(0, layer.tokens if half.dim else 0, layer.chunk):
        end = min(begin + layer.chunk, layer.tokens)
        data = [half.data[t * size : (t + 1) * size] for t in range(begin, end)]
        rows = [to_floats(row, layer.dtype) for row in data]
        measured = (half.measured or half.tiers)[begin:end]
        vectors = channel_vectors(rows, measured, layer.heads, half.dim, half.transforms)
        for t, row, source in zip(range(begin, end), rows, data):
            if steps[t]:
                for name, piece in added_pieces(row, source, layer, half, vectors, steps[t]).items():
                    out[name] += piece
    return out


def encode_upgrade_segment(ordinal: int, layer: Layer, base: Segment, targets: list[bytes]) -> bytes:
    steps = [
        bytes(STEPS.index((a, b)) if a != b else 0 for a, b in zip(half.tiers, to))
        for half, to in zip(layer.halves, targets)
    ]
    counts = [len(map_runs(half)) for half in steps]
    runs = tuple(n if half and 4 * n < 32 * -(-layer.tokens // 64) else 0 for half, n in zip(steps, counts))
    sections, size = upgrade_sections(layer, runs, [[half.count(step) for step in range(16)] for half in steps])
    contents = [added_half(layer, half, own) for half, own in zip(layer.halves, steps)]
    contents[0][BASE] = base.data[56:64] + len(base.data).to_bytes(8, "little")
    for half in (0, 1):
        contents[half][MAP] = write_steps(steps[half], runs[half] > 0)
    out = bytearray(size)
    out[:SEGMENT_HEADER] = base.data[:SEGMENT_HEADER]
    struct.pack_into("<4sIQ", out, 0, b"UPG1", ordinal, size)
    struct.pack_into("<II", out, 44, *runs)
    for section in sections:
        content = contents[section.half][section.name]
        assert len(content) == section.size, (section, len(content))
        out[section.offset : section.offset + section.size] = content
    return sealed_segment(bytes(out))


def encode_upgrade(payload: Payload, base: bytes, targets: list[list[bytes]], budget_bytes: int, scored: int) -> bytes:
    """An upgrade of base, which payload's tensors gave at payload's tiers, to target tiers (K, V of each layer)."""
    segments = b"".join(
        encode_upgrade_segment(i, layer, segment, to)
        for i, (layer, segment, to) in enumerate(zip(payload.layers, parse(base)[1], targets))
    )
    layers = [Layer(**{**vars(layer)}) for layer in payload.layers]
    return with_header(
        Payload(layers, payload.fingerprint, payload.request_id, budget_bytes, scored, upgrade=True), segments
    )


class Rows:
    """Rows of a half's sections, taken in token order."""

    def __init__(self, segment: Segment, half: int, names: Iterable[str]) -> None:
        self.sizes = {name: row_size(name, segment.layer, segment.layer.halves[half].dim) for name in names}
        self.data = {name: segment.section(half, name) for name in names}
        self.at = dict.fromkeys(names, 0)

    def take(self, name: str) -> bytes:
        begin = self.at[name]
        self.at[name] += self.sizes[name]
        return self.data[name][begin : self.at[name]]


def joined_nibbles(two: bytes, plane1: bytes, heads: int) -> bytes:
    quarter = len(two) // heads
    out = b""
    for h in range(heads):
        at = slice(h * quarter, (h + 1) * quarter)
        codes = zip(unpack_strided(two[at], 4), unpack_strided(plane1[at], 4))
        out += pack_strided([high << 2 | low for high, low in codes], 2)
    return out


def apply_half(base: Segment, upgrade: Segment, half: int) -> tuple[bytes, dict[str, bytes]]:
    """The tiers and contents of the result."""
    layer, part = base.layer, base.layer.halves[half]
    own, added = Rows(base, half, ROW_SECTIONS), Rows(upgrade, half, ADDED_SECTIONS)
    tiers, out = bytearray(), dict.fromkeys(ROW_SECTIONS, b"")
    for tier, step in zip(part.tiers, upgrade.layer.halves[half].steps):
        before, after = STEPS[step] if step else (tier, tier)
        require(before == tier, "MALFORMED", "a step from another tier")
        pieces = {name: own.take(name) for name in ROW_SECTIONS if in_section(name, tier)}
        more = {name: added.take(name) for name in ADDED_SECTIONS if in_added(name, step)}
        if "plane1" in more:
            pieces["nibble"] = joined_nibbles(pieces["two"], more["plane1"], layer.heads)
        pieces.update(more)
        for name in ROW_SECTIONS:
            if in_section(name, after):
                out[name] += pieces[name]
        tiers.append(after)
    out[VECTORS] = base.section(half, VECTORS)
    return bytes(tiers), out


def apply_segment(base: Segment, upgrade: Segment) -> bytes:
    require(base.data[16:44] == upgrade.data[16:44], "MALFORMED", "shape of the base")
    both = [apply_half(base, upgrade, half) for half in (0, 1)]
    contents = [content for _, content in both]
    layer = Layer(**{**vars(base.layer), "halves": tuple(
        Half(part.dim, part.transforms, tiers) for part, (tiers, _) in zip(base.layer.halves, both)
    )})  # fmt: skip
    runs = (written_runs(layer, 0), written_runs(layer, 1) if layer.halves[1].dim else 0)
    sections, size = all_sections(layer, runs, [row_counts(map_runs(half.tiers)) for half in layer.halves])
    for half, part in enumerate(layer.halves):
        contents[half][MAP] = write_map(part.tiers, runs[half] > 0)
    out = bytearray(size)
    out[:SEGMENT_HEADER] = base.data[:SEGMENT_HEADER]
    struct.pack_into("<Q", out, 8, size)
    struct.pack_into("<II", out, 44, *runs)
    for section in sections:
        out[section.offset : section.offset + section.size] = contents[section.half][section.name]
    return sealed_segment(bytes(out))


def apply(base: bytes, upgrade: bytes) -> bytes:
    payload, segments = parse(base)
    more, added = parse(upgrade)
    for segment in [*segments, *added]:
        verify(segment)
    require(more.upgrade and not payload.upgrade, "STATE", "a payload and an upgrade")
    require(len(segments) == len(added), "BASE", "layers")
    for segment, to in zip(segments, added):
        same = (to.base_digest, to.base_bytes) == (int.from_bytes(segment.data[56:64], "little"), len(segment.data))
        require(same, "BASE", "digest")
    require(payload.fingerprint == more.fingerprint, "MODEL", "fingerprint")
    require(payload.request_id == more.request_id, "REQUEST", "request id")
    budget = min(payload.budget_bytes + more.budget_bytes, 2**64 - 1) if payload.budget_bytes else 0
    result = Payload(payload.layers, payload.fingerprint, payload.request_id, budget, more.scored)
    return with_header(result, b"".join(map(apply_segment, segments, added)))


# ---------------------------------------------------------------------------------------------------- reading


def finite_halves(data: bytes) -> bool:
    return all(bits & 0x7C00 != 0x7C00 for (bits,) in struct.iter_unpack("<H", data))


def check_geometry(layer: Layer, runs: tuple[int, int], newer: bool, reserved: int) -> None:
    require(1 <= layer.tokens <= 1 << 28, "MALFORMED", "tokens")
    require(1 <= layer.heads <= 1024, "MALFORMED", "heads")
    require(layer.first_position <= 1 << 62, "MALFORMED", "first position")
    for half, part in enumerate(layer.halves):
        absent = half == 1 and part.dim == 0
        require(absent or (8 <= part.dim <= 4096 and part.dim % 8 == 0), "MALFORMED", "dim")
    require(32 <= layer.chunk <= 256 and layer.chunk % 32 == 0, "MALFORMED", "chunk")
    require(layer.dtype in DTYPES.values(), "FEATURE", "dtype")
    require(layer.raw_dtype in DTYPES.values(), "FEATURE", "raw dtype")
    require(layer.dtype in (F32, layer.raw_dtype), "MALFORMED", "raw dtype")
    require(layer.code in (EMBEDDED, PAPER), "FEATURE", "code")
    for part in layer.halves:
        flags = part.transforms
        require(flags & 0xF0 == 0, "FEATURE", "transforms")
        require(flags & 12 != 12, "MALFORMED", "two Hadamards")
        require(part.dim > 0 or flags == 0, "MALFORMED", "transforms without V")
        require(flags & HADAMARD16 == 0 or part.dim % 16 == 0, "MALFORMED", "Hadamard-16")
    for part, count in zip(layer.halves, runs):
        require(count <= (layer.tokens if part.dim else 0), "MALFORMED", "runs")
    require(newer or reserved == 0, "MALFORMED", "reserved")


def parse_upgrade(segment: Segment) -> Segment:
    """The rest of an upgrade's segment."""
    layer, size = segment.layer, len(segment.data)
    segment.sections, head_end = upgrade_head_sections(layer, segment.runs)
    require(align(head_end) <= size, "MALFORMED", "step maps beyond the segment")
    segment.base_digest, segment.base_bytes = struct.unpack("<QQ", segment.section(0, BASE))
    rows = [[0] * 16, [0] * 16]
    for half, part in enumerate(layer.halves):
        if part.dim == 0:
            continue
        steps = read_steps(segment.section(half, MAP), layer.tokens, segment.runs[half])
        paper = {STEPS[step] for step, _ in steps} <= PAPER_STEPS
        require(layer.code == EMBEDDED or paper, "MALFORMED", "step of the paper's code")
        rows[half] = [sum(count for step, count in steps if step == wanted) for wanted in range(16)]
        part.steps = b"".join(bytes([step]) * count for step, count in steps) if layer.tokens <= 1 << 20 else b""
    segment.sections, end = upgrade_sections(layer, segment.runs, rows)
    require(end == size, "MALFORMED", "segment bytes do not follow from its steps")
    return checked_padding(segment, end)


def checked_padding(segment: Segment, end: int) -> Segment:
    at = SEGMENT_HEADER
    for section in [*segment.sections, Section(0, "end", end, 0)]:
        require(not any(segment.data[at : section.offset]), "MALFORMED", "padding")
        at = section.offset + section.size
    return segment


def parse_segment(left: bytes, ordinal: int, newer: bool, upgrade: bool) -> Segment:
    require(len(left) >= SEGMENT_HEADER, "MALFORMED", "segment header")
    (magic, number, size, tokens, heads, first_head, first_position, k_dim, v_dim, chunk, dtype, raw_dtype, code,
     k_transforms, v_transforms, group, k_runs, v_runs, reserved) = SEGMENT_FORMAT.unpack_from(left)  # fmt: skip
    require(magic == (b"UPG1" if upgrade else b"SEG1"), "MALFORMED", "segment magic")
    require(number == ordinal, "MALFORMED", "segment ordinal")
    require(size % ALIGN == 0 and SEGMENT_HEADER <= size <= len(left), "MALFORMED", "segment bytes")
    halves = (Half(k_dim, k_transforms), Half(v_dim, v_transforms))
    layer = Layer(tokens, heads, dtype, raw_dtype, chunk, code, halves, first_head, first_position, group)
    runs = (k_runs, v_runs)
    check_geometry(layer, runs, newer, reserved)
    segment = Segment(layer, runs, left[:size])
    if upgrade:
        return parse_upgrade(segment)
    segment.sections, head_end = head_sections(layer, runs)
    require(head_end <= size, "MALFORMED", "vectors and maps beyond the segment")
    maps: list[list[tuple[int, int]]] = [[], []]
    for half, part in enumerate(layer.halves):
        if part.dim == 0:
            continue
        maps[half] = read_map(segment.section(half, MAP), tokens, runs[half])
        used = {tier for tier, _ in maps[half]}
        require(max(used) <= RAW, "FEATURE", "reserved tier")
        require(code == EMBEDDED or not {1, 3} & used, "MALFORMED", "tier of the paper's code")
        require(finite_halves(segment.section(half, VECTORS)), "MALFORMED", "vectors not finite")
    segment.sections, end = all_sections(layer, runs, [row_counts(m) for m in maps])
    require(end == size, "MALFORMED", "segment bytes do not follow from its maps")
    for part, runs_of_part in zip(layer.halves, maps):
        part.tiers = b"".join(bytes([tier]) * count for tier, count in runs_of_part)
    return checked_padding(segment, end)


def parse(data: bytes) -> tuple[Payload, list[Segment]]:
    """Everything but segment digests and scales."""
    require(len(data) >= HEADER, "TRUNCATED", "header")
    (magic, major, minor, header_bytes, flags, layers, total, fingerprint, request_id, raw_bytes, budget_bytes, scored,
     reserved) = HEADER_FORMAT.unpack_from(data)  # fmt: skip
    newer = minor > 0
    require(magic == b"SKV1", "MALFORMED", "magic")
    require(major == 1, "VERSION", "major")
    require(xxh3_64(data[:120]) == int.from_bytes(data[120:128], "little"), "CHECKSUM", "header digest")
    require(header_bytes == HEADER, "MALFORMED", "header bytes")
    require(1 <= layers <= 4096, "MALFORMED", "layer count")
    require(newer or (scored <= 3 and not any(reserved)), "MALFORMED", "scored or reserved")
    require(flags & 0xFFFE == 0, "FEATURE", "flags")
    upgrade = flags & UPGRADE != 0
    require(total <= len(data), "TRUNCATED", "payload")
    require(total == len(data), "TRAILING", "payload")
    segments = []
    at = HEADER
    for ordinal in range(layers):
        segments.append(parse_segment(data[at:], ordinal, newer, upgrade))
        at += len(segments[-1].data)
    require(at == len(data), "MALFORMED", "bytes after the last segment")
    payload = Payload([segment.layer for segment in segments], fingerprint, request_id, budget_bytes, scored, upgrade)
    require(sum(layer.raw_bytes() for layer in payload.layers) == raw_bytes, "MALFORMED", "raw bytes")
    return payload, segments


def verify(segment: Segment) -> None:
    require(segment.data[56:64] == segment_digest(segment.data).to_bytes(8, "little"), "CHECKSUM", "segment digest")
    for half in (0, 1):
        require(finite_halves(segment.section(half, "scales")), "MALFORMED", "scales not finite")


# ---------------------------------------------------------------------------------------------------- decoding


def unpack_strided(data: bytes, per_byte: int) -> list[int]:
    bits = 8 // per_byte
    return [byte >> bits * m & (1 << bits) - 1 for m in range(per_byte) for byte in data]


def codes_of(pieces: dict[str, bytes], head: int, dim: int) -> list[int]:
    """The top 2p bits of every u of one (row, head)."""

    def piece(name: str, per_byte: int) -> list[int]:
        size = dim // per_byte
        return unpack_strided(pieces[name][head * size : (head + 1) * size], per_byte)

    if "two" in pieces:
        return piece("two", 4)
    codes = piece("nibble", 2)
    for name in ("plane2", "plane3"):
        if name in pieces:
            codes = [code << 2 | low for code, low in zip(codes, piece(name, 4))]
    return codes


GAINS = (  # by planes, then by the row's channels
    (1.1352, 1.0901, 1.0578, 1.0355, 1.0265, 1.0209, 1.0149, 1.0114, 1.0045, 0.9993),
    (1.0251, 1.0165, 1.0105, 1.0064, 1.0047, 1.0038, 1.0028, 1.0023, 1.0013, 1.0008),
    (1.0034, 1.0022, 1.0014, 1.0008, 1.0006, 1.0005, 1.0004, 1.0003, 1.0002, 1.0001),
    (1.0,) * 10,
)


def gain_column(dim: int) -> int:
    return sum(dim >= size for size in (16, 32, 64, 96, 128, 192, 256, 512, 1024))


def decode_row(pieces: dict[str, bytes], layer: Layer, half: Half, vectors: Vectors, tier: int) -> list[float]:
    points = hadamard_points(half.transforms)
    step, offset = 4 ** (4 - tier), (4 ** (4 - tier) - 1) / 2 - 128
    if layer.code == PAPER:
        step, offset = 1, -8 if tier == 2 else -128
    gain = f32([f32([GAINS[min(tier, 4) - 1][gain_column(half.dim)]])[0] / points])[0]
    if points == 1 or layer.code == PAPER:
        gain = 1 / points
    scales = f16_values(pieces["scales"])
    out: list[float] = []
    for head in range(layer.heads):
        factor = f32([scales[head] * gain])[0]
        z = f32((code * step + offset) * factor for code in codes_of(pieces, head, half.dim))
        out += butterflies(z, points)
    if vectors.balance:
        out = f32(map(float.__mul__, out, vectors.balance))
    if vectors.mean:
        out = f32(map(float.__add__, out, vectors.mean))
    return out


def stored_vectors(segment: Segment, half: int, chunk: int) -> Vectors:
    part = segment.layer.halves[half]
    width = segment.layer.heads * part.dim
    count = (part.transforms & 1) + (part.transforms >> 1 & 1)
    values = f16_values(segment.section(half, VECTORS)[chunk * count * width * 2 : (chunk + 1) * count * width * 2])
    mean = values[:width] if part.transforms & MEAN else []
    return Vectors(mean, values[len(mean) :])


def decode_half(segment: Segment, half: int, dtypes: Iterable[int]) -> dict[int, bytes]:
    """The tensor, token-major, in every dtype asked for."""
    layer, part = segment.layer, segment.layer.halves[half]
    out = {dtype: bytearray() for dtype in dtypes}
    sections = {name: segment.section(half, name) for name in ROW_SECTIONS}
    at = dict.fromkeys(ROW_SECTIONS, 0)
    vectors = Vectors([], [])
    for token, tier in enumerate(part.tiers):
        if token % layer.chunk == 0:
            vectors = stored_vectors(segment, half, token // layer.chunk)
        pieces = {}
        for name in ROW_SECTIONS:
            if in_section(name, tier):
                size = row_size(name, layer, part.dim)
                pieces[name] = sections[name][at[name] : at[name] + size]
                at[name] += size
        if tier == DROP:
            values = [0.0] * (layer.heads * part.dim)
        elif tier == RAW:
            values = to_floats(pieces["raw"], layer.raw_dtype)
        else:
            values = decode_row(pieces, layer, part, vectors, tier)
        for dtype in out:
            out[dtype] += pieces["raw"] if tier == RAW and dtype == layer.raw_dtype else from_floats(values, dtype)
    return {dtype: bytes(tensor) for dtype, tensor in out.items()}


def decode(data: bytes) -> tuple[Payload, dict[str, str]]:
    """The payload's facts and the SHA-256 of K, V of layer 0, K, V of layer 1, ... in each dtype."""
    payload, segments = parse(data)
    hashes = {dtype: hashlib.sha256() for dtype in DTYPES.values()}
    for segment in segments:
        verify(segment)
        for half in (0, 1):
            for dtype, tensor in decode_half(segment, half, DTYPES.values()).items():
                hashes[dtype].update(tensor)
    return payload, {name: hashes[dtype].hexdigest() for name, dtype in DTYPES.items()}


# ---------------------------------------------------------------------------------------------------- commands


def status_of(data: bytes) -> str:
    try:
        for segment in parse(data)[1]:
            verify(segment)
    except RefusedError as error:
        return error.status
    return "SKV_OK"


def facts_of(payload: Payload) -> dict[str, object]:
    """What a reader should find, as JSON."""
    return {
        "fingerprint": payload.fingerprint.hex(),
        "request_id": payload.request_id.hex(),
        "budget_bytes": payload.budget_bytes,
        "scored": payload.scored,
        "layers": [
            {
                "tokens": layer.tokens,
                "heads": layer.heads,
                "dim": [half.dim for half in layer.halves],
                "dtype": layer.dtype,
                "raw_dtype": layer.raw_dtype,
                "chunk": layer.chunk,
                "code": layer.code,
                "transforms": [half.transforms for half in layer.halves],
                "first_head": layer.first_head,
                "first_position": layer.first_position,
                "group": layer.group,
                "rows": [[half.tiers.count(tier) for tier in range(6)] for half in layer.halves],
                "runs": [written_runs(layer, 0), written_runs(layer, 1) if layer.halves[1].dim else 0],
            }
            for layer in payload.layers
        ],
    }


def source_file(payload: Payload) -> bytes:
    """One JSON line, K and V of every layer as they were, then the tiers of K and V of every layer."""
    halves = [half for layer in payload.layers for half in layer.halves]
    line = json.dumps(facts_of(payload), separators=(",", ":"))
    return line.encode() + b"\n" + b"".join(h.data for h in halves) + b"".join(h.tiers for h in halves)


def make(directory: Path) -> None:
    from golden_set import golden_set  # noqa: PLC0415  (they need this module)
    from upgrade_set import make_upgrades

    directory.mkdir(parents=True, exist_ok=True)
    table = {}
    for name, payload in golden_set():
        data = encode(payload)
        (directory / f"{name}.skv").write_bytes(data)
        (directory / f"{name}.src").write_bytes(source_file(payload))
        found, hashes = decode(data)
        assert facts_of(found) == facts_of(payload), name
        table[f"{name}.skv"] = {**facts_of(payload), "bytes": len(data), "sha256": hashes}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(facts)}" for name, facts in table.items())
    (directory / "golden.json").write_text(f"{{\n{lines}\n}}\n")
    make_upgrades(directory)


def main(arguments: list[str]) -> int:
    match arguments:
        case ["make", directory]:
            make(Path(directory))
        case ["check", file]:
            status = status_of(Path(file).read_bytes())
            print(status)
            return 0 if status == "SKV_OK" else 1
        case ["decode", file]:
            payload, hashes = decode(Path(file).read_bytes())
            print(json.dumps({**facts_of(payload), "sha256": hashes}, indent=1))
        case ["apply", base, upgrade, result]:
            Path(result).write_bytes(apply(Path(base).read_bytes(), Path(upgrade).read_bytes()))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    sys.exit(main(sys.argv[1:]))
