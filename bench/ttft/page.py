# SPDX-License-Identifier: Apache-2.0
"""Merges results of several runs, and shows them: ``python -m ttft.page OUT.json IN.json…`` writes OUT.json, OUT.svg and prints
the tables of docs/results/transport.md."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from spectrumkv.eval.charts import _style, save
from spectrumkv.eval.results import write

Row = dict[str, Any]


def merge(files: list[Path]) -> Row:
    """One run's content with the cells of all. A way that two runs have is the first one's, but for the baselines, which each
    run has of its own."""
    contents = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    merged: Row = {**contents[0], "cells": [], "skipped": {}}
    for number, content in enumerate(contents):
        for name in ("settings", "raw_bytes"):
            if content[name] != merged[name]:
                raise ValueError(f"{files[number]}: {name} {content[name]}, wanted {merged[name]}")
        merged["skipped"] |= content.get("skipped", {})
        merged["cells"] += [{"run": number, **cell} for cell in content["cells"]]
    return merged


def crossover(content: Row, way: str) -> Row | None:
    """Where a way and the bare socket take equally long: between the two link speeds, as the bare socket reached them, that
    enclose it. Time is linear in 1 / speed."""
    cells = {(c["run"], c["gbps"], c["way"]): c for c in content["cells"] if c["what"] == "transfer"}
    points = []
    for (run, gbps, name), own in cells.items():
        if name != way:
            continue
        bare = cells[run, gbps, "bare"]["ms"]["p50"]
        points.append((bare * 1e6 / (8 * content["raw_bytes"]), bare - own["ms"]["p50"], own["break_even_gbps"]["p50"]))
    points.sort()  # from fast to slow
    for (x, gain, receipt), (slower, more, other) in itertools.pairwise(points):
        if gain < 0 <= more:
            at = x + (slower - x) * -gain / (more - gain)
            said = (receipt + other) / 2
            return {"way": way, "measured_gbps": 1 / at, "receipt_gbps": said, "ratio": said * at}
    return None


def chart(content: Row) -> Figure:
    """Times of the transfers by link speed, and the first tokens'."""
    made = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = made.subplots(1, 2)
    cells = [c for c in content["cells"] if c["what"] == "transfer"]
    for number, way in enumerate(dict.fromkeys(c["way"] for c in cells)):
        own = sorted((c["gbps"], c["ms"]["p50"], c["ms"]["p95"], c["of_bare"]["p50"]) for c in cells if c["way"] == way and (c["run"] == 0 or way in {"mooncake", "nixl"}))  # fmt: skip
        x = [point[0] for point in own]
        marker = "osDv^<>PX*"[number % 10]
        left.errorbar(x, [p[1] for p in own], yerr=[[0.0] * len(own), [p[2] - p[1] for p in own]], marker=marker, ms=4, lw=1.2, capsize=2, label=way)  # fmt: skip
        right.plot(x, [p[3] for p in own], marker=marker, ms=4, lw=1.2, label=way)
    left.set_yscale("log")
    left.set_ylabel("ms, median and 95th percentile")
    right.set_ylabel("median of the ratio to the bare socket in the same round")
    right.set_ylim(0, 3.2)
    right.axhline(1, color="#888888", lw=0.6)
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xlabel("link, Gb/s")
        axes.grid(alpha=0.3)
    left.legend(fontsize=7)
    made.suptitle(
        f"moving {content['raw_bytes'] / 1e6:.1f} MB of cache: {content['settings']['tokens']} tokens of SmolLM2-135M"
    )
    return made


def tables(content: Row) -> str:
    """In Markdown."""
    out = [
        "| link | way | requests | p50 ms | p95 | p99 | of bare, p50 | p95 by p95 |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for what, title in (("transfer", ""), ("first-token", "after prefill, ")):
        for c in sorted((c for c in content["cells"] if c["what"] == what), key=lambda c: c["gbps"]):
            ms, of = c["ms"], c["of_bare"]
            if what == "first-token":  # prefill is the same work for all, and its noise larger than the rest
                ms = c["after_prefill_ms"]
                bare = next(o for o in content["cells"] if o["what"] == what and o["gbps"] == c["gbps"] and o["way"] == "bare")  # fmt: skip
                of = {"p50": ms["p50"] / bare["after_prefill_ms"]["p50"], "p95_by_p95": ms["p95"] / bare["after_prefill_ms"]["p95"]}  # fmt: skip
            run = " (beside the peers)" if c["way"] == "bare" and any(o["run"] == c["run"] and o["way"] == "nixl" for o in content["cells"]) else ""  # fmt: skip
            out.append(
                f"| {title}{c['gbps']:g} Gb/s | {c['way']}{run} | {c['requests']} | {ms['p50']:.1f} | {ms['p95']:.1f} | {ms['p99']:.1f}"
                f" | {of['p50']:.3f} | {of['p95_by_p95']:.3f} |"
            )
    return "\n".join(out)


def main() -> int:
    """Entry point."""
    target, *sources = map(Path, sys.argv[1:])
    content = merge(sources)
    found = [crossover(content, way) for way in ("whole:0.28", "whole:0.5")]
    content["break_even"] = [row for row in found if row is not None]
    write(target, content)
    with _style():
        made = chart(content)
    save(made, target.with_suffix(".svg"))
    print(tables(content))
    for row in content["break_even"]:
        print(
            f"{row['way']}: measured {row['measured_gbps']:.2f} Gb/s, receipts {row['receipt_gbps']:.2f}, {row['ratio']:.2f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
