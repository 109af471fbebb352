# SPDX-License-Identifier: Apache-2.0
"""vLLM's paged KV memory as views of the library, read and written in place.

| tensor of a layer | when |
|---|---|
| ``[2, NB, BS, H, D]``, ``[NB, 2, BS, H, D]`` and the same with H before BS | up to 0.20 (FlashAttention, FlashInfer, CPU) |
| ``[NB, H, BS, 2D]`` | about 0.25 to 0.29 |
| ``[B, H, N, C]``, K and V one after the other in C | from 0.30 |
| ``[NB, BS, C]``, later ``[B, 1, N, C]`` | MLA: one latent row, no V |

Axes are told apart by their lengths, memory only by strides: pages may be padded, pools may hold several layers. On the CPU a
block is tiled inside (`Tile`).
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from ctypes import c_uint8
from dataclasses import dataclass, replace
from typing import Any

from spectrumkv.buffers import Buffer, describe
from spectrumkv.cache import Cache
from spectrumkv.constants import DType, Half, Status
from spectrumkv.errors import ArgumentError


class Tile(enum.Enum):
    """How a (block, head) lies in memory."""

    NONE = "none"
    """As the tensor's strides say."""
    VEC = "vec"
    """CPU attention: K area ``[dim][token]``, then V area ``[token][dim]``."""


@dataclass(frozen=True)
class Plane:
    """One layer's K or V: strides in bytes; ``offset`` is from the tensor's first byte."""

    offset: int
    block: int
    token: int
    head: int
    elem: int
    dim: int


@dataclass(frozen=True)
class Layer:
    """One layer's paged memory. ``v`` is None for latent rows."""

    name: str
    buffer: Buffer
    dtype: DType
    blocks: int
    block_tokens: int
    heads: int
    k: Plane
    v: Plane | None

    def plane(self, half: Half) -> Plane | None:
        return self.k if half == Half.K else self.v


@dataclass(frozen=True)
class Geometry:
    """What vLLM's specification of a layer says: kv-heads of this rank, channels of a head's K and V (0: latent rows)."""

    heads: int
    k_dim: int
    v_dim: int


def layer_of(name: str, tensor: object, geometry: Geometry, block_size: int, tile: Tile = Tile.NONE) -> Layer:
    """Finds K and V in a layer's tensor.

    Args:
        tensor: as vLLM registers it, or any array of that shape and strides.
        block_size: tokens of a block in block tables; a tensor's blocks may hold a fraction of that.

    Raises:
        ArgumentError: a shape that fits no layout, or more than one; an element type that is not 16 or 32 bits wide.
    """
    buffer = describe(tensor, on_device=True)
    dtype = buffer.kv_dtype
    shape, strides, item = buffer.shape, buffer.strides, buffer.itemsize
    heads, k_dim, v_dim = geometry.heads, geometry.k_dim, geometry.v_dim

    def refuse(why: str) -> ArgumentError:
        return ArgumentError(
            Status.E_LAYOUT, f"{name}: KV tensor {shape} for {heads} heads of {k_dim} + {v_dim} channels: {why}"
        )

    if v_dim == 0:
        if len(shape) == 3 and heads == 1:
            (blocks, tokens, width), (block, token, elem), head = shape, strides, 0
        elif len(shape) == 4 and shape[1] == heads:
            (blocks, _, tokens, width), (block, head, token, elem) = shape, strides
        else:
            raise refuse("wanted [blocks, tokens, channels]")
        if width != k_dim:
            raise refuse(f"rows of {width} channels")
        k, v = Plane(0, block, token, head, elem, k_dim), None
    elif len(shape) == 4:
        blocks, count, tokens, width = shape
        if count != heads or width != k_dim + v_dim:
            raise refuse("wanted [blocks, heads, tokens, K and V channels]")
        block, head, token, elem = strides
        k = Plane(0, block, token, head, elem, k_dim)
        v = Plane(k_dim * elem, block, token, head, elem, v_dim)
    elif len(shape) == 5 and k_dim == v_dim == shape[4]:
        halves = [axis for axis in (0, 1) if shape[axis] == 2]
        if len(halves) != 1:
            raise refuse("wanted one axis of length 2, K and V, before the last three")
        half, page = halves[0], 1 - halves[0]
        token_axes = [
            axis
            for axis in (2, 3)
            if shape[5 - axis] == heads and 0 < shape[axis] <= block_size and block_size % shape[axis] == 0
        ]
        if len(token_axes) != 1:
            raise refuse(f"cannot tell heads from tokens with blocks of {block_size}")
        token_axis = token_axes[0]
        blocks, tokens = shape[page], shape[token_axis]
        k = Plane(0, strides[page], strides[token_axis], strides[5 - token_axis], strides[4], k_dim)
        v = replace(k, offset=strides[half])
    else:
        raise refuse("no layout that is known here")
    if tokens == 0 or block_size % tokens != 0:
        raise refuse(f"blocks of {tokens} tokens do not divide those of {block_size}")
    if tile is Tile.VEC:
        k, v = _vec(k, v, tokens, item, fused=len(shape) == 4, refuse=refuse)
    return Layer(name, buffer, dtype, blocks, tokens, heads, k, v)


def _vec(k: Plane, v: Plane | None, tokens: int, item: int, *, fused: bool, refuse: Any) -> tuple[Plane, Plane]:
    """The tiles of CPU attention: a block's K of one head is transposed, its V follows the whole of that K."""
    if v is None:
        raise refuse("latent rows are not tiled on the CPU")
    row = (k.dim + v.dim if fused else k.dim) * item
    if k.elem != item or k.token != row:
        raise refuse("a tiled block of a head is one run of memory")
    if k.dim != v.dim:
        raise refuse("tiled blocks have K and V of the same width")
    offset = k.offset + tokens * k.dim * item if fused else v.offset
    return (
        replace(k, token=item, elem=tokens * item),
        replace(v, offset=offset, token=v.dim * item, elem=item),
    )


def amx_refusal(name: str) -> ArgumentError:
    """For bfloat16 on CPUs with AMX, whose tiles no strides can express."""
    return ArgumentError(
        Status.E_LAYOUT,
        f"{name}: bfloat16 KV blocks are in AMX tiles on this CPU: start vLLM with --dtype float32 or float16",
    )


@dataclass(frozen=True)
class Pages:
    """All layers of one worker, in the model's order.

    Attributes:
        block_size: tokens of a block in block tables.
        first_head: index, in the model's layers, of this rank's head 0.
        replicas: ranks of this instance that hold the same heads.
    """

    layers: tuple[Layer, ...]
    block_size: int
    first_head: int
    fingerprint: bytes
    replicas: int = 1

    @property
    def heads(self) -> int:
        return self.layers[0].heads

    def cache(
        self,
        block_ids: Sequence[int],
        tokens: int,
        request_id: bytes,
        *,
        heads: tuple[int, int] | None = None,
    ) -> Cache:
        """A view of a request's first tokens.

        Args:
            heads: (first, count) in the model's layers, of those here; all by default.

        Raises:
            ArgumentError: too few blocks, or blocks that are not there.
        """
        first, count = (self.first_head, self.heads) if heads is None else heads
        skip = first - self.first_head
        if skip < 0 or count < 1 or skip + count > self.heads:
            raise ArgumentError(Status.E_RANGE, f"heads {first} + {count}: here are {self.first_head} + {self.heads}")
        cache = Cache(len(self.layers))
        for index, layer in enumerate(self.layers):
            cache.set_tokens(index, 0, tokens)
            cache.set_layer(index, count, layer.k.dim, 0 if layer.v is None else layer.v.dim, layer.dtype)
            cache.set_first_head(index, first)
            for half, plane in ((Half.K, layer.k), (Half.V, layer.v)):
                if plane is None:
                    continue
                offset = plane.offset + skip * plane.head
                memory = replace(
                    layer.buffer, pointer=layer.buffer.pointer + offset, nbytes=layer.buffer.nbytes - offset
                )
                cache.set_plane(
                    index,
                    half,
                    memory,
                    stride_block=plane.block,
                    stride_token=plane.token,
                    stride_head=plane.head,
                    stride_elem=plane.elem,
                )
            cache.set_blocks(index, self.table(layer, block_ids, tokens), layer.block_tokens)
        cache.set_identity(self.fingerprint, request_id)
        cache.check()
        return cache

    def table(self, layer: Layer, block_ids: Sequence[int], tokens: int) -> list[int]:
        """A layer's own block table: its blocks may be fractions of the scheduler's. Only as long as the tokens need."""
        parts = self.block_size // layer.block_tokens
        need = -(-tokens // layer.block_tokens)
        return [block * parts + part for block in block_ids for part in range(parts)][:need]


def pages_of(layer: Layer, half: Half) -> Any:
    """A layer's K or V as a numpy array [blocks, tokens, heads, dim] over the pages themselves: host memory only.

    16-bit elements are uint16, since numpy has no bfloat16.
    """
    import numpy as np  # noqa: PLC0415  (vLLM brings it)

    plane = layer.plane(half)
    if plane is None or layer.buffer.device >= 0:
        raise ArgumentError(Status.E_UNAVAILABLE, f"{layer.name}: no {half.name} in host memory")
    memory = memoryview((c_uint8 * layer.buffer.nbytes).from_address(layer.buffer.pointer))
    shape = (layer.blocks, layer.block_tokens, layer.heads, plane.dim)
    strides = (plane.block, plane.token, plane.head, plane.elem)
    kind = np.float32 if layer.dtype == DType.F32 else np.uint16
    return np.ndarray(shape, kind, memory, plane.offset, strides)
