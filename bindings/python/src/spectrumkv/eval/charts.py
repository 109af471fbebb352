# SPDX-License-Identifier: Apache-2.0
"""Results as figures. Needs matplotlib."""

from __future__ import annotations

import io
import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from spectrumkv.constants import Half, Tier
from spectrumkv.eval import niah, p1, p2, p4
from spectrumkv.eval.arms import RAW
from spectrumkv.eval.results import ResultsError
from spectrumkv.payload import Payload

_MARKERS: Final = "osDv^<>PX*"
_DPI: Final = 130
_TIER_COLOURS: Final = ("#d62728", "#deebf7", "#9ecae1", "#4292c6", "#08519c", "#08142b")


def _style() -> AbstractContextManager[None]:
    """Text stays text, so that a page can be searched, and equal figures have equal bytes."""
    return mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "spectrumkv", "font.size": 9.0})


def figure(content: dict[str, Any]) -> Figure:
    """The figure of a results file's content. Raises `ResultsError` if it has nothing to show."""
    makers = {p1.KIND: quality, p2.KIND: paper_quality, niah.KIND: retrieval, p4.KIND: signal}
    maker = makers.get(content["kind"])
    if maker is None:
        raise ResultsError(f'results of kind "{content["kind"]}": wanted one of {", ".join(makers)}')
    with _style():
        return maker(content)


def save(made: Figure, path: Path) -> None:
    """Writes .png or .svg. Raises ValueError for another suffix."""
    if path.suffix not in {".png", ".svg"}:
        raise ValueError(f"{path}: wanted .png or .svg")
    path.parent.mkdir(parents=True, exist_ok=True)
    with _style():
        made.savefig(path, dpi=_DPI, metadata={"Date": None} if path.suffix == ".svg" else None)


def svg(made: Figure, prefix: str) -> str:
    """The ``<svg>`` element alone, its ids beginning with ``prefix``: several then fit into one page."""
    buffer = io.StringIO()
    with _style():
        made.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    return re.sub(r'(url\(#|xlink:href="#)', rf"\g<1>{prefix}-", text)


# ------------------------------------------------------------------------------------------------------- P1


def quality(content: dict[str, Any]) -> Figure:
    """KL and change of perplexity by measured bytes, a line a strategy, bars the 95 % intervals."""
    entries = [entry for entry in p1.summary(content["rows"]) if entry["strategy"] != RAW]
    if not entries:
        raise ResultsError("no arm but raw in the results: nothing to plot")
    made = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = made.subplots(1, 2)
    for number, (strategy, own) in enumerate(_by_strategy(entries).items()):
        x = [entry["ratio"] for entry in own]
        for axes, name, factor in ((left, "kl", 1.0), (right, "ppl_delta", 100.0)):
            y = np.array([entry[name] for entry in own]) * factor
            bounds = [entry[f"{name}_interval"] or (entry[name], entry[name]) for entry in own]
            spread = np.abs(np.array(bounds).T * factor - y)
            axes.errorbar(
                x, y, yerr=spread, marker=_MARKERS[number % len(_MARKERS)], ms=4, lw=1.2, capsize=2, label=strategy
            )
    windows = max(entry["windows"] for entry in entries)
    left.set_yscale("log")
    left.set_ylabel("KL(original ‖ decoded), nats a token")
    right.axhline(0, color="#888888", lw=0.6)
    right.set_yscale("symlog", linthresh=1.0)
    right.yaxis.set_major_formatter("{x:g}")
    right.set_ylabel("change of perplexity, %")
    for axes in (left, right):
        axes.set_xlabel("payload bytes / raw 16-bit bytes, measured")
        axes.grid(alpha=0.3)
    left.legend()
    settings = content["settings"]
    hard = "" if settings["inject"] == "none" else f", {settings['inject']} injected"
    made.suptitle(
        f"{settings['model']}, {settings['tokens']} tokens, {windows} window{'s' if windows > 1 else ''}{hard}"
    )
    return made


def paper_quality(content: dict[str, Any]) -> Figure:
    """Change of perplexity by nominal bytes, as the paper measures it."""
    entries = [entry for entry in p2.summary(content["rows"]) if entry["strategy"] != RAW]
    if not entries:
        raise ResultsError("no arm but raw in the results: nothing to plot")
    made = Figure(figsize=(6.5, 4.4), layout="constrained")
    axes = made.subplots()
    for number, (strategy, own) in enumerate(_by_strategy(entries).items()):
        x, y = [entry["ratio"] for entry in own], [100 * entry["ppl_delta"] for entry in own]
        axes.plot(x, y, marker=_MARKERS[number % len(_MARKERS)], ms=4, lw=1.2, label=strategy)
    axes.set_yscale("symlog", linthresh=1.0)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("nominal bytes: bits by 16, no metadata")
    axes.set_ylabel("change of perplexity, %")
    axes.grid(alpha=0.3)
    axes.legend()
    settings = content["settings"]
    made.suptitle(f"the paper's own measure: {settings['model']}, {settings['tokens']} tokens")
    return made


def _by_strategy(entries: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    result: dict[str, list[dict[str, Any]]] = {}
    for entry in sorted(entries, key=lambda entry: float(entry["ratio"])):
        result.setdefault(entry["strategy"], []).append(entry)
    return dict(sorted(result.items()))


# ------------------------------------------------------------------------------------------------------- P3


def retrieval(content: dict[str, Any]) -> Figure:
    """Success by depth and budget, a heat map a strategy, raw beside them."""
    entries = niah.summary(content["rows"])
    by_strategy = _by_strategy(entries)
    if not by_strategy:
        raise ResultsError("no row without an error in the results: nothing to plot")
    made = Figure(figsize=(1.5 + 1.1 * len(entries) + len(by_strategy), 4.8), layout="constrained")
    grid = made.subplots(1, len(by_strategy), squeeze=False, width_ratios=[len(own) for own in by_strategy.values()])
    depths = sorted({depth for entry in entries for depth in entry["by_depth"]}, key=float)
    for axes, (strategy, own) in zip(grid[0], by_strategy.items()):
        values = np.array([[entry["by_depth"].get(depth, np.nan) for entry in own] for depth in depths])
        _heat(axes, 100 * values)
        axes.set_xticks(range(len(own)), [f"{entry['ratio']:.3f}" for entry in own])
        axes.set_yticks(range(len(depths)), [f"{100 * float(depth):.0f} %" for depth in depths])
        axes.set_title(strategy)
        axes.set_xlabel("of raw bytes")
    grid[0][0].set_ylabel("depth of the needle")
    settings = content["settings"]
    made.suptitle(f"codes retrieved, %: {settings['model']}, contexts of {settings['tokens']} tokens")
    return made


def _heat(axes: Axes, values: NDArray[np.float64]) -> None:
    axes.imshow(values, vmin=0, vmax=100, cmap="RdYlGn", aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "black" if 10 < value < 90 else "white"  # both ends of the map are dark
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=8, color=colour)


# ------------------------------------------------------------------------------------------------------- P4


def signal(content: dict[str, Any]) -> Figure:
    """The worst head's logit SNR by measured bytes, a line a strategy, one chart an injection."""
    rows = [row for row in content["rows"] if row.get("logit_snr_db") is not None]
    if not rows:
        raise ResultsError("no arm with an error to show in the results: nothing to plot")
    kinds = list(dict.fromkeys(row["inject"] for row in rows))
    made = Figure(figsize=(5 * len(kinds) + 1, 4.4), layout="constrained")
    grid = made.subplots(1, len(kinds), squeeze=False, sharey=True)
    for axes, kind in zip(grid[0], kinds):
        own = [row | {"ratio": row["payload_bytes"] / row["raw_bytes"]} for row in rows if row["inject"] == kind]
        for number, (strategy, points) in enumerate(_by_strategy(own).items()):
            x, y = [point["ratio"] for point in points], [point["logit_snr_db"] for point in points]
            axes.plot(x, y, marker=_MARKERS[number % len(_MARKERS)], ms=4, lw=1.2, label=strategy)
        axes.axhline(rows[0]["floor_db"], color="#d62728", lw=0.8, ls="--", label="broken below")
        axes.set_title(f"keys: {kind}")
        axes.set_xlabel("payload bytes / raw 16-bit bytes")
        axes.grid(alpha=0.3)
    grid[0][0].set_ylabel("logit SNR of the worst head, dB")
    grid[0][-1].legend()
    return made


# ------------------------------------------------------------------------------------------------------ tiers


def tier_map(payload: Payload, title: str) -> Figure:
    """Which tier every layer's K and V row of a payload has: layers down, positions across."""
    layers = [payload.segment(layer) for layer in range(payload.layers)]
    first = min(layer.first_position for layer in layers)
    end = max(layer.first_position + layer.tokens for layer in layers)
    made = Figure(figsize=(11, 6), layout="constrained")
    colours = ListedColormap(_TIER_COLOURS)
    norm = BoundaryNorm(np.arange(-0.5, len(Tier)), len(Tier))
    present: set[int] = set()
    for axes, half in zip(made.subplots(2, 1, sharex=True), (Half.K, Half.V)):
        image = np.full((len(layers), end - first), np.nan)
        for number, layer in enumerate(layers):
            if half == Half.V and not layer.v_dim:
                continue
            tiers = np.frombuffer(payload.tiers(number, half), np.uint8)
            at = layer.first_position - first
            image[number, at : at + layer.tokens] = tiers
            present.update(tiers.tolist())
        axes.imshow(
            image, cmap=colours, norm=norm, aspect="auto", interpolation="nearest", extent=(first, end, len(layers), 0)
        )
        axes.set_ylabel(f"{half.name}: layer")
    axes.set_xlabel("position")
    patches = [Patch(color=_TIER_COLOURS[tier], label=tier.words) for tier in Tier if tier in present]
    made.legend(handles=patches, loc="outside right upper")
    made.suptitle(f"{title}: {payload.nbytes / payload.raw_bytes:.4f} of the raw bytes")
    return made
