#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How time and memory of encoding and decoding grow with tokens, layers and threads (bench/scaling.cc, a process a point).

    build/venv/bin/python bench/scaling.py docs/results/scaling.json      the points (10 minutes), chart and tables
    build/venv/bin/python bench/scaling.py --show docs/results/scaling.json   the last two again

Linear means: CPU time a token, and memory beside input and output, stay where they are.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parent.parent
Point = dict[str, Any]

TOKENS = [1024 << i for i in range(8)]  # 1k .. 128k
LAYERS = [1, 2, 4, 8, 16, 32]
LAYERS_TOKENS = 4096
THREADS = [1, 2]
BLOCKS = [0, 16, 32]
MIB = 1 << 20


def points() -> list[tuple[int, int, int, int]]:
    grown = [(tokens, 1, threads, blocks) for tokens in TOKENS for threads in THREADS for blocks in BLOCKS]
    return grown + [(LAYERS_TOKENS, layers, threads, 0) for layers in LAYERS for threads in THREADS]


def measure(program: Path, runs: int) -> list[Point]:
    found: list[Point] = []
    for number, point in enumerate(points(), 1):
        command = [str(program), *map(str, point), str(runs)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
        if done.returncode != 0:
            sys.exit(f"scaling: {' '.join(command)} ended with {done.returncode}: {done.stderr[-500:]}")
        found.append(json.loads(done.stdout))
        print(f"{number} of {len(points())}: {point}", file=sys.stderr)
    return found


def series(found: list[Point], threads: int, blocks: int) -> list[Point]:
    """Of one layer, by tokens."""
    rows = [p for p in found if p["layers"] == 1 and p["threads"] == threads and p["block_tokens"] == blocks]
    return sorted({p["tokens"]: p for p in rows}.values(), key=lambda p: p["tokens"])


def by_layers(found: list[Point], threads: int) -> list[Point]:
    rows = [p for p in found if p["tokens"] == LAYERS_TOKENS and p["threads"] == threads and p["block_tokens"] == 0]
    return sorted({p["layers"]: p for p in rows}.values(), key=lambda p: p["layers"])


def per_token_us(p: Point, what: str) -> float:
    seconds = float(p[f"{what}_cpu_s"])
    return seconds / float(p["tokens"] * p["layers"]) * 1e6


def name_of(blocks: int) -> str:
    return "contiguous" if blocks == 0 else f"pages of {blocks}"


def chart(found: list[Point]) -> Figure:
    figure = Figure(figsize=(10, 6.4), layout="constrained")
    grid = figure.subplots(2, 2)
    ticks = [f"{t // 1024}k" for t in TOKENS]
    for axes, what in zip(grid[0], ("encode", "decode"), strict=True):
        for threads, line in zip(THREADS, ("-", "--"), strict=True):
            for blocks, colour in zip(BLOCKS, ("C0", "C1", "C2"), strict=True):
                rows = series(found, threads, blocks)
                label = f"{name_of(blocks)}, {threads} thread{'s' * (threads > 1)}"
                axes.plot(
                    [p["tokens"] for p in rows],
                    [per_token_us(p, what) for p in rows],
                    line,
                    color=colour,
                    marker="o",
                    markersize=3,
                    label=label,
                )
            rows = series(found, threads, 0)
            axes.plot(
                [p["tokens"] for p in rows],
                [per_token_us(p, "memcpy") for p in rows],
                line,
                color="0.6",
                label=f"memcpy, {threads} thread{'s' * (threads > 1)}",
            )
        axes.set_title(f"{what.capitalize()}: CPU time a token of a layer")
        axes.set_ylabel("µs")
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=7, ncols=2)
    memory = grid[1][0]
    for threads, line in zip(THREADS, ("-", "--"), strict=True):
        rows = series(found, threads, 0)
        for what, colour in (("encode", "C3"), ("decode", "C4")):
            memory.plot(
                [p["tokens"] for p in rows],
                [p[f"{what}_memory"] / MIB for p in rows],
                line,
                color=colour,
                marker="o",
                markersize=3,
                label=f"{what}, {threads} thread{'s' * (threads > 1)}",
            )
        memory.axhline(4.0 * threads, color="0.6", linestyle=line, linewidth=1)
        memory.annotate(f"promised, {threads} thread{'s' * (threads > 1)}", (TOKENS[0], 4.3 * threads), fontsize=7)
    memory.set_yscale("log")
    memory.set_title("Memory beside input and output, at most")
    memory.set_ylabel("MiB")
    memory.set_ylim(0.05, 16)
    memory.legend(fontsize=7, loc="center left")
    for axes in (*grid[0], memory):
        axes.set_xscale("log", base=2)
        axes.set_xticks(TOKENS, ticks)
        axes.set_xlabel("tokens of one layer")
    layers = grid[1][1]
    for threads, line in zip(THREADS, ("-", "--"), strict=True):
        rows = by_layers(found, threads)
        for what, colour in (("encode", "C3"), ("decode", "C4"), ("memcpy", "0.6")):
            layers.plot(
                [p["layers"] for p in rows],
                [p[f"{what}_cpu_s"] * 1e3 / p["layers"] for p in rows],
                line,
                color=colour,
                marker="o",
                markersize=3,
                label=f"{what}, {threads} thread{'s' * (threads > 1)}",
            )
    layers.set_title(f"CPU time a layer of {LAYERS_TOKENS:,} tokens")
    layers.set_xscale("log", base=2)
    layers.set_xticks(LAYERS, [str(n) for n in LAYERS])
    layers.set_xlabel("layers of one call")
    layers.set_ylabel("ms")
    layers.set_ylim(bottom=0)
    layers.legend(fontsize=7, ncols=2)
    return figure


def cpu_table(first: str, rows: list[tuple[str, Point]]) -> list[str]:
    """CPU time, beside memcpy's, and memory: what other work on the machine hardly moves."""
    head = [first, "threads"]
    for what in ("encode", "decode"):
        head += [f"{what}: CPU µs a token", "memcpy's CPU time over it"]
    head += ["encode: memory", "decode: memory"]
    lines = [f"| {' | '.join(head)} |", "|" + "---:|" * len(head)]
    for name, p in rows:
        cells = [name, str(p["threads"])]
        for what in ("encode", "decode"):
            cells += [f"{per_token_us(p, what):.2f}", f"{p['memcpy_cpu_s'] / p[f'{what}_cpu_s']:.2f}"]
        cells += [f"{p[f'{what}_memory'] / 1024:.0f} KiB" for what in ("encode", "decode")]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def wall_table(found: list[Point]) -> list[str]:
    """By the clock on the wall: means something where nothing else runs."""
    head = ["tokens, contiguous"]
    for what in ("encode", "decode"):
        head += [f"{what} over memcpy, {threads} thread{'s' * (threads > 1)}" for threads in THREADS]
    head += [f"{what}: 2 threads over 1" for what in ("encode", "decode", "memcpy")]
    lines = [f"| {' | '.join(head)} |", "|" + "---:|" * len(head)]
    for one, two in zip(series(found, 1, 0), series(found, 2, 0), strict=True):
        cells = [f"{one['tokens'] // 1024}k"]
        cells += [f"{p[f'{what}_vs_memcpy']:.2f}x" for what in ("encode", "decode") for p in (one, two)]
        cells += [f"{one[f'{what}_s'] / two[f'{what}_s']:.2f}x" for what in ("encode", "decode", "memcpy")]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def tables(found: list[Point]) -> str:
    lines = []
    for blocks in BLOCKS:
        rows = [(f"{p['tokens'] // 1024}k", p) for threads in THREADS for p in series(found, threads, blocks)]
        lines += [*cpu_table(f"tokens, {name_of(blocks)}", rows), ""]
    rows = [(str(p["layers"]), p) for threads in THREADS for p in by_layers(found, threads)]
    lines += [*cpu_table(f"layers of {LAYERS_TOKENS:,} tokens", rows), ""]
    return "\n".join(lines + wall_table(found))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--show", action="store_true", help="draw and print what the file holds")
    parser.add_argument("--runs", type=int, default=7, help="a point's; medians are kept")
    parser.add_argument("--program", type=Path, default=ROOT / "build/release/bench/scaling")
    options = parser.parse_args()
    if not options.show:
        content = {
            "made_by": "build/venv/bin/python bench/scaling.py docs/results/scaling.json",
            "geometry": "8 heads of dim 128, K and V, f16, uniform-4 with default transforms, digests on",
            "runs": options.runs,
            "points": measure(options.program, options.runs),
        }
        options.file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    found = json.loads(options.file.read_text(encoding="utf-8"))["points"]
    # Text stays text, and equal figures have equal bytes.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "spectrumkv", "font.size": 9.0}):
        chart(found).savefig(options.file.with_suffix(".svg"), metadata={"Date": None})
    print(tables(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
