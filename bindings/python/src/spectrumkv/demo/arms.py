# SPDX-License-Identifier: Apache-2.0
"""What the demo compares."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from spectrumkv.eval.arms import RAW, Arm

BUDGETS: Final = (0.50, 0.28)


def arms(extra: Iterable[float] = ()) -> list[Arm]:
    """Raw, then the default codec and the paper's at each budget, from large to small."""
    budgets = sorted({*BUDGETS, *extra}, reverse=True)
    return [
        Arm(RAW, None),
        *(Arm("error-aware", budget) for budget in budgets),
        *(Arm("greedy", budget) for budget in budgets),
    ]


def label(arm: Arm) -> str:
    """A short name for tables."""
    return RAW if arm.budget is None else f"{arm.codec} {arm.budget:.2f}"
