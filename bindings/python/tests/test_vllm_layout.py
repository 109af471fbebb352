# SPDX-License-Identifier: Apache-2.0
"""vLLM's paged KV memory, of every layout and stride, as numpy arrays; needs neither torch nor vLLM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

import spectrumkv as skv
from spectrumkv.vllm.layout import Geometry, Layer, Pages, Tile, amx_refusal, layer_of, pages_of

NB, BS, H, D = 7, 32, 3, 64
GEOMETRY = Geometry(H, D, D)


@dataclass
class Made:
    """A layer's tensor, and how to reach K and V in it: arrays [blocks, tokens, heads, dim]."""

    tensor: np.ndarray
    k: np.ndarray
    v: np.ndarray
    tile: Tile = Tile.NONE


def era_split(dtype: str) -> Made:
    """Up to 0.20, FlashAttention: [2, NB, BS, H, D]."""
    t = np.zeros((2, NB, BS, H, D), dtype)
    return Made(t, t[0], t[1])


def era_split_hnd(dtype: str) -> Made:
    """The same logical shape over head-major memory."""
    t = np.zeros((2, NB, H, BS, D), dtype).transpose(0, 1, 3, 2, 4)
    return Made(t, t[0], t[1])


def era_flashinfer(dtype: str) -> Made:
    """Up to 0.20, FlashInfer: [NB, 2, BS, H, D]."""
    t = np.zeros((NB, 2, BS, H, D), dtype)
    return Made(t, t[:, 0], t[:, 1])


def era_flashinfer_hnd(dtype: str) -> Made:
    """[NB, 2, H, BS, D]."""
    t = np.zeros((NB, 2, H, BS, D), dtype)
    return Made(t, t[:, 0].transpose(0, 2, 1, 3), t[:, 1].transpose(0, 2, 1, 3))


def fused(dtype: str) -> Made:
    """[NB, H, BS, 2D], head-major memory (LBHNC)."""
    t = np.zeros((NB, H, BS, 2 * D), dtype)
    p = t.transpose(0, 2, 1, 3)
    return Made(t, p[..., :D], p[..., D:])


def fused_token_major(dtype: str) -> Made:
    """The same logical shape over token-major memory (LBNHC)."""
    t = np.zeros((NB, BS, H, 2 * D), dtype).transpose(0, 2, 1, 3)
    p = t.transpose(0, 2, 1, 3)
    return Made(t, p[..., :D], p[..., D:])


def fused_padded_pool(dtype: str) -> Made:
    """A page of a pool that several layers share (BLHNC), padded at its end."""
    pool = np.zeros((NB, 2, H * BS * 2 * D + 96), dtype)
    item = pool.itemsize
    t = np.lib.stride_tricks.as_strided(
        pool[:, 1], (NB, H, BS, 2 * D), (pool.strides[0], BS * 2 * D * item, 2 * D * item, item)
    )
    p = t.transpose(0, 2, 1, 3)
    return Made(t, p[..., :D], p[..., D:])


def cpu_fused(dtype: str) -> Made:
    """CPU attention from 0.25: each (block, head) holds K as [dim][token], then V as [token][dim]."""
    t = np.zeros((NB, H, BS, 2 * D), dtype)
    areas = t.reshape(NB, H, 2, BS * D)
    k = areas[:, :, 0].reshape(NB, H, D, BS).transpose(0, 3, 1, 2)
    v = areas[:, :, 1].reshape(NB, H, BS, D).transpose(0, 2, 1, 3)
    return Made(t, k, v, Tile.VEC)


def cpu_split(dtype: str) -> Made:
    """CPU attention up to 0.20: [2, NB, H, BS, D], K tiled."""
    t = np.zeros((2, NB, H, BS, D), dtype)
    return Made(t, t[0].reshape(NB, H, D, BS).transpose(0, 3, 1, 2), t[1].transpose(0, 2, 1, 3), Tile.VEC)


ERAS: list[Callable[[str], Made]] = [
    era_split, era_split_hnd, era_flashinfer, era_flashinfer_hnd, fused, fused_token_major, fused_padded_pool, cpu_fused,
    cpu_split,
]  # fmt: skip


def pages(made: Made, block_size: int = BS, **changes: object) -> Pages:
    layer = layer_of("layer.0", made.tensor, GEOMETRY, block_size, made.tile)
    return Pages((layer,), block_size, changes.get("first_head", 0), bytes(32))  # type: ignore[arg-type]


def fill(made: Made, seed: int = 3) -> None:
    rng = np.random.default_rng(seed)
    made.k[...] = rng.normal(size=made.k.shape)
    made.v[...] = rng.normal(size=made.v.shape)


def rows(made: Made, blocks: list[int], tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """K and V of a request, [tokens, heads, dim]."""
    k, v = (np.concatenate([side[b] for b in blocks])[:tokens] for side in (made.k, made.v))
    return k, v


@pytest.mark.parametrize("era", ERAS)
def test_every_element_is_where_the_layout_puts_it(era: Callable[[str], Made]) -> None:
    made = era("float32")
    fill(made)
    layer = layer_of("layer.0", made.tensor, GEOMETRY, BS, made.tile)
    assert (layer.blocks, layer.block_tokens, layer.heads) == (NB, BS, H)
    assert np.array_equal(pages_of(layer, skv.Half.K), made.k)
    assert np.array_equal(pages_of(layer, skv.Half.V), made.v)


@pytest.mark.parametrize("target", ERAS)
@pytest.mark.parametrize("source", ERAS)
def test_a_request_moves_between_any_two_layouts(
    source: Callable[[str], Made], target: Callable[[str], Made], engine: skv.Engine
) -> None:
    a, b = source("float32"), target("float32")
    fill(a)
    request = bytes(range(16))
    from_blocks, to_blocks, tokens = [5, 0, 3], [1, 6, 2], 75
    with pages(a).cache(from_blocks, tokens, request) as cache:
        payload = engine.encode(cache, skv.Plan(engine, strategy="raw").solve(cache))
    with pages(b).cache(to_blocks, tokens, request) as cache:
        engine.decode(payload, cache)
    for got, wanted in zip(rows(b, to_blocks, tokens), rows(a, from_blocks, tokens)):
        assert np.array_equal(got, wanted)
    # Not one element beside the request's tokens.
    b.k[to_blocks[0]], b.k[to_blocks[1]], b.k[to_blocks[2], : tokens - 2 * BS] = 0, 0, 0
    b.v[to_blocks[0]], b.v[to_blocks[1]], b.v[to_blocks[2], : tokens - 2 * BS] = 0, 0, 0
    assert not b.tensor.any()


def test_other_block_size_and_element_type(engine: skv.Engine) -> None:
    a = era_split("float32")
    fill(a)
    small = np.zeros((40, H, 16, 2 * D), "float16")
    layer = layer_of("layer.0", small, GEOMETRY, 16)
    request = bytes(16)
    with pages(a).cache([4, 2], 50, request) as cache:
        payload = engine.encode(cache, skv.Plan(engine, strategy="raw").solve(cache))
    blocks = [30, 1, 17, 8]
    with Pages((layer,), 16, 0, bytes(32)).cache(blocks, 50, request) as cache:
        engine.decode(payload, cache)
    got = np.concatenate([small[b].transpose(1, 0, 2) for b in blocks])[:50]
    k, v = rows(a, [4, 2], 50)
    assert np.array_equal(got[..., :D], k.astype("float16"))
    assert np.array_equal(got[..., D:], v.astype("float16"))


def test_a_kernels_smaller_blocks_are_found_through_the_schedulers_block_table() -> None:
    tensor = np.zeros((12, H, 16, 2 * D), "float32")
    layer = layer_of("layer.0", tensor, GEOMETRY, 64)
    assert Pages((layer,), 64, 0, bytes(32)).table(layer, [2, 0], 70) == [8, 9, 10, 11, 0]


def test_a_slice_of_the_heads(engine: skv.Engine) -> None:
    a, b = fused("float32"), cpu_fused("float32")
    fill(a)
    request = bytes(16)
    whole = pages(a, first_head=3)
    with whole.cache([0, 1], 40, request) as cache:
        payload = engine.encode(cache, skv.Plan(engine, strategy="raw").solve(cache))
    with pages(b, first_head=3).cache([2, 3], 40, request, heads=(4, 2)) as cache:
        engine.decode(payload, cache)
    k, _ = rows(a, [0, 1], 40)
    got, _ = rows(b, [2, 3], 40)
    assert np.array_equal(got[:, 1:], k[:, 1:])
    assert not got[:, 0].any()
    with pytest.raises(skv.ArgumentError, match="heads 0 \\+ 3: here are 3 \\+ 3"):
        whole.cache([0], 8, request, heads=(0, 3))


def test_latent_rows_have_no_values() -> None:
    for shape in ((NB, BS, 576), (NB, 1, BS, 576)):
        layer = layer_of("mla", np.zeros(shape, "float16"), Geometry(1, 576, 0), BS)
        assert layer.v is None
        assert (layer.block_tokens, layer.k.dim) == (BS, 576)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((NB, H + 1, BS, 2 * D), "wanted \\[blocks, heads"),
        ((NB, H, BS, D), "wanted \\[blocks, heads"),
        ((2, 2, BS, H, D), "one axis of length 2"),
        ((3, NB, BS, H, D), "one axis of length 2"),
        ((2, NB, 3, 3, D), "cannot tell heads from tokens"),
        ((2, NB, H, 48, D), "cannot tell heads from tokens"),
        ((NB, H, 48, 2 * D), "do not divide"),
        ((NB, BS * H * D), "no layout"),
    ],
)
def test_what_cannot_be_told_is_refused(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(skv.ArgumentError, match=message):
        layer_of("layer.0", np.zeros(shape, "float32"), GEOMETRY, BS)


def test_fp8_pages_and_untiled_memory_are_refused() -> None:
    with pytest.raises(skv.ArgumentError, match="dtype uint8"):
        layer_of("layer.0", np.zeros((NB, H, BS, 2 * D), "uint8"), GEOMETRY, BS)
    with pytest.raises(skv.ArgumentError, match="one run of memory"):
        layer_of("layer.0", fused_token_major("float32").tensor, GEOMETRY, BS, Tile.VEC)
    assert "--dtype float32" in str(amx_refusal("layer.0"))


def test_blocks_that_are_not_there_are_refused() -> None:
    view = pages(fused("float32"))
    with pytest.raises(skv.ArgumentError) as found:
        view.cache([0, NB], 40, bytes(16))
    assert found.value.status in {skv.Status.E_BLOCK_ID, skv.Status.E_RANGE}
    with pytest.raises(skv.ArgumentError):
        view.cache([0, 0], 40, bytes(16))
    with pytest.raises(skv.ArgumentError):
        view.cache([0], 40, bytes(16))


def test_layers_are_plain_data() -> None:
    layer = layer_of("layer.0", fused("float16").tensor, GEOMETRY, BS)
    assert isinstance(layer, Layer)
    assert layer.plane(skv.Half.K) is layer.k
    assert layer.plane(skv.Half.V) is layer.v
