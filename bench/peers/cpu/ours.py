# SPDX-License-Identifier: Apache-2.0
"""This library's codec as it is called by any user: engine, plan, payload, digests made and checked; and plain copies."""

from __future__ import annotations

import ctypes

import numpy as np

import spectrumkv as skv
from cpu.peer import Halves, Peer, Tensor
from spectrumkv.constants import Code, Pack, Transform


def _cache(data: Halves) -> skv.Cache:
    return skv.Cache.from_arrays([(layer[0], layer[1]) for layer in data])


class Own(Peer):
    """A uniform strategy: the same tier for every row. The plan is solved once, outside of the timing."""

    own = True
    whole = True

    def __init__(
        self,
        name: str,
        strategy: str,
        bits: float,
        *,
        plain: bool = False,
        code: Code | None = None,
        pack: bool = False,
    ) -> None:
        self.name, self.strategy, self.bits = name, strategy, bits
        self.lossless = strategy == "raw"
        self.packed = pack
        self.plain = plain
        none = Transform.NONE if plain else None
        self.options = {"k_transforms": none, "v_transforms": none, "code": code, "pack": Pack.ALWAYS if pack else None}

    @property
    def half_step(self) -> float:
        """Transforms spread a row's errors: up to 2.7 half steps of the row as it was have been seen."""
        return super().half_step * (1 if self.plain else 3)

    def bind(self, tensor: Tensor) -> None:
        super().bind(tensor)
        self.engine = skv.Engine(threads=1)
        self.source, self.destination = _cache(tensor.data), _cache(tensor.back)
        self.plan = skv.Plan(self.engine, strategy=self.strategy, unproven=True, **self.options)  # type: ignore[arg-type]
        self.plan.solve(self.source)
        at = -tensor.room.ctypes.data % 64
        self.room = tensor.room[at:]
        self.used = self.room[:0]

    def encode(self, layers: int) -> int:
        assert layers == self.tensor.layers
        if self.packed:  # packing makes memory of its own
            self.used = np.frombuffer(bytes(self.engine.encode(self.source, self.plan)), np.uint8)
            return len(self.used)
        with self.engine.encode(self.source, self.plan, out=self.room) as payload:
            size = payload.nbytes
        self.used = self.room[:size]
        return size

    def decode(self, layers: int) -> None:
        assert layers == self.tensor.layers
        with skv.Payload.open(self.used) as payload:
            self.engine.decode(payload, self.destination)

    def release(self) -> None:
        self.used = self.room[:0]


class Memmove(Peer):
    """The C library's copy, one call: what everything is compared with."""

    name, bits, lossless, yardstick = "memcpy", 16, True, True

    def encode(self, layers: int) -> int:
        size = layers * self.tensor.layer_bytes
        ctypes.memmove(self.tensor.room.ctypes.data, self.tensor.data.ctypes.data, size)
        return size

    def decode(self, layers: int) -> None:
        ctypes.memmove(self.tensor.back.ctypes.data, self.tensor.room.ctypes.data, layers * self.tensor.layer_bytes)


class NumpyCopy(Peer):
    """numpy's copy of f16."""

    name, bits, lossless, yardstick = "numpy copy", 16, True, True

    def bind(self, tensor: Tensor) -> None:
        super().bind(tensor)
        self.held = tensor.room[: tensor.data.nbytes].view(np.float16).reshape(tensor.data.shape)

    def encode(self, layers: int) -> int:
        np.copyto(self.held[:layers], self.tensor.data[:layers])
        return layers * self.tensor.layer_bytes

    def decode(self, layers: int) -> None:
        np.copyto(self.tensor.back[:layers], self.held[:layers])


def peers() -> list[Peer]:
    """The copies, then this library's."""
    return [
        Memmove(),
        NumpyCopy(),
        Own("spectrumkv 4 bits", "uniform-4", 4),
        Own("spectrumkv 6 bits", "uniform-6", 6),
        Own("spectrumkv 8 bits", "uniform-8", 8),
        Own("spectrumkv 4 bits, no transforms", "uniform-4", 4, plain=True),
        Own("spectrumkv 8 bits, no transforms", "uniform-8", 8, plain=True),
        Own("spectrumkv 4 bits, the paper's code", "uniform-4", 4, plain=True, code=Code.PAPER),
        Own("spectrumkv 8 bits, the paper's code", "uniform-8", 8, plain=True, code=Code.PAPER),
        Own("spectrumkv raw", "raw", 16),
        Own("spectrumkv raw, packed", "raw", 16, pack=True),
    ]
