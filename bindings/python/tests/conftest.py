# SPDX-License-Identifier: Apache-2.0
"""What the tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import spectrumkv as skv

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture
def engine() -> Iterator[skv.Engine]:
    with skv.Engine(threads=2) as engine:
        yield engine


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
