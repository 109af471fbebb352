# SPDX-License-Identifier: Apache-2.0
"""States of the real model: taken apart and put together, into a fresh context, and against its own attention."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spectrumkv.state_blob import BF16, F16, F32, parse

pytestmark = pytest.mark.e2e

llamacpp = pytest.importorskip("spectrumkv.llamacpp", reason="llama-cpp-python is not installed: run scripts/setup.sh")

from spectrumkv import models  # noqa: E402

TYPES = {"f32": F32, "f16": F16, "bf16": BF16}
TOKENS, MORE = 100, 8  # one thread below: two wait for each other, ten times as long on a busy machine


@pytest.fixture(scope="module")
def model() -> Path:
    """As published: states and bit-equality do not depend on the weights' type, and Q4_1 is faster than f32."""
    return models.fetch("smollm2")


@pytest.fixture(scope="module")
def text(root: Path) -> str:
    return (root / "examples" / "text" / "us-constitution-and-declaration.txt").read_text()[:2000]


@pytest.mark.parametrize("kv_dtype", ["f16", "bf16", "f32"])
@pytest.mark.parametrize("flash", [True, False], ids=["flash", "plain"])
def test_state_survives_parsing_and_a_fresh_context(model: Path, text: str, kv_dtype: Any, flash: bool) -> None:
    options = {"n_ctx": 512, "n_batch": 64, "threads": 1, "kv_dtype": kv_dtype, "flash_attention": flash}
    with llamacpp.LlamaContext(model, **options) as context:
        tokens = context.tokenize(text)
        context.evaluate(tokens[:TOKENS], 0)
        blob = context.export_state()
        wanted = context.evaluate(tokens[TOKENS : TOKENS + MORE], TOKENS, "all")
        heads = context.kv_heads

    parsed = parse(blob)
    (stream,) = parsed.streams
    assert stream.v_trans == (0 if flash else 1)
    assert stream.cells.positions.tolist() == list(range(TOKENS))
    assert len(stream.keys) == len(stream.values) == len(heads)
    assert {plane.ggml_type for plane in stream.keys + stream.values} == {TYPES[kv_dtype]}
    for plane, count in zip(stream.keys + stream.values, heads * 2):
        values = plane.values(count)
        assert values.shape[:2] == (TOKENS, count)
        assert np.isfinite(values).all()
    packed = parsed.pack()
    assert np.array_equal(packed, blob)

    with llamacpp.LlamaContext(model, **options) as fresh:
        fresh.import_state(packed)
        got = fresh.evaluate(tokens[TOKENS : TOKENS + MORE], TOKENS, "all")
    assert np.array_equal(wanted, got)


def test_wrong_states_are_refused(model: Path, text: str) -> None:
    with llamacpp.LlamaContext(model, n_ctx=512, n_batch=64, threads=1) as context:
        tokens = context.tokenize(text)[:50]
        context.evaluate(tokens, 0)
        blob = context.export_state()
        with pytest.raises(RuntimeError, match="refused"):
            context.import_state(blob[: len(blob) // 2])
        context.import_state(blob)
        assert np.array_equal(context.export_state(), blob)


class Spy(llamacpp.LlamaContext):  # type: ignore[misc,name-defined,unused-ignore]
    """Keeps the engine's attention weights, ``[q-heads, tokens, cells]`` a layer, of what it evaluates."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.attention: dict[int, np.ndarray] = {}
        super().__init__(*arguments, **options)

    def _see(self, tensor: Any, ask: bool, data: Any) -> bool:
        found = re.fullmatch(rb"kq_soft_max-(\d+)", self._ggml.ggml_get_name(tensor))
        if not found or not self._capturing:
            return bool(super()._see(tensor, ask, data))
        if not ask:
            weights = np.empty(self._ggml.ggml_nbytes(tensor) // 4, np.float32)
            self._ggml.ggml_backend_tensor_get(tensor, weights.ctypes.data, 0, weights.nbytes)
            self.attention[int(found[1])] = weights
        return True


def test_queries_and_exported_keys_give_the_attention_of_the_engine(model: Path, text: str) -> None:
    """softmax(QK^T / sqrt(dim)) of every layer, from captured queries and the keys of an exported state."""
    with Spy(model, n_ctx=512, n_batch=256, threads=1, kv_dtype="f32", flash_attention=False) as context:
        tokens = context.tokenize(text)[:TOKENS]
        with context.capture_queries(TOKENS):
            context.evaluate(tokens, 0)
        (stream,) = parse(context.export_state()).streams
        assert context.head_dim == context.queries[0].shape[2] == 64
        assert sorted(context.attention) == list(range(context.n_layer))
        future = np.triu(np.ones((TOKENS, TOKENS), bool), 1)
        worst = 0.0
        for layer, (q, plane, heads) in enumerate(zip(context.queries, stream.keys, context.kv_heads)):
            keys = np.repeat(plane.values(heads), q.shape[1] // heads, axis=1)
            scores = np.einsum("ihd,thd->hit", q, keys) / np.sqrt(q.shape[2])
            scores[:, future] = -np.inf
            weights = np.exp(scores - scores.max(axis=2, keepdims=True))
            weights /= weights.sum(axis=2, keepdims=True)
            engine = context.attention[layer].reshape(q.shape[1], TOKENS, -1)  # cells beyond the last are masked
            worst = max(worst, float(np.abs(engine[:, :, :TOKENS] - weights).max()))
            assert not engine[:, :, TOKENS:].any()
        assert worst < 2e-3, worst
        print(f"largest difference of an attention weight: {worst:.2e}")
