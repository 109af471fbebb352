# SPDX-License-Identifier: Apache-2.0
"""The demo's outcome: one run an arm, as a table, ``report.json`` and ``report.png``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from spectrumkv.demo.arms import label
from spectrumkv.eval.arms import Arm
from spectrumkv.eval.machine import machine


@dataclass
class Sample:
    """One arm in one window: what the two processes measured. Times in milliseconds, NLL and KL in nats a token."""

    raw_bytes: int
    payload_bytes: int
    scored: str
    k_rows: dict[str, int]
    v_rows: dict[str, int]
    score_ms: float
    plan_ms: float
    encode_ms: float
    transfer_ms: float
    decode_ms: float
    kl: float
    nll: float
    reference_nll: float
    top1: float
    bit_equal: bool
    note: str
    original: str
    received: str


@dataclass
class Run:
    """An arm over all windows."""

    arm: Arm
    samples: list[Sample] = field(default_factory=list)

    def mean(self, name: str) -> float:
        """The mean of a measured value over the windows."""
        return math.fsum(getattr(sample, name) for sample in self.samples) / len(self.samples)

    @property
    def ratio(self) -> float:
        """Payload bytes by raw 16-bit bytes."""
        return self.mean("payload_bytes") / self.mean("raw_bytes")

    @property
    def ppl_delta(self) -> float:
        """Relative change of the perplexity, pooled over the windows: 0.01 is +1 %."""
        return math.expm1(self.mean("nll") - self.mean("reference_nll"))

    @property
    def bit_equal(self) -> bool:
        """Whether the logits are equal to the reference's in every bit, in every window."""
        return all(sample.bit_equal for sample in self.samples)

    @property
    def note(self) -> str:
        """Why the budget is another one than asked for, or ""."""
        return self.samples[0].note

    def as_dict(self) -> dict[str, Any]:
        """The run as ``report.json`` holds it."""
        first = self.samples[0]
        payload = self.mean("payload_bytes")
        return {
            "budget": 1.0 if self.arm.budget is None else self.arm.budget,
            "codec": self.arm.codec,
            "raw_bytes": round(self.mean("raw_bytes")),
            "payload_bytes": round(payload),
            "ratio": self.ratio,
            "kl": self.mean("kl"),
            "ppl_delta": self.ppl_delta,
            "top1": self.mean("top1"),
            "bit_equal": self.bit_equal,
            "encode_ms": self.mean("encode_ms"),
            "decode_ms": self.mean("decode_ms"),
            "transfer_ms": self.mean("transfer_ms"),
            "strategy": self.arm.strategy,
            "score_ms": self.mean("score_ms"),
            "plan_ms": self.mean("plan_ms"),
            "ms_at_1gbit": link_ms(payload, 1e9),
            "ms_at_10gbit": link_ms(payload, 1e10),
            "scored": first.scored,
            "k_rows": first.k_rows,
            "v_rows": first.v_rows,
            "note": self.note,
            "samples": [asdict(sample) for sample in self.samples],
        }


def link_ms(size: float, bits_per_s: float) -> float:
    """Milliseconds that so many bytes take on a link, computed."""
    return size * 8e3 / bits_per_s


def table(runs: Iterable[Run]) -> Table:
    """All arms side by side."""
    result = Table(title="same cache, encoded, sent over TCP, decoded in another process", title_justify="left")
    result.add_column("codec, budget", no_wrap=True)
    for name in (
        "payload MB", "of raw", "score+plan ms", "encode ms", "TCP ms", "decode ms", "at 1 Gb/s", "at 10 Gb/s",
        "KL", "ΔPPL %", "top-1 %", "logits",
    ):  # fmt: skip
        result.add_column(name, justify="right", no_wrap=True)
    notes = []
    for run in runs:
        payload = run.mean("payload_bytes")
        name = label(run.arm)
        if run.note:
            notes.append(f"{name}: {run.note}")
            name += " *"
        result.add_row(
            name, f"{payload / 1e6:.3f}", f"{run.ratio:.4f}", f"{run.mean('score_ms') + run.mean('plan_ms'):.1f}",
            f"{run.mean('encode_ms'):.1f}", f"{run.mean('transfer_ms'):.1f}", f"{run.mean('decode_ms'):.1f}",
            f"{link_ms(payload, 1e9):.1f} ms", f"{link_ms(payload, 1e10):.1f} ms", f"{run.mean('kl'):.6f}",
            f"{100 * run.ppl_delta:+.3f}", f"{100 * run.mean('top1'):.2f}", "bit-equal" if run.bit_equal else "close",
        )  # fmt: skip
    if notes:
        result.caption = "* " + "; ".join(notes)
        result.caption_justify = "left"
    return result


def print_texts(console: Console, runs: Iterable[Run]) -> None:
    """For each arm the greedy continuation from the original cache above the one from the received cache."""
    for run in runs:
        sample = run.samples[0]
        same = "the same" if sample.original == sample.received else "different"
        console.print(f"\n{label(run.arm)} ({run.ratio:.3f} of the bytes): {same}", style="bold", markup=False)
        for name, text in (("original", sample.original), ("received", sample.received)):
            console.print(f"  {name}: {' '.join(text.split())}", markup=False, soft_wrap=True)


def write(folder: Path, runs: list[Run], model: str, tokens: int, extra: dict[str, Any]) -> Path:
    """Writes ``report.json``."""
    path = folder / "report.json"
    content = {"runs": [run.as_dict() for run in runs], "model": model, "tokens": tokens, "machine": machine(), **extra}
    path.write_text(json.dumps(content, indent=2) + "\n")
    return path


def plot(folder: Path, runs: list[Run], title: str) -> Path:
    """Writes ``report.png``: bytes and KL of every arm."""
    import matplotlib as mpl  # noqa: PLC0415 (optional)

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    labels = [label(run.arm).replace(" ", "\n") + ("*" if run.note else "") for run in runs]
    colours = {"raw": "#7f7f7f", "error-aware": "#1f77b4", "greedy": "#ff7f0e"}
    colour = [colours.get(run.arm.strategy, "#2ca02c") for run in runs]
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    sizes = [run.mean("payload_bytes") / 1e6 for run in runs]
    bars = left.bar(labels, sizes, color=colour)
    left.bar_label(bars, [f"{size:.2f} MB\n{run.ratio:.3f}" for size, run in zip(sizes, runs)], fontsize=9)
    left.set_ylabel("payload, MB")
    left.set_title("bytes on the wire, and as a fraction of the raw cache")
    left.margins(y=0.15)
    # Raw has KL 0, which a logarithmic axis cannot show: it gets a label on the axis instead of a bar.
    kl = [run.mean("kl") for run in runs]
    least = min([value for value in kl if value > 0], default=1e-6)
    bars = right.bar(labels, [max(value, least / 10) if value > 0 else 0 for value in kl], color=colour)
    right.set_yscale("log")
    right.set_ylim(least / 4, max([*kl, least]) * 6)
    for bar, run, value in zip(bars, runs, kl):
        text = f"{value:.2g}\n{100 * run.ppl_delta:+.2f} % PPL" if value > 0 else "0\n(bit-equal)"
        height = value if value > 0 else least / 4
        right.annotate(text, (bar.get_x() + bar.get_width() / 2, height), (0, 3), textcoords="offset points",
                       ha="center", va="bottom", fontsize=9)  # fmt: skip
    right.set_ylabel("KL(reference ‖ received), nats a token")
    right.set_title("what the decoder loses (log scale, lower is better)")
    notes = "; ".join(f"{label(run.arm)}*: {run.note}" for run in runs if run.note)
    figure.suptitle(title)
    if notes:
        figure.supxlabel(f"* {notes}", fontsize=9)
    path = folder / "report.png"
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path
