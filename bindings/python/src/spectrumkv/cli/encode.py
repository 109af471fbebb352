# SPDX-License-Identifier: Apache-2.0
"""``spectrumkv encode``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spectrumkv.cache import Cache
from spectrumkv.cli.console import out, receipt_table, reports_errors
from spectrumkv.engine import Engine
from spectrumkv.payload import read_file
from spectrumkv.plan import STRATEGIES, Plan, Scores
from spectrumkv.profile import Profile


@reports_errors
def encode(
    source: Annotated[
        Path,
        typer.Argument(
            help="A llama.cpp sequence state (llama_state_seq_get_data written to a file), or an .npz file with arrays"
            " k0, v0, k1, … [tokens, kv-heads, dim] and optionally q0, … [last queries, heads, dim].",
            exists=True,
            dir_okay=False,
        ),
    ],
    target: Annotated[Path, typer.Argument(help="Payload file to write, e.g. cache.skv.")],
    heads: Annotated[
        str | None,
        typer.Option(help="kv-heads of a layer (a llama.cpp state does not say): 3, or one number a layer: 3,3,1."),
    ] = None,
    layers: Annotated[int | None, typer.Option(min=1, help="Layers, with one number of --heads.")] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            min=0.0, help="Payload bytes as a fraction of the cache at 16 bits, everything counted. [default: 0.28]"
        ),
    ] = None,
    budget_bytes: Annotated[int | None, typer.Option(min=1, help="The budget in bytes instead.")] = None,
    strategy: Annotated[str, typer.Option(help=f"One of: {', '.join(STRATEGIES)}.")] = STRATEGIES[0],
    sinks: Annotated[int | None, typer.Option(min=0, help="Leading tokens kept raw. [default: 4]")] = None,
    chunk: Annotated[
        int | None, typer.Option(help="Tokens that share channel statistics, 32 … 256. [default: 256]")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help=".npz only: element type of the arrays, bf16 for bfloat16 kept in uint16.")
    ] = None,
    fingerprint: Annotated[
        str | None, typer.Option(help="Model fingerprint, 64 hexadecimal digits. [default: zeros]")
    ] = None,
    request_id: Annotated[str | None, typer.Option(help="Request id, 32 hexadecimal digits. [default: zeros]")] = None,
    profile: Annotated[
        Path | None, typer.Option(help="The model's profile (spectrumkv probe).", exists=True, dir_okay=False)
    ] = None,
    unproven: Annotated[
        bool, typer.Option("--unproven", help="Allow less than 8 bits without a profile's verdict or queries.")
    ] = False,
    threads: Annotated[int, typer.Option(min=0, help="Worker threads; 0: one a core, at most 8.")] = 0,
) -> None:
    """Encode a KV cache from a file into a payload file, and print the receipt.

    Example: spectrumkv encode state.bin cache.skv --heads 3 --layers 30 --budget 0.28
    """
    scores: Scores | None = None
    if source.suffix == ".npz":
        from spectrumkv.cli import npz  # noqa: PLC0415 (numpy is optional)

        cache, scores = npz.read(source, dtype, fingerprint, request_id)
    else:
        if heads is None:
            raise ValueError("a llama.cpp state does not say its kv-heads: give --heads (and --layers)")
        counts = [int(part) for part in heads.split(",")]
        if len(counts) == 1 and layers is None:
            raise ValueError("one number of --heads: give --layers too")
        cache = Cache.from_llama(read_file(source), counts[0] if len(counts) == 1 else counts, layers)
        cache.set_identity(fingerprint, request_id)
    if (
        budget is None
        and budget_bytes is None
        and (strategy == "error-aware" or not strategy.startswith(("raw", "uniform")))
    ):
        budget = 0.28
    with Engine(threads=threads) as engine:
        if scores is not None:
            engine.score(cache, scores)
        plan = Plan(
            engine,
            budget=budget,
            budget_bytes=budget_bytes,
            strategy=strategy,
            sinks=sinks,
            chunk=chunk,
            profile=None if profile is None else Profile.open(profile.read_text(encoding="utf-8")),
            unproven=unproven,
        ).solve(cache, scores)
        payload = engine.encode(cache, plan)
    payload.save(target)
    out().print(receipt_table(payload.receipt(), f"{source} -> {target}"))
