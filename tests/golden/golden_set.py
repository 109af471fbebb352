# SPDX-License-Identifier: Apache-2.0
"""What the golden files hold. Names say what a file is there for."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator

from reference import (
    BALANCE,
    BF16,
    EMBEDDED,
    F16,
    F32,
    HADAMARD8,
    HADAMARD16,
    MEAN,
    PAPER,
    Half,
    Layer,
    Payload,
    from_floats,
)

Tiers = Callable[[random.Random, int], bytes]
ALL = (0, 1, 2, 3, 4, 5)
OF_PAPER = (0, 2, 4, 5)


def mixed(choice: tuple[int, ...]) -> Tiers:
    """A tier per token at random: the map becomes bit planes."""
    return lambda rng, tokens: bytes(choice[int(rng.random() * len(choice))] for _ in range(tokens))


def runs(choice: tuple[int, ...], length: int) -> Tiers:
    """Sinks, then stretches: the map becomes runs."""

    def make(rng: random.Random, tokens: int) -> bytes:
        out = [5] * min(4, tokens)
        while len(out) < tokens:
            tier = choice[int(rng.random() * len(choice))]
            out += [tier] * (1 + int(rng.random() * length))
        return bytes(out[:tokens])

    return make


def only(tier: int) -> Tiers:
    return lambda _, tokens: bytes([tier]) * tokens


def gauss(rng: random.Random) -> float:
    """Bell-shaped, from additions alone: the same on every machine."""
    return rng.random() + rng.random() + rng.random() - 1.5


def tensor(rng: random.Random, tokens: int, width: int, half: int) -> list[float]:
    """Keys have offsets and loud channels, values have neither."""
    loud = [4.0 if rng.random() < 0.1 else 1.0 for _ in range(width)]
    offset = [gauss(rng) * 4 if half == 0 else 0.0 for _ in range(width)]
    return [offset[c] + gauss(rng) * loud[c] for _ in range(tokens) for c in range(width)]


def with_odd_rows(values: list[float], tokens: int, width: int, tiny: float) -> list[float]:
    """Zero rows, rows of negative zeros, rows of subnormals, subnormals and zeros inside ordinary rows."""
    for t in range(tokens):
        row = range(t * width, (t + 1) * width)
        match t % 7:
            case 1:
                for i in row:
                    values[i] = 0.0
            case 2:
                for i in row:
                    values[i] = -0.0
            case 3:
                for n, i in enumerate(row):
                    values[i] = (n % 9 - 4) * tiny
            case 4:
                for i in row[::3]:
                    values[i] = -0.0
                for i in row[1::3]:
                    values[i] = -3 * tiny
    return values


def layer(
    seed: int,
    tokens: int,
    heads: int,
    dims: tuple[int, int],
    *,
    dtype: int = F16,
    raw_dtype: int = 0,
    chunk: int = 32,
    code: int = EMBEDDED,
    transforms: tuple[int, int] = (0, 0),
    tiers: tuple[Tiers, Tiers] = (mixed(ALL), mixed(ALL)),
    tiny: float = 0.0,
    scale: float = 1.0,
    first_head: int = 0,
    first_position: int = 0,
    group: int = 0,
) -> Layer:
    rng = random.Random(seed)
    halves = []
    for half in (0, 1):
        width = heads * dims[half]
        if width == 0:
            halves.append(Half(0))
            continue
        values = [v * scale for v in tensor(rng, tokens, width, half)]
        if tiny:
            values = with_odd_rows(values, tokens, width, tiny)
        data = from_floats(values, dtype)
        halves.append(Half(dims[half], transforms[half], tiers[half](rng, tokens), data))
    return Layer(
        tokens, heads, dtype, raw_dtype or dtype, chunk, code, (halves[0], halves[1]), first_head, first_position, group
    )


def every_transform() -> Iterator[tuple[str, Payload]]:
    combinations = [h | b | m for h in (0, HADAMARD8, HADAMARD16) for b in (0, BALANCE) for m in (0, MEAN)]
    dims = ((16, 32), (64, 16), (80, 16), (16, 80), (32, 16), (16, 64))
    for i, k in enumerate(combinations):
        v = combinations[(i * 5 + 7) % len(combinations)]
        dtype = (F16, BF16, F32)[i % 3]
        heads = 1 + (i + i // 3) % 3 if dtype != F32 else 1
        made = layer(100 + i, 69, heads, dims[i % len(dims)], dtype=dtype, transforms=(k, v))
        yield f"transforms-{k:02}-{v:02}", Payload([made])


def with_specials(made: Layer) -> Layer:
    """Inf and quiet NaNs in RAW rows, which keep them."""
    infinity, mantissa, sign = {
        F16: (0x7C00, (0x200, 0x2A5, 0x3FF), 0x8000),
        BF16: (0x7F80, (0x40, 0x55, 0x7F), 0x8000),
        F32: (0x7F800000, (0x400000, 0x54A5A5, 0x7FFFFF), 1 << 31),
    }[made.dtype]
    values = [s | infinity | m for s in (0, sign) for m in (0, *mantissa)]
    specials = struct.pack("<8I" if made.dtype == F32 else "<8H", *values)
    for half in made.halves:
        size = len(half.data) // made.tokens
        data = bytearray(half.data)
        for t in (t for t, tier in enumerate(half.tiers) if tier == 5):
            data[t * size : t * size + len(specials)] = specials
        half.data = bytes(data)
    return made


def golden_set() -> Iterator[tuple[str, Payload]]:
    """(name, payload): options are the same for every layer of a file."""
    usual = (MEAN | BALANCE | HADAMARD8, HADAMARD8)
    wide = (MEAN | BALANCE | HADAMARD16, HADAMARD16)
    stretches = (runs(ALL, 60), runs(ALL, 60))
    paper = (mixed(OF_PAPER), mixed(OF_PAPER))
    yield from every_transform()
    yield "one-token", Payload([layer(1, 1, 1, (8, 8), chunk=256, transforms=usual, tiers=(only(4), only(1)))])
    yield "dim-8", Payload([layer(2, 70, 3, (8, 8), transforms=usual)])
    yield "runs-chunk-256", Payload([layer(3, 300, 2, (16, 16), chunk=256, transforms=usual, tiers=stretches)])
    yield "planes-chunk-256", Payload([layer(4, 300, 2, (16, 16), dtype=BF16, chunk=256, transforms=usual)])
    yield "planes-64-tokens", Payload([layer(5, 64, 1, (16, 16), chunk=64)])
    yield (
        "runs-and-planes",
        Payload([layer(6, 130, 1, (32, 16), chunk=96, transforms=usual, tiers=(runs((2, 3, 4), 50), mixed((1, 2))))]),
    )
    yield "dim-256", Payload([layer(7, 40, 1, (256, 256), dtype=BF16, transforms=wide)])
    yield "dim-80-bf16", Payload([layer(8, 70, 2, (80, 64), dtype=BF16, transforms=usual, tiers=stretches)])
    yield "no-v", Payload([layer(9, 90, 1, (64, 0), transforms=(usual[0], 0))])
    yield "no-v-runs", Payload([layer(10, 140, 1, (32, 0), dtype=F32, transforms=(HADAMARD16, 0), tiers=stretches)])
    yield "paper", Payload([layer(11, 70, 2, (32, 32), code=PAPER, tiers=paper)])
    yield (
        "paper-transforms",
        Payload([layer(12, 300, 1, (16, 16), dtype=BF16, chunk=256, code=PAPER, transforms=usual, tiers=paper)]),
    )
    yield "paper-f32", Payload([layer(13, 50, 1, (64, 8), dtype=F32, raw_dtype=BF16, code=PAPER, tiers=paper)])
    yield "f32-raw-f16", Payload([layer(14, 60, 2, (16, 16), dtype=F32, raw_dtype=F16, transforms=usual)])
    yield "f32-raw-bf16", Payload([layer(15, 60, 2, (16, 16), dtype=F32, raw_dtype=BF16, transforms=wide)])
    for name, dtype, raw_dtype in (
        ("f16", F16, F16),
        ("bf16", BF16, BF16),
        ("f32", F32, F32),
        ("f32-raw-f16", F32, F16),
        ("f32-raw-bf16", F32, BF16),
    ):
        made = layer(16, 40, 1, (16, 16), dtype=dtype, raw_dtype=raw_dtype, transforms=usual)
        yield f"specials-{name}", Payload([with_specials(made)])
    yield "all-raw", Payload([layer(17, 33, 2, (16, 8), tiers=(only(5), only(5)))])
    yield "all-drop", Payload([layer(18, 33, 2, (16, 8), transforms=usual, tiers=(only(0), only(0)))])
    yield "odd-rows-f16", Payload([layer(19, 75, 2, (16, 16), transforms=usual, tiny=2.0**-24)])
    yield "odd-rows-bf16", Payload([layer(20, 75, 2, (16, 16), dtype=BF16, transforms=(3, 2), tiny=2.0**-130)])
    yield "odd-rows-f32", Payload([layer(21, 75, 2, (16, 16), dtype=F32, transforms=(8, 4), tiny=2.0**-140)])
    yield "odd-rows-paper", Payload([layer(22, 75, 2, (16, 16), code=PAPER, tiers=paper, tiny=2.0**-24)])
    yield "tiny", Payload([layer(23, 40, 2, (16, 16), dtype=F32, transforms=(3, 7), scale=2.0**-20)])
    yield "huge", Payload([layer(24, 40, 2, (16, 16), dtype=F32, raw_dtype=BF16, transforms=(3, 1), scale=2.0**13)])
    yield (
        "layers",
        Payload(
            [
                layer(25, 70, 2, (16, 32), transforms=usual, first_head=2, first_position=2**40 + 5, group=3),
                layer(26, 33, 1, (16, 0), transforms=(usual[0], 0), first_head=1023, first_position=2**62 - 33),
                layer(27, 200, 3, (8, 8), transforms=usual, tiers=stretches, first_position=7, group=255),
            ],
            fingerprint=bytes(range(1, 33)),
            request_id=bytes(range(240, 256)),
            budget_bytes=1 << 20,
            scored=2,
        ),
    )
    yield (
        "leaves",
        Payload([layer(28, 560, 2, (64, 64), chunk=256, transforms=usual, tiers=(mixed((4, 5)), mixed((4,))))]),
    )
