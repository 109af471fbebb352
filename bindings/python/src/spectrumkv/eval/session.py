# SPDX-License-Identifier: Apache-2.0
"""What every protocol with a model begins with: the model, its context, the text, and the settings that name them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from spectrumkv._abi import library
from spectrumkv.engine import Engine
from spectrumkv.errors import SpectrumKVError
from spectrumkv.eval import text
from spectrumkv.eval.arms import RAW, Arm, ArmError, arms
from spectrumkv.eval.inject import LayerInjection, injections, settle
from spectrumkv.eval.prompt import Prompt, prefill
from spectrumkv.eval.results import Results, Row
from spectrumkv.eval.steps import Steps, Update
from spectrumkv.llamacpp import LlamaContext
from spectrumkv.models import MODELS, fetch, full_precision
from spectrumkv.profile import Profile

WEIGHTS: Final = ("f32", "as-is")
_CONTEXT_STEP: Final = 256


@dataclass(frozen=True)
class Common:
    """Options that every protocol with a model has."""

    model: str
    text: Path | None
    strategies: tuple[str, ...]
    budgets: tuple[float, ...]
    queries: int
    windows: int
    weights: str
    inject: str
    threads: int
    json: Path | None
    profile: Path | None = None


@dataclass
class Session:
    """A loaded model and the text."""

    options: Common
    context: LlamaContext
    engine: Engine
    arms: list[Arm]
    content: str
    steps: Steps
    profile: Profile | None

    def settings(self, **more: Any) -> dict[str, Any]:
        """What makes two runs' rows comparable."""
        return {
            "model": self.context.path.name,
            "model_fingerprint": self.context.fingerprint.hex(),
            "text_sha256": hashlib.sha256(self.content.encode()).hexdigest(),
            "library": library().version(),
            "weights": self.options.weights,
            "queries": self.options.queries,
            "inject": self.options.inject,
            "profile_sha256": None
            if self.options.profile is None
            else hashlib.sha256(self.options.profile.read_bytes()).hexdigest(),
            **more,
        }

    def missing(self, results: Results, window: int) -> list[Arm]:
        """The arms that still have to be run in a window; raw first, for it checks the harness."""
        return [arm for arm in self.arms if results.row(window, arm.key) is None]


def model_file(model: str | Path, weights: str, steps: Steps) -> Path:
    """The GGUF file of a model's name or of a path, its weights as asked for. Raises ModelError, FileNotFoundError."""
    if isinstance(model, str) and model in MODELS:
        with steps.step(f"model: {model}") as update:
            path = fetch(model, lambda _what, done, total: update(done, total))
    else:
        path = Path(model)
        if not path.is_file():
            raise FileNotFoundError(f'model "{model}": no such file, and none of {", ".join(sorted(MODELS))}')
    if weights == "f32":
        with steps.step("model: weights as f32 (made once)"):
            path = full_precision(path)
    return path


@contextmanager
def session(options: Common, tokens: int, steps: Steps) -> Iterator[Session]:
    """Loads everything; ``tokens`` is the most that the context must hold."""
    path, published = text.find(options.text)
    if not published and options.text is None:
        steps.say(
            f"note: WikiText-2 is not beside the checkout, using {path.name}: figures differ from the published ones"
        )
    profile = None if options.profile is None else Profile.open(options.profile.read_text(encoding="utf-8"))
    with Engine(threads=options.threads) as engine:
        chosen = arms(engine, options.strategies, options.budgets)  # an unknown name fails before the model is loaded
        model = model_file(options.model, options.weights, steps)
        n_ctx = -(-tokens // _CONTEXT_STEP) * _CONTEXT_STEP
        with LlamaContext(model, n_ctx=n_ctx, threads=options.threads) as context:
            steps.say(f"{context.description}, {len(chosen)} arms, {engine.describe()}")
            yield Session(options, context, engine, chosen, path.read_text(encoding="utf-8"), steps, profile)


def prepare(session: Session, tokens: list[int], update: Update) -> tuple[Prompt, list[LayerInjection] | None]:
    """Prefills a prompt; with an injection, its cache is the one that the injected one stands for exactly."""
    prompt = prefill(session.context, tokens, session.options.queries, update)
    if session.options.inject == "none":
        return prompt, None
    injection = injections(session.options.inject, prompt.kv_heads, session.context.rotary_pairs)
    return replace(prompt, state=settle(prompt.state, injection)), injection


def run_arms(
    session: Session, results: Results, window: int, todo: Sequence[Arm], work: float, measure: Callable[[Arm], Row]
) -> None:
    """Measures the arms in one window, adding a row each. An arm that the library or the harness refuses gets a row with
    its ``"error"``, and the others go on; raw must not fail."""
    for number, arm in enumerate(todo):
        name = f"{window + 1} of {session.options.windows}, arm {number + 1} of {len(todo)}: {arm.key}"
        with session.steps.step(name, work):
            try:
                row = measure(arm)
            except (SpectrumKVError, ArmError) as error:
                if arm.strategy == RAW:
                    raise
                session.steps.say(f"{arm.key}: {error}")
                row = {"strategy": arm.strategy, "budget": arm.budget, "error": str(error)}
        results.add(window, arm.key, row)
