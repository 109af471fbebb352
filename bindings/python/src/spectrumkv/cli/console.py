# SPDX-License-Identifier: Apache-2.0
"""What the commands share: consoles, error reports, formatting."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from spectrumkv.errors import LibraryError, SpectrumKVError
from spectrumkv.payload import Receipt

F = TypeVar("F", bound=Callable[..., Any])


def out() -> Console:
    """Standard output; wide enough for tables when it is not a terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=160, no_color=True)


def err() -> Console:
    """Standard error."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def fail(message: str) -> typer.Exit:
    """Says what went wrong; raise the result to end with exit code 1."""
    err().print(f"error: {message}", style="red", markup=False)
    return typer.Exit(1)


def reports_errors(command: F) -> F:
    """Turns expected failures of a command into one line and exit code 1."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except (SpectrumKVError, LibraryError, OSError, ValueError) as error:
            raise fail(str(error)) from error
        except ModuleNotFoundError as error:
            raise fail(f"{error} (pip install 'spectrumkv[cli,plot,llamacpp]')") from error

    return wrapper  # type: ignore[return-value]


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.2f} {unit}"
        count /= 1024
    raise AssertionError


def milliseconds(nanoseconds: int) -> str:
    """A time, or a dash when the step did not happen."""
    return f"{nanoseconds / 1e6:.2f} ms" if nanoseconds else "–"


def receipt_table(receipt: Receipt, title: str) -> Table:
    """A receipt as two columns."""
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column()
    table.add_row("raw (16 bits an element)", f"{receipt.raw_bytes:,} B")
    table.add_row("payload", f"{receipt.payload_bytes:,} B = {receipt.ratio:.4f} of raw")
    budget = (
        f"{receipt.budget_bytes:,} B = {receipt.budget_bytes / receipt.raw_bytes:.4f}" if receipt.budget_bytes else "–"
    )
    table.add_row("budget", budget)
    table.add_row("code", receipt.code.name.lower())
    table.add_row("scored by", receipt.scored.name.lower())
    for name, rows in (("K rows", receipt.k_rows), ("V rows", receipt.v_rows)):
        table.add_row(name, ", ".join(f"{n:,} {tier.words}" for tier, n in rows.items() if n) or "none")
    for name, value in (
        ("score", receipt.score_ns),
        ("plan", receipt.plan_ns),
        ("encode", receipt.encode_ns),
        ("decode", receipt.decode_ns),
        ("wire", receipt.wire_ns),
    ):
        if value:
            table.add_row(name, milliseconds(value))
    if receipt.break_even_bits_per_s:
        table.add_row("raw is faster above", f"{receipt.break_even_bits_per_s / 1e9:.1f} Gb/s")
    return table
