# SPDX-License-Identifier: Apache-2.0
"""Protocol P1: a model continues from the decoded cache.

For each window of a text: prefill the prompt once, keeping its last queries; teacher-force the continuation on the
original cache (the reference). Then for each arm: encode, take the payload's real bytes, open, decode into an emptied
context, teacher-force the same tokens. Measured against the reference: KL, perplexity, top-1; the x-axis is payload bytes
by the cache's bytes at 16 bits an element, everything counted. The raw arm always runs first and must give bit-equal
logits: else the harness itself is broken, and it says so (sliding-window models: see ``_REORDERED``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectrumkv.eval import text
from spectrumkv.eval.arms import RAW, Arm
from spectrumkv.eval.inject import LayerInjection
from spectrumkv.eval.prompt import Prompt
from spectrumkv.eval.record import record
from spectrumkv.eval.results import Results, Row
from spectrumkv.eval.session import Common, Session, prepare, run_arms, session
from spectrumkv.eval.steps import Steps
from spectrumkv.eval.transfer import Sender
from spectrumkv.quality import (
    bootstrap_interval,
    kl_per_row,
    negative_log_likelihood,
    top1_agreement,
)

KIND = "p1"
# llama.cpp keeps a sliding window's cells as a ring; a restored state has them in order, so sums run in another order.
# Gemma 3 270M with f32 weights: KL 0.000001 (llama.cpp's own restore of its own state gives the same).
_REORDERED = 1e-5


@dataclass(frozen=True)
class Options:
    """What the command was asked for."""

    common: Common
    tokens: int
    continuation: int
    generate: int
    record: Path | None
    """Folder for the first window's payloads and tensors, or None."""


@dataclass(frozen=True)
class _Reference:
    prompt: Prompt
    injection: list[LayerInjection] | None
    forced: list[int]
    logits: NDArray[np.float32]
    targets: NDArray[np.int64]
    text: str


def run(options: Options, steps: Steps) -> Results:
    """Runs every arm in every window that the file does not hold yet. Raises RuntimeError if raw is not bit-equal."""
    room = options.tokens + max(options.continuation + 1, options.generate)
    with session(options.common, room, steps) as made:
        context = made.context
        settings = made.settings(
            tokens=options.tokens, continuation=options.continuation, start_tokens=list(context.start_tokens),
            generate=options.generate,
        )  # fmt: skip
        results = Results(options.common.json, KIND, settings)
        # Windows are prompt + continuation apart; each has one token more, which the last of them predicts.
        length = options.tokens + options.continuation + 1
        needed = 10 * length * options.common.windows + 1000  # twice the usual characters a token
        windows = text.windows(
            context.tokenize(made.content[:needed], add_bos=False), length, options.common.windows,
            stride=length - 1, start=context.start_tokens,
        )  # fmt: skip
        todo = [made.missing(results, number) for number in range(len(windows))]
        steps.expect(sum((length + len(arms) * options.continuation) for arms in todo if arms))
        for number, (tokens, arms) in enumerate(zip(windows, todo)):
            if arms:
                _window(made, results, options, number, tokens, arms)
            else:
                steps.say(f"window {number + 1} of {len(windows)}: already in {options.common.json}")
    return results


def _window(made: Session, results: Results, options: Options, number: int, tokens: list[int], arms: list[Arm]) -> None:
    reference = _evaluate(made, options, number, tokens)
    folder = options.record if number == 0 else None
    if folder is not None:
        record(folder, reference.prompt)
    with Sender(made.engine, made.context, reference.prompt, reference.injection, made.profile) as sender:

        def measure(arm: Arm) -> Row:
            return _measure(made, options, reference, sender, arm, folder, number)

        run_arms(made, results, number, arms, options.continuation, measure)


def _evaluate(made: Session, options: Options, number: int, tokens: list[int]) -> _Reference:
    context, name = made.context, f"window {number + 1} of {made.options.windows}"
    with made.steps.step(f"{name}: prefill of {options.tokens} tokens", options.tokens) as update:
        prompt, injection = prepare(made, tokens[: options.tokens], update)
    forced = tokens[options.tokens : options.tokens + options.continuation + 1]
    with made.steps.step(f"{name}: reference of {options.continuation} tokens", options.continuation) as update:
        context.import_state(prompt.state)
        logits = context.evaluate(forced[:-1], options.tokens, "all", update)
        assert logits is not None
        written = _continue(made, options, prompt, prompt.state, number)
    return _Reference(prompt, injection, forced, logits, np.asarray(forced[1:]), written)


def _continue(made: Session, options: Options, prompt: Prompt, state: NDArray[np.uint8], number: int) -> str:
    """Greedy text from a cache, in the first window only. The first token is the prefill worker's."""
    if number or not options.generate:
        return ""
    made.context.import_state(state)
    return made.context.detokenize(made.context.greedy(prompt.logits, options.tokens, options.generate))


def _measure(
    made: Session, options: Options, reference: _Reference, sender: Sender, arm: Arm, folder: Path | None, number: int
) -> Row:
    delivery = sender.send(arm)
    if folder is not None:
        (folder / f"{arm.key.replace('/', '_')}.skv").write_bytes(delivery.data)
    context = made.context
    context.import_state(delivery.state)
    logits = context.evaluate(reference.forced[:-1], options.tokens, "all")
    assert logits is not None
    equal = logits.tobytes() == reference.logits.tobytes()
    if arm.strategy == RAW and not equal:
        kl = float(kl_per_row(reference.logits, logits).mean())
        if not context.sliding_window or kl > _REORDERED:
            raise RuntimeError(
                f"the lossless arm's logits differ from the original's (KL {kl:.3g}): the harness is broken"
            )
    row = delivery.facts(arm) | {
        "tokens": len(reference.targets),
        "kl": float(kl_per_row(reference.logits, logits).mean()),
        "nll": float(negative_log_likelihood(logits, reference.targets).mean()),
        "reference_nll": float(negative_log_likelihood(reference.logits, reference.targets).mean()),
        "top1": top1_agreement(reference.logits, logits),
        "bit_equal": equal,
    }
    written = _continue(made, options, reference.prompt, delivery.state, number)
    return row | {"text": written, "reference_text": reference.text} if written else row


# ---------------------------------------------------------------------------------------------------- summary


def summary(rows: list[Row]) -> list[dict[str, Any]]:
    """One entry an arm, in the order of the rows: means over its windows, and 95 % intervals by resampling windows.

    ``kl_less`` is the paired comparison: the interval, over the windows that both have, of this arm's KL minus that of
    the first strategy at the same budget (None for that one itself, and with fewer than two windows).
    """
    by_arm: dict[str, dict[int, Row]] = {}
    for row in rows:
        if "error" not in row:
            by_arm.setdefault(row["arm"], {})[row["window"]] = row
    first: dict[float | None, str] = {}
    for arm, windows in by_arm.items():
        some = next(iter(windows.values()))
        if some["strategy"] != RAW:
            first.setdefault(some["budget"], arm)
    return [_entry(arm, windows, by_arm, first) for arm, windows in by_arm.items()]


def _entry(
    arm: str, windows: dict[int, Row], by_arm: dict[str, dict[int, Row]], first: dict[float | None, str]
) -> dict[str, Any]:
    own = list(windows.values())
    some = own[0]
    change = np.array([row["nll"] - row["reference_nll"] for row in own])
    kl = np.array([row["kl"] for row in own])
    interval = _interval(change)
    base = first.get(some["budget"], arm)
    both = [] if base == arm else sorted(windows.keys() & by_arm[base].keys())
    less = _interval(np.array([windows[i]["kl"] - by_arm[base][i]["kl"] for i in both]))
    return {
        "arm": arm,
        "strategy": some["strategy"],
        "budget": some["budget"],
        "windows": len(own),
        "ratio": sum(row["payload_bytes"] for row in own) / sum(row["raw_bytes"] for row in own),
        "kl": float(kl.mean()),
        "kl_interval": _interval(kl),
        "ppl_delta": math.expm1(float(change.mean())),
        "ppl_delta_interval": None if interval is None else [math.expm1(bound) for bound in interval],
        "kl_less": less,
        "top1": float(np.mean([row["top1"] for row in own])),
        "bit_equal": all(row["bit_equal"] for row in own),
        "dropped": max(row["dropped"] for row in own),
        "note": some["note"],
    }


def _interval(values: NDArray[np.float64]) -> list[float] | None:
    return list(bootstrap_interval(values)) if len(values) > 1 else None
