# SPDX-License-Identifier: Apache-2.0
"""The evaluation harness on real models, over few tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import Result

from spectrumkv import Cache, Engine, models
from spectrumkv.constants import Code, Verdict
from spectrumkv.quality import kl_divergence

pytestmark = pytest.mark.e2e

llamacpp = pytest.importorskip("spectrumkv.llamacpp", reason="llama-cpp-python is not installed: run scripts/setup.sh")

from spectrumkv.eval import inject, kept  # noqa: E402
from spectrumkv.eval.calibrate import probe_logits  # noqa: E402
from spectrumkv.eval.prompt import prefill  # noqa: E402
from spectrumkv.eval.transfer import injected  # noqa: E402

WORDS = "The quick brown fox jumps over the lazy dog. The dog, being a philosopher, asks why. "


@pytest.fixture(scope="module")
def model() -> Path:
    return models.full_precision(models.fetch("smollm2"))


@pytest.fixture
def text(root: Path) -> Path:
    (path,) = sorted((root / "examples" / "text").glob("*.txt"))
    return path


@pytest.fixture
def evaluate(run: Callable[..., Result], text: Path) -> Callable[..., Result]:
    def evaluate(protocol: str, *arguments: object, code: int = 0) -> Result:
        return run("eval", protocol, "--text", text, "--threads", 1, *arguments, code=code)

    return evaluate


P1 = ("--tokens", 160, "--continuation", 16, "--generate", 6)


def rows(path: Path) -> dict[tuple[int, str], dict[str, Any]]:
    return {(row["window"], row["arm"]): row for row in json.loads(path.read_text())["rows"]}


def test_p1_measures_what_each_arm_loses_and_goes_on_where_it_stopped(
    evaluate: Callable[..., Result], run: Callable[..., Result], tmp_path: Path
) -> None:
    path = tmp_path / "p1.json"
    recorded = tmp_path / "first"
    evaluate("p1", *P1, "--budgets", "0.35", "--json", path, "--record", recorded)
    first = rows(path)
    raw, ours, paper = (first[0, arm] for arm in ("raw", "error-aware@0.35", "greedy@0.35"))
    assert raw["bit_equal"] and raw["kl"] == 0 and raw["text"] == raw["reference_text"] != ""
    assert ours["payload_bytes"] <= 0.35 * ours["raw_bytes"] and ours["scored"] == "queries"
    assert ours["payload_bytes"] == (recorded / "error-aware@0.35.skv").stat().st_size
    assert 0 < ours["kl"] < paper["kl"]

    text = evaluate("p1", *P1, "--budgets", "0.35,0.5", "--windows", 2, "--json", path).output
    assert "1 of 2, arm 1 of 2: error-aware@0.5" in text and "2 of 2, arm 1 of 5: raw" in text
    second = rows(path)
    assert len(second) == 10 and all(second[key] == row for key, row in first.items())
    assert "already in" in evaluate("p1", *P1, "--budgets", "0.35", "--windows", 2, "--json", path).output
    refused = evaluate("p1", *P1, "--no-queries", "--json", path, code=1)
    assert "queries 16, this run has 0" in refused.output

    assert "fine" in run("eval", "p4", "--tensors", recorded / "tensors.npz", "--threads", 1).output


def test_offsets_break_the_paper_s_codec_on_a_real_model_and_not_ours(
    evaluate: Callable[..., Result], tmp_path: Path
) -> None:
    plain, hard = tmp_path / "plain.json", tmp_path / "hard.json"
    evaluate("p1", *P1, "--budgets", "0.35", "--json", plain)
    evaluate("p1", *P1, "--budgets", "0.35", "--json", hard, "--inject", "offsets")
    (a, b), ours, paper = (rows(plain), rows(hard)), (0, "error-aware@0.35"), (0, "greedy@0.35")
    assert b[0, "raw"]["bit_equal"]
    assert b[ours]["kl"] < 3 * a[ours]["kl"] + 0.001
    assert b[paper]["kl"] > 10 * a[paper]["kl"]


def test_the_logit_probe_says_no_to_the_paper_s_code_on_offset_keys_and_yes_to_ours(model: Path, text: Path) -> None:
    with llamacpp.LlamaContext(model, n_ctx=512, n_batch=64, threads=1) as context, Engine(threads=1) as engine:
        prompt = prefill(context, context.tokenize(text.read_text())[:300], 16)
        layers = inject.injections("offsets", prompt.kv_heads, context.rotary_pairs)
        hard = injected(replace(prompt, state=inject.settle(prompt.state, layers)), layers)
        with Cache.from_llama(hard.state, hard.kv_heads) as cache:
            ours, paper = (probe_logits(engine, cache, hard, code) for code in (Code.EMBEDDED, Code.PAPER))
    assert (ours.int4, paper.int4) == (Verdict.YES, Verdict.NO)
    assert paper.worst_snr_db < 0 < ours.worst_snr_db


def test_a_dropped_token_is_as_if_the_engine_had_removed_it(model: Path) -> None:
    api = llamacpp.api
    with llamacpp.LlamaContext(model, n_ctx=512, n_batch=64, threads=1) as context:
        tokens = context.tokenize(WORDS * 8)[:130]
        prompt = prefill(context, tokens[:120], 0)
        memory = api.llama_get_memory(context._context)
        mask = np.ones(120, bool)
        for begin, end in ((10, 11), (40, 60), (117, 119)):
            mask[begin:end] = False
            assert api.llama_memory_seq_rm(memory, 0, begin, end)
        wanted = context.evaluate(tokens[120:], 120, "all")
        context.import_state(kept.keep_cells(prompt.state, [(mask, mask)] * len(prompt.kv_heads)))
        got = context.evaluate(tokens[120:], 120, "all")
        context.import_state(prompt.state)
        original = context.evaluate(tokens[120:], 120, "all")
    assert wanted is not None and got is not None and original is not None
    # Not in every bit: the tokens that follow take the removed ones' places there, and sums have another order.
    assert kl_divergence(wanted, got) < kl_divergence(wanted, original) / 1000


def test_p2_rounds_projections_during_the_pass(evaluate: Callable[..., Result], tmp_path: Path) -> None:
    path = tmp_path / "p2.json"
    evaluate(
        "p2",
        "--tokens",
        96,
        "--strategies",
        "uniform-4,uniform-8,error-aware",
        "--budgets",
        "0.3",
        "--json",
        path,
        code=1,
    )
    made = rows(path)
    change = {arm: abs(row["nll"] - row["reference_nll"]) for (_, arm), row in made.items() if "error" not in row}
    assert change["raw"] == 0 < change["uniform-8"] < change["uniform-4"]
    assert "paper" in made[0, "error-aware@0.3"]["error"]


def test_rewritten_projections_reach_the_model_and_errors_the_caller(model: Path) -> None:
    def broken(half: str, layer: int, position: int, rows: np.ndarray) -> np.ndarray:
        raise KeyError("in the callback")

    seen: list[tuple[str, int, int, tuple[int, ...]]] = []

    def negated(half: str, layer: int, position: int, rows: np.ndarray) -> np.ndarray:
        seen.append((half, layer, position, rows.shape))
        return -rows if half == "V" else rows

    with llamacpp.LlamaContext(model, n_ctx=256, n_batch=16, threads=1) as context:
        tokens = context.tokenize(WORDS)[:20]
        plain = context.evaluate(tokens, 0, "last")
        context.clear()
        with pytest.raises(KeyError, match="in the callback"), context.rewrite_projections(broken):
            context.evaluate(tokens, 0, "last")
        context.clear()
        with context.rewrite_projections(negated):
            changed = context.evaluate(tokens, 0, "last")
        context.clear()
        again = context.evaluate(tokens, 0, "last")
    assert plain is not None and changed is not None and again is not None
    batches = ((0, 16), (16, 4))
    assert sorted(seen) == [(half, layer, p, (n, 192)) for half in "KV" for layer in range(30) for p, n in batches]
    assert np.abs(changed - plain).max() > 1
    assert np.array_equal(again, plain)


def test_niah_asks_after_the_transfer(evaluate: Callable[..., Result], tmp_path: Path) -> None:
    path = tmp_path / "niah.json"
    arguments = (
        "--tokens",
        160,
        "--needles",
        2,
        "--distractors",
        1,
        "--contexts",
        2,
        "--budgets",
        "0.5",
        "--json",
        path,
    )
    text = evaluate("niah", *arguments).output
    assert "4 cases: wanted at least 60" in text
    made = rows(path)
    assert {arm for _, arm in made} == {"raw", "error-aware@0.5", "greedy@0.5"}
    cases = {key: [(case["place"], case["depth"], case["code"]) for case in row["cases"]] for key, row in made.items()}
    assert cases[0, "raw"] == cases[0, "greedy@0.5"] != cases[1, "raw"]
    assert sum(case["correct"] for window in (0, 1) for case in made[window, "raw"]["cases"]) >= 2
    # The look-alike's code is told again before each question, unless that is not wanted, and then it is another file.
    assert json.loads(path.read_text())["settings"]["examples"] == 1
    assert "made with examples 1" in evaluate("niah", *arguments, "--examples", 0, code=1).output
    assert "2 examples: wanted at most" in evaluate("niah", *arguments[:-2], "--examples", 2, code=1).output


def test_niah_prompts_end_in_their_questions(evaluate: Callable[..., Result], tmp_path: Path) -> None:
    within, after = tmp_path / "within.json", tmp_path / "after.json"
    arguments = ("--tokens", 160, "--distractors", 0, "--contexts", 1, "--strategies", "greedy", "--budgets", "0.5")
    evaluate("niah", *arguments, "--question-in-prompt", "--json", within)
    evaluate("niah", *arguments, "--json", after)
    asked = [rows(within)[prompt, "raw"] for prompt in (0, 1)]
    (once,) = [row for (_, arm), row in rows(after).items() if arm == "raw"]
    assert [[case["place"] for case in row["cases"]] for row in asked] == [[case["place"]] for case in once["cases"]]
    assert all(row["cases"][0]["correct"] for row in asked)
    # Each question is moved with its own cache, all but its last token.
    assert all(row["raw_bytes"] > once["raw_bytes"] for row in asked)
    assert "question_in_prompt" in evaluate("niah", *arguments, "--json", within, code=1).output


def test_niah_fetches_an_upgrade_when_in_doubt(evaluate: Callable[..., Result], tmp_path: Path) -> None:
    arguments = (
        "--tokens",
        160,
        "--contexts",
        1,
        "--distractors",
        0,
        "--strategies",
        "error-aware",
        "--budgets",
        "0.3",
    )
    sure, unsure, never = tmp_path / "sure.json", tmp_path / "unsure.json", tmp_path / "never.json"
    evaluate("niah", *arguments, "--json", never)
    evaluate("niah", *arguments, "--json", sure, "--doubt", 0)  # no token is behind the next one
    text = evaluate("niah", *arguments, "--json", unsure, "--doubt", 1000, "--more", 0.2).output
    assert "upgraded in 1 of 1 prompts" in " ".join(text.split())
    key = (0, "error-aware@0.3")
    plain, kept, raised = rows(never)[key], rows(sure)[key], rows(unsure)[key]
    assert kept["upgrade_bytes"] == 0
    assert (kept["payload_bytes"], kept["cases"]) == (plain["payload_bytes"], plain["cases"])
    assert 0.15 * plain["raw_bytes"] < raised["upgrade_bytes"] <= 0.2 * plain["raw_bytes"]  # once for both questions
    assert raised["payload_bytes"] == plain["payload_bytes"] + raised["upgrade_bytes"]
    raw = [case["margin"] for case in rows(never)[0, "raw"]["cases"]]
    away = [
        sum(abs(case["margin"] - known) for case, known in zip(row["cases"], raw, strict=True))
        for row in (plain, raised)
    ]
    assert away[1] < away[0]  # what was fetched is what the answers come from
    assert rows(unsure)[0, "raw"]["upgrade_bytes"] == 0
    assert "made with doubt" in evaluate("niah", *arguments, "--json", unsure, "--doubt", 0, code=1).output
    assert "--more without --doubt" in evaluate("niah", *arguments, "--more", 0.2, code=1).output


def test_a_sliding_window_model_s_state_has_its_full_attention_layers_first() -> None:
    name = models.MODELS["gemma3-270m"].file_name
    if not (models.cache_folder() / f"{name}.ok").is_file():
        pytest.skip("Gemma-3-270M (253 MB) is NOT in the model cache: its layer order was not tested")
    with llamacpp.LlamaContext(models.fetch("gemma3-270m"), n_ctx=512, threads=1) as context:
        full = [5, 11, 17]
        assert context.state_layers == full + [layer for layer in range(18) if layer not in full]
        prompt = prefill(context, context.tokenize(WORDS * 4), 16)
        assert prompt.windows == [0] * 3 + [512] * 15
        assert all(queries.shape == (16, 4, 256) for queries in prompt.queries)


def test_an_unknown_model_and_strategy_are_named(evaluate: Callable[..., Result]) -> None:
    assert "no such file" in evaluate("p1", "--model", "nowhere.gguf", code=1).output
    assert "nonsense" in evaluate("p1", "--strategies", "nonsense", code=1).output
