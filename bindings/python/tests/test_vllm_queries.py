# SPDX-License-Identifier: Apache-2.0
"""The queries that the vLLM connector records: which, of whom, and what becomes of them."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import spectrumkv as skv
from spectrumkv.errors import ArgumentError
from spectrumkv.vllm.config import Settings
from spectrumkv.vllm.layout import Geometry, Pages, Tile, layer_of, pages_of
from spectrumkv.vllm.queries import LayerQueries, Recorder, Watch, Watches, scores_of
from spectrumkv.vllm.scheduler import Step
from spectrumkv.vllm.send import SendJob
from spectrumkv.vllm.worker import WorkerSide

LAYERS, HEADS, QUERY_HEADS, DIM, BLOCK = 2, 2, 6, 64, 32
MODEL = bytes(range(32))


# -------------------------------------------------------------------------------------------------------- scheduler


def output(
    new: dict[str, Any] | None = None, cached: dict[str, Any] | None = None, resumed: tuple[str, ...] = ()
) -> Any:
    """vLLM's SchedulerOutput. Values: (blocks, computed, scheduled)."""
    new, cached = new or {}, cached or {}
    return SimpleNamespace(
        scheduled_new_reqs=[
            SimpleNamespace(req_id=name, block_ids=(blocks,), num_computed_tokens=computed)
            for name, (blocks, computed, _) in new.items()
        ],
        scheduled_cached_reqs=SimpleNamespace(
            req_ids=list(cached),
            resumed_req_ids=set(resumed),
            new_block_ids=[None if blocks is None else (blocks,) for blocks, _, _ in cached.values()],
            num_computed_tokens=[computed for _, computed, _ in cached.values()],
        ),
        num_scheduled_tokens={name: count for name, (_, _, count) in {**new, **cached}.items()},
    )


def test_only_steps_with_last_queries_are_watched_by_the_block_they_end_in() -> None:
    watches = Watches(BLOCK, 16)
    watches.add("a", 100)
    # Blocks 7, 8, 9, 4 hold tokens 0 … 127; the last 16 queries are 84 … 99.
    assert watches.step(output(new={"a": ([7], 0, 32), "other": ([1, 2], 0, 64)})) == []
    assert watches.step(output(cached={"a": ([8], 32, 32)})) == []
    assert watches.step(output(cached={"a": ([9], 64, 26), "other": (None, 64, 1)})) == [Watch("a", 9, 64, 26, 100)]
    assert watches.step(output(cached={"a": ([4], 90, 10)})) == [Watch("a", 4, 90, 10, 100)]
    assert watches.step(output(cached={"a": (None, 100, 1)})) == []  # it generates
    watches.drop("a")
    assert watches.step(output(new={"a": ([7, 8, 9, 4], 0, 100)})) == []


def test_a_preempted_prompt_is_followed_to_its_new_blocks() -> None:
    watches = Watches(BLOCK, 16)
    watches.add("a", 60)
    watches.step(output(new={"a": ([7], 0, 20)}))
    again = output(cached={"a": ([3, 5], 0, 60)}, resumed=("a",))
    assert watches.step(again) == [Watch("a", 5, 0, 60, 60)]


def test_none_are_watched_when_switched_off_and_in_steps_without_a_forward() -> None:
    off = Watches(BLOCK, 0)
    off.add("a", 60)
    assert off.step(output(new={"a": ([7, 8], 0, 60)})) == []
    on = Watches(BLOCK, 16)
    on.add("a", 60)
    assert on.step(None) == []


@pytest.mark.parametrize("value", [-1, 4097, 1.5, True, "all"])
def test_a_number_of_queries_that_makes_no_sense_is_refused(value: Any) -> None:
    with pytest.raises(ArgumentError, match="queries"):
        Settings.parse({"queries": value})


# ----------------------------------------------------------------------------------------------------------- worker


class Attention:
    """As vLLM's Attention hands its queries on."""

    def __init__(self, window: int | None = None, **impl: Any) -> None:
        self.sliding_window = window
        self.seen = 0
        self.impl = SimpleNamespace(scale=0.125, forward=self.forward, **impl)

    def forward(self, _layer: Any, query: Any, *_args: Any, **_kwargs: Any) -> Any:
        self.seen += query.shape[0]
        return "what forward returns"

    def call(self, query: Any, metadata: Any, *, named: bool = False) -> Any:
        if named:
            return self.impl.forward(self, query, None, None, None, attn_metadata=metadata, output=None)
        return self.impl.forward(self, query, None, None, None, metadata, output=None)


def metadata(rows: list[tuple[int, int, list[int]]]) -> Any:
    """Rows of a step: (queries, tokens with those, blocks)."""
    starts = np.cumsum([0, *(count for count, _, _ in rows)])
    table = np.zeros((len(rows) + 1, 16), "int32")
    for i, (_, _, blocks) in enumerate(rows):
        table[i, : len(blocks)] = blocks
    # vLLM pads: a row more than there are requests.
    return SimpleNamespace(
        query_start_loc=np.append(starts, starts[-1]),
        seq_lens=np.array([*(row[1] for row in rows), 0]),
        block_table=table,
    )


def recorder(keep: int = 16, kernel_block: int = BLOCK) -> tuple[Recorder, list[Attention]]:
    tensors = [np.zeros((64, HEADS, kernel_block, 2 * DIM), "float32") for _ in range(LAYERS)]
    layers = [layer_of(f"layer.{i}", t, Geometry(HEADS, DIM, DIM), BLOCK, Tile.VEC) for i, t in enumerate(tensors)]
    made = Recorder(layers, BLOCK, keep)
    attentions = [Attention(window=None if i else 24) for i in range(LAYERS)]
    assert all(made.hook(i, attention) for i, attention in enumerate(attentions))
    return made, attentions


def queries(layer: int, first: int, end: int, seed: int = 0) -> np.ndarray:
    """Of tokens first … end - 1: each names its layer, token and channel."""
    rows = np.arange(first, end)[:, None, None] + seed * 10_000 + layer * 1000
    return (rows + np.arange(DIM) / 100).repeat(QUERY_HEADS, 1).astype("float32")


@pytest.mark.parametrize("kernel_block", [32, 16])
@pytest.mark.parametrize("named", [False, True])
def test_the_last_queries_of_every_prompt_in_a_batch_are_kept(kernel_block: int, named: bool) -> None:
    made, attentions = recorder(kernel_block=kernel_block)
    split = BLOCK // kernel_block

    def table(*blocks: int) -> list[int]:
        return [block * split + part for block in blocks for part in range(split)]

    # a: 90 of 100 tokens, then the rest; b: 40 tokens at once; a third, not watched, generates.
    steps = [
        (
            [Watch("a", 9, 64, 26, 100), Watch("b", 2, 0, 40, 40)],
            [(1, 33, table(5, 6)), (26, 90, table(7, 8, 9)), (40, 40, table(3, 2))],
            lambda layer: (queries(layer, 0, 1, 3), queries(layer, 64, 90, 1), queries(layer, 0, 40, 2)),
        ),
        (
            [Watch("a", 4, 90, 10, 100)],
            [(10, 100, table(7, 8, 9, 4)), (1, 34, table(5, 6))],
            lambda layer: (queries(layer, 90, 100, 1), queries(layer, 1, 2, 3)),
        ),
    ]
    for watches, rows, pieces in steps:
        made.watch(watches)
        step = metadata(rows)
        for layer, attention in enumerate(attentions):
            batch = np.concatenate(pieces(layer))
            assert attention.call(batch, step, named=named) == "what forward returns"
            batch[...] = np.nan  # the next layer's queries take its place
    a, b = made.take("a", 100), made.take("b", 40)
    assert a is not None
    assert b is not None
    for layer in range(LAYERS):
        assert np.array_equal(a[layer].tensor, queries(layer, 84, 100, 1))
        assert np.array_equal(b[layer].tensor, queries(layer, 24, 40, 2))
        assert (a[layer].scale, a[layer].window) == (0.125, 0 if layer else 24)
    assert made.take("a", 100) is None  # they are gone
    assert attentions[0].seen == 67 + 11


def test_queries_with_a_gap_or_of_some_layers_only_are_not_taken() -> None:
    made, attentions = recorder()
    for which, end in ((attentions[:1], 40), (attentions, 30)):
        made.watch([Watch("a", 2, 0, end, 40)])
        for layer, attention in enumerate(which):
            attention.call(queries(layer, 0, end), metadata([(end, end, [3, 2])]))
        assert made.take("a", 40) is None
    # A step of another shape than the scheduler spoke of (drafted tokens, say).
    made.watch([Watch("a", 2, 0, 40, 40)])
    for layer, attention in enumerate(attentions):
        attention.call(queries(layer, 0, 38), metadata([(38, 38, [3, 2])]))
    assert made.take("a", 40) is None


def test_a_prompt_computed_anew_replaces_what_was_kept() -> None:
    made, attentions = recorder()
    for first, end, seed in ((0, 30, 1), (0, 40, 2)):  # preempted after 30 tokens
        made.watch([Watch("a", 2, first, end - first, 40)])
        for layer, attention in enumerate(attentions):
            attention.call(queries(layer, first, end, seed), metadata([(end - first, end, [3, 2])]))
    found = made.take("a", 40)
    assert found is not None
    assert np.array_equal(found[1].tensor, queries(1, 24, 40, 2))


def test_what_cannot_be_read_never_breaks_the_model_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    made, attentions = recorder()
    for _ in range(3):
        made.watch([Watch("a", 2, 0, 40, 40)])
        assert attentions[0].call(queries(0, 0, 40), SimpleNamespace()) == "what forward returns"
        assert attentions[0].call(queries(0, 0, 40), None) == "what forward returns"
    assert caplog.text.count("no queries from now on") == 1
    assert made.take("a", 40) is None


@pytest.mark.parametrize("impl", [{"alibi_slopes": [1.0]}, {"logits_soft_cap": 30.0}, {"sinks": np.ones(3)}])
def test_attention_with_other_terms_is_not_scored_by_queries(impl: dict[str, Any]) -> None:
    made, _ = recorder()
    attention = Attention(**impl)
    before = attention.impl.forward
    assert not made.hook(0, attention)
    assert attention.impl.forward == before
    assert made.hook(0, Attention(alibi_slopes=None, logits_soft_cap=0, sinks=None))


# ---------------------------------------------------------------------------------------------------- what they do

TOKENS, MATTERS = 300, 150  # the token that the last queries attend to


def worker(**settings: Any) -> tuple[WorkerSide, list[LayerQueries]]:
    """A prefill worker with pages, and queries that attend to one token in the middle."""
    rng = np.random.default_rng(3)
    tensors = [np.zeros((12, HEADS, BLOCK, 2 * DIM), "float32") for _ in range(LAYERS)]
    layers = tuple(layer_of(f"layer.{i}", t, Geometry(HEADS, DIM, DIM), BLOCK, Tile.VEC) for i, t in enumerate(tensors))
    pages = Pages(layers, BLOCK, 0, MODEL)
    last = []
    for layer in layers:
        for half in skv.Half:
            rows = pages_of(layer, half)
            rows[...] = rng.normal(size=rows.shape)
        key = pages_of(layer, skv.Half.K)[MATTERS // BLOCK, MATTERS % BLOCK]  # [head, dim]
        query = key.repeat(QUERY_HEADS // HEADS, 0)[None].repeat(16, 0) + rng.normal(0, 0.1, (16, QUERY_HEADS, DIM))
        last.append(LayerQueries(query.astype("float32"), 0.125, 0))
    base = {"budget": 0.3, "load_timeout": 10.0, "heartbeat": 0.3, "unproven": True}
    return WorkerSide(Settings.parse({**base, **settings}), pages, 0, producer=True, consumer=False), last


def test_the_tokens_they_attend_to_get_more_bits() -> None:
    side, last = worker()
    try:
        with skv.Engine() as engine, side.pages.cache(range(10), TOKENS, bytes(16)) as cache:
            tiers = []
            for scores in (None, scores_of(engine, cache, last)):
                with skv.Plan(engine, budget=0.3, unproven=True).solve(cache, scores) as plan:
                    tiers.append(plan.tiers(0, skv.Half.V, TOKENS))
        assert tiers[1][MATTERS] > tiers[0][MATTERS]
        assert tiers[1][MATTERS] == max(tiers[1][4:])
    finally:
        side.close()


def test_a_worker_uses_them_and_needs_no_profile_then(caplog: pytest.LogCaptureFixture) -> None:
    side, last = worker(unproven=False)
    try:
        assert side.sender is not None
        odd = [dataclasses.replace(layer, tensor=layer.tensor[:, :3]) for layer in last]  # 3 heads for 2 kv-heads
        for given, counts in ((last, (1, 0)), (None, (0, 1)), (odd, (0, 1))):
            side.sender.start(SendJob("p", bytes(16), tuple(range(10)), TOKENS), given)
            done: set[str] = set()
            while not done:
                side.wait()
                done = side.finished(())[0]
            stats = side.take_stats()
            assert (stats.get("queries_used", 0), stats.get("fallbacks", 0)) == counts
        assert "queries of no use" in caplog.text
    finally:
        side.close()


def test_they_go_from_a_step_to_the_requests_encoding() -> None:
    side, _ = worker()
    try:
        assert side.recorder is not None
        attentions = [Attention() for _ in range(LAYERS)]
        for i, attention in enumerate(attentions):
            assert side.recorder.hook(i, attention)
        watches = [Watch(name, block, 0, 40, 40) for name, block in (("p", 1), ("aborted", 3))]
        side.send(Step(watches=watches))
        batch = np.concatenate((queries(0, 0, 40, 1), queries(0, 0, 40, 2))) / 1e5
        for attention in attentions:
            attention.call(batch, metadata([(40, 40, [0, 1]), (40, 40, [2, 3])]))
        side.send(Step(sends=[SendJob("p", bytes(16), (0, 1), 40, 0.6)]))
        done: set[str] = set()
        while not done:
            side.wait()
            done = side.finished({"aborted"})[0]
        assert side.take_stats()["queries_used"] == 1
        assert side.recorder.take("aborted", 40) is None
    finally:
        side.close()
