# SPDX-License-Identifier: Apache-2.0
"""What serving stacks do to a KV cache: LMCache's serdes, and the layers of transformers' QuantizedCache."""

from __future__ import annotations

import importlib
import logging
from dataclasses import dataclass
from typing import Any

from cpu.peer import BlockPeer, Halves, MissingError, Peer, Tensor
from cpu.torch_rows import Pair, load

HALF_E4M3 = 2**-4
"""Half a step of a float with 3 bits of mantissa, of its value."""


@dataclass
class _Memory:
    """What a serde touches of LMCache's MemoryObj."""

    tensor: Any


class Serde(Peer):
    """One of LMCache's: a chunk ``[2, 1, tokens, hidden]`` is a layer of the tensor, as it lies, into one piece of ``room``."""

    def __init__(self, torch: Any, name: str, bits: float, pair: tuple[Any, Any], half: float = HALF_E4M3) -> None:
        self.torch, self.name, self.bits, self.half = torch, name, bits, half
        self.serializer, self.deserializer = pair

    @property
    def half_step(self) -> float:
        """Of the largest of a row."""
        return self.half

    def bind(self, tensor: Tensor) -> None:
        super().bind(tensor)
        api = importlib.import_module("lmcache.v1.distributed.api")
        shape = (2, 1, tensor.data.shape[2], -1)
        self.chunks = [self._group(self.torch.from_numpy(layer).reshape(shape)) for layer in tensor.data]
        self.targets = [self._group(self.torch.from_numpy(layer).reshape(shape)) for layer in tensor.back]
        layouts = [
            api.MemoryLayoutDesc(shapes=[m.tensor.shape], dtypes=[m.tensor.dtype])
            for m in self._several(self.chunks[0])
        ]
        size = self.serializer.estimate_serialized_size(self._as_given(layouts))
        room = self.torch.from_numpy(tensor.room)
        self.rooms = [_Memory(room[layer * size : (layer + 1) * size]) for layer in range(tensor.layers)]
        self.keys = [api.ObjectKey(api.ObjectKey.IntHash2Bytes(layer), "peers", 0) for layer in range(tensor.layers)]

    def _group(self, chunk: Any) -> Any:
        return _Memory(chunk)

    @staticmethod
    def _several(group: Any) -> tuple[_Memory, ...]:
        return group if isinstance(group, tuple) else (group,)

    @staticmethod
    def _as_given(layouts: list[Any]) -> Any:
        return layouts[0]

    def encode(self, layers: int) -> int:
        return sum(self.serializer.serialize(self.chunks[i], self.rooms[i], self.keys[i]) for i in range(layers))

    def decode(self, layers: int) -> None:
        for i in range(layers):
            self.deserializer.deserialize(self.rooms[i], self.targets[i], self.keys[i])


class TwoHalves(Serde):
    """One that takes K and V apart."""

    def _group(self, chunk: Any) -> Any:
        return (_Memory(chunk[0]), _Memory(chunk[1]))

    @staticmethod
    def _as_given(layouts: list[Any]) -> Any:
        return tuple(layouts)


def lmcache(versions: dict[str, str], skipped: dict[str, str]) -> list[Peer]:
    """Those that run on a CPU. (aesgcm encrypts, it does not compress.)"""
    torch = load()
    logging.disable(logging.WARNING)
    try:
        versions["lmcache"] = importlib.import_module("lmcache").__version__
        serde = importlib.import_module("lmcache.v1.distributed.serde")
        asym = importlib.import_module("lmcache.v1.distributed.serde.asym_k16_v8")
    except ImportError as error:
        raise MissingError(f"{error}: run scripts/setup.sh --peers") from error
    finally:
        logging.disable(logging.NOTSET)
    if not torch.cuda.is_available():
        skipped["LMCache turboquant"] = "stages CPU tensors through a CUDA device: wants a GPU"
    e5m2 = torch.float8_e5m2
    return [
        Serde(torch, "LMCache fp8 (e4m3)", 8, (serde.Fp8QuantizationSerializer(), serde.Fp8QuantizationDeserializer())),
        Serde(
            torch, "LMCache fp8 (e5m2)", 8,
            (serde.Fp8QuantizationSerializer(e5m2), serde.Fp8QuantizationDeserializer(e5m2)), 2**-3,
        ),
        TwoHalves(torch, "LMCache asym_k16_v8", 12, (asym.AsymK16V8MultiSerializer(), asym.AsymK16V8MultiDeserializer())),
    ]  # fmt: skip


class Layer(BlockPeer):
    """The quantizer of a layer class of transformers' QuantizedCache, on ``[1, heads, tokens, dim]`` without copying first: its
    groups lie along the channels, so that the order of tokens and heads is nothing to it."""

    block_tokens = 1 << 30  # a half of a layer, as a cache has it

    def __init__(self, torch: Any, name: str, bits: float, layer: Any) -> None:
        self.torch, self.name, self.bits, self.layer = torch, name, bits, layer

    @staticmethod
    def _shape(block: Halves) -> Halves:
        return block[None]

    def _forth(self, x: Any) -> Any:
        return self.layer._quantize(x, axis=0)

    def encode(self, layers: int) -> int:
        self.kept = [self._forth(self.torch.from_numpy(self._shape(b))) for b in self.blocks(self.tensor.data, layers)]
        return sum(part.nbytes for held in self.kept for part in self._parts(held))

    def decode(self, layers: int) -> None:
        for block, held in zip(self.blocks(self.tensor.back, layers), self.kept):
            self.torch.from_numpy(self._shape(block)).copy_(self.layer._dequantize(held))

    def _parts(self, held: Any) -> Pair:
        return (held._data._data, held._scale, held._shift)


class Fp8Layer(Layer):
    """fp8 with one scale a tensor."""

    half_step = HALF_E4M3

    def _forth(self, x: Any) -> Any:
        return self.layer._quantize(x)

    def _parts(self, held: Any) -> Pair:
        return tuple(held)


def transformers(versions: dict[str, str], skipped: dict[str, str]) -> list[Peer]:
    """fp8, and quanto's 4 bits; HQQ is named as missing."""
    torch = load()
    skipped["transformers' HQQ layer"] = (
        "hqq comes as sources whose build compiles CUDA kernels, and the layer calls .cuda()"
    )
    try:
        cache_utils = importlib.import_module("transformers.cache_utils")
        versions["transformers"] = importlib.import_module("transformers").__version__
    except ImportError as error:
        raise MissingError(f"{error}: run scripts/setup.sh --peers") from error
    fp8 = cache_utils.Fp8QuantizedLayer()
    fp8.dtype = torch.float16
    made: list[Peer] = [Fp8Layer(torch, "transformers fp8 layer", 8, fp8)]
    try:
        quanto = cache_utils.QuantoQuantizedLayer(nbits=4)
        versions["optimum-quanto"] = importlib.import_module("optimum.quanto").__version__
    except ImportError as error:
        skipped["transformers' quanto layer"] = str(error)
        return made
    return [*made, Layer(torch, "transformers quanto layer, 4 bits", 4, quanto)]
