# SPDX-License-Identifier: Apache-2.0
"""What is made of results: summaries, figures, the page."""

from __future__ import annotations

import json
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import Result

import spectrumkv as skv
from conftest import encode, kv_arrays
from spectrumkv.eval import charts, niah, p1, page, results, tables

EVIL = "<script>alert('x')</script>&amp;\"<b>"


def p1_row(window: int, arm: str, kl: float, nll: float = 3.0, **more: Any) -> dict[str, Any]:
    strategy, _, budget = arm.partition("@")
    size = float(budget) if budget else 1.0
    return {
        "window": window, "arm": arm, "strategy": strategy, "budget": float(budget) if budget else None,
        "raw_bytes": 1000, "payload_bytes": round(1000 * size), "kl": kl, "nll": nll, "reference_nll": 3.0, "top1": 0.9,
        "bit_equal": kl == 0, "dropped": 0, "note": "", "text": "", "reference_text": "", **more,
    }  # fmt: skip


def p1_content(**texts: Any) -> dict[str, Any]:
    rows = [
        row
        for window in range(3)
        for row in (
            p1_row(window, "raw", 0.0, **texts),
            p1_row(window, "error-aware@0.28", 0.001 * (window + 1), 3.01, **texts),
            p1_row(window, "greedy@0.28", 0.01 * (window + 1), 3.1, **texts),
            p1_row(window, f"{EVIL}@0.28", 0.02, 3.1, **texts),
        )
    ]
    return {"kind": "p1", "settings": {"model": EVIL, "tokens": 8, "inject": "none"}, "machine": "m", "rows": rows}


def niah_content() -> dict[str, Any]:
    rows = []
    for window in range(4):
        for arm, right in (
            ("raw", (True, True)),
            ("error-aware@0.3", (True, window > 0)),
            ("greedy@0.3", (False, True)),
        ):
            cases = [
                {"depth": depth, "place": f"p{depth}", "code": "1234", "answer": EVIL, "correct": ok}
                for depth, ok in zip((0.0, 1.0), right)
            ]
            row = p1_row(window, arm, 0.0)
            rows.append(
                {
                    name: row[name]
                    for name in ("window", "arm", "strategy", "budget", "raw_bytes", "payload_bytes", "note")
                }
                | {"cases": cases}
            )
    return {"kind": "niah", "settings": {"model": "m", "tokens": 8}, "machine": "m", "rows": rows}


def p2_content() -> dict[str, Any]:
    rows = [
        {
            "window": window,
            "arm": arm,
            "strategy": arm.partition("@")[0],
            "nominal": size,
            "nll": nll,
            "reference_nll": 3.0,
        }
        for window in range(2)
        for arm, size, nll in (("raw", 1.0, 3.0), ("uniform-4", 0.25, 3.2), ("greedy@0.3", 0.3, 3.1))
    ]
    return {"kind": "p2", "settings": {"model": "m", "tokens": 8}, "machine": "m", "rows": rows}


@pytest.fixture
def p4_content(run: Callable[..., Result], tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "p4.json"
    run("eval", "p4", "--tokens", 128, "--json", path, "--threads", 1)
    return results.read(path)


# ------------------------------------------------------------------------------------------------- summaries


def test_p1_pools_windows_and_pairs_arms() -> None:
    entries = {entry["arm"]: entry for entry in p1.summary(p1_content()["rows"])}
    ours, theirs = entries["error-aware@0.28"], entries["greedy@0.28"]
    assert ours["kl"] == pytest.approx(0.002)
    assert ours["ppl_delta"] == pytest.approx(np.expm1(0.01))
    assert ours["ppl_delta_interval"] == pytest.approx([np.expm1(0.01)] * 2)
    assert ours["kl_less"] is None
    low, high = theirs["kl_less"]
    assert 0.009 <= low < 0.018 < high <= 0.027  # differences of 0.009, 0.018, 0.027
    assert entries["raw"]["bit_equal"] and entries["raw"]["ratio"] == 1.0


def test_one_window_has_no_interval_and_refused_arms_no_entry() -> None:
    rows = [p1_row(0, "raw", 0.0), p1_row(0, "x@0.3", 0.1), {"window": 0, "arm": "y@0.1", "error": "floor"}]
    entries = p1.summary(rows)
    assert [entry["arm"] for entry in entries] == ["raw", "x@0.3"]
    assert entries[1]["kl_interval"] is None
    assert all(len(tables.p1_cells(entry)) == len(tables.P1_COLUMNS) for entry in entries)


def test_niah_counts_cases_by_depth_and_among_those_that_raw_solves() -> None:
    content = niah_content()
    content["rows"][0]["cases"][0]["correct"] = False  # raw, window 0, depth 0
    entries = {entry["arm"]: entry for entry in niah.summary(content["rows"])}
    assert entries["raw"]["success"] == 7 / 8
    assert entries["error-aware@0.3"]["by_depth"] == {"0": 1.0, "1": 0.75}
    assert entries["error-aware@0.3"]["of_raw"] == 6 / 7
    assert entries["greedy@0.3"]["success"] == 0.5
    assert entries["raw"]["clear_cases"] == 0  # a file without margins
    assert niah.weaknesses(list(entries.values())) == ["8 cases: wanted at least 60"]


def test_niah_tells_raws_clear_answers_from_those_by_a_hair() -> None:
    content = niah_content()
    for row in content["rows"]:
        for case in row["cases"]:
            case["margin"] = (0.2 if row["window"] == 0 and case["depth"] == 1.0 else 3.0) if case["correct"] else None
    entries = {entry["arm"]: entry for entry in niah.summary(content["rows"])}
    assert entries["error-aware@0.3"]["of_raw"] == 7 / 8  # it fails in window 0 at depth 1, which raw got by 0.2 nats
    assert entries["error-aware@0.3"]["of_clear"] == 1.0
    assert {entry["clear_cases"] for entry in entries.values()} == {7}
    assert entries["greedy@0.3"]["of_clear"] == 3 / 7
    columns = tables.niah_columns(list(entries.values()))
    cells = dict(zip(columns, tables.niah_cells(entries["greedy@0.3"], list(entries.values()))))
    assert cells["of its clear %"] == "42.9 (7)"


def test_haystacks_hold_every_needle_once_at_its_depth() -> None:
    text = " ".join(f"This is sentence number {i} of the text." for i in range(900))
    depths = (0.0, 0.5, 1.0)
    options = niah.Options(None, 200, depths, 2, 2, 4, 0)  # type: ignore[arg-type]
    made = list(niah.haystacks(text, lambda part: len(part.split()), options, 6))
    asked = [needle for haystack in made for needle in haystack.asked]
    assert sorted(needle.depth for needle in asked) == sorted(depths * 4)
    for haystack in made:
        assert 150 < len(haystack.text.split()) <= 200
        assert haystack.text.count("code is") == 4
        for needle in haystack.asked:
            assert haystack.text.count(needle.sentence) == 1
            at = haystack.text.index(needle.sentence) / (len(haystack.text) - len(needle.sentence))
            assert at == pytest.approx(needle.depth, abs=0.2)
        first, second = haystack.alike
        assert all(haystack.text.count(other.sentence) == 1 for other in haystack.alike)
        told = f"As we read above, {first.sentence} As we read above, {second.sentence} "
        needle = haystack.asked[0]
        assert haystack.question(needle, 2) == f"\n\n{told}As we read above, {needle.question}"
        assert haystack.question(needle, 0) == f"\n\nAs we read above, {needle.question}"
    again = list(niah.haystacks(text, lambda part: len(part.split()), options, 6))
    assert again == made
    with pytest.raises(ValueError, match="the text ends in context"):
        list(niah.haystacks(text, lambda part: len(part.split()), options, 60))


@pytest.mark.parametrize(
    ("answer", "right"),
    [(" 4821. The", True), ("4821", True), (" 48213", False), (" 4822.", False), (" is 4821", False)],
)
def test_an_answer_is_the_whole_code_or_wrong(answer: str, right: bool) -> None:
    assert niah.Needle("Paris office", "4821", 0.0).found_in(answer) == right


# --------------------------------------------------------------------------------------------------- figures


def texts(svg: Path) -> str:
    return " ".join(text for element in ET.parse(svg).iter() for text in element.itertext())


def test_figures_show_every_strategy(run: Callable[..., Result], tmp_path: Path, p4_content: dict[str, Any]) -> None:
    for content, words in (
        (p1_content(), ("error-aware", "greedy", "perplexity", EVIL)),
        (p2_content(), ("uniform-4", "greedy", "nominal")),
        (niah_content(), ("error-aware", "greedy", "100 %", "raw")),
        (p4_content, ("error-aware", "uniform-4", "offsets")),
    ):
        source = tmp_path / "r.json"
        source.write_text(json.dumps(content))
        for suffix in ("svg", "png"):
            run("plot", source, "--out", tmp_path / f"x.{suffix}")
        assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
        shown = texts(tmp_path / "x.svg")
        assert all(word in shown for word in words), shown


def test_a_payload_s_tiers_are_mapped(run: Callable[..., Result], tmp_path: Path, engine: skv.Engine) -> None:
    payload = encode(engine, skv.Cache.from_arrays(kv_arrays()), budget=0.35)
    payload.save(tmp_path / "x.skv")
    run("plot", tmp_path / "x.skv", "--out", tmp_path / "x.svg")
    shown = texts(tmp_path / "x.svg")
    assert all(word in shown for word in ("K: layer", "V: layer", "4 bits", "raw", "position"))


def test_bad_sources_and_targets_are_named(run: Callable[..., Result], tmp_path: Path) -> None:
    source = tmp_path / "r.json"
    source.write_text(json.dumps(p1_content()))
    assert "wanted .png or .svg" in run("plot", source, "--out", tmp_path / "x.pdf", code=1).output
    source.write_text(json.dumps(p1_content() | {"kind": "p9"}))
    assert "p9" in run("plot", source, "--out", tmp_path / "x.svg", code=1).output
    assert "p9" in run("report", source, "--out", tmp_path / "x.html", code=1).output
    source.write_text("{}")
    assert "wanted a file of spectrumkv eval" in run("plot", source, "--out", tmp_path / "x.svg", code=1).output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.json"]


# ------------------------------------------------------------------------------------------------------ page


class Checker(HTMLParser):
    """Collects what a page loads or runs, its ids, and whether its tags close."""

    VOID = frozenset({"meta"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in {"src", "href", "xlink:href", "data"} and not (value or "").startswith(("#", "data:")):
                self.loads.append(str(value))
            if name.startswith("on"):
                self.loads.append(name)
            if name == "id":
                self.ids.append(str(value))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def html(tmp_path: Path, p4_content: dict[str, Any]) -> Path:
    told = {"text": f"{EVIL} went home", "reference_text": f"{EVIL} went home"}
    other = p1_content(**told)
    other["rows"][1]["text"] = "went elsewhere"
    path = tmp_path / "x.html"
    page.write(path, [("a.json", other), (EVIL, niah_content()), ("c.json", p4_content), ("d.json", p2_content())])
    return path


def test_the_page_is_self_contained_and_escapes_everything(html: Path) -> None:
    checker = Checker()
    checker.feed(html.read_text(encoding="utf-8"))
    assert checker.open == []
    assert checker.loads == []
    assert not {"script", "b", "link", "iframe", "img"} & set(checker.tags)
    assert checker.tags.count("svg") == 4
    assert len(checker.ids) == len(set(checker.ids))
    assert f"{EVIL} went home" in checker.text
    assert "went elsewhere" in checker.text
    assert all(f"(P{number})" in checker.text for number in (1, 2, 3, 4))


def test_a_browser_shows_the_page(html: Path) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no chromium: the page was NOT opened in a browser; install chromium to run this")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", html.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    checker = Checker()
    checker.feed(shown)
    assert "spectrumkv results" in checker.text
    assert checker.tags.count("svg") == 4
    assert "script" not in checker.tags


def test_an_empty_run_has_a_page_that_says_so(tmp_path: Path) -> None:
    content = p1_content()
    content["rows"] = [{"window": 0, "arm": "x@0.1", "error": f"floor {EVIL}"}]
    text = page.page([("a.json", content)])
    assert "nothing to plot" in text and "floor &lt;script" in text
    with pytest.raises(results.ResultsError):
        charts.figure(content)
