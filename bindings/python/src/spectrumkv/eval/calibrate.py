# SPDX-License-Identifier: Apache-2.0
"""Makes a model's profile: what an error in each layer's K and V costs, and whether 4 bits are safe (``spectrumkv probe``).

Calibration: for a window of text and each layer and half, everything is lossless but this half, which is at 4 bits; the KL
of the continuation over the plan's own cost is the half's multiplier. Needles: the library's prompts, whose cache is
moved at the budget to be proven before the model answers. Logits: the verdict of the online probe on each window.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spectrumkv.cache import Cache
from spectrumkv.constants import NEEDLE_TRIALS, Code, Half, Probe, Scored, Tier, Verdict
from spectrumkv.engine import Engine
from spectrumkv.eval.prompt import Prompt, prefill, set_queries
from spectrumkv.eval.steps import Steps
from spectrumkv.llamacpp import LlamaContext
from spectrumkv.payload import Payload, Receipt
from spectrumkv.plan import Plan, Scores
from spectrumkv.profile import NeedleProbe, Profile
from spectrumkv.quality import kl_per_row

NEEDLE_BUDGET: Final = 0.3
"""Bytes by raw bytes at which the paper's probe runs (arXiv 2606.08635)."""
_ANSWER_TOKENS: Final = 12
_SINKS: Final = 4  # raw in every plan, the library's default


@dataclass(frozen=True)
class Calibration:
    """What was measured in one layer's half: KL with it at 4 bits, and the plan's cost with and without queries."""

    layer: int
    half: Half
    kl: float
    cost: float
    cost_unasked: float


def _through(engine: Engine, context: LlamaContext, cache: Cache, plan: Plan) -> NDArray[np.uint8]:
    """The state that arrives when a cache travels under a plan."""
    with plan, engine.encode(cache, plan) as encoded:
        data = bytes(encoded)
    with (
        Payload.open(data) as payload,
        Cache.to_llama(payload, context.v_trans, "f16", fingerprint=context.fingerprint) as target,
    ):
        engine.decode(payload, target)
        return np.frombuffer(target.blob, np.uint8).copy()


class _Trials:
    """Plans of a window in which one half is at 4 bits and all else is lossless."""

    def __init__(self, engine: Engine, cache: Cache, prompt: Prompt, profile: Profile) -> None:
        self._engine, self._cache, self._profile = engine, cache, profile
        self._tokens = _tokens_of(engine, cache)
        self._asked, self._unasked = Scores(), Scores()
        set_queries(self._asked, prompt)
        for scores in (self._asked, self._unasked):
            engine.score(cache, scores)

    def plan(self, layer: int, half: Half, *, asked: bool) -> Plan:
        plan = Plan(self._engine, budget=1.1, profile=self._profile, unproven=True)
        plan.solve(self._cache, self._asked if asked else self._unasked)
        for index, tokens in enumerate(self._tokens):
            for side in Half:
                wanted = np.full(tokens, Tier.RAW, np.uint8)
                if (index, side) == (layer, half):
                    wanted[_SINKS:] = Tier.FOUR_BIT
                plan.set_tiers(index, side, wanted.tobytes())
        return plan

    def close(self) -> None:
        self._asked.close()
        self._unasked.close()


def _tokens_of(engine: Engine, cache: Cache) -> list[int]:
    """Tokens of every layer, read from a lossless payload."""
    with Plan(engine, strategy="raw").solve(cache) as plan, engine.encode(cache, plan) as payload:
        return [payload.segment(layer).tokens for layer in range(payload.layers)]


def calibrate(
    context: LlamaContext,
    engine: Engine,
    windows: Iterable[tuple[list[int], list[int]]],
    profile: Profile,
    layers: int,
    queries: int,
    steps: Steps,
) -> list[Calibration]:
    """Adds the trials of windows (prompt and continuation tokens) to a profile and returns them."""
    done: list[Calibration] = []
    escalated, probed = 0, 0
    for number, (tokens, forced) in enumerate(windows):
        with steps.step(f"calibration text {number + 1}: prefill of {len(tokens)} tokens", len(tokens)) as update:
            prompt = prefill(context, tokens, queries, update)
        with Cache.from_llama(prompt.state, prompt.kv_heads) as cache:
            cache.set_identity(context.fingerprint, None)
            lossless = _through(engine, context, cache, Plan(engine, strategy="raw").solve(cache))
            context.import_state(lossless)
            reference = context.evaluate(forced, len(tokens), "all")
            assert reference is not None
            trials = _Trials(engine, cache, prompt, profile)
            with steps.step(
                f"calibration text {number + 1}: {2 * layers} layers and halves", 2 * layers * len(forced)
            ) as update:
                for layer in range(layers):
                    for half in Half:
                        plan = trials.plan(layer, half, asked=True)
                        cost = plan.cost(layer, half)
                        with trials.plan(layer, half, asked=False) as unasked:
                            cost_unasked = unasked.cost(layer, half)
                        context.import_state(_through(engine, context, cache, plan))
                        logits = context.evaluate(forced, len(tokens), "all")
                        assert logits is not None
                        kl = float(kl_per_row(reference, logits).mean())
                        done.append(Calibration(layer, half, kl, cost, cost_unasked))
                        update(2 * layer + half + 1, 2 * layers)
            trials.close()
            receipt = probe_logits(engine, cache, prompt)
            probed += 1
            escalated += receipt.int4 is Verdict.NO
            steps.say(
                f"logit probe on text {number + 1}: 4 bits {receipt.int4.name.lower()}, {receipt.escalated_layers} layers to 8 bits"
            )
    for trial in done:
        if trial.cost > 0:
            profile.calibrate(trial.layer, trial.half, Scored.QUERIES, trial.cost, trial.kl)
        if trial.cost_unasked > 0:
            profile.calibrate(trial.layer, trial.half, Scored.KV, trial.cost_unasked, trial.kl)
    if probed:
        word = Verdict.NO if escalated else Verdict.YES
        profile.set_verdict(Probe.LOGITS, word, probed - escalated, probed)
    return done


def probe_logits(engine: Engine, cache: Cache, prompt: Prompt, code: Code = Code.EMBEDDED) -> Receipt:
    """The logit probe's verdict on a prompt's cache, with this library's code and transforms or with the paper's code.

    In the receipt: ``int4``, ``worst_snr_db`` and whose it is, ``escalated_layers``.
    """
    tiers = (Tier.FOUR_BIT, Tier.EIGHT_BIT, Tier.RAW) if code is Code.PAPER else None  # the paper's code has no others
    with Scores() as scores:
        set_queries(scores, prompt)
        engine.score(cache, scores)
        with (
            Plan(engine, budget=0.6, code=code, k_tiers=tiers, v_tiers=tiers).solve(cache, scores) as plan,
            engine.encode(cache, plan) as payload,
        ):
            return payload.receipt()


def ask_needles(
    context: LlamaContext, engine: Engine, profile: Profile, words: int, queries: int, steps: Steps
) -> None:
    """Runs the needle probe and records its verdict."""
    with NeedleProbe(words) as probe:
        for trial in range(NEEDLE_TRIALS):
            tokens = context.tokenize(probe.prompt(trial))
            with steps.step(f"needle {trial + 1} of {NEEDLE_TRIALS}: {len(tokens)} tokens", len(tokens)) as update:
                prompt = prefill(context, tokens[:-1], queries, update)
                with Cache.from_llama(prompt.state, prompt.kv_heads) as cache, Scores() as scores:
                    cache.set_identity(context.fingerprint, None)
                    set_queries(scores, prompt)
                    engine.score(cache, scores)
                    plan = Plan(engine, budget=NEEDLE_BUDGET, profile=profile, unproven=True).solve(cache, scores)
                    lossless = _through(engine, context, cache, Plan(engine, strategy="raw").solve(cache))
                    moved = _through(engine, context, cache, plan)
                original = _answer(context, lossless, tokens)
                answer = _answer(context, moved, tokens)
                found = probe.answer(trial, answer)
            steps.say(
                f"needle {trial + 1}: {'found' if found else 'not found'}: {answer!r}; from the lossless cache: {original!r}"
            )
        probe.record(profile)


def _answer(context: LlamaContext, state: NDArray[np.uint8], tokens: list[int]) -> str:
    context.import_state(state)
    logits = context.evaluate(tokens[-1:], len(tokens) - 1, "last")
    assert logits is not None
    return context.detokenize(context.greedy(logits[0], len(tokens), _ANSWER_TOKENS))
