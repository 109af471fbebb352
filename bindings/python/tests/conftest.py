# SPDX-License-Identifier: Apache-2.0
"""What the tests share."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import spectrumkv as skv
from spectrumkv.cli import app

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture
def engine() -> Iterator[skv.Engine]:
    with skv.Engine(threads=2) as engine:
        yield engine


@pytest.fixture
def run() -> Callable[..., Result]:
    """The command, in this process."""

    def run(*arguments: object, code: int = 0) -> Result:
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        assert result.exit_code == code, (result.output, result.exception)
        return result

    return run


def kv_arrays(
    layers: int = 2, tokens: int = 320, heads: int = 2, dim: int = 64, dtype: str = "float16", seed: int = 1
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Keys with channel offsets and values without, as [tokens, heads, dim]."""
    rng = np.random.default_rng(seed)
    offsets = rng.normal(0, 3, (1, heads, dim))
    return [
        (
            (rng.normal(0, 1, (tokens, heads, dim)) + offsets).astype(dtype),
            rng.normal(0, 1, (tokens, heads, dim)).astype(dtype),
        )
        for _ in range(layers)
    ]


def empty_like(layers: list[tuple[np.ndarray, np.ndarray]]) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(np.zeros_like(k), np.zeros_like(v)) for k, v in layers]


def encode(
    engine: skv.Engine, cache: skv.Cache, *, budget: float | None = 0.5, strategy: str | None = None
) -> skv.Payload:
    with skv.Plan(engine, budget=budget, strategy=strategy, unproven=True) as plan:
        return engine.encode(cache, plan.solve(cache))


def dropping(engine: skv.Engine, layers: list[tuple[np.ndarray, np.ndarray]], **identity: bytes) -> skv.Payload:
    """A payload without the values of one token."""
    with skv.Cache.from_arrays(layers, can_mask=True, **identity) as cache:
        plan = skv.Plan(engine, strategy="uniform-8").solve(cache)
        for half in skv.Half:
            tiers = bytearray(plan.tiers(0, half, len(layers[0][0])))
            tiers[40] = skv.Tier.DROP
            plan.set_tiers(0, half, tiers)
        return engine.encode(cache, plan)


def llama_state(layers: list[tuple[np.ndarray, np.ndarray]], v_trans: int) -> bytes:
    """A sequence state as llama_state_seq_get_data writes it."""
    tokens, heads, dim = layers[0][0].shape
    row = heads * dim
    parts = [struct.pack("<IiII", 0xAF143CD8, 0, 1, tokens)]
    parts += [struct.pack("<iIi", t, 1, 0) for t in range(tokens)]
    parts.append(struct.pack("<II", v_trans, len(layers)))
    parts += [struct.pack("<iQ", 1, 2 * row) + k.tobytes() for k, _ in layers]
    for _, v in layers:
        if v_trans:
            parts.append(struct.pack("<iII", 1, 2, row) + v.reshape(tokens, row).T.tobytes())
        else:
            parts.append(struct.pack("<iQ", 1, 2 * row) + v.tobytes())
    return b"".join(parts)
