# SPDX-License-Identifier: Apache-2.0
"""The prefill process: evaluates the text, encodes its cache in every arm, sends it, and collects what came of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from spectrumkv.cache import Cache
from spectrumkv.demo.arms import arms, label
from spectrumkv.demo.peer import Child, PeerError
from spectrumkv.demo.report import Run, Sample
from spectrumkv.engine import Engine
from spectrumkv.errors import TransportError
from spectrumkv.eval import text
from spectrumkv.eval.arms import Arm, solve
from spectrumkv.eval.prompt import Prompt, prefill, set_queries
from spectrumkv.eval.session import model_file
from spectrumkv.eval.steps import Steps, Update
from spectrumkv.identity import hash_tokens
from spectrumkv.llamacpp import LlamaContext
from spectrumkv.payload import Receipt
from spectrumkv.plan import Scores
from spectrumkv.transport import Conn, Endpoint

CONTINUATION: Final = 256
"""Tokens teacher-forced after the prompt."""
HEARTBEAT: Final = 3.0
"""Seconds between pings: long, because evaluating may leave the machine no time for them."""
_CONTEXT_STEP: Final = 256


@dataclass(frozen=True)
class Options:
    """What the command was asked for. Timeouts are seconds."""

    tokens: int
    windows: int
    budgets: tuple[float, ...]
    queries: int
    generate: int
    threads: int
    weights: str
    model: Path | None
    text: Path | None
    out: Path
    timeout: float


@dataclass(frozen=True)
class Window:
    """One stretch of text, evaluated: its cache and what follows from it."""

    number: int
    prompt: Prompt
    forced: list[int]  # CONTINUATION tokens to evaluate and the one that the last of them predicts
    original: str


def token_windows(context: LlamaContext, options: Options, steps: Steps) -> list[list[int]]:
    """The text's tokens, a window each."""
    path, published = text.find(options.text)
    if not published and options.text is None:
        steps.say("!" * 100)
        steps.say(f"WikiText-2 is not beside the checkout: using {path.name}; figures differ from the published ones.")
        steps.say("!" * 100)
    length = options.tokens + CONTINUATION + 1
    # About five characters a token; twice that is enough and keeps the tokenizer quick.
    content = path.read_text(encoding="utf-8")[: 10 * length * options.windows + 1000]
    return text.windows(context.tokenize(content), length, options.windows)


def run(options: Options, steps: Steps) -> tuple[list[Run], str]:
    """Runs everything; returns the arms' outcomes and the model's description."""
    options.out.mkdir(parents=True, exist_ok=True)
    path = model_file(options.model or "smollm2", options.weights, steps)
    room = options.tokens + CONTINUATION + 1 + options.generate
    n_ctx = -(-room // _CONTEXT_STEP) * _CONTEXT_STEP
    reference = options.out / "reference.npy"
    with Child("spectrumkv.demo.decode") as child:
        try:
            with (
                LlamaContext(path, n_ctx=n_ctx, threads=options.threads) as context,
                Engine(threads=options.threads) as engine,
                Endpoint(model=context.fingerprint, heartbeat=HEARTBEAT) as endpoint,
            ):
                steps.say(f"prefill process: pid {os.getpid()}, {context.description}; decode process: pid {child.pid}")
                uri = endpoint.listen("tcp://127.0.0.1:0")
                child.send(
                    kind="start", uri=uri, model=str(path), n_ctx=n_ctx, threads=options.threads,
                    out=str(options.out), timeout=options.timeout,
                )  # fmt: skip
                windows = token_windows(context, options, steps)
                with steps.step("decode process: load the model and connect"):
                    conn = _accept(endpoint, child, options.timeout)
                runs = [Run(arm) for arm in arms(options.budgets)]
                for number, tokens in enumerate(windows):
                    window = _evaluate(context, number, tokens, options, steps, reference, child)
                    child.send(
                        kind="window", position=options.tokens, forced=window.forced, first=int(window.prompt.logits.argmax()),
                        generate=options.generate, reference=str(reference),
                    )  # fmt: skip
                    _arms(runs, window, context, engine, conn, child, options, steps)
                child.send(kind="stop")
                return runs, f"{path.name} ({context.description})"
        finally:
            reference.unlink(missing_ok=True)


def _accept(endpoint: Endpoint, child: Child, timeout: float) -> Conn:
    child.answer("ready", timeout)
    return endpoint.accept(timeout)


def _evaluate(
    context: LlamaContext,
    number: int,
    tokens: list[int],
    options: Options,
    steps: Steps,
    reference: Path,
    child: Child,
) -> Window:
    """Prefill, then what the original cache makes of the continuation: the reference."""

    def watched(update: Update) -> Update:  # the decode process has nothing to do yet, but may have died
        def both(done: int, total: int) -> None:
            child.check()
            update(done, total)

        return both

    forced = tokens[options.tokens :]
    name = f"window {number + 1} of {options.windows}"
    with steps.step(f"{name}: prefill of {options.tokens} tokens") as update:
        prompt = prefill(context, tokens[: options.tokens], options.queries, watched(update))
    with steps.step(f"{name}: reference logits of {CONTINUATION} tokens") as update:
        logits = context.evaluate(forced[:CONTINUATION], options.tokens, "all", watched(update))
        assert logits is not None
        np.save(reference, logits)
    with steps.step(f"{name}: {options.generate} tokens from the original cache") as update:
        context.import_state(prompt.state)
        first = int(prompt.logits.argmax())
        original = generate(context, first, options.tokens, options.generate, watched(update))
    return Window(number, prompt, forced, original)


def generate(context: LlamaContext, first: int, position: int, count: int, update: Update) -> str:
    """Greedy text that begins with ``first``, a token at ``position``. The context holds what comes before."""
    tokens = [first]
    while len(tokens) < count:
        logits = context.evaluate(tokens[-1:], position + len(tokens) - 1, "last")
        assert logits is not None
        tokens.append(int(logits[0].argmax()))
        update(len(tokens), count)
    return context.detokenize(tokens)


def _arms(
    runs: list[Run], window: Window, context: LlamaContext, engine: Engine, conn: Conn, child: Child, options: Options,
    steps: Steps,
) -> None:  # fmt: skip
    cache = Cache.from_llama(window.prompt.state, window.prompt.kv_heads)
    cache.set_identity(context.fingerprint, hash_tokens(window.prompt.tokens))
    with Scores() as scores:
        set_queries(scores, window.prompt)
        engine.score(cache, scores)
        for number, run in enumerate(runs):
            name = f"window {window.number + 1} of {options.windows}, arm {number + 1} of {len(runs)}: {label(run.arm)}"
            with steps.step(name) as update:
                plan, note = solve(run.arm, engine, cache, scores)
                payload = engine.encode(cache, plan)
                receipt = payload.receipt()
                try:
                    with conn.send(number, payload, options.timeout) as sending:
                        child.send(kind="arm", key=number)
                        sending.result(options.timeout)
                except TransportError as error:
                    child.check(0.5)
                    raise PeerError(f"sending to the decode process: {error}") from error
                result: dict[str, Any] = {}
                for message in child.receive("result", options.timeout):
                    if message["kind"] == "progress":
                        update(message["done"], message["total"])
                    result = message
            run.samples.append(_sample(run.arm, receipt, result, note, window))


def _sample(arm: Arm, receipt: Receipt, result: dict[str, Any], note: str, window: Window) -> Sample:
    uses_scores = arm.strategy == "error-aware"
    return Sample(
        raw_bytes=receipt.raw_bytes,
        payload_bytes=receipt.payload_bytes,
        scored=receipt.scored.name.lower(),
        k_rows={tier.name.lower(): count for tier, count in receipt.k_rows.items()},
        v_rows={tier.name.lower(): count for tier, count in receipt.v_rows.items()},
        score_ms=receipt.score_ns / 1e6 if uses_scores else 0.0,
        plan_ms=receipt.plan_ns / 1e6,
        encode_ms=receipt.encode_ns / 1e6,
        transfer_ms=result["transfer_ms"],
        decode_ms=result["decode_ms"],
        kl=result["kl"],
        nll=result["nll"],
        reference_nll=result["reference_nll"],
        top1=result["top1"],
        bit_equal=result["bit_equal"],
        note=note,
        original=window.original,
        received=result["text"],
    )
