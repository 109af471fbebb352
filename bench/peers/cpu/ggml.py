# SPDX-License-Identifier: Apache-2.0
"""ggml's row functions for the types that llama.cpp offers for KV caches, from the library that llama-cpp-python builds.

``from_float`` is the CPU backend's, which writes a quantized KV cache; ``to_float`` the one that reads it for anything but a dot
product. Both work on f32 rows, so f16 goes through a tile of f32 in L2, converted by the CPU backend's own functions (F16C);
peers named "of f32" leave that out: their tensor is f32 already, and comes back as such.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from ctypes import CFUNCTYPE, POINTER, Structure, c_bool, c_char_p, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any

import numpy as np

from cpu.peer import MissingError, Peer, Tensor

ROOT = Path(__file__).resolve().parents[3]
TYPES = {  # ggml.h's enum ggml_type, bits, half a step; f16 is a copy
    "bf16": (30, 16, 2**-8),
    "q8_0": (8, 8, 1 / 254),
    "q5_1": (7, 5, 1 / 31),
    "q5_0": (6, 5, 1 / 16),  # -16 … 15 of a sixteenth: what is largest with the other sign is a whole step off
    "q4_1": (3, 4, 1 / 15),
    "q4_0": (2, 4, 1 / 8),  # likewise
    "iq4_nl": (20, 4, 14 / 127),  # values -127 … 113
}
TILE = 128 * 1024
"""Elements converted at a time: 512 KiB of f32, half of an L2 of 1 MiB."""

_Row = CFUNCTYPE(None, c_void_p, c_void_p, c_int64)


class _Traits(Structure):
    """``struct ggml_type_traits`` of ggml.h."""

    _fields_ = (
        ("type_name", c_char_p),
        ("blck_size", c_int64),
        ("blck_size_interleave", c_int64),
        ("type_size", c_size_t),
        ("is_quantized", c_bool),
        ("to_float", c_void_p),
        ("from_float_ref", c_void_p),
    )


class _CpuTraits(Structure):
    """The leading member of ``struct ggml_type_traits_cpu`` of ggml-cpu.h."""

    _fields_ = (("from_float", c_void_p),)


class Library:
    """libggml, loaded."""

    def __init__(self) -> None:
        folder = self._folder()
        try:
            self.base = ctypes.CDLL(str(folder / "libggml-base.so"), mode=ctypes.RTLD_GLOBAL)
            self.cpu = ctypes.CDLL(str(folder / "libggml-cpu.so"), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            raise MissingError(str(error)) from error
        self.cpu.ggml_cpu_init()
        self.base.ggml_version.restype = c_char_p
        self.version = self.base.ggml_version().decode()
        self.base.ggml_get_type_traits.restype = POINTER(_Traits)
        self.base.ggml_get_type_traits.argtypes = (c_int,)
        self.cpu.ggml_get_type_traits_cpu.restype = POINTER(_CpuTraits)
        self.cpu.ggml_get_type_traits_cpu.argtypes = (c_int,)
        for name in ("ggml_cpu_fp16_to_fp32", "ggml_cpu_fp32_to_fp16"):
            getattr(self.cpu, name).argtypes = (c_void_p, c_void_p, c_int64)
            getattr(self.cpu, name).restype = None
        self.widen: Callable[[int, int, int], Any] = self.cpu.ggml_cpu_fp16_to_fp32
        self.narrow: Callable[[int, int, int], Any] = self.cpu.ggml_cpu_fp32_to_fp16

    @staticmethod
    def _folder() -> Path:
        explicit = os.environ.get("SPECTRUMKV_GGML")
        folders = (
            [Path(explicit)] if explicit else sorted(ROOT.glob("build/venv/lib/python*/site-packages/llama_cpp/lib"))
        )
        for folder in folders:
            if (folder / "libggml-cpu.so").exists():
                return folder
        raise MissingError("no libggml-cpu.so: run scripts/setup.sh, or name its folder in SPECTRUMKV_GGML")


class Rows(Peer):
    """One type, f16 to f16."""

    def __init__(self, library: Library, name: str) -> None:
        number, self.bits, self.half = TYPES[name]
        self.library = library
        self.name = f"ggml {name}"
        traits = library.base.ggml_get_type_traits(number).contents
        if traits.type_name.decode() != name or not traits.to_float:
            raise MissingError(
                f"type {number} is {traits.type_name.decode()!r} in ggml {library.version}: wanted {name!r}"
            )
        self.block, self.size = int(traits.blck_size), int(traits.type_size)
        self.back = _Row(traits.to_float)
        self.forth = _Row(library.cpu.ggml_get_type_traits_cpu(number).contents.from_float)

    @property
    def half_step(self) -> float:
        """Of the type."""
        return self.half

    def bytes_of(self, elements: int) -> int:
        """Encoded."""
        return elements // self.block * self.size

    def tiles(self, layers: int) -> list[tuple[int, int, int]]:
        """(byte offset of the f16 elements, of the encoded ones, elements) of each tile."""
        total = layers * self.tensor.layer_bytes // 2
        assert total % self.block == 0
        return [(2 * at, self.bytes_of(at), min(TILE, total - at)) for at in range(0, total, TILE)]

    def bind(self, tensor: Tensor) -> None:
        super().bind(tensor)
        self.tile = np.ones(TILE, np.float32)

    def encode(self, layers: int) -> int:
        tile, source, out = self.tile.ctypes.data, self.tensor.data.ctypes.data, self.tensor.room.ctypes.data
        widen, forth = self.library.widen, self.forth
        for f16, encoded, count in self.tiles(layers):
            widen(source + f16, tile, count)
            forth(tile, out + encoded, count)
        return self.bytes_of(layers * self.tensor.layer_bytes // 2)

    def decode(self, layers: int) -> None:
        tile, source, out = self.tile.ctypes.data, self.tensor.room.ctypes.data, self.tensor.back.ctypes.data
        narrow, back = self.library.narrow, self.back
        for f16, encoded, count in self.tiles(layers):
            back(source + encoded, tile, count)
            narrow(tile, out + f16, count)


class WideRows(Rows):
    """One type, of a tensor that is f32 already and comes back as f32. Rates still count 16 bits an element."""

    def __init__(self, library: Library, name: str) -> None:
        super().__init__(library, name)
        self.name += ", of f32"

    def bind(self, tensor: Tensor) -> None:
        super().bind(tensor)
        self.wide, self.wide_back = tensor.wide
        self.unread = 0

    def encode(self, layers: int) -> int:
        count = layers * self.tensor.layer_bytes // 2
        self.forth(self.wide.ctypes.data, self.tensor.room.ctypes.data, count)
        return self.bytes_of(count)

    def decode(self, layers: int) -> None:
        self.back(self.tensor.room.ctypes.data, self.wide_back.ctypes.data, layers * self.tensor.layer_bytes // 2)
        self.unread = layers

    def release(self) -> None:
        """What was decoded goes to where errors are measured, outside of the timing."""
        if self.unread:
            self.tensor.back[: self.unread] = self.wide_back[: self.unread]
            self.unread = 0


def peers(versions: dict[str, str]) -> list[Peer]:
    """All types; two also without the conversion."""
    library = Library()
    versions["ggml"] = library.version
    return [*(Rows(library, name) for name in TYPES), *(WideRows(library, name) for name in ("q8_0", "q4_0"))]
