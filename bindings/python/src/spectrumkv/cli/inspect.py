# SPDX-License-Identifier: Apache-2.0
"""``spectrumkv inspect``."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from spectrumkv import sections
from spectrumkv.cli.console import fail, out, reports_errors
from spectrumkv.constants import Half, PayloadKey, Tier
from spectrumkv.errors import ChecksumError
from spectrumkv.payload import Payload

# Letter, block and colour of each tier.
_LOOK = {
    Tier.DROP: (".", " ", "bright_black"),
    Tier.TWO_BIT: ("2", "▂", "blue"),
    Tier.FOUR_BIT: ("4", "▄", "cyan"),
    Tier.SIX_BIT: ("6", "▅", "green"),
    Tier.EIGHT_BIT: ("8", "▆", "yellow"),
    Tier.RAW: ("R", "█", "red"),
}


@reports_errors
def inspect(
    file: Annotated[Path, typer.Argument(help="Payload file.", exists=True, dir_okay=False)],
    json_: Annotated[
        bool, typer.Option("--json", help="Print JSON instead, with the tiers of every token as run lengths.")
    ] = False,
    layer: Annotated[int | None, typer.Option(min=0, help="Only this layer.")] = None,
) -> None:
    """Show what is in a payload: header, layers, the tier of every token, sizes by section.

    The tier map has a row a layer, K left and V right; a column stands for several tokens and shows their commonest tier.
    An upgrade shows how many rows it raises, by their new tier. Exit code 1 if a digest does not match.
    """
    payload = Payload.load(file)
    damage = None
    try:
        payload.verify()
    except ChecksumError as error:
        damage = error.message
    layers = range(payload.layers) if layer is None else range(layer, layer + 1)
    if json_:
        typer.echo(json.dumps(describe(payload, layers, damage), indent=2))
    else:
        _print(out(), file, payload, layers, damage)
    if damage is not None:
        raise fail(f"{file}: {damage}")


def describe(payload: Payload, layers: range, damage: str | None = None) -> dict[str, Any]:
    """Everything as plain data."""
    fingerprint, request_id = payload.identity
    receipt = payload.receipt()
    return {
        "bytes": payload.nbytes,
        "raw_bytes": payload.raw_bytes,
        "budget_bytes": receipt.budget_bytes,
        "ratio": receipt.ratio,
        "wire": ".".join(map(str, payload.wire_version)),
        "fingerprint": fingerprint.hex(),
        "request_id": request_id.hex(),
        "scored": receipt.scored.name.lower(),
        "layers": payload.layers,
        "tokens": payload.tokens,
        "digests": "ok" if damage is None else damage,
        **(
            {"raised": _raised(payload)}
            if payload.upgrade
            else {"sections": sections.sizes(payload), "segments": [_segment(payload, index) for index in layers]}
        ),
    }


def _raised(payload: Payload) -> dict[str, dict[str, int]]:
    """Rows of an upgrade by half and new tier."""
    receipt = payload.receipt()
    return {
        half: {tier.name.lower(): count for tier, count in rows.items() if count}
        for half, rows in (("k_rows", receipt.k_rows), ("v_rows", receipt.v_rows))
    }


def _segment(payload: Payload, index: int) -> dict[str, Any]:
    segment = payload.segment(index)
    facts: dict[str, Any] = {name: getattr(segment, name) for name in segment.__dataclass_fields__}
    for name in ("dtype", "raw_dtype", "code"):
        facts[name] = facts[name].name.lower()
    for name in ("k_transforms", "v_transforms"):
        facts[name] = [flag.name.lower() for flag in type(facts[name]) if flag and flag in facts[name] and flag.name]
    facts["sections"] = sections.segment_sizes(payload, index)
    for name, half in (("k_tiers", Half.K), ("v_tiers", Half.V)):
        if half is Half.K or segment.v_dim:
            facts[name] = _runs(payload.tiers(index, half))
    return facts


def _runs(tiers: bytes) -> list[list[int]]:
    runs: list[list[int]] = []
    for tier in tiers:
        if runs and runs[-1][0] == tier:
            runs[-1][1] += 1
        else:
            runs.append([tier, 1])
    return runs


def _print(console: Console, file: Path, payload: Payload, layers: range, damage: str | None) -> None:
    fingerprint, request_id = payload.identity
    receipt = payload.receipt()
    head = Table(title=str(file), show_header=False, title_justify="left")
    head.add_column(style="bold")
    head.add_column(overflow="fold")
    major, minor = payload.wire_version
    for name, value in (
        ("wire format", f"{major}.{minor}"),
        ("size", f"{payload.nbytes:,} B = {receipt.ratio:.4f} of {payload.raw_bytes:,} B raw"),
        ("budget", f"{receipt.budget_bytes:,} B" if receipt.budget_bytes else "none"),
        ("layers, tokens", f"{payload.layers}, {payload.tokens}"),
        ("scored by", receipt.scored.name.lower()),
        ("fingerprint", fingerprint.hex()),
        ("request id", request_id.hex()),
        ("digests", "ok" if damage is None else f"DAMAGED: {damage}"),
    ):
        head.add_row(name, value)
    if payload.upgrade:
        for half, rows in _raised(payload).items():
            head.add_row(
                f"{half[0].upper()} rows raised", ", ".join(f"{n:,} to {tier}" for tier, n in rows.items()) or "none"
            )
        console.print(head)
        return
    console.print(head)
    _print_layers(console, payload, layers)
    _print_map(console, payload, layers)
    table = Table(title="bytes by section", title_justify="left")
    table.add_column("section")
    table.add_column("bytes", justify="right")
    table.add_column("share", justify="right")
    for name, count in sections.sizes(payload).items():
        table.add_row(name, f"{count:,}", f"{100 * count / payload.nbytes:.2f} %")
    console.print(table)


def _print_layers(console: Console, payload: Payload, layers: range) -> None:
    table = Table(title="layers", title_justify="left")
    table.add_column("layer", justify="right")
    for name in ("bytes", "of raw", "tokens", "first", "heads", "K dim", "V dim"):
        table.add_column(name, justify="right")
    for name in ("dtype", "code", "K transforms", "V transforms", "K rows", "V rows"):
        table.add_column(name)
    for index in layers:
        s = payload.segment(index)
        last = s.first_head + s.heads - 1
        heads = str(s.heads) if s.first_head == 0 else f"{s.heads} ({s.first_head}…{last})"
        table.add_row(
            str(index), f"{s.nbytes:,}", f"{s.nbytes / s.raw_bytes:.3f}", str(s.tokens), str(s.first_position), heads,
            str(s.k_dim), str(s.v_dim), s.dtype.name.lower(), s.code.name.lower(),
            _transforms(s.k_transforms), _transforms(s.v_transforms),
            _histogram(payload, index, Half.K), _histogram(payload, index, Half.V) if s.v_dim else "–",
        )  # fmt: skip
    console.print(table)


def _transforms(flags: Any) -> str:
    short = {"MEAN": "mean", "BALANCE": "bal", "HADAMARD8": "H8", "HADAMARD16": "H16"}
    return "+".join(short[flag.name] for flag in type(flags) if flag and flag in flags) or "–"


def _histogram(payload: Payload, layer: int, half: Half) -> str:
    counts = Counter(payload.tiers(layer, half))
    return " ".join(f"{_LOOK[tier][0]}:{counts[tier]}" for tier in Tier if counts[tier])


def _print_map(console: Console, payload: Payload, layers: range) -> None:
    """A strip of tiers: coloured blocks on a terminal, letters otherwise."""
    digits = len(str(payload.layers - 1))
    width = max(8, min((console.width - digits - 6) // 2, payload.get(PayloadKey.TOKENS)))
    legend = Text("tiers  ")
    for tier in Tier:
        legend.append_text(_cell(console, tier))
        legend.append(f" {tier.words}  ")
    console.print(legend)
    for index in layers:
        line = Text(f"{index:>{digits}}")
        for half in (Half.K, Half.V):
            if half is Half.V and payload.get(PayloadKey.V_DIM, index) == 0:
                continue
            line.append(f" {half.name} ")
            for tier in strip(payload.tiers(index, half), width):
                line.append_text(_cell(console, tier))
        console.print(line, no_wrap=True, overflow="crop")


def strip(tiers: bytes, width: int) -> list[Tier]:
    """The commonest tier in each of ``width`` equal parts (fewer for fewer tokens)."""
    width = min(width, len(tiers))
    bounds = [len(tiers) * i // width for i in range(width + 1)]
    return [Tier(Counter(tiers[a:b]).most_common(1)[0][0]) for a, b in itertools.pairwise(bounds)]


def _cell(console: Console, tier: Tier) -> Text:
    letter, block, colour = _LOOK[tier]
    return Text(block, style=colour) if console.is_terminal else Text(letter)
