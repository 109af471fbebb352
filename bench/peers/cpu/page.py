# SPDX-License-Identifier: Apache-2.0
"""Shows a run: ``bench/peers/cpu.sh --page IN.json OUT.svg`` writes the chart and prints the tables of docs/results/performance.md."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from cpu.verdict import ENOUGH, error
from spectrumkv.eval.charts import _style, save

Row = dict[str, Any]
PANELS = {
    "of_raw": "bytes / 16-bit bytes",
    "encode_vs_memcpy": "encode: rate / memcpy's",
    "decode_vs_memcpy": "decode: rate / memcpy's",
}
COLOURS = {
    "spectrumkv": "#d62728",
    "ggml": "#1f77b4",
    "paper's": "#ff7f0e",
    "FBGEMM": "#2ca02c",
    "LMCache": "#17becf",
    "transformers": "#9467bd",
}
MARKERS = dict(zip(COLOURS, "os^DvP"))
_LEFT_OUT = ("released INT8", "released INT4", ", PyTorch", ", of f32", "(e5m2)", "bf16", "the paper's code")
LABELS = {
    "LMCache asym_k16_v8": "LMCache asym",
    "transformers fp8 layer": "transformers fp8",
    "transformers quanto layer, 4 bits": "quanto 4",
}


def _family(row: Row) -> str:
    if row["own"]:
        return "spectrumkv"
    return next(
        (name for name in ("ggml", "paper's", "FBGEMM", "LMCache", "transformers") if row["method"].startswith(name)),
        "",
    )


def _label(method: str) -> str:
    short = LABELS.get(method, method)
    for long, brief in (("spectrumkv ", ""), ("ggml ", ""), (", no transforms", " plain"), (", the paper's code", " paper's code"), (" bits", ""), ("paper's INT", "INT"), (", torch.compile", ""), ("FBGEMM rowwise ", "FBGEMM "), ("LMCache ", "")):  # fmt: skip
        short = short.replace(long, brief)
    return short


def _shown(row: Row) -> bool:
    """In the chart: lossy, and of several forms of the same arithmetic one."""
    return not (row["lossless"] or row["yardstick"] or row["method"].endswith(_LEFT_OUT))


def chart(content: Row) -> Figure:
    """A row a tensor: error by bytes, and the speeds of encode and decode by error."""
    made = Figure(figsize=(13, 4.6 * len(content["tensors"])), layout="constrained")
    FigureCanvasAgg(made)
    grid = made.subplots(len(content["tensors"]), 3, squeeze=False)
    for axes, tensor in zip(grid, content["tensors"]):
        rows = [row for row in tensor["rows"] if _shown(row)]
        where = "error of attention's output" if "output_error" in rows[0] else "relative error, K and V"
        for number, (name, label) in enumerate(PANELS.items()):
            _panel(axes[number], rows, name)
            axes[number].set_xlabel(label)
            axes[number].set_ylabel(where)
        axes[0].set_title(tensor["name"], loc="left")
    made.legend(*grid[0][0].get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=len(COLOURS))
    made.canvas.draw()  # the layout decides where points are
    for axes, tensor in zip(grid, content["tensors"]):
        rows = [row for row in tensor["rows"] if _shown(row)]
        for number, name in enumerate(PANELS):
            _annotate(axes[number], rows, name)
    return made


def _panel(axes: Axes, rows: list[Row], name: str) -> None:
    for family, marker in MARKERS.items():
        own = [row for row in rows if _family(row) == family]
        if own:
            label = family if family != "paper's" else "paper's, torch.compile"
            x, y = [row[name] for row in own], [error(row) for row in own]
            axes.scatter(x, y, marker=marker, s=34, color=COLOURS[family], label=label, zorder=3)
    axes.set_yscale("log")
    if name != "of_raw":
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(lambda y, _: f"{100 * y:g} %")
    axes.margins(0.14)
    axes.grid(alpha=0.3)


def _annotate(axes: Axes, rows: list[Row], name: str) -> None:
    """Every point's label at the first of some places around it where no point and no other label is."""
    figure = axes.get_figure()
    assert figure is not None
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    points = [axes.transData.transform((row[name], error(row))) for row in rows]
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in points]
    frame = axes.get_window_extent(renderer)
    places = [
        (6, 0, "left", "center"),
        (-6, 0, "right", "center"),
        (0, 6, "center", "bottom"),
        (0, -6, "center", "top"),
    ]
    places += [
        (9 * side, 9 * step, "left" if side > 0 else "right", "center")
        for step in (1, -1, 2, -2, 3, -3, 4, -4)
        for side in (1, -1)
    ]
    # this library's first, then from the left
    for _, row in sorted(enumerate(rows), key=lambda item: (not item[1]["own"], item[1][name])):
        own: dict[str, Any] = {
            "color": COLOURS[_family(row)],
            "fontsize": 6.5,
            "fontweight": "bold" if row["own"] else "normal",
        }
        for number, (x, y, across, along) in enumerate(places):
            made = axes.annotate(
                _label(row["method"]), (row[name], error(row)), xytext=(x, y), textcoords="offset points", ha=across, va=along, **own
            )  # fmt: skip
            box = made.get_window_extent(renderer)
            inside = frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1)
            if number == len(places) - 1 or (inside and not any(box.overlaps(other) for other in taken)):
                taken.append(box)
                break
            made.remove()


def _percent(value: float) -> str:
    return "0" if value == 0 else f"{100 * value:.2f} %"


def table(tensor: Row) -> str:
    """In Markdown."""
    attention = any("output_error" in row for row in tensor["rows"])
    more = ("logits, nats", "output") if attention else ()
    heads = ["method", "bytes of raw", "encode GB/s", "of memcpy", "decode GB/s", "of memcpy", "error K", "error V", *more, "beside", "encode", "decode", "2x"]  # fmt: skip
    out = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (7 + len(more)) + "---|---:|---:|---|"]
    for row in tensor["rows"]:
        cells = [row["method"], f"{row['of_raw']:.4f}"]
        for phase in ("encode", "decode"):
            cells += [f"{row[f'{phase}_gbps']:.2f}", f"{row[f'{phase}_vs_memcpy']:.3f}"]
        cells += [_percent(row["k_error"]), _percent(row["v_error"])]
        if attention:
            cells += [f"{row['logit_error_nats']:.4f}", _percent(row["output_error"])]
        found = row["verdict"]
        if found is None:
            cells += ["", "", "", ""]
        else:
            said = "yes" if found["twice"] else "no"
            said += ", fewer bytes" if found["peer_smaller"] else ""
            cells += [found["beside"].removeprefix("spectrumkv "), f"{found['encode_times']:.1f}x", f"{found['decode_times']:.1f}x", said]  # fmt: skip
        out.append("| " + " | ".join(cells) + " |")
    return "\n".join(out)


def main() -> int:
    """Entry point."""
    source, target = map(Path, sys.argv[1:])
    content = json.loads(source.read_text(encoding="utf-8"))
    with _style():
        made = chart(content)
    save(made, target)
    print(f"{content['machine']}; {content['engine']}; {content['settings']['rounds']} rounds; {', '.join(f'{n} {v}' for n, v in content['versions'].items())}\n")  # fmt: skip
    for tensor in content["tensors"]:
        print(f"{tensor['name']}: {tensor['bytes'] / 2**20:.0f} MiB, memcpy {tensor['memcpy_gbps']:.2f} GB/s\n")
        print(table(tensor) + "\n")
        judged = [row for row in tensor["rows"] if row["verdict"]]
        short = [row["method"] for row in judged if not row["verdict"]["twice"]]
        print(f"{len(judged) - len(short)} of {len(judged)} at least {ENOUGH:g}x; not: {', '.join(short) or 'none'}\n")
    for name, why in content["skipped"].items():
        print(f"not measured: {name}: {why}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
