# SPDX-License-Identifier: Apache-2.0
"""What both examples carry: a payload of a synthetic cache, and the check of what came out of it."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np

import spectrumkv as skv

LAYERS, TOKENS, HEADS, DIM = 8, 1024, 2, 64
MODEL, REQUEST = bytes(range(32)), bytes(range(16))
SKIPPED = 77


def arrays() -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    shape = (TOKENS, HEADS, DIM)
    return [
        (
            (rng.normal(0, 1, shape) + rng.normal(0, 3, (1, HEADS, DIM))).astype(np.float16),
            rng.normal(0, 1, shape).astype(np.float16),
        )
        for _ in range(LAYERS)
    ]


def encoded(budget: float | None) -> skv.Payload:
    """The prefill side: raw without a budget. A real model's wants queries or a profile instead of ``unproven``."""
    engine = skv.Engine()
    cache = skv.Cache.from_arrays(arrays(), fingerprint=MODEL, request_id=REQUEST)
    options: dict[str, Any] = {"strategy": "raw"} if budget is None else {"budget": budget, "unproven": True}
    return engine.encode(cache, skv.Plan(engine, **options).solve(cache))


def check(data: object, budget: float | None, how: str) -> None:
    """The decode side: opens, verifies and decodes the bytes that came."""
    payload = skv.Payload.open(data)
    out = [(np.empty_like(k), np.empty_like(v)) for k, v in arrays()]
    skv.Engine().decode(payload, skv.Cache.from_arrays(out, fingerprint=MODEL, request_id=REQUEST))
    equal = all(np.array_equal(a, b) for wanted, got in zip(arrays(), out) for a, b in zip(wanted, got))
    if equal != (budget is None):
        raise SystemExit(f"{how}: the cache is {'' if equal else 'not '}bit-equal")
    name = "raw" if budget is None else f"{budget:.2f}"
    print(
        f"{how}: {name}: {payload.nbytes} bytes came, {payload.nbytes / payload.raw_bytes:.3f} of raw, verified and decoded"
    )


def need(module: str) -> Any:
    """A module of a package that may be missing or not load here: then says why, and ends with status 77."""
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:
        print(f"SKIPPED: {module} does not load: {error} (scripts/setup.sh --stacks installs it)", file=sys.stderr)
        raise SystemExit(SKIPPED) from None
