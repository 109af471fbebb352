# SPDX-License-Identifier: Apache-2.0
"""Payloads that break one rule of docs/wire-format.md each, digests recomputed so that this rule is the one that is hit.

make_malformed.py writes malformed/*.skv and malformed.json {file: status} next to itself (or into a directory given).
Files named ok-* break no rule: a reader must take what it is told to ignore.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from golden_set import layer, mixed, only, runs
from reference import (
    BALANCE,
    F32,
    HADAMARD8,
    HADAMARD16,
    HEADER,
    MAP,
    MEAN,
    PAPER,
    VECTORS,
    Layer,
    Payload,
    encode,
    encode_upgrade,
    parse,
    sealed_header,
    sealed_segment,
    status_of,
)

Case = tuple[str, str, bytes]
SEGMENT = HEADER  # of the first one
MAGIC, ORDINAL, BYTES, TOKENS, HEADS, POSITION, K_DIM, V_DIM, CHUNK = 0, 4, 8, 16, 20, 24, 32, 34, 36
DTYPE, RAW_DTYPE, CODE, K_TRANSFORMS, V_TRANSFORMS, K_RUNS, V_RUNS, RESERVED = 38, 39, 40, 41, 42, 44, 48, 52


def put(data: bytes, offset: int, kind: str, value: int) -> bytes:
    out = bytearray(data)
    struct.pack_into(f"<{kind}", out, offset, value)
    return bytes(out)


def header(data: bytes, offset: int, kind: str, value: int) -> bytes:
    """With a header field replaced."""
    return sealed_header(put(data, offset, kind, value))


def sealed(data: bytes, size: int | None = None) -> bytes:
    """The digest of the first segment (of `size` bytes) made good."""
    end = len(data) if size is None else SEGMENT + size
    return data[:SEGMENT] + sealed_segment(data[SEGMENT:end]) + data[end:]


def segment(data: bytes, *fields: tuple[int, str, int]) -> bytes:
    """With fields of the only segment replaced."""
    for offset, kind, value in fields:
        data = put(data, SEGMENT + offset, kind, value)
    return sealed(data)


def totals(data: bytes, raw_bytes: int) -> bytes:
    """With total bytes, raw bytes and the only segment's bytes as they are."""
    data = header(header(data, 16, "Q", len(data)), 72, "Q", raw_bytes)
    return segment(data, (BYTES, "Q", len(data) - HEADER))


def section(data: bytes, half: int, name: str) -> tuple[int, int]:
    """Where a section of the only segment lies in the file, and its size."""
    found = next(s for s in parse(data)[1][0].sections if (s.half, s.name) == (half, name))
    return SEGMENT + found.offset, found.size


def padding(data: bytes) -> dict[str, int]:
    """The last byte of the padding before each section that has some."""
    out = {}
    at = SEGMENT + 64
    for s in parse(data)[1][0].sections:
        if SEGMENT + s.offset > at:
            out[f"{'kv'[s.half]}-{s.name}"] = SEGMENT + s.offset - 1
        at = SEGMENT + s.offset + s.size
    if at < len(data):
        out["end"] = len(data) - 1
    return out


USUAL = (MEAN | BALANCE | HADAMARD8, MEAN | BALANCE)
PLANES = encode(Payload([layer(1, 70, 1, (24, 8), transforms=USUAL)]))
RUNS = encode(Payload([layer(2, 200, 1, (8, 8), tiers=(runs((0, 1, 2, 4), 90), runs((1, 3, 5), 90)))]))
OF_PAPER = encode(Payload([layer(3, 70, 1, (8, 8), code=PAPER, tiers=(mixed((0, 2, 4, 5)), only(2)))]))
NO_V = encode(Payload([layer(4, 40, 1, (16, 0), transforms=(HADAMARD16, 0))]))
OF_F32 = encode(Payload([layer(5, 40, 1, (8, 8), dtype=F32)]))
ONE = encode(Payload([layer(6, 1, 1, (8, 8), tiers=(only(4), only(1)))]))


def upgrade_of(made: Layer, targets: list[bytes]) -> bytes:
    return encode_upgrade(Payload([made]), encode(Payload([made])), [targets], 0, 0)


def step_up(tiers: bytes, tier: int, every: int) -> bytes:
    """Every so many tokens at least at a tier."""
    return bytes(max(old, tier) if t % every == 0 else old for t, old in enumerate(tiers))


_RAISED = layer(9, 70, 1, (24, 8), transforms=USUAL)
_RAISED_RUNS = layer(10, 200, 1, (8, 8), tiers=(runs((0, 1, 2, 4), 90), runs((1, 3, 5), 90)))
_RAISED_PAPER = layer(11, 70, 1, (8, 8), code=PAPER, tiers=(mixed((0, 2, 4, 5)), only(2)))
UP_PLANES = upgrade_of(_RAISED, [step_up(half.tiers, 4, 2) for half in _RAISED.halves])
UP_RUNS = upgrade_of(_RAISED_RUNS, [step_up(half.tiers, 4, 1) for half in _RAISED_RUNS.halves])
UP_PAPER = upgrade_of(_RAISED_PAPER, [step_up(half.tiers, 5, 2) for half in _RAISED_PAPER.halves])
TWO = encode(Payload([layer(7, 40, 1, (8, 8)), layer(8, 40, 1, (8, 8))]))


def of_header() -> Iterator[Case]:
    yield "empty", "TRUNCATED", b""
    yield "cut-header", "TRUNCATED", ONE[:127]
    yield "cut-after-header", "TRUNCATED", ONE[:128]
    yield "cut-last-byte", "TRUNCATED", PLANES[:-1]
    yield "one-byte-more", "TRAILING", PLANES + b"\0"
    yield "magic", "MALFORMED", header(ONE, 0, "B", ord("s"))
    yield "major-0", "VERSION", header(ONE, 4, "B", 0)
    yield "major-2", "VERSION", put(ONE, 4, "B", 2)
    yield "header-digest", "CHECKSUM", put(ONE, 120, "B", ONE[120] ^ 1)
    yield "header-bit", "CHECKSUM", put(ONE, 24, "B", 1)
    yield "header-bytes", "MALFORMED", header(ONE, 6, "H", 112)
    yield "flag-0", "MALFORMED", header(ONE, 8, "I", 1)  # an upgrade's flag, and no upgrade's segment
    yield "flag-1", "FEATURE", header(ONE, 8, "I", 2)
    yield "flag-15", "FEATURE", header(ONE, 8, "I", 1 << 15)
    yield "ok-flag-16", "OK", header(ONE, 8, "I", 1 << 16)
    yield "ok-flag-31", "OK", header(ONE, 8, "I", 1 << 31)
    for count in (0, 2, 4096, 4097, 2**32 - 1):
        yield f"layers-{count}", "MALFORMED", header(ONE, 12, "I", count)
    yield "layers-1-of-2", "MALFORMED", header(TWO, 12, "I", 1)
    yield "total-too-big", "TRUNCATED", header(ONE, 16, "Q", len(ONE) + 1)
    yield "total-huge", "TRUNCATED", header(ONE, 16, "Q", 2**64 - 1)
    yield "total-too-small", "TRAILING", header(ONE, 16, "Q", len(ONE) - 1)
    yield "total-0", "TRAILING", header(ONE, 16, "Q", 0)
    yield "raw-bytes", "MALFORMED", header(ONE, 72, "Q", 33)
    yield "scored-4", "MALFORMED", header(ONE, 88, "I", 4)
    yield "reserved-92", "MALFORMED", header(ONE, 92, "B", 1)
    yield "reserved-119", "MALFORMED", header(ONE, 119, "B", 0x80)
    newer = header(header(header(ONE, 5, "B", 1), 100, "B", 1), 88, "I", 9)
    yield "ok-minor-1", "OK", segment(newer, (RESERVED, "I", 1))


def of_segment_header() -> Iterator[Case]:
    size = len(ONE) - HEADER
    fields = {
        "segment-magic": (MAGIC, "B", ord("s")),
        "ordinal": (ORDINAL, "I", 1),
        "segment-bytes-0": (BYTES, "Q", 0),
        "segment-bytes-48": (BYTES, "Q", 48),
        "segment-bytes-64": (BYTES, "Q", 64),
        "segment-bytes-8-more": (BYTES, "Q", size + 8),
        "segment-bytes-16-less": (BYTES, "Q", size - 16),
        "segment-bytes-beyond": (BYTES, "Q", size + 16),
        "segment-bytes-huge": (BYTES, "Q", 2**64 - 16),
        "tokens-0": (TOKENS, "I", 0),
        "tokens-2": (TOKENS, "I", 2),
        "tokens-beyond": (TOKENS, "I", 2**28 + 1),
        "tokens-huge": (TOKENS, "I", 2**32 - 1),
        "heads-0": (HEADS, "H", 0),
        "heads-9": (HEADS, "H", 9),
        "heads-1025": (HEADS, "H", 1025),
        "position": (POSITION, "Q", 2**62 + 1),
        "chunk-0": (CHUNK, "H", 0),
        "chunk-16": (CHUNK, "H", 16),
        "chunk-33": (CHUNK, "H", 33),
        "chunk-288": (CHUNK, "H", 288),
        "raw-dtype-differs": (RAW_DTYPE, "B", 2),
        "reserved-52": (RESERVED, "B", 1),
        "reserved-55": (RESERVED + 3, "B", 0x80),
    }
    for dim in (0, 4, 12, 4097, 4104, 65528):
        fields[f"k-dim-{dim}"] = (K_DIM, "H", dim)
        if dim:
            fields[f"v-dim-{dim}"] = (V_DIM, "H", dim)
    for half, (transforms, run_count) in enumerate(((K_TRANSFORMS, K_RUNS), (V_TRANSFORMS, V_RUNS))):
        fields[f"{'kv'[half]}-two-hadamards"] = (transforms, "B", 12)
        fields[f"{'kv'[half]}-hadamard-16-dim-8"] = (transforms, "B", 8)
        fields[f"{'kv'[half]}-runs-2-tokens-1"] = (run_count, "I", 2)
        fields[f"{'kv'[half]}-runs-huge"] = (run_count, "I", 2**32 - 1)
    for name, changed in fields.items():
        yield name, "MALFORMED", segment(ONE, changed)
    features = {
        "dtype-0": (DTYPE, "B", 0),
        "dtype-4": (DTYPE, "B", 4),
        "raw-dtype-0": (RAW_DTYPE, "B", 0),
        "raw-dtype-4": (RAW_DTYPE, "B", 4),
        "code-2": (CODE, "B", 2),
        "k-transforms-16": (K_TRANSFORMS, "B", 16),
        "v-transforms-128": (V_TRANSFORMS, "B", 128),
    }
    for name, changed in features.items():
        yield name, "FEATURE", segment(ONE, changed)
    yield "f32-raw-dtype-4", "FEATURE", segment(OF_F32, (RAW_DTYPE, "B", 4))
    yield "hadamard-16-dim-24", "MALFORMED", segment(PLANES, (K_TRANSFORMS, "B", 8 | 3))
    yield "transforms-without-v", "MALFORMED", segment(NO_V, (V_TRANSFORMS, "B", 4))
    yield "runs-without-v", "MALFORMED", segment(NO_V, (V_RUNS, "I", 1))
    yield "v-taken-away", "MALFORMED", segment(ONE, (V_DIM, "H", 0), (V_RUNS, "I", 0))
    yield "segment-digest", "CHECKSUM", put(ONE, SEGMENT + 56, "B", ONE[SEGMENT + 56] ^ 1)
    yield "first-head-without-digest", "CHECKSUM", put(ONE, SEGMENT + 22, "H", 1)
    scales = section(PLANES, 0, "scales")[0]
    yield "body-bit", "CHECKSUM", put(PLANES, scales, "B", PLANES[scales] ^ 1)
    second = HEADER + len(parse(TWO)[1][0].data)
    yield "second-segment-magic", "MALFORMED", put(TWO, second, "B", 0)
    yield "second-segment-digest", "CHECKSUM", put(TWO, second + 60, "B", TWO[second + 60] ^ 1)
    cut = header(TWO[: second + 32], 16, "Q", second + 32)
    yield "second-segment-header-cut", "MALFORMED", cut


def of_maps() -> Iterator[Case]:
    for half, name in enumerate("kv"):
        at, size = section(RUNS, half, MAP)
        words = struct.unpack_from(f"<{size // 4}I", RUNS, at)
        first, last = words[0], words[-1]
        end = at + size - 4
        yield f"{name}-run-0", "MALFORMED", sealed(put(RUNS, at, "I", first & ~0x1FFFFFFF))
        yield f"{name}-runs-short", "MALFORMED", sealed(put(RUNS, end, "I", last - 1))
        yield f"{name}-runs-long", "MALFORMED", sealed(put(RUNS, end, "I", last + 1))
        yield f"{name}-run-count-huge", "MALFORMED", sealed(put(RUNS, end, "I", last | 0x1FFFFFFF))
        equal = put(RUNS, end, "I", words[-2] & ~0x1FFFFFFF | last & 0x1FFFFFFF)
        yield f"{name}-equal-neighbours", "MALFORMED", sealed(equal)
        for tier in (6, 7):
            reserved = put(RUNS, end, "I", last & 0x1FFFFFFF | tier << 29)
            yield f"{name}-run-tier-{tier}", "FEATURE", sealed(reserved)
        run_count = K_RUNS if half == 0 else V_RUNS
        yield f"{name}-runs-fewer", "MALFORMED", segment(RUNS, (run_count, "I", size // 4 - 1))
        yield f"{name}-more-runs-than-tokens", "MALFORMED", segment(RUNS, (run_count, "I", 201))
    for half, name in enumerate("kv"):
        at, size = section(PLANES, half, MAP)
        plane = size // 3
        for i in range(3):
            trailing = at + (i + 1) * plane - 8  # tokens 64 ... 127 of 70
            byte = PLANES[trailing]
            yield f"{name}-trailing-bit-plane-{i}", "MALFORMED", sealed(put(PLANES, trailing, "B", byte | 1 << 6))
        far = put(PLANES, at + plane - 1, "B", 0x80)
        yield f"{name}-trailing-bit-127", "MALFORMED", sealed(far)
        for tier in (6, 7):
            data = PLANES
            for i in range(3):
                byte = data[at + i * plane]
                data = put(data, at + i * plane, "B", byte & ~1 | tier >> i & 1)
            yield f"{name}-plane-tier-{tier}", "FEATURE", sealed(data)
    at, size = section(OF_PAPER, 0, MAP)
    for tier in (1, 3):
        data = OF_PAPER
        for i in range(3):
            byte = data[at + i * size // 3]
            data = put(data, at + i * size // 3, "B", byte & ~1 | tier >> i & 1)
        yield f"paper-plane-tier-{tier}", "MALFORMED", sealed(data)
        run = put(OF_PAPER, section(OF_PAPER, 1, MAP)[0], "I", tier << 29 | 70)
        yield f"paper-run-tier-{tier}", "MALFORMED", sealed(run)
    at = section(ONE, 0, MAP)[0]
    yield "map-implies-more", "MALFORMED", sealed(put(ONE, at, "I", 5 << 29 | 1))
    yield "map-implies-less", "MALFORMED", sealed(put(ONE, at, "I", 0 << 29 | 1))


def of_content() -> Iterator[Case]:
    for data in (PLANES, RUNS, NO_V):
        for name, at in padding(data).items():
            base = {PLANES: "planes", RUNS: "runs", NO_V: "no-v"}[data]
            yield f"padding-{base}-{name}", "MALFORMED", sealed(put(data, at, "B", 1))
    for half, name in enumerate("kv"):
        at, size = section(PLANES, half, VECTORS)
        one_vector = size // 2 // 3  # three chunks, mean and balance
        for what, offset in (("mean", 0), ("balance", one_vector), ("last-balance", size - 2)):
            for kind, bits in (("inf", 0x7C00), ("minus-inf", 0xFC00), ("nan", 0x7E01)):
                yield f"{name}-{what}-{kind}", "MALFORMED", sealed(put(PLANES, at + offset, "H", bits))
        at, size = section(PLANES, half, "scales")
        for kind, bits in (("inf", 0x7C00), ("minus-inf", 0xFC00), ("nan", 0xFE00)):
            yield f"{name}-first-scale-{kind}", "MALFORMED", sealed(put(PLANES, at, "H", bits))
            yield f"{name}-last-scale-{kind}", "MALFORMED", sealed(put(PLANES, at + size - 2, "H", bits))


def of_claims() -> Iterator[Case]:
    """Tiny files that claim to be large."""
    tokens = 2**28
    at = [section(ONE, half, MAP)[0] for half in (0, 1)]
    raw = 2 * tokens * 16
    for tier in (4, 5):
        data = put(put(ONE, at[0], "I", tier << 29 | tokens), at[1], "I", tokens)
        yield f"claim-runs-tier-{tier}", "MALFORMED", totals(segment(data, (TOKENS, "I", tokens)), raw)
    planes = segment(ONE, (TOKENS, "I", tokens), (K_RUNS, "I", 0), (V_RUNS, "I", 0))
    yield "claim-planes", "MALFORMED", totals(planes, raw)
    dropped = put(put(ONE, at[0], "I", tokens), at[1], "I", tokens)
    vectors = segment(dropped, (TOKENS, "I", tokens), (K_TRANSFORMS, "B", 3), (V_TRANSFORMS, "B", 3))
    yield "claim-vectors", "MALFORMED", totals(vectors, raw)
    wide = put(put(ONE, at[0], "I", 5 << 29 | tokens), at[1], "I", 5 << 29 | tokens)
    wide = segment(wide, (TOKENS, "I", tokens), (HEADS, "H", 1024), (K_DIM, "H", 4096), (V_DIM, "H", 4096))
    yield "claim-everything", "MALFORMED", totals(wide, 2 * tokens * 1024 * 8192)


def of_upgrades() -> Iterator[Case]:
    for name, data in (("planes", UP_PLANES), ("runs", UP_RUNS), ("paper", UP_PAPER)):
        yield f"ok-upgrade-{name}", "OK", data
        yield f"upgrade-{name}-without-flag", "MALFORMED", header(data, 8, "I", 0)
        yield f"upgrade-{name}-cut", "TRUNCATED", data[:-16]
        yield f"upgrade-{name}-body-bit", "CHECKSUM", put(data, len(data) - 20, "B", data[len(data) - 20] ^ 4)
        yield f"upgrade-{name}-one-section-more", "MALFORMED", totals(data + bytes(16), of_raw_bytes(data))
        yield f"upgrade-{name}-16-less", "MALFORMED", totals(data[:-16], of_raw_bytes(data))
        for where, at in padding(data).items():
            yield f"upgrade-{name}-padding-{where}", "MALFORMED", sealed(put(data, at, "B", 1))
    yield "upgrade-magic", "MALFORMED", segment(UP_PLANES, (MAGIC, "I", struct.unpack("<I", b"SEG1")[0]))
    yield "upgrade-flags-3", "FEATURE", header(UP_PLANES, 8, "I", 3)
    yield "upgrade-ordinal", "MALFORMED", segment(UP_PLANES, (ORDINAL, "I", 1))
    yield "upgrade-reserved", "MALFORMED", segment(UP_PLANES, (RESERVED, "I", 1))
    for half, name in enumerate("kv"):
        at, size = section(UP_PLANES, half, MAP)
        plane = size // 4
        for i in range(4):
            trailing = at + (i + 1) * plane - 8  # tokens 64 ... 127 of 70
            byte = UP_PLANES[trailing]
            yield f"upgrade-{name}-bit-70-plane-{i}", "MALFORMED", sealed(put(UP_PLANES, trailing, "B", byte | 1 << 6))
        yield f"upgrade-{name}-other-step", "MALFORMED", sealed(put(UP_PLANES, at, "B", UP_PLANES[at] ^ 1))
        at, size = section(UP_RUNS, half, MAP)
        words = struct.unpack_from(f"<{size // 4}I", UP_RUNS, at)
        end = at + size - 4
        yield f"upgrade-{name}-runs-short", "MALFORMED", sealed(put(UP_RUNS, end, "I", words[-1] - 1))
        yield f"upgrade-{name}-runs-long", "MALFORMED", sealed(put(UP_RUNS, end, "I", words[-1] + 1))
        yield f"upgrade-{name}-run-huge", "MALFORMED", sealed(put(UP_RUNS, end, "I", words[-1] | 0xFFFFFFF))
        equal = put(UP_RUNS, end, "I", words[-2] & 0xF0000000 | words[-1] & 0xFFFFFFF)
        yield f"upgrade-{name}-equal-neighbours", "MALFORMED", sealed(equal)
        run_count = K_RUNS if half == 0 else V_RUNS
        yield f"upgrade-{name}-runs-fewer", "MALFORMED", segment(UP_RUNS, (run_count, "I", size // 4 - 1))
        yield f"upgrade-{name}-more-runs-than-tokens", "MALFORMED", segment(UP_RUNS, (run_count, "I", 201))
        at, size = section(UP_PLANES, half, "scales")
        yield f"upgrade-{name}-scale-nan", "MALFORMED", sealed(put(UP_PLANES, at, "H", 0x7E01))
    at, size = section(UP_PAPER, 0, MAP)
    for step in (1, 3, 6, 10, 11, 13):
        data = UP_PAPER
        for i in range(4):
            byte = data[at + i * size // 4]
            data = put(data, at + i * size // 4, "B", byte & ~1 | step >> i & 1)
        yield f"upgrade-paper-step-{step}", "MALFORMED", sealed(data)
    # Claims: a run of 2^28 rows from a handful of bytes.
    tokens = 2**28
    nothing = upgrade_of(layer(12, 1, 1, (8, 8), tiers=(only(4), only(1))), [bytes([4]), bytes([1])])
    yield "ok-upgrade-of-nothing", "OK", nothing
    maps = [section(nothing, half, MAP)[0] for half in (0, 1)]
    for step in (4, 5, 15):
        data = put(put(nothing, maps[0], "I", step << 28 | tokens - 1), maps[1], "I", tokens - 1)
        claim = totals(segment(data, (TOKENS, "I", tokens)), 2 * tokens * 16)
        yield f"upgrade-claim-step-{step}", "MALFORMED", claim
    claim = segment(nothing, (TOKENS, "I", tokens), (K_RUNS, "I", 0), (V_RUNS, "I", 0))
    yield "upgrade-claim-planes", "MALFORMED", totals(claim, 2 * tokens * 16)


def of_raw_bytes(data: bytes) -> int:
    return int(struct.unpack_from("<Q", data, 72)[0])


def cases() -> Iterator[Case]:
    for part in (of_header, of_segment_header, of_maps, of_content, of_claims, of_upgrades):
        yield from part()


def make(directory: Path) -> None:
    folder = directory / "malformed"
    folder.mkdir(parents=True, exist_ok=True)
    table = {}
    for name, status, data in cases():
        status = "SKV_OK" if status == "OK" else f"SKV_E_{status}"  # noqa: PLW2901
        assert f"{name}.skv" not in table, name
        assert status_of(data) == status, (name, status, status_of(data))
        (folder / f"{name}.skv").write_bytes(data)
        table[f"{name}.skv"] = status
    (directory / "malformed.json").write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
