# SPDX-License-Identifier: Apache-2.0
"""What is measured: a tensor, and a peer that turns it into bytes and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Halves = NDArray[np.float16]


class MissingError(RuntimeError):
    """A peer that is not installed or does not run here, and why."""


@dataclass
class Tensor:
    """K and V of a cache, f16 ``[layers, 2, tokens, heads, dim]``, and where peers write.

    ``queries`` are those of its prompt after RoPE, one array ``[n, query heads, dim]`` a layer, for the errors of attention;
    ``prompt`` how many leading tokens are that prompt: the tensor repeats them.
    """

    name: str
    data: Halves
    queries: list[NDArray[np.float32]] = field(default_factory=list)
    prompt: int = 0
    back: Halves = field(init=False)
    """What decoding writes, of the same shape. Filled, so that no page of it is touched for the first time in a timing."""
    room: NDArray[np.uint8] = field(init=False)
    """What encoding writes to, where a peer can be told: shared by all, larger than any needs."""

    def __post_init__(self) -> None:
        self.back = np.ones_like(self.data)
        self.room = np.ones(self.data.nbytes * 5 // 4 + (1 << 20), np.uint8)

    @cached_property
    def wide(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The same in f32, and where f32 is decoded to, for peers that leave f16 out."""
        return self.data.astype(np.float32), np.ones(self.data.shape, np.float32)

    @property
    def layers(self) -> int:
        """How many."""
        return int(self.data.shape[0])

    @property
    def layer_bytes(self) -> int:
        """Of one layer's K and V."""
        return int(self.data[0].nbytes)


class Peer(ABC):
    """One method. Bound to a tensor, it encodes its first ``layers`` layers and decodes them again; it keeps what it encoded."""

    name: str
    bits: float
    """Of an element's code, without scales."""
    about: str = ""
    lossless = False
    own = False
    """This library's."""
    yardstick = False
    """A copy: no method."""
    whole = False
    """Always encodes every layer."""

    def bind(self, tensor: Tensor) -> None:
        """Takes a tensor; what was bound before is let go."""
        self.tensor = tensor

    @property
    def stored_bits(self) -> float:
        """That a code takes among what is encoded."""
        return self.bits

    @property
    def half_step(self) -> float:
        """The most that rounding changes an element, as a part of its row's largest magnitude: of symmetric codes, if not said otherwise."""
        return 0.0 if self.lossless else 1 / (2**self.bits - 2)

    @abstractmethod
    def encode(self, layers: int) -> int:
        """Encodes; returns the bytes of everything that a decoder needs."""

    @abstractmethod
    def decode(self, layers: int) -> None:
        """Decodes into ``tensor.back``."""

    def release(self) -> None:
        """Lets go of what was encoded; what the timing must not see done comes here too."""
        return


class BlockPeer(Peer):
    """A peer that works on blocks of a half: ``[tokens, heads, dim]``, at most ``block_tokens`` of them."""

    block_tokens: int

    def bind(self, tensor: Tensor) -> None:
        super().bind(tensor)
        self.kept: list[Any] = []

    def release(self) -> None:
        self.kept = []

    def blocks(self, of: Halves, layers: int) -> Iterator[Halves]:
        """The blocks of the first layers, K's and V's of a layer after another."""
        tokens = of.shape[2]
        for layer in range(layers):
            for half in range(2):
                for at in range(0, tokens, self.block_tokens):
                    yield of[layer, half, at : at + self.block_tokens]
