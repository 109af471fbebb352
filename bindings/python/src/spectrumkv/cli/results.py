# SPDX-License-Identifier: Apache-2.0
"""``spectrumkv plot`` and ``spectrumkv report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spectrumkv.cli.console import out, reports_errors
from spectrumkv.payload import Payload


@reports_errors
def plot(
    source: Annotated[
        Path,
        typer.Argument(
            help="A results file of `spectrumkv eval`, or a payload (.skv) whose tiers are mapped.",
            exists=True,
            dir_okay=False,
        ),
    ],
    output: Annotated[Path, typer.Option("--out", help="The figure to write, .png or .svg.")],
) -> None:
    """Draw results: quality by measured bytes (P1), retrieval by depth and bytes (P3), signal by bytes (P4), or the tiers
    of a payload.

    Example: spectrumkv plot p1.json --out p1.svg
    """
    from spectrumkv.eval import charts, results  # noqa: PLC0415 (need matplotlib)

    if source.suffix == ".skv":
        with Payload.load(source) as payload:
            made = charts.tier_map(payload, source.stem)
    else:
        made = charts.figure(results.read(source))
    charts.save(made, output)
    out().print(f"written: {output}", markup=False, soft_wrap=True)


@reports_errors
def report(
    sources: Annotated[
        list[Path], typer.Argument(help="Results files of `spectrumkv eval`.", exists=True, dir_okay=False)
    ],
    output: Annotated[Path, typer.Option("--out", help="The page to write, .html.")],
) -> None:
    """Write one self-contained HTML page: tables, charts, and the text that each cache led to, side by side.

    Example: spectrumkv report p1.json niah.json p4.json --out results.html
    """
    from spectrumkv.eval import page, results  # noqa: PLC0415 (need matplotlib)

    page.write(output, [(source.name, results.read(source)) for source in sources])
    out().print(f"written: {output}", markup=False, soft_wrap=True)
