# SPDX-License-Identifier: Apache-2.0
"""The evaluation harness without a model: arms, injection, dropped cells, results, summaries."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import spectrumkv as skv
from conftest import kv_arrays, llama_state
from spectrumkv.eval import arms, inject, kept, p2, results, text
from spectrumkv.state_blob import StateBlobError, parse

# ------------------------------------------------------------------------------------------------------ arms


def test_budgets_are_fractions_and_ranges_with_both_ends() -> None:
    assert arms.parse_budgets("0.24, 0.5") == [0.24, 0.5]
    assert arms.parse_budgets("0.22:0.60:0.01,0.9") == [round(0.22 + i / 100, 6) for i in range(39)] + [0.9]
    assert arms.parse_budgets("0.3:0.3:0.1") == [0.3]


@pytest.mark.parametrize("bad", ["x", "0", "1.01", "0.2:0.3", "0.3:0.2:0.1", "0.2:0.3:0", "0.2:0.3:-1", "nan"])
def test_bad_budgets_are_named(bad: str) -> None:
    with pytest.raises(ValueError, match=bad.split(":", maxsplit=1)[0]):
        arms.parse_budgets(bad)


def test_raw_comes_first_and_strategies_without_a_budget_once(engine: skv.Engine) -> None:
    made = arms.arms(engine, ["greedy", "uniform-4", "raw"], [0.3, 0.5])
    assert [arm.key for arm in made] == ["raw", "greedy@0.5", "greedy@0.3", "uniform-4"]


def test_an_unknown_strategy_is_the_library_s_error(engine: skv.Engine) -> None:
    with pytest.raises(skv.ArgumentError, match="nonsense"):
        arms.arms(engine, ["nonsense"], [0.3])


def test_forms_after_a_name_are_the_plan_s_options(engine: skv.Engine) -> None:
    with skv.Cache.from_arrays(kv_arrays()) as cache:
        default = arms.new_plan(engine, "uniform-4").solve(cache)
        assert arms.new_plan(engine, "uniform-4/chunk=256/hadamard=8").solve(cache).nbytes == default.nbytes
        assert arms.new_plan(engine, "uniform-4/chunk=32").solve(cache).nbytes > default.nbytes
        payloads = {
            form: bytes(engine.encode(cache, arms.new_plan(engine, f"uniform-4{form}").solve(cache)))
            for form in ("", "/hadamard=8", "/hadamard=16", "/hadamard=none", "/packed")
        }
    assert payloads[""] == payloads["/hadamard=8"]
    assert len(set(payloads.values())) == 4
    assert len(payloads["/packed"]) < len(payloads[""])
    for bad in ("x", "", "chunk=", "chunk=1e2", "hadamard=4", "packed=1"):
        with pytest.raises(ValueError, match=re.escape(f"uniform-4/{bad}")):
            arms.new_plan(engine, f"uniform-4/{bad}")


def test_windows_overlap_by_the_token_that_is_predicted_and_start_as_the_model_wants() -> None:
    tokens = list(range(100, 200))
    assert text.windows(tokens, 5, 2) == [[100, 101, 102, 103, 104], [105, 106, 107, 108, 109]]
    assert text.windows(tokens, 5, 2, stride=4) == [[100, 101, 102, 103, 104], [104, 105, 106, 107, 108]]
    assert text.windows(tokens, 5, 2, stride=4, start=(2,)) == [[2, 100, 101, 102, 103], [2, 103, 104, 105, 106]]
    with pytest.raises(ValueError, match="100 tokens: wanted 101"):
        text.windows(tokens, 101, 1)


# ------------------------------------------------------------------------------------------------- injection


PAIRS = np.arange(64).reshape(32, 2)


@pytest.mark.parametrize("name", ["offsets", "scales"])
@pytest.mark.parametrize("v_trans", [0, 1])
def test_an_injection_into_a_settled_state_is_undone_in_every_bit(name: str, v_trans: int) -> None:
    state = np.frombuffer(llama_state(kv_arrays(), v_trans), np.uint8)
    layers = inject.injections(name, [2, 2], PAIRS)
    settled = inject.settle(state, layers)
    there = inject.inject_state(settled, layers)
    assert not np.array_equal(there, settled)
    assert np.array_equal(inject.inject_state(there, layers, undo=True), settled)
    assert np.array_equal(inject.settle(settled, layers), settled)
    if name == "scales":  # powers of two round nothing, so that nothing had to settle
        assert np.array_equal(settled, state)


@pytest.mark.parametrize("name", ["offsets", "scales"])
def test_an_injection_leaves_attention_as_it_was(name: str) -> None:
    rng = np.random.default_rng(3)
    keys, queries = rng.normal(size=(50, 2, 64)).astype("f"), rng.normal(size=(7, 6, 64)).astype("f")
    (layer,) = inject.injections(name, [2], PAIRS)

    def attention(q: np.ndarray, k: np.ndarray) -> np.ndarray:
        logits = np.einsum("qhd,thd->hqt", q.astype("d"), np.repeat(k, 3, axis=1).astype("d")) / 8
        logits -= logits.max(axis=2, keepdims=True)
        return np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)

    changed = layer.apply(keys)
    assert np.abs(changed - keys).max() > (39 if name == "offsets" else 10)
    assert np.allclose(attention(layer.queries(queries), changed), attention(queries, keys), atol=1e-4)


def test_scales_are_equal_within_a_rotary_pair() -> None:
    (layer,) = inject.injections("scales", [3], PAIRS)
    assert (layer.scale[:, PAIRS[:, 0]] == layer.scale[:, PAIRS[:, 1]]).all()
    assert layer.scale.max() == 16


def test_an_injection_by_another_name_is_refused() -> None:
    with pytest.raises(ValueError, match="offsets"):
        inject.injections("offset", [2], PAIRS)


def test_keys_that_would_overflow_are_refused() -> None:
    layers = [(np.full_like(k, 60000), v) for k, v in kv_arrays(layers=1)]
    state = np.frombuffer(llama_state(layers, 0), np.uint8)
    with pytest.raises(StateBlobError, match="too large"):
        inject.settle(state, inject.injections("scales", [2], PAIRS))


# --------------------------------------------------------------------------------------------- dropped tokens


@pytest.mark.parametrize("v_trans", [0, 1])
def test_dropped_tokens_have_no_cell_and_the_others_keep_their_positions(engine: skv.Engine, v_trans: int) -> None:
    layers = kv_arrays(tokens=96)
    sent = np.ones(96, bool)
    sent[[5, 40, 41, 94]] = False
    with skv.Cache.from_llama(llama_state(layers, v_trans), [2, 2]) as cache:
        cache.set(skv.CacheKey.CAN_MASK, 1)
        plan = skv.Plan(engine, strategy="raw").solve(cache)
        for layer in range(2):
            for half in skv.Half:
                plan.set_tiers(layer, half, np.where(sent, skv.Tier.RAW, skv.Tier.DROP).tolist())
        data = bytes(engine.encode(cache, plan))
    payload = skv.Payload.open(data)
    with skv.Cache.to_llama(payload, v_trans) as target:
        target.set(skv.CacheKey.CAN_MASK, 1)
        engine.decode(payload, target)
        masks = kept.kept_tokens(payload)
        (stream,) = parse(kept.keep_cells(np.frombuffer(target.blob, np.uint8), masks)).streams
    assert all((mask == sent).all() for pair in masks for mask in pair)
    assert stream.cells.positions.tolist() == np.flatnonzero(sent).tolist()
    for layer, (k, v) in enumerate(layers):
        assert np.array_equal(stream.keys[layer].values(2), k[sent].astype("f"))
        assert np.array_equal(stream.values[layer].values(2), v[sent].astype("f"))


def test_drops_that_llama_cpp_cannot_mask_are_refused() -> None:
    state = np.frombuffer(llama_state(kv_arrays(tokens=96), 0), np.uint8)
    every, some, last = np.ones(96, bool), np.ones(96, bool), np.ones(96, bool)
    some[3] = last[95] = False
    assert kept.keep_cells(state, [(every, every)] * 2) is state
    for masks in ([(some, some), (every, every)], [(some, every), (some, every)]):
        with pytest.raises(kept.DropError, match="equal drops"):
            kept.keep_cells(state, masks)
    with pytest.raises(kept.DropError, match="last token"):
        kept.keep_cells(state, [(last, last)] * 2)


# --------------------------------------------------------------------------------------------------- results


def test_results_go_on_where_they_stopped_and_retry_what_was_refused(tmp_path: Path) -> None:
    path = tmp_path / "new" / "r.json"
    first = results.Results(path, "p1", {"model": "a", "tokens": 5})
    first.add(0, "raw", {"kl": 0.0})
    first.add(0, "greedy@0.1", {"error": "below the floor"})
    again = results.Results(path, "p1", {"model": "a", "tokens": 5})
    assert again.row(0, "raw") == {"window": 0, "arm": "raw", "kl": 0.0}
    assert again.row(1, "raw") is None and again.row(0, "greedy@0.1") is None
    again.add(0, "greedy@0.1", {"kl": 1.0})
    assert [row.get("kl") for row in results.read(path)["rows"]] == [0.0, 1.0]
    assert sorted(p.name for p in path.parent.iterdir()) == ["r.json"]


def test_results_of_other_settings_are_refused_by_name_with_both_values(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    results.Results(path, "p1", {"model": "a", "tokens": 5}).add(0, "raw", {})
    before = path.read_bytes()
    for settings, words in (
        ({"model": "b", "tokens": 5}, 'model "a", this run has "b"'),
        ({"model": "a"}, "tokens 5, this run has null"),
        ({"model": "a", "tokens": 5, "inject": "offsets"}, 'inject null, this run has "offsets"'),
    ):
        with pytest.raises(results.ResultsError, match=words):
            results.Results(path, "p1", settings)
    with pytest.raises(results.ResultsError, match='"p1", this run is "niah"'):
        results.Results(path, "niah", {"model": "a", "tokens": 5})
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", ["", "{", "[]", '{"kind": 1}', '{"kind": "p1", "settings": {}, "rows": [{}]}'])
def test_other_files_are_not_results(tmp_path: Path, content: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(content)
    with pytest.raises(results.ResultsError):
        results.read(path)


def test_a_row_that_json_cannot_hold_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    made = results.Results(path, "p1", {})
    made.add(0, "raw", {"kl": 0.0})
    with pytest.raises(ValueError, match="JSON"):
        made.add(0, "x", {"kl": float("nan")})
    assert len(json.loads(path.read_text())["rows"]) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r.json"]


# ------------------------------------------------------------------------------------- the paper's own measure


def test_rows_are_rounded_with_one_scale_a_token() -> None:
    rows = np.array([[7.0, -3.4, 0.6, 0.0], [1.0, 2.0, 3.0, 4.0], [0, 0, 0, 0], [127, 1.4, -2.6, 0]], "f")
    tiers = np.array([2, 5, 2, 4], np.uint8)
    wanted = [[7, -3, 1, 0], [1, 2, 3, 4], [0, 0, 0, 0], [127, 1, -3, 0]]
    assert p2.round_rows(rows, tiers).tolist() == wanted


def test_the_paper_s_plan_has_its_nominal_size(engine: skv.Engine) -> None:
    for arm, size in (
        (arms.Arm("raw", None), 1.0),
        (arms.Arm("uniform-8", None), 0.5),
        (arms.Arm("uniform-4", None), 0.25),
    ):
        assert p2.nominal(p2.plan_tiers(engine, arm, 256)) == size
    for budget in (0.3, 0.4, 0.75):
        k, v = p2.plan_tiers(engine, arms.Arm("greedy", budget), 1024)
        assert budget - 0.002 < p2.nominal((k, v)) <= budget
        assert (k == v).all() and k[0] == k[-1] > k[512]
    with pytest.raises(arms.ArmError, match="6 bits"):
        p2.nominal((np.full(4, 3, np.uint8),) * 2)
