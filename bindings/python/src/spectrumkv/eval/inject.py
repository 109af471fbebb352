# SPDX-License-Identifier: Apache-2.0
"""Caches made harder to quantize without changing what the model computes.

Some models (Qwen2 with its QKV bias) have keys with huge constant offsets in the channels that RoPE turns slowest, which
break quantizers that pass on others. Such models are too large to fetch here, so their keys are imitated: a transform
K' = s K + c, per kv-head and channel, is applied to what is *transmitted* and undone after decoding. The attention
function is the same for every s and c:

- s: the model that computes (q / s) · (s k) is the model that computes q · k. s is equal within a rotary pair, so that it
  commutes with RoPE and could be folded into the weights, and a power of two, so that it rounds nothing.
- c: q · (k + c) = q · k + q · c adds the same number to all logits of a query, which softmax ignores. So an engine that
  holds k + c attends exactly as one that holds k, and c can be subtracted after decoding. Here c is constant after RoPE; a
  bias before RoPE turns with the position, slowly in these channels.

Scoring must see the transformed model: keys K' and queries q / s. An engine with such keys would hold them as f16, where
k + c has fewer bits left for k. `settle` therefore rounds the original cache to that grid first, and the reference is
taken from the rounded cache: from then on applying and undoing are exact in every bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spectrumkv.state_blob import F16, F32, StateBlobError, parse

INJECTIONS: Final = ("none", "offsets", "scales")

_PAIRS: Final = 4  # rotary pairs that get an offset: 8 channels, as measured in Qwen2-family models
_OFFSETS: Final = (40.0, 200.0)  # from the fastest of them to the slowest
_SCALES: Final = (2.0, 16.0)
_GRID: Final = 8.0  # offsets are multiples: exact in f16 and bf16

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class LayerInjection:
    """K' = scale K + offset of one layer; both ``[kv_heads, dim]``."""

    scale: Floats
    offset: Floats

    def apply(self, keys: Floats) -> Floats:
        """K' of keys ``[tokens, kv_heads, dim]``."""
        return keys * self.scale + self.offset

    def undo(self, keys: Floats) -> Floats:
        """K of K'."""
        return (keys - self.offset) / self.scale

    def queries(self, queries: Floats) -> Floats:
        """The queries ``[n, q_heads, dim]`` of the model that has K'."""
        group = queries.shape[1] // self.scale.shape[0]
        return np.divide(queries, np.repeat(self.scale, group, axis=0), dtype=np.float32)


def injections(name: str, kv_heads: list[int], pairs: NDArray[np.int64], seed: int = 0) -> list[LayerInjection]:
    """The injection of every layer. ``pairs`` is ``[dim / 2, 2]``, fastest first. Raises ValueError for another name."""
    if name not in INJECTIONS:
        raise ValueError(f'injection "{name}": wanted one of {", ".join(INJECTIONS)}')
    random = np.random.default_rng(seed)
    slow = pairs[-_PAIRS:]
    result = []
    for heads in kv_heads:
        scale = np.ones((heads, pairs.size), np.float32)
        offset = np.zeros((heads, pairs.size), np.float32)
        for head in range(heads):
            if name == "offsets":
                sizes = np.geomspace(*_OFFSETS, len(slow))[:, None] * random.choice((-1.0, 1.0), slow.shape)
                offset[head, slow] = _GRID * np.rint(sizes / _GRID)
            elif name == "scales":
                scale[head, slow] = 2.0 ** np.rint(np.log2(np.geomspace(*_SCALES, len(slow))))[:, None]
        result.append(LayerInjection(scale, offset))
    return result


def inject_state(state: NDArray[np.uint8], layers: list[LayerInjection], *, undo: bool = False) -> NDArray[np.uint8]:
    """A llama.cpp sequence state with the keys of every layer transformed, or back. Types f16 and f32."""
    result = state.copy()
    planes = [plane for stream in parse(result).streams for plane in stream.keys]
    for plane, layer in zip(planes, layers, strict=True):
        if plane.ggml_type not in (F16, F32):
            raise StateBlobError(f"keys of ggml type {plane.ggml_type}: injecting wants f16 (1) or f32 (0)")
        keys = plane.values(len(layer.scale))
        changed = layer.undo(keys) if undo else layer.apply(keys)
        stored = plane.stored
        if np.abs(changed).max() > float(np.finfo("f2" if plane.ggml_type == F16 else "f4").max):
            raise StateBlobError(f"keys of up to {np.abs(keys).max():g} are too large to inject into {stored.dtype}")
        # Copied into the state byte by byte: its rows need not be aligned.
        plane.data[...] = changed.reshape(stored.shape).astype(stored.dtype).view(np.uint8)
    return result


def settle(state: NDArray[np.uint8], layers: list[LayerInjection]) -> NDArray[np.uint8]:
    """The state that the transformed one stands for exactly: see the module's text. Raises RuntimeError if none does."""
    there = inject_state(state, layers)
    back = inject_state(there, layers, undo=True)
    if not np.array_equal(inject_state(back, layers), there):
        raise RuntimeError("keys too large for an exact injection in their type: wanted K' - c to be representable")
    return back
