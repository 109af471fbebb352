# SPDX-License-Identifier: Apache-2.0
"""How many bits a request's rows get: the budget asked for, or the next thing that is safe, and which of the two."""

from __future__ import annotations

from dataclasses import dataclass

from spectrumkv.cache import Cache
from spectrumkv.constants import DType, Pack
from spectrumkv.engine import Engine
from spectrumkv.errors import BudgetError
from spectrumkv.plan import Plan, Scores
from spectrumkv.profile import Profile


@dataclass(frozen=True)
class Chosen:
    """A solved plan.

    Attributes:
        name: ``"budget 0.28"``, ``"int8"`` or ``"raw"``.
        reason: why it is not what was asked for; empty when it is.
    """

    plan: Plan
    name: str
    reason: str


def choose(
    engine: Engine,
    cache: Cache,
    budget: float | str,
    dtype: DType,
    *,
    profile: Profile | None,
    unproven: bool,
    pack: bool,
    scores: Scores | None = None,
) -> Chosen:
    """Solves a plan for a cache.

    A budget that cannot be kept (no verdict on tiers below 8 bits, a no, or a prompt so short that it does not fit) gives 8-bit
    rows, and if those would be no smaller raw ones, which lose nothing.

    Args:
        scores: by the prompt's last queries; None scores keys and values.
        dtype: of the cache. Raw rows of a lossy plan are sent in 16 bits; a raw plan keeps them as they are.
    """
    if budget == "raw":
        return Chosen(_raw(engine, cache), "raw", "")
    half = DType.F16 if dtype == DType.F32 else None
    packing = Pack.ALWAYS if pack else None
    reason = ""
    if budget != "int8":
        try:
            plan = Plan(
                engine, budget=float(budget), profile=profile, unproven=unproven, raw_dtype=half, pack=packing
            ).solve(cache, scores)
            return Chosen(plan, f"budget {float(budget):g}", "")
        except BudgetError as error:
            reason = str(error)
    plan = Plan(engine, strategy="uniform-8", raw_dtype=half, pack=packing).solve(cache)
    if plan.nbytes < cache.raw_bytes:
        return Chosen(plan, "int8", reason)
    why = f"8-bit rows take {plan.nbytes} of {cache.raw_bytes} bytes"
    return Chosen(_raw(engine, cache), "raw", f"{reason}; {why}" if reason else why)


def _raw(engine: Engine, cache: Cache) -> Plan:
    return Plan(engine, strategy="raw").solve(cache)
