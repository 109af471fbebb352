# SPDX-License-Identifier: Apache-2.0
"""``spectrumkv demo``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from spectrumkv.cli.console import fail, out, reports_errors


@reports_errors
def demo(
    tokens: Annotated[int, typer.Option(min=64, max=7800, help="Tokens of the prompt whose cache is moved.")] = 1792,
    windows: Annotated[int, typer.Option(min=1, help="Stretches of the text to average over.")] = 1,
    budgets: Annotated[
        str, typer.Option(help="More budgets beside 0.50 and 0.28, as fractions of the raw cache: 0.4,0.24.")
    ] = "",
    queries: Annotated[int, typer.Option(min=1, help="Last queries of each layer that score the tokens.")] = 16,
    generate: Annotated[
        int, typer.Option(min=1, help="Tokens to generate from the original and each received cache.")
    ] = 40,
    threads: Annotated[
        int, typer.Option(min=0, help="Threads of each process (the two work in turn); 0: one a core, at most 8.")
    ] = 0,
    weights: Annotated[
        str,
        typer.Option(
            help="f32: the model's weights in full precision, so that what is measured is the cache's error alone; as-is:"
            " as the file has them (4-bit weights round activations too, which alone makes a KL of 0.003)."
        ),
    ] = "f32",
    model: Annotated[
        Path | None,
        typer.Option(
            help="A GGUF file. [default: SmolLM2-135M-Instruct, downloaded once]", exists=True, dir_okay=False
        ),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(
            help="The text. [default: WikiText-2 beside the checkout, else examples/text]", exists=True, dir_okay=False
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--out", help="Folder of report.json and report.png.")] = Path("build/demo"),
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that any one step may take.")] = 300.0,
) -> None:
    """Move a real model's KV cache between two processes over TCP, and measure what is lost.

    A prefill process evaluates a text with llama.cpp, then encodes the cache losslessly, with this library's codec and with
    the paper's, and sends each to a decode process, which continues from what it received. Printed for each: bytes, times,
    KL and perplexity against the original cache, and the text that both caches lead to. The same goes to report.json and
    report.png in --out.

    Exit code 1 if the lossless arm's logits are not equal in every bit, or anything fails.
    """
    # These need numpy, llama.cpp and matplotlib, which other commands do without.
    from spectrumkv.demo import report  # noqa: PLC0415
    from spectrumkv.demo.peer import PeerError  # noqa: PLC0415
    from spectrumkv.demo.prefill import Options, run  # noqa: PLC0415
    from spectrumkv.eval.steps import Steps  # noqa: PLC0415

    if weights not in {"f32", "as-is"}:
        raise typer.BadParameter("wanted f32 or as-is", param_hint="--weights")
    extra = tuple(float(part) for part in budgets.split(",") if part.strip())
    if any(not 0 < budget <= 1 for budget in extra):
        raise typer.BadParameter("budgets are fractions above 0, at most 1", param_hint="--budgets")
    options = Options(
        tokens=tokens,
        windows=windows,
        budgets=extra,
        queries=queries,
        generate=generate,
        threads=threads or min(8, len(os.sched_getaffinity(0))),
        weights=weights,
        model=model,
        text=text,
        out=output,
        timeout=timeout,
    )
    console = out()
    steps = Steps(console)
    try:
        with steps.interruptible():
            runs, name = run(options, steps)
    except (PeerError, RuntimeError) as error:
        raise fail(str(error)) from error
    report.print_texts(console, runs)
    console.print()
    console.print(report.table(runs))
    facts = {"windows": windows, "continuation_tokens": 256, "threads": options.threads, "queries": queries}
    json_path = report.write(output, runs, name, tokens, facts)
    png_path = report.plot(output, runs, f"{name}, {tokens} tokens, {windows} window{'s' if windows > 1 else ''}")
    console.print(f"written: {json_path}, {png_path}", markup=False, soft_wrap=True)
    if not runs[0].bit_equal:
        raise fail("the lossless arm's logits differ from the original's")
