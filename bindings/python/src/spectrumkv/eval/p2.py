# SPDX-License-Identifier: Apache-2.0
"""Protocol P2: as the paper's released code measures (arXiv 2606.08635), to reproduce the shape of its tables.

Not what a decode worker sees (that is P1): the K and V projections of every layer are rounded *while* one pass scores the
whole window, before norms and RoPE, so that every token attends to rounded keys from the first layer on; one scale a token
over all heads; importance from the position alone; and bytes are nominal: bits of the codes by 16, with no metadata, no
scales and no sinks. Which token gets which tier is the library's plan for the strategy, on a cache whose rows are so wide
that metadata hardly count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from spectrumkv.cache import Cache
from spectrumkv.constants import Code, Half, Tier
from spectrumkv.engine import Engine
from spectrumkv.eval import text
from spectrumkv.eval.arms import RAW, Arm, ArmError, solve
from spectrumkv.eval.results import Results, Row
from spectrumkv.eval.session import Common, Session, run_arms, session
from spectrumkv.eval.steps import Steps
from spectrumkv.llamacpp import LlamaContext
from spectrumkv.quality import bootstrap_interval, negative_log_likelihood

KIND = "p2"

_WIDE: Final = 4096  # channels of the planned cache's rows: a 2-byte scale is a thousandth of a 4-bit row
_LARGEST: Final = {Tier.FOUR_BIT: 7, Tier.EIGHT_BIT: 127}

Floats = NDArray[np.float32]
Tiers = NDArray[np.uint8]


@dataclass(frozen=True)
class Options:
    """What the command was asked for."""

    common: Common
    tokens: int


def round_rows(rows: Floats, tiers: Tiers) -> Floats:
    """Rows ``[tokens, width]`` after the paper's symmetric quantizer: absmax/7 or absmax/127, one scale a token over all
    heads, kept in f32. Raw rows stay."""
    result = rows.copy()
    for tier, largest in _LARGEST.items():
        some = tiers == tier
        if not some.any():
            continue
        scale = np.abs(rows[some]).max(axis=1, keepdims=True) / np.float32(largest)
        scale = np.where(scale > 0, scale, np.float32(1))
        result[some] = np.clip(np.rint(rows[some] / scale), -largest, largest) * scale
    return result


def plan_tiers(engine: Engine, arm: Arm, tokens: int) -> tuple[Tiers, Tiers]:
    """The tier of every token's K and V. Raises SpectrumKVError."""
    random = np.random.default_rng(0)
    k, v = (random.normal(size=(tokens, 1, _WIDE)).astype(np.float16) for _ in range(2))
    with Cache.from_arrays([(k, v)]) as cache:
        plan, _ = solve(arm, engine, cache, None, sinks=0, code=Code.PAPER)
        k_tiers, v_tiers = (np.frombuffer(plan.tiers(0, half, tokens), np.uint8) for half in (Half.K, Half.V))
        return k_tiers, v_tiers


def nominal(tiers: tuple[Tiers, Tiers]) -> float:
    """Bits of the codes by 16. Raises `ArmError` for a tier that the paper's pass does not have."""
    bits = {Tier.RAW: 16, Tier.FOUR_BIT: 4, Tier.EIGHT_BIT: 8}
    both = np.concatenate(tiers)
    for tier in np.unique(both).tolist():
        if tier not in bits:
            raise ArmError(f"tier {Tier(tier).words}: the paper's pass has 4 bits, 8 bits and raw")
    return float(np.mean([bits[tier] / 16 for tier in both.tolist()]))


def run(options: Options, steps: Steps) -> Results:
    """Every arm in every window that the file does not hold yet. Raises RuntimeError if raw is not exact."""
    with session(options.common, options.tokens, steps) as made:
        context = made.context
        results = Results(options.common.json, KIND, made.settings(tokens=options.tokens))
        length = options.tokens + 1
        windows = text.windows(
            context.tokenize(made.content[: 10 * length * options.common.windows + 1000], add_bos=False), length,
            options.common.windows, stride=options.tokens, start=context.start_tokens,
        )  # fmt: skip
        todo = [made.missing(results, number) for number in range(len(windows))]
        steps.expect(sum(options.tokens * (1 + len(arms)) for arms in todo if arms))
        for number, (tokens, arms) in enumerate(zip(windows, todo)):
            if arms:
                _window(made, results, number, tokens, arms)
    return results


def _window(made: Session, results: Results, number: int, tokens: list[int], arms: list[Arm]) -> None:
    count = len(tokens) - 1
    with made.steps.step(f"window {number + 1} of {made.options.windows}: reference", count):
        reference = score(made.context, tokens)

    def measure(arm: Arm) -> Row:
        tiers = plan_tiers(made.engine, arm, count)
        size = nominal(tiers)

        def rewrite(half: Literal["K", "V"], _layer: int, position: int, rows: Floats) -> Floats:
            return round_rows(rows, tiers[half == "V"][position : position + len(rows)])

        with made.context.rewrite_projections(rewrite):
            nll = score(made.context, tokens)
        if arm.strategy == RAW and nll != reference:
            raise RuntimeError(f"the raw arm's NLL is {nll!r}, the reference's {reference!r}: the harness is broken")
        return {
            "strategy": arm.strategy,
            "budget": arm.budget,
            "nominal": size,
            "nll": nll,
            "reference_nll": reference,
            "tokens": count,
            "note": "",
        }

    run_arms(made, results, number, arms, count, measure)


def score(context: LlamaContext, tokens: list[int]) -> float:
    """Mean NLL of every token's successor, in one pass over an emptied context."""
    context.clear()
    parts = []
    for begin in range(0, len(tokens) - 1, context.n_batch):  # logits of all tokens at once would be gigabytes
        part = tokens[begin : min(begin + context.n_batch, len(tokens) - 1)]
        logits = context.evaluate(part, begin, "all")
        assert logits is not None
        parts.append(negative_log_likelihood(logits, np.asarray(tokens[begin + 1 : begin + 1 + len(part)])))
    return float(np.concatenate(parts).mean())


def summary(rows: list[Row]) -> list[dict[str, Any]]:
    """One entry an arm: nominal bytes, pooled perplexity and its change, with a 95 % interval by resampling windows."""
    by_arm: dict[str, list[Row]] = {}
    for row in rows:
        if "error" not in row:
            by_arm.setdefault(row["arm"], []).append(row)
    entries = []
    for arm, own in by_arm.items():
        change = np.array([row["nll"] - row["reference_nll"] for row in own])
        interval = bootstrap_interval(change) if len(own) > 1 else None
        entries.append(
            {
                "arm": arm,
                "strategy": own[0]["strategy"],
                "windows": len(own),
                "ratio": own[0]["nominal"],
                "ppl": math.exp(np.mean([row["nll"] for row in own])),
                "ppl_delta": math.expm1(float(change.mean())),
                "ppl_delta_interval": None if interval is None else [math.expm1(bound) for bound in interval],
            }
        )
    return entries
