# SPDX-License-Identifier: Apache-2.0
"""``spectrumkv decode``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spectrumkv.cache import Cache
from spectrumkv.cli.console import out, receipt_table, reports_errors
from spectrumkv.engine import Engine
from spectrumkv.payload import Payload


@reports_errors
def decode(
    source: Annotated[
        Path, typer.Argument(help="Payload file, as `spectrumkv encode` writes.", exists=True, dir_okay=False)
    ],
    target: Annotated[
        Path,
        typer.Argument(
            help="File to write: .npz for arrays k0, v0, … [tokens, kv-heads, dim], any other name for a llama.cpp sequence"
            " state that llama_state_seq_set_data accepts."
        ),
    ],
    v_trans: Annotated[
        int, typer.Option(min=0, max=1, help="llama.cpp only: 0 for a context with flash attention, 1 without.")
    ] = 0,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="Element type to write: f16, bf16 or f32 (bf16 in .npz is kept in uint16). [default: the source's]"
        ),
    ] = None,
    fingerprint: Annotated[
        str | None,
        typer.Option(help="Refuse a payload of another model (64 hexadecimal digits). [default: take any]"),
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="Worker threads; 0: one a core, at most 8.")] = 0,
) -> None:
    """Decode a payload file into a llama.cpp state or an .npz file, and print the receipt.

    Digests are verified first; nothing is written on an error.
    """
    payload = Payload.load(source)
    payload.verify()
    model = payload.identity[0] if fingerprint is None else bytes.fromhex(fingerprint)
    with Engine(threads=threads) as engine:
        if target.suffix == ".npz":
            from spectrumkv.cli import npz  # noqa: PLC0415 (numpy is optional)

            cache, arrays = npz.target(payload, dtype)
            cache.set_identity(model)
            engine.decode(payload, cache)
            npz.write(target, arrays)
        else:
            kind = payload.segment(0).dtype if dtype is None else dtype
            cache = Cache.to_llama(payload, v_trans, kind, fingerprint=model)
            engine.decode(payload, cache)
            target.write_bytes(cache.blob)
    out().print(receipt_table(payload.receipt(), f"{source} -> {target}"))
