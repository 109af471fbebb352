# SPDX-License-Identifier: Apache-2.0
"""How far one set of logits is from another: KL, perplexity, top-1. All in float64, a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.floating]
_ROWS = 64  # rows of a float64 block: 64 x 50k channels is 25 MB


def _blocks(rows: int) -> Iterator[slice]:
    for begin in range(0, rows, _ROWS):
        yield slice(begin, min(begin + _ROWS, rows))


def _log_softmax(logits: Logits) -> NDArray[np.float64]:
    x = logits.astype(np.float64)
    x -= x.max(axis=1, keepdims=True)
    x -= np.log(np.exp(x).sum(axis=1, keepdims=True))
    return x


def _same_shape(reference: Logits, other: Logits) -> None:
    if reference.ndim != 2 or reference.shape != other.shape or reference.shape[0] == 0:
        raise ValueError(f"logits of shape {reference.shape} and {other.shape}: wanted equal [rows, vocabulary]")


def kl_per_row(reference: Logits, other: Logits) -> NDArray[np.float64]:
    """KL(reference || other) of every row in nats. Both ``[rows, vocabulary]``."""
    _same_shape(reference, other)
    out = np.empty(reference.shape[0])
    for block in _blocks(len(out)):
        p = _log_softmax(reference[block])
        q = _log_softmax(other[block])
        out[block] = (np.exp(p) * (p - q)).sum(axis=1)
    return out


def kl_divergence(reference: Logits, other: Logits) -> float:
    """Mean KL(reference || other) in nats."""
    return float(kl_per_row(reference, other).mean())


def negative_log_likelihood(logits: Logits, targets: NDArray[np.integer]) -> NDArray[np.float64]:
    """-log p(target) of every row in nats; ``targets`` is ``[rows]``."""
    if logits.ndim != 2 or targets.shape != (logits.shape[0],):
        raise ValueError(f"logits of shape {logits.shape} for targets of shape {targets.shape}")
    out = np.empty(len(targets))
    for block in _blocks(len(out)):
        rows = _log_softmax(logits[block])
        out[block] = -rows[np.arange(len(rows)), targets[block]]
    return out


def perplexity(logits: Logits, targets: NDArray[np.integer]) -> float:
    """exp of the mean negative log likelihood."""
    return float(np.exp(negative_log_likelihood(logits, targets).mean()))


def ppl_delta(reference: Logits, other: Logits, targets: NDArray[np.integer]) -> float:
    """Relative change of perplexity: 0.01 is one percent worse."""
    change = negative_log_likelihood(other, targets) - negative_log_likelihood(reference, targets)
    return float(np.expm1(change.mean()))


def top1_agreement(reference: Logits, other: Logits) -> float:
    """Share of rows whose most likely token is the same."""
    _same_shape(reference, other)
    return float((reference.argmax(axis=1) == other.argmax(axis=1)).mean())


def bootstrap_interval(values: NDArray[np.float64], n: int = 1000, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean by resampling ``values`` (one per window or row) ``n`` times."""
    random = np.random.default_rng(seed)
    means = [float(values[random.integers(0, len(values), len(values))].mean()) for _ in range(n)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
