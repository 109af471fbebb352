# SPDX-License-Identifier: Apache-2.0
"""What is compared: one way to encode the cache is an arm."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from spectrumkv.cache import Cache
from spectrumkv.engine import Engine
from spectrumkv.errors import BudgetError
from spectrumkv.plan import Plan, Scores

BUDGETS: Final = (0.50, 0.28)


@dataclass(frozen=True)
class Arm:
    """A strategy under a budget (None: it takes none)."""

    strategy: str
    budget: float | None

    @property
    def codec(self) -> str:
        """Whose codec: ``"default"`` or ``"paper"``."""
        return "paper" if self.strategy == "greedy" else "default"

    @property
    def label(self) -> str:
        """A short name for tables."""
        return "raw" if self.budget is None else f"{self.codec} {self.budget:.2f}"


def arms(extra: Iterable[float] = ()) -> list[Arm]:
    """Raw, then the default codec and the paper's at each budget, from large to small."""
    budgets = sorted({*BUDGETS, *extra}, reverse=True)
    return [
        Arm("raw", None),
        *(Arm("error-aware", budget) for budget in budgets),
        *(Arm("greedy", budget) for budget in budgets),
    ]


def solve(arm: Arm, engine: Engine, cache: Cache, scores: Scores) -> tuple[Plan, str]:
    """The arm's solved plan, and a note ("" or why its budget is another one).

    The paper's codec has a higher floor than the default one: below it, the smallest it can do is taken.
    """
    if arm.budget is None:
        return Plan(engine, strategy=arm.strategy).solve(cache), ""
    try:
        # The arms are compared whatever a probe says of them: the paper's codec is part of the comparison.
        return Plan(engine, strategy=arm.strategy, budget=arm.budget, unproven=True).solve(cache, scores), ""
    except BudgetError as error:
        floor = max((int(number) for number in re.findall(r"\d+", error.message)), default=0)
        for slack in (1.0, 1.001, 1.01, 1.05):
            try:
                plan = Plan(engine, strategy=arm.strategy, budget_bytes=round(floor * slack), unproven=True).solve(
                    cache, scores
                )
            except BudgetError:
                continue
            return plan, f"its smallest: {plan.nbytes / cache.raw_bytes:.4f} (asked for {arm.budget:.2f})"
        raise
