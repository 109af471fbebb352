# SPDX-License-Identifier: Apache-2.0
"""The paper's quantizer in PyTorch, FBGEMM's rowwise ones, torch's copy.

The code that the paper (arXiv 2606.08635) released, YangSteve1223/kvcache-lab, rounds numbers to measure what that does to a model: its
codes stay f16, nothing is packed, and nothing decodes. It is run as it is where there is a checkout. What the paper describes, with bytes
to send, is this project's here, and no part of what the paper published: symmetric, one absmax scale in f16 a token and kv-head, 8 bits,
and 4 bits with two codes a byte; plain operations, and the same through torch.compile.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cpu.peer import BlockPeer, Halves, MissingError, Tensor

ROOT = Path(__file__).resolve().parents[3]
Pair = tuple[Any, ...]


def load() -> Any:
    """torch, told to use one thread."""
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        raise MissingError(f"{error}: run scripts/setup.sh --peers") from error
    torch.set_num_threads(1)
    return torch


def paper_forms(torch: Any, bits: int) -> tuple[Callable[[Any], Pair], Callable[..., Any]]:
    """(quantize, dequantize) of ``[tokens, heads, dim]``. A byte of 4-bit codes holds channels j and j + dim/2, because halves
    are what vectors can pack."""
    top = 2 ** (bits - 1) - 1

    def quantize(x: Any) -> Pair:
        wide = x.float()
        # f16's smallest number: a scale of zero would divide by it
        scale = (wide.abs().amax(-1, keepdim=True) / top).clamp(min=6e-8).half()
        codes = torch.clamp(torch.round(wide / scale.float()), -top, top).to(torch.int8)
        if bits == 4:
            low, high = codes.chunk(2, -1)
            codes = (low & 15) | (high << 4)
        return codes, scale

    def dequantize(codes: Any, scale: Any) -> Any:
        if bits == 4:
            codes = torch.cat(((codes << 4) >> 4, codes >> 4), -1)
        return (codes.float() * scale.float()).half()

    return quantize, dequantize


class Function(BlockPeer):
    """A pair of functions on torch tensors: ``forth(block)`` gives tensors, ``back(*tensors)`` a block. torch makes the memory.

    Blocks are of 256 tokens, of 128 to 4,096 the quickest for plain operations, whose every step then finds the last one's result in
    cache."""

    block_tokens = 256

    def __init__(
        self,
        torch: Any,
        name: str,
        bits: float,
        forth: Callable[[Any], Pair],
        back: Callable[..., Any],
        about: str = "",
    ) -> None:
        self.torch, self.name, self.bits, self.forth, self.back, self.about = torch, name, bits, forth, back, about

    def shape(self, block: Halves) -> Halves:
        """What the functions take."""
        return block

    def encode(self, layers: int) -> int:
        self.kept = [self.forth(self.torch.from_numpy(self.shape(b))) for b in self.blocks(self.tensor.data, layers)]
        return sum(part.nbytes for parts in self.kept for part in parts)

    def decode(self, layers: int) -> None:
        for block, parts in zip(self.blocks(self.tensor.back, layers), self.kept):
            self.torch.from_numpy(self.shape(block)).copy_(self.back(*parts))


class Compiled(Function):
    """Through torch.compile: one pass over the block, so that a whole half of a layer is the quickest."""

    block_tokens = 1 << 30

    def __init__(
        self,
        torch: Any,
        name: str,
        bits: float,
        forth: Callable[[Any], Pair],
        back: Callable[..., Any],
        about: str = "",
    ) -> None:
        fast = [torch.compile(form, fullgraph=True, dynamic=False) for form in (forth, back)]
        super().__init__(torch, name, bits, fast[0], fast[1], about)


class Rows(Function):
    """The same of a matrix, a row a token and head, by one operation over a half of a layer."""

    block_tokens = 1 << 30

    def shape(self, block: Halves) -> Halves:
        return block.reshape(-1, block.shape[-1])


class Unpacked(Function):
    """Codes that stay f16."""

    stored_bits = 16


class Copy(BlockPeer):
    """torch's copy of f16."""

    name, bits, lossless, yardstick = "torch copy", 16, True, True

    def __init__(self, torch: Any) -> None:
        self.torch = torch

    def bind(self, tensor: Tensor) -> None:
        super().bind(tensor)
        held = tensor.room[: tensor.data.nbytes].view(np.float16).reshape(tensor.data.shape)
        self.source, self.held, self.target = (self.torch.from_numpy(part) for part in (tensor.data, held, tensor.back))

    def encode(self, layers: int) -> int:
        self.held[:layers].copy_(self.source[:layers])
        return layers * self.tensor.layer_bytes

    def decode(self, layers: int) -> None:
        self.target[:layers].copy_(self.held[:layers])


def peers(versions: dict[str, str]) -> list[BlockPeer]:
    """torch's copy, and the paper's method, plain and compiled."""
    torch = load()
    versions["torch"] = torch.__version__
    made: list[BlockPeer] = [Copy(torch)]
    for bits in (8, 4):
        forth, back = paper_forms(torch, bits)
        made.append(Function(torch, f"paper's INT{bits}, PyTorch", bits, forth, back, "after the paper's description"))
        made.append(
            Compiled(torch, f"paper's INT{bits}, torch.compile", bits, forth, back, "after the paper's description")
        )
    return made


def released(versions: dict[str, str]) -> list[BlockPeer]:
    """The paper's released quantizer. Codes times scales, as its text says, is what decodes them."""
    torch = load()
    folder = Path(os.environ.get("SPECTRUMKV_PAPER_CODE", ROOT / "build" / "paper"))
    path = folder / "spectrumkv" / "core" / "quantizer.py"
    spec = importlib.util.spec_from_file_location("paper_quantizer", path)  # its package has this one's name
    if not path.is_file() or spec is None or spec.loader is None:
        raise MissingError(
            f"no {path.name} under {folder.name}: run scripts/setup.sh --peers, or name a checkout in SPECTRUMKV_PAPER_CODE"
        )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    versions["the paper's code"] = subprocess.run(
        ["git", "-C", str(folder), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    quantizer = module.KVQuantizer
    said = "codes stay f16: nothing is packed"

    def peer(precision: str, bits: int) -> Function:
        return Unpacked(
            torch, f"paper's released {precision.upper()}", bits, lambda x: quantizer.quantize_with_scale(x, precision),
            lambda codes, scale: codes * scale[..., None], said,
        )  # fmt: skip

    return [peer("int8", 8), peer("int4", 4)]


def fbgemm(versions: dict[str, str]) -> list[BlockPeer]:
    """FBGEMM's rowwise quantizers of embedding tables: asymmetric, scale and bias of a row behind its codes."""
    torch = load()
    logging.disable(logging.WARNING)
    try:
        versions["fbgemm-gpu-cpu"] = importlib.import_module("fbgemm_gpu").__version__
    except (ImportError, OSError) as error:
        raise MissingError(f"{error}: run scripts/setup.sh --peers") from error
    finally:
        logging.disable(logging.NOTSET)
    ops = torch.ops.fbgemm
    f16 = 1  # SparseType.FP16

    def forth8(x: Any) -> Pair:
        return (ops.FloatOrHalfToFused8BitRowwiseQuantized(x),)

    def back8(q: Any) -> Any:
        return ops.Fused8BitRowwiseQuantizedToFloatOrHalf(q, f16)

    def forth4(x: Any) -> Pair:
        return (ops.FloatOrHalfToFusedNBitRowwiseQuantizedSBHalf(x, 4),)

    def back4(q: Any) -> Any:
        return ops.FusedNBitRowwiseQuantizedSBHalfToFloatOrHalf(q, 4, f16)

    return [
        Rows(torch, "FBGEMM rowwise 8 bits", 8, forth8, back8),
        Rows(torch, "FBGEMM rowwise 4 bits", 4, forth4, back4),
    ]
