# SPDX-License-Identifier: Apache-2.0
"""The real model through llama.cpp: states, the adapter of the library, queries."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import spectrumkv as skv

pytestmark = pytest.mark.e2e

llamacpp = pytest.importorskip("spectrumkv.llamacpp", reason="llama-cpp-python is not installed: run scripts/setup.sh")

from spectrumkv import models  # noqa: E402

TEXT = "The quick brown fox jumps over the lazy dog, and the dog, being a philosopher, asks why. " * 12
TOKENS = 200


@pytest.fixture(scope="module")
def model() -> Path:
    return models.full_precision(models.fetch("smollm2"))


@pytest.fixture(params=[(True, "f16"), (False, "f16"), (True, "bf16"), (False, "f32")], ids=str)
def context(request: pytest.FixtureRequest, model: Path) -> Iterator[llamacpp.LlamaContext]:
    flash, dtype = request.param
    with llamacpp.LlamaContext(model, n_ctx=512, n_batch=64, threads=1, kv_dtype=dtype, flash_attention=flash) as made:
        made.kv_dtype = dtype
        yield made


def test_state_restores_to_bit_equal_logits(context: llamacpp.LlamaContext) -> None:
    tokens = context.tokenize(TEXT)
    context.evaluate(tokens[:TOKENS], 0)
    blob = context.export_state()
    wanted = context.evaluate(tokens[TOKENS : TOKENS + 20], TOKENS, "all")
    context.import_state(blob)
    got = context.evaluate(tokens[TOKENS : TOKENS + 20], TOKENS, "all")
    assert np.array_equal(wanted, got)


def test_lossless_payload_restores_to_bit_equal_logits(context: llamacpp.LlamaContext) -> None:
    tokens = context.tokenize(TEXT)
    context.evaluate(tokens[:TOKENS], 0)
    blob = context.export_state()
    wanted = context.evaluate(tokens[TOKENS : TOKENS + 20], TOKENS, "all")
    with skv.Engine() as engine, skv.Cache.from_llama(blob, context.kv_heads) as cache:
        payload = engine.encode(cache, skv.Plan(engine, strategy="raw").solve(cache))
        restored = skv.Cache.to_llama(payload, context.v_trans, context.kv_dtype)
        engine.decode(payload, restored)
    context.import_state(np.frombuffer(restored.blob, np.uint8))
    got = context.evaluate(tokens[TOKENS : TOKENS + 20], TOKENS, "all")
    assert np.array_equal(wanted, got)


def test_captured_queries_attend_as_the_model_does(model: Path) -> None:
    """Queries and exported keys share their channel order: with another order, swapping rotary halves say, attention of
    a real model loses its weight on the first token (the sink) and on the diagonal."""
    with llamacpp.LlamaContext(model, n_ctx=512, n_batch=64, threads=1) as context:
        tokens = context.tokenize(TEXT)[:TOKENS]
        with context.capture_queries(16):
            context.evaluate(tokens, 0)
        queries = context.queries
        blob = context.export_state()
        heads = context.kv_heads
        dim = queries[0].shape[2]
        # K of the first layers, token-major, straight from the blob's end: rows of heads x dim f16 after the cells.
        row = heads[0] * dim
        cells = 16 + 12 * TOKENS  # magic, sequence, streams, count; then {position, 1, sequence} a cell
        at = cells + 8  # v_trans, layers
        shares = []
        for layer in range(6):
            at += 12  # type, row bytes
            keys = np.frombuffer(blob, np.float16, TOKENS * row, at).reshape(TOKENS, heads[0], dim).astype(np.float32)
            at += TOKENS * row * 2
            q = queries[layer]
            group = q.shape[1] // heads[0]
            for order in (np.arange(dim), np.roll(np.arange(dim), dim // 2)):
                logits = np.einsum("ihd,thd->iht", q[:, :, order], np.repeat(keys, group, axis=1)) / np.sqrt(dim)
                mask = np.arange(TOKENS)[None, :] > (TOKENS - 16 + np.arange(16))[:, None]
                logits[np.repeat(mask[:, None, :], q.shape[1], axis=1)] = -np.inf
                weights = np.exp(logits - logits.max(axis=2, keepdims=True))
                weights /= weights.sum(axis=2, keepdims=True)
                shares.append(-(weights * np.log(weights + 1e-30)).sum(axis=2).mean())
        entropy = np.array(shares).reshape(-1, 2)
        assert (entropy[:, 0] < entropy[:, 1]).mean() > 0.8, entropy
