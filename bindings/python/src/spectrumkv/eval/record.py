# SPDX-License-Identifier: Apache-2.0
"""Tensors of a real prompt in an ``.npz`` file: k0, v0, q0, … as ``spectrumkv encode`` and ``spectrumkv eval p4`` read."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spectrumkv.eval.prompt import Prompt
from spectrumkv.state_blob import parse

FILE: Final = "tensors.npz"


def record(folder: Path, prompt: Prompt) -> Path:
    """Writes a prompt's keys, values (f16, ``[tokens, kv-heads, dim]``) and queries (f32, ``[n, heads, dim]``)."""
    folder.mkdir(parents=True, exist_ok=True)
    streams = parse(prompt.state).streams
    arrays: dict[str, NDArray[np.generic]] = {}
    planes = [pair for stream in streams for pair in zip(stream.keys, stream.values, strict=True)]
    for layer, ((keys, values), heads) in enumerate(zip(planes, prompt.kv_heads)):
        arrays[f"k{layer}"] = keys.values(heads).astype(np.float16)
        arrays[f"v{layer}"] = values.values(heads).astype(np.float16)
    for layer, queries in enumerate(prompt.queries):
        arrays[f"q{layer}"] = queries
    path = folder / FILE
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    return path
