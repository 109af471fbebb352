# SPDX-License-Identifier: Apache-2.0
"""Protocol P4: tensors alone, no model. Numpy only.

Queries attend to the original and to the decoded keys and values. Measured per layer and kv-head, and the worst is what
counts, for one broken head breaks an answer:

- logit SNR: power of the logits by power of their error, both after removing each query's mean over the keys it sees.
  The mean is removed because softmax ignores it: an error that shifts all logits of a query equally does no harm.
- attention KL: KL(original || decoded) of the attention weights, mean over queries.
- output SNR: power of the attention outputs by that of their error, which the values' error enters too.

Cosine similarity is not reported: with large constant key offsets it is near 1 for keys that are useless.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from spectrumkv._abi import library
from spectrumkv.cache import Cache
from spectrumkv.engine import Engine
from spectrumkv.errors import SpectrumKVError
from spectrumkv.eval.arms import Arm, arms, solve
from spectrumkv.eval.inject import INJECTIONS, injections
from spectrumkv.eval.results import Results, Row
from spectrumkv.payload import Payload
from spectrumkv.plan import Scores

KIND = "p4"

LOGIT_SNR_FLOOR: Final = 3.0
"""Decibels below which a head's logits are taken for broken: the error has half the signal's power. Measured, worst head:
the default at 0.28 of the bytes has 17 to 20 dB with and without offsets (synthetic, and SmolLM2's layers); the paper's 4
bits have 5 to 7 dB on plain synthetic keys and -7 to -14 dB with offsets."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Layer:
    """K, V ``[tokens, kv-heads, dim]`` (any float) and the last queries ``[n, heads, dim]``, all after RoPE."""

    k: NDArray[Any]
    v: NDArray[Any]
    q: NDArray[Any]


@dataclass(frozen=True)
class Options:
    """What the command was asked for."""

    tensors: Path | None
    strategies: tuple[str, ...]
    budgets: tuple[float, ...]
    inject: tuple[str, ...]
    tokens: int
    threads: int
    json: Path | None


def synthetic(
    tokens: int = 512, *, layers: int = 2, heads: int = 2, group: int = 3, dim: int = 64, seed: int = 0
) -> list[Layer]:
    """Keys and values that look like a model's where it matters to a codec: channels of uneven size and mean, neighbours
    alike, a sink at token 0, and queries that attend to few tokens."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(layers):
        size = np.exp(random.normal(0, 0.5, (1, heads, dim)))
        noise = random.normal(0, 1, (tokens, heads, dim))
        smooth = np.cumsum(noise, axis=0) / np.sqrt(np.arange(1, tokens + 1))[:, None, None]
        own = 0.8 * noise + 0.4 * smooth
        k = size * (own + random.normal(0, 1.5, (1, heads, dim)))
        k[0] *= 2
        v = random.normal(0, 1, (tokens, heads, dim)) * np.exp(random.normal(0, 0.3, (1, heads, dim)))
        sought = random.integers(0, tokens, (64, heads, group))
        q = np.stack([(own[sought[:, h], h] / size[0, h]) for h in range(heads)], axis=1)
        q = q * random.uniform(0.6, 1.6, q.shape[:3])[..., None] + random.normal(0, 0.4, q.shape)
        made.append(Layer(k.astype("f2"), v.astype("f2"), q.reshape(64, heads * group, dim).astype("f4")))
    return made


def recorded(path: Path) -> list[Layer]:
    """Tensors of a file with arrays k0, v0, q0, k1, …. Raises ValueError."""
    made: list[Layer] = []
    with np.load(path) as file:
        while f"k{len(made)}" in file.files:
            names = [f"{half}{len(made)}" for half in "kvq"]
            missing = [name for name in names if name not in file.files]
            if missing:
                raise ValueError(f"{path}: no array {', '.join(missing)}: P4 wants k, v and q of every layer")
            made.append(Layer(*(file[name] for name in names)))
    if not made:
        raise ValueError(f"{path}: no array k0")
    for number, layer in enumerate(made):
        shapes = f"layer {number}: k {layer.k.shape}, v {layer.v.shape}, q {layer.q.shape}"
        if not layer.k.ndim == layer.v.ndim == layer.q.ndim == 3 or layer.k.shape[:2] != layer.v.shape[:2]:
            raise ValueError(f"{path}: {shapes}: wanted [tokens, kv-heads, dim] and [n, heads, dim]")
        if layer.q.shape[2] != layer.k.shape[2] or layer.q.shape[1] % layer.k.shape[1] or len(layer.q) > len(layer.k):
            raise ValueError(f"{path}: {shapes}: wanted queries of the last tokens, heads a multiple of the kv-heads")
    return made


def injected(layers: list[Layer], name: str) -> list[Layer]:
    """The same tensors as a model with such keys would hold them (see `inject`)."""
    if name == "none":
        return layers
    result = []
    for number, layer in enumerate(layers):
        pairs = np.arange(layer.k.shape[2]).reshape(-1, 2)
        (injection,) = injections(name, [layer.k.shape[1]], pairs, seed=number)
        k = injection.apply(layer.k.astype("f4")).astype(layer.k.dtype)
        result.append(Layer(k, layer.v, injection.queries(layer.q.astype("f4"))))
    return result


# --------------------------------------------------------------------------------------------------- measures


def measure(original: Layer, decoded: Layer) -> list[dict[str, float | None]]:
    """Per kv-head ``logit_snr_db``, ``attention_kl``, ``output_snr_db``; an SNR is None where there is no error."""
    heads = original.k.shape[1]
    group = original.q.shape[1] // heads
    count, tokens = len(original.q), len(original.k)
    visible = np.arange(tokens)[None, :] <= np.arange(tokens - count, tokens)[:, None]
    result = []
    for head in range(heads):
        q = original.q[:, head * group : (head + 1) * group].astype("f8")
        kept = [
            _attend(q, layer.k[:, head].astype("f8"), layer.v[:, head].astype("f8"), visible)
            for layer in (original, decoded)
        ]
        (logits, weights, outputs), (logits2, weights2, outputs2) = kept
        error = _centred(logits2 - logits, visible)
        log_ratio = np.log(np.where(weights > 0, weights, 1)) - np.log(np.where(weights > 0, weights2, 1))
        result.append(
            {
                "logit_snr_db": _decibels(_centred(logits, visible), error),
                "attention_kl": float((weights * log_ratio).sum(axis=-1).mean()),
                "output_snr_db": _decibels(outputs, outputs2 - outputs),
            }
        )
    return result


def _attend(
    q: NDArray[np.float64], k: NDArray[np.float64], v: NDArray[np.float64], visible: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Logits, weights ``[n, group, tokens]`` and outputs ``[n, group, dim]`` of one kv-head."""
    logits = q @ k.T / math.sqrt(k.shape[1])
    seen = np.where(visible[:, None, :], logits, -np.inf)
    weights = np.exp(seen - seen.max(axis=-1, keepdims=True))
    # Not below the smallest normal number, so that a logarithm exists: 1e-308 changes no sum.
    weights = np.where(visible[:, None, :], np.maximum(weights, np.finfo("f8").tiny), 0.0)
    weights /= weights.sum(axis=-1, keepdims=True)
    return logits, weights, weights @ v


def _centred(logits: NDArray[np.float64], visible: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Less each query's mean over the keys that it sees; 0 where it sees none."""
    mask = visible[:, None, :]
    mean = np.where(mask, logits, 0).sum(axis=-1, keepdims=True) / mask.sum(axis=-1, keepdims=True)
    return np.where(mask, logits - mean, 0.0)


def _decibels(signal: NDArray[np.float64], error: NDArray[np.float64]) -> float | None:
    power = float((error**2).sum())
    return None if power == 0 else 10 * math.log10(max(float((signal**2).sum()), 1e-300) / power)


# --------------------------------------------------------------------------------------------------------- run


def transfer(engine: Engine, layers: list[Layer], arm: Arm) -> tuple[list[Layer], Payload, str]:
    """The tensors after their way through a payload, the payload, and a note (see `arms.solve`). Raises SpectrumKVError."""
    with Cache.from_arrays([(layer.k, layer.v) for layer in layers]) as cache, Scores() as scores:
        for number, layer in enumerate(layers):
            scores.set_queries(number, layer.q)
        engine.score(cache, scores)
        plan, note = solve(arm, engine, cache, scores)
        encoded = engine.encode(cache, plan)
    payload = Payload.open(bytes(encoded))
    decoded = [Layer(np.zeros_like(layer.k), np.zeros_like(layer.v), layer.q) for layer in layers]
    with Cache.from_arrays([(layer.k, layer.v) for layer in decoded]) as target:
        engine.decode(payload, target)
    return decoded, encoded, note


def run(options: Options) -> Results:
    """Every arm on every injection that the file does not hold yet. An arm that is refused gets a row with its error."""
    for name in options.inject:
        if name not in INJECTIONS:
            raise ValueError(f'injection "{name}": wanted one of {", ".join(INJECTIONS)}')
    layers = synthetic(options.tokens) if options.tensors is None else recorded(options.tensors)
    digest = hashlib.sha256()
    for layer in layers:
        for array in (layer.k, layer.v, layer.q):
            digest.update(np.ascontiguousarray(array).tobytes())
    settings = {
        "tensors": "synthetic" if options.tensors is None else options.tensors.name,
        "tensors_sha256": digest.hexdigest(),
        "library": library().version(),
    }
    results = Results(options.json, KIND, settings)
    elements = sum(layer.k.size + layer.v.size for layer in layers)
    with Engine(threads=options.threads) as engine:
        chosen = arms(engine, options.strategies, options.budgets)
        for name in options.inject:
            hard, window = injected(layers, name), INJECTIONS.index(name)
            for arm in chosen:
                if results.row(window, arm.key) is not None:
                    continue
                row: Row = {"inject": name, "strategy": arm.strategy, "budget": arm.budget}
                try:
                    row |= _row(engine, hard, arm, elements)
                except SpectrumKVError as error:
                    row["error"] = str(error)
                results.add(window, arm.key, row)
    return results


def _row(engine: Engine, layers: list[Layer], arm: Arm, elements: int) -> Row:
    decoded, payload, note = transfer(engine, layers, arm)
    receipt = payload.receipt()
    heads: list[dict[str, Any]] = [
        {"layer": number, "head": head, **facts}
        for number, (before, after) in enumerate(zip(layers, decoded))
        for head, facts in enumerate(measure(before, after))
    ]
    return {
        "raw_bytes": receipt.raw_bytes,
        "payload_bytes": receipt.payload_bytes,
        "bytes_per_element": receipt.payload_bytes / elements,
        "code": receipt.code.name.lower(),
        "logit_snr_db": _least(heads, "logit_snr_db"),
        "attention_kl": max(head["attention_kl"] for head in heads),
        "output_snr_db": _least(heads, "output_snr_db"),
        "worst": min(heads, key=lambda head: math.inf if head["logit_snr_db"] is None else head["logit_snr_db"]),
        "floor_db": LOGIT_SNR_FLOOR,
        "note": note,
    }


def _least(heads: list[dict[str, Any]], name: str) -> float | None:
    return min((head[name] for head in heads if head[name] is not None), default=None)
