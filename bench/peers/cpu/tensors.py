# SPDX-License-Identifier: Apache-2.0
"""The tensors: a real prompt's cache, repeated, and random numbers with what makes keys hard."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cpu.peer import Tensor

LLAMA = {"layers": 16, "tokens": 4096, "heads": 8, "dim": 128}
"""Half of Llama-3-8B's layers, bench/codec_bench.cc's geometry: 256 MiB."""
OFFSET = 3.0
"""Standard deviation of the channels' means of keys, in standard deviations of the noise around them."""


def real(path: Path, at_least: int) -> Tensor:
    """The prompt that cpu.capture kept, repeated along its tokens until the tensor has ``at_least`` bytes."""
    with np.load(path) as kept:
        data = kept["kv"]
        queries = [kept[f"q{layer}"] for layer in range(len(data))]
        name = str(kept["name"])
    times = max(1, -(-at_least // data.nbytes))
    return Tensor(name, np.ascontiguousarray(np.tile(data, (1, 1, times, 1, 1))), queries, data.shape[2])


def gaussian(layers: int, tokens: int, heads: int, dim: int, name: str) -> Tensor:
    """Normal numbers; keys have a mean of their own in every channel, as real ones do. One layer's noise serves them all."""
    random = np.random.default_rng(1)
    noise = random.standard_normal((2, tokens, heads, dim), np.float32)
    data = np.empty((layers, 2, tokens, heads, dim), np.float16)
    for layer in range(layers):
        data[layer, 0] = noise[0] + OFFSET * random.standard_normal((heads, dim), np.float32)
        data[layer, 1] = noise[1]
    return Tensor(name, data)


def timed(path: Path, quick: bool) -> list[Tensor]:
    """Those of a run; 256 MiB and more each, or 32 MiB."""
    layers = 2 if quick else LLAMA["layers"]
    size = (32 if quick else 256) << 20
    made = [gaussian(layers, LLAMA["tokens"], LLAMA["heads"], LLAMA["dim"], "Llama-3-8B's geometry, Gaussian")]
    return [real(path, size), *made]


def tiny() -> list[Tensor]:
    """For the check: SmolLM2's and Llama's rows, tokens that are no multiple of a chunk."""
    return [gaussian(2, 288, 3, 64, "3 heads of 64"), gaussian(2, 160, 2, 128, "2 heads of 128")]
