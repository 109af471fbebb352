# SPDX-License-Identifier: Apache-2.0
"""Asks vLLM's own CPU operation where it puts a token's channels, before any request relies on it."""

from __future__ import annotations

from typing import Any

from spectrumkv.constants import Half, Status
from spectrumkv.errors import ArgumentError
from spectrumkv.vllm.layout import Geometry, Layer, Tile, layer_of, pages_of

_checked: set[tuple[object, ...]] = set()


def check_vec(name: str, tensor: Any, geometry: Geometry, layer: Layer, isa: str) -> None:
    """Writes one block of keys and values that name their token and channel, and reads them back as `layer_of` would.

    Raises `ArgumentError` when this CPU's blocks (instruction set ``isa``) are tiled otherwise.
    """
    import torch  # noqa: PLC0415
    from vllm import _custom_ops as ops  # noqa: PLC0415

    tokens, heads, dim = layer.block_tokens, geometry.heads, geometry.k_dim
    key = (tensor.dtype, tokens, heads, dim, isa, tuple(tensor.shape[1:]))
    if key in _checked:
        return
    if tensor.dim() == 5:
        block = torch.zeros((2, 1, *tensor.shape[2:]), dtype=tensor.dtype)
        k_area, v_area = block[0], block[1]
    else:
        block = torch.zeros((1, *tensor.shape[1:]), dtype=tensor.dtype)
        k_area, v_area = block.view(1, heads, 2 * tokens, dim).chunk(2, dim=2)
    slots = torch.arange(tokens, dtype=torch.int64)
    # Both numbers stay below 257, exact in every element type.
    for wanted in (torch.arange(tokens)[:, None, None] % 256, torch.arange(dim)[None, None, :] % 256):
        keys = wanted.expand(tokens, heads, dim).to(tensor.dtype).contiguous()
        values = keys + 1
        ops.cpu_attn_reshape_and_cache(keys, values, k_area, v_area, slots, isa)
        here = layer_of(name, block, geometry, tokens, Tile.VEC)
        for half, rows in ((Half.K, keys), (Half.V, values)):
            bits = rows if tensor.itemsize == 4 else rows.view(torch.uint16)
            if not (pages_of(here, half)[0] == bits.numpy()).all():
                raise ArgumentError(
                    Status.E_LAYOUT,
                    f"{name}: CPU attention ({isa}, {tensor.dtype}) tiles its blocks in a way that is not known here;"
                    " start vLLM with --dtype float32 and --block-size 32",
                )
    _checked.add(key)
