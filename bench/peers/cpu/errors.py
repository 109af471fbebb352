# SPDX-License-Identifier: Apache-2.0
"""What a round trip did to a tensor: to its rows, and to the attention of the prompt's last queries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cpu.peer import Tensor

Wide = NDArray[np.float32]


def relative(back: NDArray[np.float16], data: NDArray[np.float16]) -> float:
    """||back - data|| / ||data||, layer by layer so that little memory is needed."""
    noise = signal = 0.0
    for was, now in zip(data, back):
        wide = was.astype(np.float32)
        off = now.astype(np.float32) - wide
        noise += float(np.vdot(off, off))
        signal += float(np.vdot(wide, wide))
    return float(np.sqrt(noise / signal))


def worst(back: NDArray[np.float16], data: NDArray[np.float16]) -> float:
    """The largest error of an element over the largest magnitude of its row, a token's head. Infinite for what is not a number."""
    wide = data.astype(np.float32)
    off = np.abs(back.astype(np.float32) - wide).max(-1) / np.abs(wide).max(-1)
    return float(np.where(np.isfinite(off), off, np.inf).max())


@dataclass
class Reference:
    """Attention with the original cache, kept."""

    keys: list[Wide]  # a layer: [heads, tokens, dim]
    queries: list[Wide]  # [heads, group * n, dim], scaled
    masks: list[NDArray[np.bool_]]
    logits: list[Wide]
    outputs: list[Wide]


def _logits(queries: Wide, keys: Wide) -> Wide:
    return np.asarray(queries @ keys.transpose(0, 2, 1))


def _softmax(logits: Wide, mask: NDArray[np.bool_]) -> Wide:
    kept = np.where(mask, logits, -np.inf)
    weights = np.exp(kept - kept.max(-1, keepdims=True))
    return np.asarray(weights / weights.sum(-1, keepdims=True), np.float32)


def _heads(half: NDArray[np.float16]) -> Wide:
    return half.astype(np.float32).transpose(1, 0, 2)


def reference(tensor: Tensor) -> Reference:
    """Of a tensor with queries: those of the last tokens of the prompt, which see the tokens before them."""
    made = Reference([], [], [], [], [])
    for layer, own in enumerate(tensor.queries):
        count, query_heads, dim = own.shape
        heads = tensor.data.shape[3]
        queries = own.reshape(count, heads, query_heads // heads, dim).transpose(1, 2, 0, 3).reshape(heads, -1, dim)
        queries = np.ascontiguousarray(queries / np.sqrt(dim), np.float32)
        position = tensor.prompt - count + np.arange(count)
        mask = np.tile(np.arange(tensor.prompt)[None] <= position[:, None], (query_heads // heads, 1))
        k, v = (_heads(tensor.data[layer, half, : tensor.prompt]) for half in (0, 1))
        logits = _logits(queries, k)
        made.keys.append(k)
        made.queries.append(queries)
        made.masks.append(mask)
        made.logits.append(logits)
        made.outputs.append(_softmax(logits, mask) @ v)
    return made


def attention(tensor: Tensor, wanted: Reference) -> tuple[float, float]:
    """(RMS of the error of attention logits in nats, relative RMS of attention's output) of ``tensor.back``'s first prompt,
    over all layers, heads and queries. A shift common to a query's logits is no error: softmax takes it away."""
    noise = count = 0.0
    outputs = []
    for layer, queries in enumerate(wanted.queries):
        mask = wanted.masks[layer]
        k, v = (_heads(tensor.back[layer, half, : tensor.prompt]) for half in (0, 1))
        logits = _logits(queries, k)
        off = np.where(mask, logits - wanted.logits[layer], 0)
        seen = mask.sum(-1)
        off = np.where(mask, off - (off.sum(-1) / seen)[..., None], 0)
        noise += float(np.vdot(off, off))
        count += float(seen.sum() * len(queries))
        output = _softmax(logits, mask) @ v
        outputs.append(np.square(output - wanted.outputs[layer]).sum() / np.square(wanted.outputs[layer]).sum())
    return float(np.sqrt(noise / count)), float(np.sqrt(np.mean(outputs)))
