# SPDX-License-Identifier: Apache-2.0
"""Caches in ``.npz`` files: arrays k0, v0, k1, … [tokens, kv-heads, dim]."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from spectrumkv.buffers import to_dtype
from spectrumkv.cache import Cache
from spectrumkv.constants import DType
from spectrumkv.payload import Payload
from spectrumkv.plan import Scores

_NUMPY = {DType.F16: "float16", DType.F32: "float32", DType.BF16: "uint16"}


def read(path: Path, dtype: str | None, fingerprint: str | None, request_id: str | None) -> tuple[Cache, Scores | None]:
    """The cache of a file, and scores with its queries q0, q1, … [queries, heads, dim] if it has any."""
    with np.load(path) as file:
        arrays: dict[str, Any] = {name: file[name] for name in file.files}
    layers: list[tuple[Any, Any]] = []
    while f"k{len(layers)}" in arrays:
        index = len(layers)
        layers.append((arrays[f"k{index}"], arrays.get(f"v{index}")))
    if not layers:
        raise ValueError(f"{path}: no array k0 (has {', '.join(arrays) or 'none'})")
    cache = Cache.from_arrays(layers, dtype=dtype, fingerprint=fingerprint, request_id=request_id)
    scores = None
    for index in range(len(layers)):
        if f"q{index}" in arrays:
            scores = scores or Scores()
            scores.set_queries(index, arrays[f"q{index}"])
    return cache, scores


def target(payload: Payload, dtype: str | None) -> tuple[Cache, dict[str, Any]]:
    """A cache to decode into and the arrays behind it; bfloat16 is kept in uint16."""
    kinds = [payload.segment(i).dtype if dtype is None else to_dtype(dtype) for i in range(payload.layers)]
    arrays: dict[str, Any] = {}
    pairs = []
    for i, kind in enumerate(kinds):
        segment = payload.segment(i)
        arrays[f"k{i}"] = np.zeros((segment.tokens, segment.heads, segment.k_dim), _NUMPY[kind])
        if segment.v_dim:
            arrays[f"v{i}"] = np.zeros((segment.tokens, segment.heads, segment.v_dim), _NUMPY[kind])
        pairs.append((arrays[f"k{i}"], arrays.get(f"v{i}")))
    if len(set(kinds)) != 1:
        raise ValueError("layers of several dtypes: say --dtype")
    first_heads = {payload.segment(i).first_head for i in range(payload.layers)}
    if len(first_heads) != 1:
        raise ValueError("layers that begin at different heads cannot be written to .npz")
    cache = Cache.from_arrays(
        pairs, dtype=kinds[0], fingerprint=payload.identity[0], first_head=first_heads.pop(), can_mask=True
    )
    return cache, arrays


def write(path: Path, arrays: dict[str, Any]) -> None:
    """Writes the arrays."""
    with path.open("wb") as file:
        np.savez(file, **arrays)
