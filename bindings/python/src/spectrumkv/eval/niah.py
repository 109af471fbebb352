# SPDX-License-Identifier: Apache-2.0
"""Protocol P3: a model retrieves a needle from the decoded cache.

A needle is a sentence that gives a place's code; it lies at a known depth in a stretch of text, among other
needles and look-alikes (the same site with another room, another site with the same room). The context is prefilled and
its cache moved *before* anything is asked: what is worth keeping has to be decided without the question. Then each
question is the beginning of the needle's sentence, which a base model completes as well as a tuned one, and the greedily
generated digits are right or wrong. Every arm answers every question from a cache of its own.

Or the prompt ends in the question, as when one server prefills a request and another decodes it: each question then has
a prompt of its own, whose last token is evaluated on the decoded cache.

A decoder may fetch more precision when it is in doubt: when a token of an answer is ahead of the next likely one by less than so
many nats, an upgrade of the payload is fetched, and the question is asked again. An arm's bytes are then those of both.

Worked examples may stand between the context and the question: the same words about look-alikes, with their codes. A
small model that sees them knows what is wanted, and says a code or does not; without them it wavers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from spectrumkv.eval.arms import RAW, Arm
from spectrumkv.eval.results import Results, Row
from spectrumkv.eval.session import Common, Session, prepare, run_arms, session
from spectrumkv.eval.steps import Steps
from spectrumkv.eval.transfer import Sender
from spectrumkv.llamacpp import LlamaContext
from spectrumkv.quality import bootstrap_interval

KIND = "niah"

ENOUGH: Final = 0.8
"""Success of raw below which a run says little about the codec."""
CLEAR: Final = 1.0
"""Nats by which every token of raw's answer is ahead of the next likely one where it counts as clear."""
CASES: Final = 60
"""Cases below which it says little about anything."""
EXAMPLES: Final = 2
"""Worked examples before a question, unless asked otherwise: with them raw is clear about 55 of Gemma's 66 cases, without
about 13 (docs/guides/evaluation.md)."""

MORE: Final = 0.12
"""Share of the raw bytes that a decoder in doubt fetches, unless asked otherwise: what examples/upgrade.py ends with."""

_SITES: Final = (
    "Paris", "London", "Berlin", "Rome", "Madrid", "Vienna", "Moscow", "Tokyo", "Boston", "Chicago", "Dublin", "Athens", "Cairo",
    "Delhi", "Sydney", "Toronto",
)  # fmt: skip
_ROOMS: Final = ("office", "gate", "cellar", "archive", "workshop", "kitchen", "tower", "depot")
_QUESTION: Final = "The {place} code is"
_BEFORE: Final = "As we read above, "
# Without these words before the question the models retrieve about half as much, even from the raw cache.
_SENTENCE_END: Final = re.compile(r"(?<=[.!?])\s+")
_NUMBER: Final = re.compile(r"\s*\d+\D")  # with what follows it, which says that it has ended
_ROOM_FOR_ANSWER: Final = 96  # tokens of question and answer, at most
_ROOM_FOR_EXAMPLE: Final = 32  # tokens of one, at most


@dataclass(frozen=True)
class Options:
    """What the command was asked for."""

    common: Common
    tokens: int
    depths: tuple[float, ...]
    needles: int
    distractors: int
    digits: int
    seed: int
    in_prompt: bool = False
    """Whether the prompt ends in the question."""
    examples: int = 0
    """Look-alikes whose codes are told again before each question."""
    doubt: float | None = None
    """Nats below which a token of an answer is in doubt; None: an upgrade is never fetched."""
    more: float = MORE
    """Share of the raw bytes that an upgrade may take."""


@dataclass(frozen=True)
class Needle:
    """One code at one depth, a fraction of the context's sentences."""

    place: str
    code: str
    depth: float

    @property
    def question(self) -> str:
        """The beginning of the sentence."""
        return _QUESTION.format(place=self.place)

    @property
    def sentence(self) -> str:
        """The sentence."""
        return f"{self.question} {self.code}."

    def found_in(self, answer: str) -> bool:
        """Whether an answer begins with the code."""
        return re.match(rf"\s*{self.code}(?!\d)", answer) is not None


@dataclass(frozen=True)
class Haystack:
    """One context: its text, the needles that are asked for, and the look-alikes."""

    text: str
    asked: list[Needle]
    alike: list[Needle]

    def question(self, needle: Needle, examples: int) -> str:
        """What follows the context, up to the code."""
        told = [f"{_BEFORE}{other.sentence} " for other in self.alike[:examples]]
        return "\n\n" + "".join(told) + _BEFORE + needle.question


@dataclass(frozen=True)
class Asked:
    """A prompt whose cache is moved, and the questions to it: of each the tokens that the moved cache has not seen."""

    prompt: list[int]
    questions: list[tuple[Needle, list[int]]]


def haystacks(content: str, sentence_tokens: Any, options: Options, count: int) -> Iterator[Haystack]:
    """``count`` contexts of about ``options.tokens`` tokens, one stretch of the text after the other.

    Depths go round so that each is asked for equally often. ``sentence_tokens(text)`` counts tokens. Raises ValueError
    if the text is too short.
    """
    random = np.random.default_rng(options.seed)
    depths: list[float] = []
    sentences = iter(_SENTENCE_END.split(" ".join(content.split())))
    for number in range(count):
        while len(depths) < options.needles:
            depths.extend(random.permutation(options.depths).tolist())
        needles, others = _needles(random, [depths.pop(0) for _ in range(options.needles)], options)
        left = options.tokens - sum(sentence_tokens(needle.sentence) for needle in needles + others)
        stretch: list[str] = []
        while True:
            sentence = next(sentences, None)
            if sentence is None:
                raise ValueError(f"the text ends in context {number + 1}: wanted {count} of {options.tokens} tokens")
            left -= sentence_tokens(sentence)
            if left < 0:
                break
            stretch.append(sentence)
        yield Haystack(_insert(stretch, needles + others), needles, others)


def _needles(random: np.random.Generator, depths: list[float], options: Options) -> tuple[list[Needle], list[Needle]]:
    """Needles at these depths, and look-alikes of them at any."""
    sites, rooms = random.permutation(_SITES).tolist(), random.permutation(_ROOMS).tolist()
    low, high = 10 ** (options.digits - 1), 10**options.digits
    codes = (
        random.choice(np.arange(low, high), options.needles + options.distractors, replace=False).astype(str).tolist()
    )
    places = [(sites[i % len(sites)], rooms[i % len(rooms)]) for i in range(options.needles)]
    asked = [Needle(" ".join(place), codes.pop(), depth) for place, depth in zip(places, depths)]
    alike = [
        f"{other} {room}" if swap else f"{site} {other_room}"
        for swap in (False, True)
        for site, room in places
        for other, other_room in zip(sites[options.needles :], rooms[options.needles :])
    ]
    chosen = random.choice(sorted(set(alike)), options.distractors, replace=False).tolist()
    return asked, [Needle(place, codes.pop(), float(random.uniform())) for place in chosen]


def _insert(sentences: list[str], needles: list[Needle]) -> str:
    result = list(sentences)
    for needle in sorted(needles, key=lambda needle: -needle.depth):  # from the back, so that places stay
        result.insert(round(needle.depth * len(sentences)), needle.sentence)
    return " ".join(result)


def run(options: Options, steps: Steps) -> Results:
    """Asks every question in every arm that the file does not hold yet."""
    if options.needles + 1 > min(len(_SITES), len(_ROOMS)):
        raise ValueError(f"{options.needles} needles: wanted at most {min(len(_SITES), len(_ROOMS)) - 1}")
    if options.examples > options.distractors:
        raise ValueError(f"{options.examples} examples: wanted at most as many as look-alikes, {options.distractors}")
    common = options.common
    if options.in_prompt:
        common = replace(common, windows=common.windows * options.needles)
    room = _ROOM_FOR_ANSWER + options.examples * _ROOM_FOR_EXAMPLE
    with session(common, options.tokens + room, steps) as made:
        context = made.context
        settings = made.settings(
            tokens=options.tokens, depths=list(options.depths), needles=options.needles,
            distractors=options.distractors, digits=options.digits, seed=options.seed,
            question_in_prompt=options.in_prompt or None, examples=options.examples or None,
            doubt=options.doubt, more=None if options.doubt is None else options.more,
        )  # fmt: skip
        results = Results(options.common.json, KIND, settings)

        def count(text: str) -> int:
            return len(context.tokenize(text, add_bos=False))

        prompts = [
            asked
            for haystack in haystacks(made.content, count, options, options.common.windows)
            for asked in _asked(context, haystack, options)
        ]
        todo = [made.missing(results, number) for number in range(len(prompts))]
        # In tokens: each evaluated alone costs about as much as several of a batch.
        work = [len(asked.questions) * 25.0 for asked in prompts]
        steps.expect(sum(options.tokens + len(arms) * each for arms, each in zip(todo, work) if arms))
        for number, (asked, arms) in enumerate(zip(prompts, todo)):
            if arms:
                _prompt(made, results, options, number, asked, arms, work[number])
            else:
                steps.say(f"prompt {number + 1} of {len(prompts)}: already in {options.common.json}")
    return results


def _asked(context: LlamaContext, haystack: Haystack, options: Options) -> Iterator[Asked]:
    tokens = [*context.start_tokens, *context.tokenize(haystack.text, add_bos=False)][: options.tokens]
    questions = [
        (needle, context.tokenize(haystack.question(needle, options.examples), add_bos=False))
        for needle in haystack.asked
    ]
    if options.in_prompt:
        yield from (Asked(tokens + question[:-1], [(needle, question[-1:])]) for needle, question in questions)
    else:
        yield Asked(tokens, questions)


@dataclass(frozen=True)
class Answer:
    """What was generated."""

    tokens: list[int]
    text: str
    margins: list[float]
    """Of each token, how far it is ahead of the next likely one: nats."""
    least_margin: float
    """Of the number that the answer begins with, or of all of an answer that begins with none."""

    def margin_of(self, needle: Needle, context: LlamaContext) -> float | None:
        """The least one of a needle's code, or None for a wrong answer."""
        if not needle.found_in(self.text):
            return None
        # The code ends where the text of the first tokens holds it; what follows is not the answer's.
        count = range(1, len(self.tokens))
        ends = next((n for n in count if needle.code in context.detokenize(self.tokens[:n])), None)
        return min(self.margins[:ends])


def _ask(context: LlamaContext, state: NDArray[np.uint8], begin: int, question: list[int], options: Options) -> Answer:
    context.import_state(state)
    logits = context.evaluate(question, begin, "last")
    assert logits is not None
    margins: list[float] = []
    given = context.greedy(logits[0], begin + len(question), 2 * options.digits + 1, margins=margins)
    count = range(1, len(given) + 1)
    ended = next((n for n in count if _NUMBER.match(context.detokenize(given[:n]))), len(given) + 1)
    return Answer(given, context.detokenize(given), margins, min(margins[: max(ended - 1, 1)]))


def _prompt(
    made: Session, results: Results, options: Options, number: int, asked: Asked, arms: list[Arm], work: float
) -> None:
    context = made.context
    with made.steps.step(f"prompt {number + 1} of {made.options.windows}: prefill", options.tokens) as update:
        prompt, injection = prepare(made, asked.prompt, update)
    with Sender(made.engine, context, prompt, injection, made.profile) as sender:

        def measure(arm: Arm) -> Row:
            delivery = sender.send(arm)
            if arm.strategy == RAW and delivery.state.tobytes() != prompt.state.tobytes():
                raise RuntimeError("the lossless arm's state differs from the original's: the harness is broken")
            cases = []
            for needle, question in asked.questions:
                answer = _ask(context, delivery.state, len(asked.prompt), question, options)
                fetch = options.doubt is not None and arm.strategy != RAW and answer.least_margin < options.doubt
                if fetch and not delivery.upgrade_bytes:  # else it is there already
                    delivery = sender.upgrade(arm, delivery, options.more)
                    answer = _ask(context, delivery.state, len(asked.prompt), question, options)
                cases.append(
                    {
                        "depth": needle.depth,
                        "place": needle.place,
                        "code": needle.code,
                        "answer": answer.text,
                        "correct": needle.found_in(answer.text),
                        "margin": answer.margin_of(needle, context),
                    }
                )
            upgrade = {} if options.doubt is None else {"upgrade_bytes": delivery.upgrade_bytes}
            return delivery.facts(arm) | upgrade | {"cases": cases}

        run_arms(made, results, number, arms, work, measure)


# ---------------------------------------------------------------------------------------------------- summary


def summary(rows: list[Row]) -> list[dict[str, Any]]:
    """One entry an arm: success over all its cases with a 95 % interval by resampling prompts, by depth, among the
    cases that raw got right, and among those that it got right clearly."""
    solved: dict[tuple[int, str], float] = {
        (row["window"], case["place"]): case.get("margin") or 0.0
        for row in rows
        if row["arm"] == RAW and "error" not in row
        for case in row["cases"]
        if case["correct"]
    }
    by_arm: dict[str, list[Row]] = {}
    for row in rows:
        if "error" not in row:
            by_arm.setdefault(row["arm"], []).append(row)
    entries = []
    for arm, own in by_arm.items():
        cases = [(row["window"], case) for row in own for case in row["cases"]]
        depths = sorted({case["depth"] for _, case in cases})
        rates = np.array([np.mean([case["correct"] for case in row["cases"]]) for row in own])
        kept = [case["correct"] for window, case in cases if (window, case["place"]) in solved]
        clear = [case["correct"] for window, case in cases if solved.get((window, case["place"]), 0.0) >= CLEAR]
        entries.append(
            {
                "arm": arm,
                "strategy": own[0]["strategy"],
                "budget": own[0]["budget"],
                "windows": len(own),
                "ratio": sum(row["payload_bytes"] for row in own) / sum(row["raw_bytes"] for row in own),
                "cases": len(cases),
                "success": _rate([case["correct"] for _, case in cases]),
                "success_interval": list(bootstrap_interval(rates)) if len(rates) > 1 else None,
                "of_raw": _rate(kept),
                "clear_cases": len(clear),
                "of_clear": _rate(clear),
                "by_depth": {
                    f"{depth:g}": _rate([case["correct"] for _, case in cases if case["depth"] == depth])
                    for depth in depths
                },
                "note": "; ".join(filter(None, (own[0]["note"], _upgraded(own)))),
            }
        )
    return entries


def _upgraded(own: list[Row]) -> str:
    count = sum(row.get("upgrade_bytes", 0) > 0 for row in own)
    return f"upgraded in {count} of {len(own)} prompts" if count else ""


def weaknesses(entries: list[dict[str, Any]]) -> list[str]:
    """Why the figures say little, if they do."""
    (raw,) = [entry for entry in entries if entry["arm"] == RAW]
    result = []
    if raw["cases"] < CASES:
        result.append(f"{raw['cases']} cases: wanted at least {CASES}")
    if raw["success"] < ENOUGH:
        result.append(f"raw succeeds in {100 * raw['success']:.0f} %: wanted at least {100 * ENOUGH:.0f} %")
    return result


def _rate(values: list[bool]) -> float:
    return float(np.mean(values)) if values else 0.0
