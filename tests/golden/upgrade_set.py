# SPDX-License-Identifier: Apache-2.0
"""Upgrades of the golden files: rows of every tier raised to every tier above it.

make(DIR) writes DIR/upgrades/NAME.skv, each an upgrade of DIR/NAME.skv, DIR/upgrades/refused/*.skv, which break a rule that only
applying can find, and DIR/upgrades.json: target tiers and the SHA-256 of each result; base and status of each refusal.
"""

from __future__ import annotations

import hashlib
import json
import random
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from golden_set import golden_set
from reference import (
    EMBEDDED,
    HEADER,
    PAPER_STEPS,
    Half,
    Layer,
    Payload,
    RefusedError,
    apply,
    encode,
    encode_upgrade,
    parse,
    sealed_header,
    sealed_segment,
)

Targets = list[list[bytes]]


def raised(rng: random.Random, layer: Layer, half: Half, seldom: bool) -> bytes:
    """A tier at least the row's for every token; seldom: in a few stretches only, so that the step map becomes runs."""
    out = bytearray(half.tiers)
    at = 0
    while at < len(out):
        stretch = 1 + int(rng.random() * 60) if seldom else 1
        raise_it = rng.random() < (0.3 if seldom else 0.8)
        for t in range(at, min(at + stretch, len(out))):
            choice = [to for to in range(out[t] + 1, 6) if layer.code == EMBEDDED or (out[t], to) in PAPER_STEPS]
            if raise_it and choice:
                out[t] = choice[int(rng.random() * len(choice))]
        at += stretch
    return bytes(out)


def at_targets(payload: Payload, targets: Targets) -> Payload:
    """What is encoded directly at the target tiers, with the statistics of the base's rows."""
    layers = [
        replace(layer, halves=tuple(
            replace(half, tiers=to, measured=half.measured or half.tiers) for half, to in zip(layer.halves, both)
        ))
        for layer, both in zip(payload.layers, targets)
    ]  # fmt: skip
    return replace(payload, layers=layers)


def upgrade_set() -> Iterator[tuple[str, Payload, Targets, int, int]]:
    """(name of the base, the base, targets, budget of the upgrade, its scored)"""
    for seed, (name, payload) in enumerate(golden_set()):
        rng = random.Random(1000 + seed)
        targets = [[raised(rng, layer, half, seed % 3 == 2) for half in layer.halves] for layer in payload.layers]
        yield name, payload, targets, 1 << 18 if payload.budget_bytes else 0, 3 - payload.scored


def refused() -> Iterator[tuple[str, str, str, bytes]]:
    """(name, base, status, upgrade)"""
    found = {name: (payload, targets) for name, payload, targets, *_ in upgrade_set()}
    payload, targets = found["layers"]
    base = encode(payload)
    good = encode_upgrade(payload, base, targets, 0, 1)

    def in_header(offset: int, value: bytes) -> bytes:
        return sealed_header(good[:offset] + value + good[offset + len(value) :])

    def in_segment(offset: int, value: bytes) -> bytes:
        size = struct.unpack_from("<Q", good, HEADER + 8)[0]
        segment = good[HEADER : HEADER + size]
        segment = sealed_segment(segment[:offset] + value + segment[offset + len(value) :])
        return good[:HEADER] + segment + good[HEADER + size :]

    yield "base-digest", "layers", "BASE", in_segment(64, bytes(8))
    yield "base-bytes", "layers", "BASE", in_segment(72, bytes(8))
    yield "fewer-layers", "dim-8", "BASE", good
    yield (
        "other-base",
        "planes-64-tokens",
        "BASE",
        encode_upgrade(*found["one-token"][:1], encode(found["one-token"][0]), found["one-token"][1], 0, 0),
    )
    yield "fingerprint", "layers", "MODEL", in_header(24, bytes(32))
    yield "request-id", "layers", "REQUEST", in_header(56, bytes(16))
    yield "first-head", "layers", "MALFORMED", in_segment(22, b"\x07\x00")
    yield "first-position", "layers", "MALFORMED", in_segment(24, bytes(8))
    yield "transforms", "layers", "MALFORMED", in_segment(41, b"\x04")
    yield "group", "layers", "MALFORMED", in_segment(43, b"\x00")
    yield "body-bit", "layers", "CHECKSUM", good[:-1] + bytes([good[-1] ^ 1])
    yield "no-upgrade", "layers", "STATE", base
    # A step from a tier that the base's row does not have, of as many bytes: 1 to 2 for 1 to 2 of another row's.
    one = Layer(2, 1, 1, 1, 32, EMBEDDED, (Half(8, 0, bytes([1, 2]), bytes(32)), Half(0)))
    swapped = replace(one, halves=(replace(one.halves[0], tiers=bytes([2, 1])), Half(0)))
    first, second = encode(Payload([one])), encode(Payload([swapped]))
    moved = encode_upgrade(Payload([swapped]), second, [[bytes([2, 2]), b""]], 0, 0)
    segment = bytearray(moved[HEADER:])
    segment[64:80] = first[HEADER + 56 : HEADER + 64] + len(first[HEADER:]).to_bytes(8, "little")
    yield "other-tier", "two-tiers", "MALFORMED", moved[:HEADER] + sealed_segment(bytes(segment))
    yield "two-tiers", "two-tiers", "OK", encode_upgrade(Payload([one]), first, [[bytes([2, 2]), b""]], 0, 0)
    yield "two-tiers-base", "", "OK", first


def status_of_apply(base: bytes, upgrade: bytes) -> str:
    try:
        apply(base, upgrade)
    except RefusedError as error:
        return error.status
    return "SKV_OK"


def make_upgrades(directory: Path) -> None:
    folder = directory / "upgrades"
    (folder / "refused").mkdir(parents=True, exist_ok=True)
    made, refusals = {}, {}
    for name, payload, targets, budget, scored in upgrade_set():
        base = encode(payload)
        upgrade = encode_upgrade(payload, base, targets, budget, scored)
        result = apply(base, upgrade)
        direct = replace(
            at_targets(payload, targets),
            budget_bytes=payload.budget_bytes and payload.budget_bytes + budget,
            scored=scored,
        )
        assert encode(direct) == result, name
        assert parse(result)[0].layers[0].halves[0].tiers == targets[0][0], name
        (folder / f"{name}.skv").write_bytes(upgrade)
        made[f"{name}.skv"] = {
            "budget_bytes": budget,
            "scored": scored,
            "targets": [[half.hex() for half in both] for both in targets],
            "result_bytes": len(result),
            "result_sha256": hashlib.sha256(result).hexdigest(),
        }
    files = {name: (base, status, data) for name, base, status, data in refused()}
    for name, (base, status, data) in files.items():
        (folder / "refused" / f"{name}.skv").write_bytes(data)
        if not base:
            continue
        of = files[f"{base}-base"][2] if f"{base}-base" in files else (directory / f"{base}.skv").read_bytes()
        wanted = "SKV_OK" if status == "OK" else f"SKV_E_{status}"
        assert status_of_apply(of, data) == wanted, (name, wanted, status_of_apply(of, data))
        path = f"upgrades/refused/{base}-base.skv" if f"{base}-base" in files else f"{base}.skv"
        refusals[f"{name}.skv"] = {"base": path, "status": wanted}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(facts)}" for name, facts in made.items())
    (directory / "upgrades.json").write_text(
        f'{{"upgrades": {{\n{lines}\n}},\n"refused": {json.dumps(refusals, indent=1)}}}\n'
    )
