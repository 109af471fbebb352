# SPDX-License-Identifier: Apache-2.0
"""``spectrumkv top``."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from spectrumkv.cli.console import fail, out, reports_errors, size
from spectrumkv.metrics import FORMAT

_BARS = " ▁▂▃▄▅▆▇█"


@reports_errors
def top(
    files: Annotated[list[Path], typer.Argument(help="Files that spectrumkv.metrics.Exporter writes.")],
    once: Annotated[bool, typer.Option("--once", help="Show one snapshot and end.")] = False,
    interval: Annotated[float, typer.Option(min=0.05, help="Seconds between looks.")] = 1.0,
) -> None:
    """Show what endpoints are doing: rates, transfers under way, outcomes, times, latest events. Ctrl-C ends it."""
    now = [read(file) for file in files]
    if once:
        out().print(render(now, [None] * len(files)))
        return
    console = out()
    before: list[dict[str, Any] | None] = [None] * len(files)
    try:
        with Live(render(now, before), console=console, screen=console.is_terminal, auto_refresh=False) as live:
            while True:
                time.sleep(interval)
                latest = [read(file) for file in files]
                before = [o if o["time"] < n["time"] else b for o, n, b in zip(now, latest, before, strict=True)]
                now = latest
                live.update(render(now, before), refresh=True)
    except KeyboardInterrupt:
        return


def read(file: Path) -> dict[str, Any]:
    """A snapshot. Raises with a reason if the file is none."""
    try:
        snapshot = json.loads(file.read_text())
    except FileNotFoundError:
        raise fail(f"{file}: not there (the endpoint ended, or nothing exports to it)") from None
    except json.JSONDecodeError as error:
        raise fail(f"{file}: no JSON: {error}") from error
    if not isinstance(snapshot, dict) or snapshot.get("format") != FORMAT:
        raise fail(f"{file}: not written by spectrumkv.metrics.Exporter ({FORMAT!r} is missing)")
    return snapshot


def render(now: list[dict[str, Any]], before: list[dict[str, Any] | None]) -> Group:
    """One table over all endpoints, and the latest events of all."""
    table = Table(title="spectrumkv endpoints", title_justify="left")
    for column in ("endpoint", "conns", "out/in", "sent", "received", "MB/s out", "MB/s in", "failed", "stalls"):
        table.add_column(column, justify="left" if column == "endpoint" else "right")
    table.add_column("transfer time")
    table.add_column("age", justify="right")
    for snapshot, old in zip(now, before, strict=True):
        stats = snapshot["stats"]
        age = time.time() - snapshot["time"]
        stale = age > 3 * snapshot["interval"] + 1
        table.add_row(
            snapshot["name"] or f"pid {snapshot['pid']}",
            str(stats["conns"]),
            f"{stats['sending']}/{stats['receiving']}",
            f"{stats['sent_ok']} ({size(stats['bytes_sent'])})",
            f"{stats['received_ok']} ({size(stats['bytes_received'])})",
            _rate(snapshot, old, "bytes_sent"),
            _rate(snapshot, old, "bytes_received"),
            Text(str(stats["failed"]), style="red" if stats["failed"] else ""),
            str(stats["credit_stalls"]),
            histogram(stats["time_log2"]),
            Text(f"{age:.0f} s", style="red" if stale else ""),
        )
    return Group(table, _events(now))


def _rate(now: dict[str, Any], old: dict[str, Any] | None, name: str) -> str:
    if old is None:
        return "–"
    seconds = (now["monotonic_ns"] - old["monotonic_ns"]) / 1e9
    return f"{(now['stats'][name] - old['stats'][name]) / seconds / 1e6:.1f}" if seconds > 0 else "–"


def histogram(bins: list[int]) -> str:
    """Bars from the first to the last bin that counts, with their bounds (bins are powers of two of a microsecond)."""
    used = [i for i, count in enumerate(bins) if count]
    if not used:
        return "–"
    most = max(bins)
    shown = bins[used[0] : used[-1] + 1]
    bars = "".join(_BARS[-(-count * (len(_BARS) - 1) // most)] for count in shown)
    return f"{_time(2 ** used[0])} {bars} {_time(2 ** (used[-1] + 1))}"


def _time(microseconds: float) -> str:
    for unit in ("µs", "ms"):
        if microseconds < 1000:
            return f"{microseconds:.0f} {unit}"
        microseconds /= 1000
    return f"{microseconds:.0f} s"


def _events(now: list[dict[str, Any]]) -> Table:
    table = Table(title="latest events", title_justify="left")
    for column in ("age", "endpoint", "conn", "event", "status", "key", "bytes", "took"):
        table.add_column(column, justify="left" if column in ("endpoint", "event", "status") else "right")
    events = [(event["time_ns"], snapshot, event) for snapshot in now for event in snapshot["events"]]
    for _, snapshot, event in sorted(events, key=lambda item: item[0])[-15:]:
        way = "" if not event["transfer"] else " →" if event["sending"] else " ←"
        table.add_row(
            f"{(snapshot['monotonic_ns'] - event['time_ns']) / 1e9:.1f} s",
            snapshot["name"] or f"pid {snapshot['pid']}",
            str(event["conn"]),
            event["kind"].lower().replace("_", " ") + way,
            Text(event["status"], style="" if event["status"] == "OK" else "red"),
            str(event["key"]) if event["transfer"] else "",
            size(event["bytes"]) if event["transfer"] else "",
            f"{event['duration_ns'] / 1e6:.2f} ms" if event["duration_ns"] else "",
        )
    return table
