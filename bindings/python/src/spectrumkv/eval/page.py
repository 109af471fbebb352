# SPDX-License-Identifier: Apache-2.0
"""Results as one self-contained HTML page: tables, charts, continuations side by side. Loads nothing, runs nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

from spectrumkv.eval import charts, niah, p1, p2, p4, tables
from spectrumkv.eval.results import ResultsError, Row

_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; color: #1b1b1b; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-top: 1px solid #ccc; padding-top: 1rem; }
table { border-collapse: collapse; margin: 1rem 0; font-size: 13px; display: block; overflow-x: auto; }
th, td { border: 1px solid #ccc; padding: .25rem .5rem; text-align: right; vertical-align: top; }
th:first-child, td:first-child { text-align: left; } th { background: #f2f2f2; }
table.text td, table.text th, table.facts td { text-align: left; } .same { background: #e9f6e9; }
svg { max-width: 100%; height: auto; } .note { color: #7a4b00; }
"""
_TITLES: Final = {
    p1.KIND: "A model continues from the decoded cache (P1)",
    p2.KIND: "The paper's own measure, nominal bytes (P2)",
    niah.KIND: "A model retrieves needles from the decoded cache (P3)",
    p4.KIND: "Tensors alone (P4)",
}
_WRONG_SHOWN: Final = 40


def page(contents: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """The page of results files, (name, content) each. Raises `ResultsError` for content of another kind."""
    sections = [_section(number, name, content) for number, (name, content) in enumerate(contents)]
    return (
        "<!DOCTYPE html>\n"
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>spectrumkv results</title><style>{_STYLE}</style></head>\n"
        f"<body><h1>spectrumkv results</h1>\n{''.join(sections)}</body></html>\n"
    )


def write(path: Path, contents: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Writes the page."""
    text = page(contents)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _section(number: int, name: str, content: dict[str, Any]) -> str:
    kind, rows = content["kind"], content["rows"]
    if kind not in _TITLES:
        raise ResultsError(f'{name}: results of kind "{kind}": wanted one of {", ".join(_TITLES)}')
    parts = [f"<h2>{escape(_TITLES[kind])}</h2>", _facts(name, content)]
    try:
        parts.append(charts.svg(charts.figure(content), f"r{number}"))
    except ResultsError as error:
        parts.append(_notes([str(error)]))
    if kind == p1.KIND:
        entries = p1.summary(rows)
        parts += [_table(tables.P1_COLUMNS, map(tables.p1_cells, entries)), _notes(tables.notes(entries))]
        parts.append(_continuations(rows))
    elif kind == p2.KIND:
        parts.append(_table(tables.P2_COLUMNS, map(tables.p2_cells, p2.summary(rows))))
    elif kind == niah.KIND:
        entries = niah.summary(rows)
        cells = [tables.niah_cells(entry, entries) for entry in entries]
        parts += [_table(tables.niah_columns(entries), cells), _notes(tables.notes(entries))]
        parts += [_notes(niah.weaknesses(entries)), _wrong(rows)]
    else:
        parts += [_table(tables.P4_COLUMNS, map(tables.p4_cells, rows)), _notes(tables.notes(rows))]
    refused = {row["arm"]: row["error"] for row in rows if "error" in row}
    parts.append(_notes(f"refused: {arm}: {error}" for arm, error in refused.items()))
    return "\n".join(filter(None, parts)) + "\n"


def _facts(name: str, content: dict[str, Any]) -> str:
    facts = {"file": name, "machine": content.get("machine", ""), **content["settings"]}
    return _table((), ([key, str(value)] for key, value in facts.items()), "facts")


def _continuations(rows: list[Row]) -> str:
    """What each cache led to, the strategies of one budget side by side; green where it is the original's text."""
    told = [row for row in rows if row.get("text")]
    if not told:
        return ""
    original = told[0]["reference_text"]
    parts = ["<h3>The same continuation from each cache</h3>", f"<p><strong>original:</strong> {escape(original)}</p>"]
    for budget in sorted({row["budget"] for row in told}, key=lambda value: -1.0 if value is None else -value):
        own = [row for row in told if row["budget"] == budget]
        heads = [f"{row['strategy']} ({row['payload_bytes'] / row['raw_bytes']:.3f})" for row in own]
        title = "no budget" if budget is None else f"budget {budget:g}"
        cells = "".join(
            f'<td class="same">{escape(row["text"])}</td>'
            if row["text"] == original
            else f"<td>{escape(row['text'])}</td>"
            for row in own
        )
        names = "".join(f"<th>{escape(head)}</th>" for head in heads)
        parts.append(f'<table class="text"><tr><th>{escape(title)}</th>{names}</tr><tr><td></td>{cells}</tr></table>')
    return "\n".join(parts)


def _wrong(rows: list[Row]) -> str:
    """The first wrong answers."""
    wrong = [
        [row["arm"], f"{100 * case['depth']:.0f} %", case["place"], case["code"], case["answer"].strip()]
        for row in rows
        for case in row.get("cases", ())
        if not case["correct"]
    ]
    if not wrong:
        return ""
    title = f"<h3>Wrong answers ({len(wrong)}{f', the first {_WRONG_SHOWN}' if len(wrong) > _WRONG_SHOWN else ''})</h3>"
    return title + _table(("arm", "depth", "place", "code", "answer"), wrong[:_WRONG_SHOWN], "text")


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>\n" for row in rows)
    return f'<table class="{kind}">{f"<tr>{head}</tr>" if head else ""}\n{body}</table>'


def _notes(notes: Iterable[str]) -> str:
    return "".join(f'<p class="note">{escape(note)}</p>' for note in notes)
