#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The ratios of a benchmark run, and what moved since the committed ones.

    bench/ratios.py CODEC [--peers PEERS] [--out OUT] [--check BASELINE]

CODEC is codec_bench's JSON, PEERS that of bench/peers/cpu.sh. OUT gets medians of memcpy's time over the codec's: at the top for K
and V with all default transforms at 4 bits in Llama-3-8B's shape, below by shape and kind. A check compares ratios, never times:
those of one run have seen the same machine. It exits 1 when one fell by more than the tolerance.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

HEADLINE = ("llama3-8b", "4bit")
TOLERANCE = 0.15
"""Ratios of unchanged code moved by up to 0.1 between runs on a shared machine."""


def codec_ratios(run: dict[str, Any]) -> dict[str, dict[str, dict[str, float]]]:
    """``[shape][kind][phase_threads]`` from names such as ``encode/llama3-8b/4bit/threads:1/...``."""
    shapes: dict[str, dict[str, dict[str, float]]] = {}
    for row in run["benchmarks"]:
        phase, shape, kind, threads = row["name"].split("/")[:4]
        key = f"{phase}_vs_memcpy_{threads.removeprefix('threads:')}t"
        shapes.setdefault(shape, {}).setdefault(kind, {})[key] = round(float(row["vs_memcpy"]), 3)
    return shapes


def flat(tree: Any, at: str = "") -> dict[str, float]:
    """Every ratio that should not fall, by its path."""
    if isinstance(tree, dict):
        found: dict[str, float] = {}
        for key, value in tree.items():
            found |= flat(value, f"{at}/{key}" if at else str(key))
        return found
    return {at: float(tree)} if "_vs_memcpy" in at.rsplit("/", 1)[-1] else {}


def moved(before: dict[str, float], now: dict[str, float]) -> list[str]:
    """Prints what moved beyond the tolerance; returns what fell."""
    fell = []
    for path in sorted(before.keys() & now.keys()):
        if path.startswith("peers/"):
            continue  # others' code
        change = now[path] / before[path] - 1
        if abs(change) > TOLERANCE:
            print(f"{path}: {before[path]:.3f} -> {now[path]:.3f} ({change:+.0%})")
        if change < -TOLERANCE:
            fell.append(path)
    return fell


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("codec", type=Path)
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--check", type=Path, metavar="BASELINE")
    arguments = parser.parse_args()
    run = json.loads(arguments.codec.read_text())
    shapes = codec_ratios(run)
    result: dict[str, Any] = dict(shapes.get(HEADLINE[0], {}).get(HEADLINE[1], {}))
    result["codec"] = shapes
    result["peers"] = {}
    if arguments.peers:
        result["peers"] = json.loads(arguments.peers.read_text())["peers"]
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    if not arguments.check:
        return 0
    before = flat(json.loads(arguments.check.read_text()))
    now = flat(result)
    if missing := sorted(before.keys() - now.keys() - {p for p in before if p.startswith("peers/")}):
        print(f"not in this run: {len(missing)} of {len(before)} ratios, the first {missing[0]}")
    fell = moved(before, now)
    print(f"{len(before.keys() & now.keys())} ratios compared, {len(fell)} fell by more than {TOLERANCE:.0%}")
    return 1 if fell else 0


if __name__ == "__main__":
    sys.exit(main())
