# SPDX-License-Identifier: Apache-2.0
"""What is compared: a strategy under a budget is an arm.

Strategy names go to the library as they are (``skv_plan_set_strategy``); nothing here knows which there are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from spectrumkv.cache import Cache
from spectrumkv.constants import Code, Pack, Status, Transform
from spectrumkv.engine import Engine
from spectrumkv.errors import BudgetError, StateError
from spectrumkv.plan import Plan, Scores

RAW: Final = "raw"
"""The lossless strategy: every protocol's check of itself."""


class ArmError(ValueError):
    """A protocol cannot run an arm: what its plan wants cannot be done there. Other arms can go on."""


@dataclass(frozen=True)
class Arm:
    """A strategy under a budget (None: it takes none)."""

    strategy: str
    budget: float | None

    @property
    def codec(self) -> str:
        """Whose codec: ``"default"`` or ``"paper"``."""
        return "paper" if self.strategy.partition(":")[0] == "greedy" else "default"

    @property
    def key(self) -> str:
        """Its name in results: ``"greedy@0.28"``, ``"raw"``."""
        return self.strategy if self.budget is None else f"{self.strategy}@{self.budget:g}"


_HADAMARD: Final = {"none": Transform.NONE, "8": Transform.HADAMARD8, "16": Transform.HADAMARD16}
_FORMS: Final = "embedded, packed, chunk=32..256, hadamard=none|8|16"


def new_plan(engine: Engine, strategy: str, **options: Any) -> Plan:
    """An unsolved plan with more of `Plan`'s options, which may also follow the strategy's name: ``NAME/embedded`` is a policy
    of the paper with this library's code and transforms, ``NAME/packed`` one whose payloads are packed, ``NAME/chunk=64`` one
    with channel vectors for so many tokens, ``NAME/hadamard=16`` one with that transform of K and V (none, 8 or 16).

    Arms are compared whatever a probe says of them: the paper's codec, which one may refuse, is part of the comparison.
    """
    name, *forms = strategy.split("/")
    for form in forms:
        key, _, value = form.partition("=")
        if form == "embedded":
            options["code"] = Code.EMBEDDED
        elif form == "packed":
            options["pack"] = Pack.ALWAYS
        elif key == "chunk" and value.isdecimal():
            options["chunk"] = int(value)
        elif key == "hadamard" and value in _HADAMARD:
            options["v_transforms"] = _HADAMARD[value]
            options["k_transforms"] = Transform.MEAN | Transform.BALANCE | _HADAMARD[value]
        else:
            raise ValueError(f"strategy {strategy!r}: wanted NAME, or NAME/FORM with forms of {_FORMS}")
    if name != "error-aware":  # the only one that a profile's multipliers are for
        options.pop("profile", None)
    return Plan(engine, strategy=name, unproven=True, **options)


def solve(arm: Arm, engine: Engine, cache: Cache, scores: Scores | None, **options: Any) -> tuple[Plan, str]:
    """The arm's solved plan, and a note ("" or why its budget is another one). ``options`` are more of `Plan`'s.

    The paper's codec has a higher floor than the default one: below it, the smallest it can do is taken.
    """
    if arm.budget is None:
        return new_plan(engine, arm.strategy, **options).solve(cache, scores), ""
    try:
        return new_plan(engine, arm.strategy, budget=arm.budget, **options).solve(cache, scores), ""
    except BudgetError as error:
        if error.status != Status.E_BUDGET:  # the other reason is that something was not permitted
            raise
        floor = max((int(number) for number in re.findall(r"\d+", error.message)), default=0)
        for slack in (1.0, 1.001, 1.01, 1.05):
            try:
                smallest = new_plan(engine, arm.strategy, budget_bytes=round(floor * slack), **options)
                plan = smallest.solve(cache, scores)
            except BudgetError:
                continue
            return plan, f"its smallest: {plan.nbytes / cache.raw_bytes:.4f} (asked for {arm.budget:.2f})"
        raise


def takes_budget(engine: Engine, strategy: str) -> bool:
    """Whether a strategy needs a budget, found by solving a tiny plan without one.

    Raises ArgumentError, the library's own, if there is no such strategy.
    """
    k, v = np.ones((2, 64, 1, 64), np.float16)
    with Cache.from_arrays([(k, v)], can_mask=True) as cache:
        try:
            new_plan(engine, strategy).solve(cache)
        except StateError:  # "no budget set"
            return True
        return False


def arms(engine: Engine, strategies: Iterable[str], budgets: Iterable[float]) -> list[Arm]:
    """Raw first, then every strategy at every budget from large to small; those that take no budget once."""
    sizes = sorted(set(budgets), reverse=True)
    result = [Arm(RAW, None)]
    for strategy in strategies:
        if takes_budget(engine, strategy):
            result.extend(Arm(strategy, size) for size in sizes)
        else:
            result.append(Arm(strategy, None))
    return list(dict.fromkeys(result))


def parse_strategies(text: str) -> list[str]:
    """Names between commas. Raises ValueError if there are none."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ValueError(f"strategies {text!r}: wanted names between commas")
    return names


def parse_budgets(text: str) -> list[float]:
    """Fractions between commas, or ranges ``first:last:step`` with both ends. Raises ValueError."""
    result: list[float] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        try:
            numbers = [float(number) for number in part.split(":")]
        except ValueError:
            raise ValueError(f"budget {part!r}: wanted a fraction, or first:last:step") from None
        if len(numbers) == 1:
            result.extend(numbers)
        elif len(numbers) == 3 and numbers[2] > 0 and numbers[0] <= numbers[1]:
            first, last, step = numbers
            count = math.floor((last - first) / step + 1e-6) + 1
            result.extend(round(first + i * step, 6) for i in range(count))
        else:
            raise ValueError(f"budget {part!r}: wanted a fraction, or first:last:step with first <= last, step > 0")
    for budget in result:
        if not 0 < budget <= 1:
            raise ValueError(f"budget {budget:g}: wanted a fraction above 0, at most 1")
    return result
