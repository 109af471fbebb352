# SPDX-License-Identifier: Apache-2.0
"""Blosc2's byte shuffle with zstd and lz4, without loss: its C library, as python-blosc2's wheel carries it."""

from __future__ import annotations

import ctypes
import importlib.util
from ctypes import c_char_p, c_int, c_int16, c_int32, c_size_t, c_void_p
from pathlib import Path

from cpu.peer import BlockPeer, MissingError, Tensor

_SHUFFLE = 1  # BLOSC_SHUFFLE of blosc2.h: bytes
_OVERHEAD = 32  # BLOSC2_MAX_OVERHEAD


def _library() -> ctypes.CDLL:
    found = importlib.util.find_spec("blosc2")  # not imported: its Python side is not needed
    if found is None or found.origin is None:
        raise MissingError("no module blosc2: run scripts/setup.sh --peers")
    path = Path(found.origin).parent / "lib" / "libblosc2.so"
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise MissingError(str(error)) from error
    library.blosc2_init()
    library.blosc2_set_nthreads.argtypes = (c_int16,)
    library.blosc2_set_nthreads(1)
    library.blosc1_compress.argtypes = (c_int, c_int, c_size_t, c_size_t, c_void_p, c_void_p, c_size_t)
    library.blosc2_decompress.argtypes = (c_void_p, c_int32, c_void_p, c_int32)
    library.blosc1_set_compressor.argtypes = (c_char_p,)
    library.blosc2_get_version_string.restype = c_char_p
    return library


class Shuffled(BlockPeer):
    """One compressor at one level, over K's and V's of a layer: blocks in L2, as Blosc cuts them."""

    bits, lossless = 16, True
    block_tokens = 1 << 30

    def __init__(self, library: ctypes.CDLL, compressor: str, level: int, name: str) -> None:
        self.library, self.compressor, self.level, self.name = library, compressor, level, name

    def bind(self, tensor: Tensor) -> None:
        super().bind(tensor)
        self.sizes: list[int] = []

    def encode(self, layers: int) -> int:
        self.library.blosc1_set_compressor(self.compressor.encode())
        room, at, self.sizes = self.tensor.room.ctypes.data, 0, []
        for block in self.blocks(self.tensor.data, layers):
            size = self.library.blosc1_compress(
                self.level, _SHUFFLE, 2, block.nbytes, block.ctypes.data, room + at, block.nbytes + _OVERHEAD
            )
            if size <= 0:
                raise RuntimeError(f"{self.name}: blosc1_compress returned {size}")
            self.sizes.append(size)
            at += size
        return at

    def decode(self, layers: int) -> None:
        room, at = self.tensor.room.ctypes.data, 0
        for block, size in zip(self.blocks(self.tensor.back, layers), self.sizes):
            done = self.library.blosc2_decompress(room + at, size, block.ctypes.data, block.nbytes)
            if done != block.nbytes:
                raise RuntimeError(f"{self.name}: blosc2_decompress returned {done}, wanted {block.nbytes}")
            at += size


def peers(versions: dict[str, str]) -> list[BlockPeer]:
    """zstd's level 1, and lz4 as it is by default: Blosc's level 9 is lz4's acceleration 1."""
    library = _library()
    versions["blosc2"] = library.blosc2_get_version_string().decode()
    return [
        Shuffled(library, "zstd", 1, "byte shuffle + zstd 1 (Blosc2)"),
        Shuffled(library, "lz4", 9, "byte shuffle + lz4 (Blosc2)"),
    ]
