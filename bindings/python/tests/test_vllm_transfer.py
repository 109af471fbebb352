# SPDX-License-Identifier: Apache-2.0
"""The workers' halves of the vLLM connector on both sides of real sockets, over paged numpy memory as CPU attention lays it out."""

from __future__ import annotations

import asyncio
import importlib.util
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import spectrumkv as skv
from spectrumkv.vllm.config import Settings
from spectrumkv.vllm.handover import Source, new_handle
from spectrumkv.vllm.layout import Geometry, Pages, Tile, layer_of, pages_of
from spectrumkv.vllm.load import LoadJob
from spectrumkv.vllm.scheduler import Step
from spectrumkv.vllm.send import SendJob
from spectrumkv.vllm.worker import WorkerSide

LAYERS, HEADS, DIM, BLOCK = 4, 4, 64, 32
MODEL = bytes(range(32))
TOKENS = 300
LIMIT = 20.0  # seconds until a wait fails


class Side:
    """A worker with paged memory of its own."""

    def __init__(
        self,
        *,
        producer: bool,
        blocks: int = 24,
        block: int = BLOCK,
        dtype: str = "float32",
        heads: tuple[int, int] = (0, HEADS),
        tile: Tile = Tile.VEC,
        model: bytes = MODEL,
        replicas: int = 1,
        **settings: Any,
    ) -> None:
        self.tensors = [np.zeros((blocks, heads[1], block, 2 * DIM), dtype) for _ in range(LAYERS)]
        geometry = Geometry(heads[1], DIM, DIM)
        layers = tuple(layer_of(f"layer.{i}", t, geometry, block, tile) for i, t in enumerate(self.tensors))
        self.pages = Pages(layers, block, heads[0], model, replicas)
        self.block = block
        base: dict[str, Any] = {"load_timeout": 10.0, "heartbeat": 0.3, "unproven": True}
        self.worker = WorkerSide(
            Settings.parse({**base, **settings}), self.pages, 0, producer=producer, consumer=not producer
        )

    @property
    def source(self) -> Source:
        assert self.worker.source is not None
        return self.worker.source

    def view(self, layer: int, half: skv.Half) -> np.ndarray:
        """[blocks, tokens, heads, dim]"""
        found = pages_of(self.pages.layers[layer], half)
        kind = self.tensors[layer].dtype
        return found.view(kind) if found.dtype != kind else found

    def rows(self, blocks: list[int], tokens: int) -> np.ndarray:
        """[layer, half, token, head, dim]"""
        return np.stack(
            [
                np.stack([np.concatenate(list(self.view(i, half)[blocks]))[:tokens] for half in skv.Half])
                for i in range(LAYERS)
            ]
        )

    def fill(self, seed: int = 1) -> None:
        rng = np.random.default_rng(seed)
        offsets = rng.normal(0, 3, (1, 1, self.pages.heads, DIM))
        for i in range(LAYERS):
            k, v = self.view(i, skv.Half.K), self.view(i, skv.Half.V)
            k[...] = rng.normal(size=k.shape) + offsets
            v[...] = rng.normal(size=v.shape)


@pytest.fixture
def sides() -> Iterator[Callable[..., Side]]:
    made: list[Side] = []

    def make(**options: Any) -> Side:
        made.append(Side(**options))
        return made[-1]

    before = threading.active_count()
    yield make
    for side in made:
        side.worker.close()
    end = time.monotonic() + LIMIT
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.05)
    assert threading.active_count() <= before, [thread.name for thread in threading.enumerate()]


def send(side: Side, blocks: list[int], tokens: int = TOKENS, request: str = "p", **more: Any) -> bytes:
    handle = new_handle(range(tokens))
    side.worker.send(Step(sends=[SendJob(request, handle, blocks, tokens, **more)]))
    return handle


def sent(side: Side) -> set[str]:
    """Waits for requests whose blocks may be freed."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        side.worker.wait()
        if done := side.worker.finished(())[0]:
            return done
    raise AssertionError("no blocks were given back")


def load(
    side: Side, handle: bytes, sources: list[Source], blocks: list[int], *, start: int = 0, request: str = "d"
) -> None:
    job = LoadJob(request, handle, blocks, start, TOKENS, tuple(sources))
    side.worker.load(Step(loads=[job]))


def loaded(side: Side, ended: tuple[str, ...] = ()) -> tuple[set[str], set[str], set[int]]:
    """Waits for a load to end: requests, those that failed, and blocks without valid content."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        side.worker.wait()
        if done := side.worker.finished(ended)[1]:
            return done, *side.worker.take_failures()
    raise AssertionError("the load did not end")


FROM = [3, 0, 17, 8, 9, 20, 1, 2, 5, 11]
TO = [6, 7, 2, 21, 14, 15, 1, 0, 9, 4]


def test_raw_blocks_arrive_bit_for_bit(sides: Callable[..., Side]) -> None:
    a, b = sides(producer=True), sides(producer=False)
    a.fill()
    handle = send(a, FROM)
    assert sent(a) == {"p"}
    load(b, handle, [a.source], TO)
    assert loaded(b) == ({"d"}, set(), set())
    assert np.array_equal(b.rows(TO, TOKENS), a.rows(FROM, TOKENS))
    untouched = [i for i in range(24) if i not in TO]
    assert not any(b.view(i, half)[untouched].any() for i in range(LAYERS) for half in skv.Half)
    counts = b.worker.take_stats()
    assert (counts["loaded"], counts["loaded_tokens"]) == (1, TOKENS)


def test_blocks_are_given_back_once_encoded_and_may_change(sides: Callable[..., Side]) -> None:
    a, b = sides(producer=True), sides(producer=False)
    a.fill()
    truth = a.rows(FROM, TOKENS)
    handle = send(a, FROM)
    assert sent(a) == {"p"}
    for tensor in a.tensors:
        tensor[...] = np.nan  # vLLM gives the blocks to somebody else
    load(b, handle, [a.source], TO)
    assert loaded(b)[1] == set()
    assert np.array_equal(b.rows(TO, TOKENS), truth)


def test_a_pull_may_come_first(sides: Callable[..., Side]) -> None:
    a, b = sides(producer=True), sides(producer=False)
    a.fill()
    handle = new_handle(range(TOKENS))
    load(b, handle, [a.source], TO)
    time.sleep(0.3)
    a.worker.send(Step(sends=[SendJob("p", handle, FROM, TOKENS)]))
    assert loaded(b) == ({"d"}, set(), set())
    assert np.array_equal(b.rows(TO, TOKENS), a.rows(FROM, TOKENS))


@pytest.mark.parametrize(("budget", "ratio", "error"), [("int8", 0.60, 0.02), (0.45, 0.45, 0.1)])
def test_a_budget_is_kept(sides: Callable[..., Side], budget: Any, ratio: float, error: float) -> None:
    a, b = sides(producer=True, budget=budget), sides(producer=False)
    a.fill()
    load(b, send(a, FROM), [a.source], TO)
    assert loaded(b)[1] == set()
    got, wanted = b.rows(TO, TOKENS), a.rows(FROM, TOKENS)
    assert not np.array_equal(got, wanted)
    assert np.square(got - wanted).mean() / np.square(wanted).mean() < error
    sent(a)
    counts = a.worker.take_stats()
    assert counts["encoded_bytes"] / counts["encoded_raw_bytes"] <= ratio
    assert "fallbacks" not in counts


def test_packed_payloads_are_more_precise_at_the_same_budget(sides: Callable[..., Side]) -> None:
    errors = []
    for pack in (False, True):
        a, b = sides(producer=True, budget=0.4, pack=pack), sides(producer=False)
        a.fill()
        load(b, send(a, FROM), [a.source], TO)
        assert loaded(b)[1] == set()
        sent(a)
        counts = a.worker.take_stats()
        assert counts["encoded_bytes"] <= 0.4 * counts["encoded_raw_bytes"]
        errors.append(float(np.square(b.rows(TO, TOKENS) - a.rows(FROM, TOKENS)).mean()))
    assert errors[1] < errors[0]


def test_a_request_names_its_budget_unless_that_is_switched_off(sides: Callable[..., Side]) -> None:
    free, fixed = sides(producer=True, budget=0.45), sides(producer=True, budget=0.45, per_request=False)
    for side in (free, fixed):
        side.fill()
        send(side, FROM, budget="raw")
        sent(side)
    ratios = [c["encoded_bytes"] / c["encoded_raw_bytes"] for c in (s.worker.take_stats() for s in (free, fixed))]
    assert ratios[0] > 1.9
    assert ratios[1] <= 0.45


def profile(path: Path, verdict: skv.Verdict) -> str:
    with skv.Profile(MODEL, LAYERS) as made:
        made.set_verdict(skv.Probe.NEEDLE, verdict, 3 if verdict == skv.Verdict.YES else 1, 3)
        path.write_text(made.save())
    return str(path)


def test_a_budget_that_the_probe_forbids_becomes_8_bits_and_says_so(
    sides: Callable[..., Side], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = profile(tmp_path / "no.json", skv.Verdict.NO)
    a, b = sides(producer=True, budget=0.3, unproven=False, profile=path), sides(producer=False)
    a.fill()
    load(b, send(a, FROM), [a.source], TO)
    assert loaded(b)[1] == set()
    sent(a)
    counts = a.worker.take_stats()
    assert counts["fallbacks"] == 1
    assert 0.5 < counts["encoded_bytes"] / counts["encoded_raw_bytes"] < 0.6
    assert "budget 0.3 not kept, int8 instead" in caplog.text
    got, wanted = b.rows(TO, TOKENS), a.rows(FROM, TOKENS)
    assert np.square(got - wanted).mean() / np.square(wanted).mean() < 0.01


def test_without_a_verdict_no_row_goes_below_8_bits(sides: Callable[..., Side], tmp_path: Path) -> None:
    a = sides(producer=True, budget=0.3, unproven=False)
    yes = sides(producer=True, budget=0.3, unproven=False, profile=profile(tmp_path / "yes.json", skv.Verdict.YES))
    for side, fallbacks in ((a, 1), (yes, 0)):
        side.fill()
        send(side, FROM)
        sent(side)
        assert side.worker.take_stats().get("fallbacks", 0) == fallbacks


def test_a_prompt_too_short_for_its_budget_is_sent_with_more_bits(sides: Callable[..., Side]) -> None:
    a = sides(producer=True, budget=0.2)
    a.fill()
    send(a, [3], tokens=5)
    sent(a)
    counts = a.worker.take_stats()
    assert (counts["encoded"], counts["fallbacks"]) == (1, 1)


def test_other_block_size_and_element_type(sides: Callable[..., Side]) -> None:
    a = sides(producer=True)
    b = sides(producer=False, block=16, blocks=40, dtype="float16", tile=Tile.NONE)
    a.fill()
    blocks = list(range(39, 39 - 19, -1))
    load(b, send(a, FROM), [a.source], blocks)
    assert loaded(b)[1] == set()
    assert np.array_equal(b.rows(blocks, TOKENS), a.rows(FROM, TOKENS).astype("float16"))


def test_shared_blocks_of_prefix_cache_hits_are_not_written(sides: Callable[..., Side]) -> None:
    a, b = sides(producer=True, budget=0.45), sides(producer=False)
    a.fill()
    b.fill(seed=9)
    before = b.rows(TO, TOKENS)
    start = 2 * BLOCK
    load(b, send(a, FROM), [a.source], TO, start=start)
    assert loaded(b)[1] == set()
    after, wanted = b.rows(TO, TOKENS), a.rows(FROM, TOKENS)
    assert np.array_equal(after[:, :, :start], before[:, :, :start])
    assert np.square(after[:, :, start:] - wanted[:, :, start:]).mean() / np.square(wanted).mean() < 0.1
    full = np.concatenate(list(b.view(0, skv.Half.V)[[TO[-1]]]))
    assert full[TOKENS % BLOCK :].any()  # what lies behind the last token in its block stays as well


@pytest.mark.parametrize(("many", "few"), [(2, 1), (1, 2), (4, 2), (2, 4)])
def test_tensor_parallel_sizes_may_differ(sides: Callable[..., Side], many: int, few: int) -> None:
    width, other = HEADS // many, HEADS // few
    prefill = [sides(producer=True, heads=(rank * width, width)) for rank in range(many)]
    decode = [sides(producer=False, heads=(rank * other, other)) for rank in range(few)]
    handle = new_handle(range(TOKENS))
    for rank, side in enumerate(prefill):
        side.fill(seed=rank)
        side.worker.send(Step(sends=[SendJob("p", handle, FROM, TOKENS)]))
    for side in decode:
        load(side, handle, [s.source for s in prefill], TO)
    assert all(loaded(side)[1] == set() for side in decode)
    wanted = np.concatenate([s.rows(FROM, TOKENS) for s in prefill], axis=3)
    assert np.array_equal(np.concatenate([s.rows(TO, TOKENS) for s in decode], axis=3), wanted)
    # All heads were pulled: nothing is kept.
    end = time.monotonic() + LIMIT
    while any(s.worker.sender and s.worker.sender.kept for s in prefill) and time.monotonic() < end:
        time.sleep(0.02)
    assert not any(s.worker.sender and s.worker.sender.kept for s in prefill)


def test_heads_that_no_prefill_worker_holds_fail_the_load(sides: Callable[..., Side]) -> None:
    a, b = sides(producer=True, heads=(0, 2)), sides(producer=False)
    a.fill()
    load(b, send(a, FROM), [a.source], TO)
    assert loaded(b) == ({"d"}, {"d"}, set(TO))


def test_many_requests_at_a_time_leave_nothing_behind(sides: Callable[..., Side]) -> None:
    a, b = sides(producer=True, blocks=90), sides(producer=False, blocks=90, loads=4)
    a.fill()
    tables = [[8 * i + j for j in range(8)] for i in range(10)]
    lengths = [8 * BLOCK - 13 * i for i in range(10)]
    handles = []
    for i, (blocks, tokens) in enumerate(zip(tables, lengths)):
        handles.append(new_handle(range(tokens)))
        a.worker.send(Step(sends=[SendJob(f"p{i}", handles[i], blocks, tokens)]))
    for i, (blocks, tokens) in enumerate(zip(tables, lengths)):
        job = LoadJob(f"d{i}", handles[i], blocks, 0, tokens, (a.source,))
        b.worker.load(Step(loads=[job]))
    freed: set[str] = set()
    ended: set[str] = set()
    end = time.monotonic() + LIMIT
    while (len(freed) < 10 or len(ended) < 10) and time.monotonic() < end:
        a.worker.wait()
        freed |= a.worker.finished(())[0]
        ended |= b.worker.finished(())[1]
        assert b.worker.take_failures() == (set(), set())
    assert (len(freed), len(ended)) == (10, 10)
    for blocks, tokens in zip(tables, lengths):
        assert np.array_equal(b.rows(blocks, tokens), a.rows(blocks, tokens))
    assert a.worker.sender is not None
    while a.worker.sender.kept and time.monotonic() < end:
        time.sleep(0.02)
    assert a.worker.sender.kept == 0
    assert b.worker.loader is not None
    assert b.worker.loader.live == 0


# ---------------------------------------------------------------------------------------------------------- failures


def test_an_unknown_handle_is_declined_and_a_handle_is_good_once(sides: Callable[..., Side]) -> None:
    a, b = sides(producer=True), sides(producer=False)
    a.fill()
    handle = send(a, FROM)
    load(b, handle, [a.source], TO)
    assert loaded(b)[1] == set()
    began = time.monotonic()
    load(b, handle, [a.source], TO)
    assert loaded(b) == ({"d"}, {"d"}, set(TO))
    assert time.monotonic() - began < 8
    assert a.worker.take_stats()["unknown_pulls"] == 1


def test_payloads_that_nobody_pulls_expire(sides: Callable[..., Side]) -> None:
    a, b = sides(producer=True, expiry=0.2), sides(producer=False)
    a.fill()
    handle = send(a, FROM)
    sent(a)
    assert a.worker.sender is not None
    assert a.worker.sender.kept == 1
    time.sleep(0.3)
    a.worker.finished(())
    assert a.worker.sender.kept == 0
    load(b, handle, [a.source], TO)
    assert loaded(b)[1] == {"d"}
    assert a.worker.take_stats()["expired"] == 1


def test_kept_payloads_have_a_cap(sides: Callable[..., Side]) -> None:
    a = sides(producer=True, kept_bytes=4_000_000)  # a payload is 2.5 MB
    a.fill()
    for i in range(4):
        send(a, FROM, request=f"p{i}")
        sent(a)
    assert a.worker.sender is not None
    assert a.worker.sender.kept == 1
    assert a.worker.take_stats()["expired"] == 3


def test_nothing_listens_where_the_handle_points(sides: Callable[..., Side]) -> None:
    a, b = sides(producer=True), sides(producer=False)
    gone = a.source
    a.worker.close()
    began = time.monotonic()
    load(b, bytes(16), [gone], TO)
    assert loaded(b) == ({"d"}, {"d"}, set(TO))
    assert time.monotonic() - began < 5


def test_an_address_that_is_not_a_peer_is_not_connected_to(sides: Callable[..., Side]) -> None:
    a, b = sides(producer=True), sides(producer=False, peers=["unix://*"])
    load(b, send(a, FROM), [a.source], TO)
    assert loaded(b)[1] == {"d"}
    sent(a)


def test_another_model_or_another_key_is_refused(sides: Callable[..., Side], tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a" * 32)
    (tmp_path / "b").write_bytes(b"b" * 32)
    a = sides(producer=True, psk_file=str(tmp_path / "a"))
    a.fill()
    right = sides(producer=False, psk_file=str(tmp_path / "a"))
    handle = send(a, FROM)
    for wrong in (
        sides(producer=False, psk_file=str(tmp_path / "b")),
        sides(producer=False),
        sides(producer=False, psk_file=str(tmp_path / "a"), model=bytes(32)),
    ):
        load(wrong, handle, [a.source], TO)
        assert loaded(wrong) == ({"d"}, {"d"}, set(TO))
        assert not any(t.any() for t in wrong.tensors)
    load(right, handle, [a.source], TO)
    assert loaded(right)[1] == set()


def test_values_that_are_not_finite_fail_the_request_and_free_its_blocks(sides: Callable[..., Side]) -> None:
    a, b = sides(producer=True, budget="int8"), sides(producer=False)
    a.fill()
    a.view(2, skv.Half.K)[FROM[4], 3, 1, 7] = np.inf
    handle = send(a, FROM)
    assert sent(a) == {"p"}
    load(b, handle, [a.source], TO)
    assert loaded(b)[1] == {"d"}
    assert a.worker.take_stats()["encode_failures"] == 1


def test_a_budget_that_makes_no_sense_fails_that_request_alone(sides: Callable[..., Side]) -> None:
    a = sides(producer=True)
    a.fill()
    send(a, FROM, budget="int4")
    assert sent(a) == {"p"}
    send(a, FROM, request="q")
    assert sent(a) == {"q"}
    counts = a.worker.take_stats()
    assert (counts["encode_failures"], counts["encoded"]) == (1, 1)


# ---------------------------------------------------------------------------------------------------- a bad network


def _relay(root: Path) -> Any:
    spec = importlib.util.spec_from_file_location("vllm_pd_relay", root / "examples" / "vllm_pd" / "relay.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Relay


@contextmanager
def relayed(root: Path, source: Source, **trouble: Any) -> Iterator[tuple[Source, Any]]:
    """The example's relay in a thread."""
    loop = asyncio.new_event_loop()
    relay = _relay(root)(source.uri, **trouble)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(relay.__aenter__(), loop).result(LIMIT)
    try:
        yield replace(source, uri=relay.uri), relay
    finally:
        asyncio.run_coroutine_threadsafe(relay.__aexit__(None, None, None), loop).result(LIMIT)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.mark.parametrize("flip", [3, 70, 130, 250, 500, 900, 20_000, 1_000_000, 2_400_000])
def test_changed_bytes_are_never_taken_for_the_cache(sides: Callable[..., Side], root: Path, flip: int) -> None:
    a, b = sides(producer=True), sides(producer=False, load_timeout=4.0)
    a.fill()
    handle = send(a, FROM)
    sent(a)
    with relayed(root, a.source, flip=flip) as (source, relay):
        load(b, handle, [source], TO)
        assert loaded(b) == ({"d"}, {"d"}, set(TO))
        assert relay.passed > flip


def test_a_silent_network_ends_at_the_deadline_or_the_heartbeat(sides: Callable[..., Side], root: Path) -> None:
    a, b = sides(producer=True), sides(producer=False, load_timeout=6.0)
    a.fill()
    handle = send(a, FROM)
    with relayed(root, a.source, stall=500_000) as (source, _):
        began = time.monotonic()
        load(b, handle, [source], TO)
        assert loaded(b)[1] == {"d"}
        assert time.monotonic() - began < 10


def passed(relay: Any, count: int) -> None:
    """Waits until so many bytes went through the relay."""
    end = time.monotonic() + LIMIT
    while relay.passed < count and time.monotonic() < end:
        time.sleep(0.02)


def test_an_aborted_request_is_given_back_before_its_deadline(sides: Callable[..., Side], root: Path) -> None:
    a, b = sides(producer=True), sides(producer=False, load_timeout=60.0)
    a.fill()
    handle = send(a, FROM)
    with relayed(root, a.source, rate=100_000) as (source, relay):
        load(b, handle, [source], TO)
        passed(relay, 50_000)
        began = time.monotonic()
        done, failed, blocks = loaded(b, ended=("d",))
        assert (done, failed, blocks) == ({"d"}, {"d"}, set(TO))
        assert time.monotonic() - began < 10
    assert "load_failures" not in b.worker.take_stats()  # nobody waits for it


def test_a_prefill_worker_that_goes_away_mid_transfer_fails_the_load(sides: Callable[..., Side], root: Path) -> None:
    a, b = sides(producer=True), sides(producer=False)
    a.fill()
    handle = send(a, FROM)
    with relayed(root, a.source, rate=500_000) as (source, relay):
        load(b, handle, [source], TO)
        passed(relay, 100_000)
        a.worker.close()
        assert loaded(b) == ({"d"}, {"d"}, set(TO))


def test_a_decode_worker_that_goes_away_leaves_the_prefill_worker_whole(sides: Callable[..., Side], root: Path) -> None:
    a, b, c = sides(producer=True), sides(producer=False), sides(producer=False)
    a.fill()
    handle = send(a, FROM)
    sent(a)
    with relayed(root, a.source, rate=500_000) as (source, relay):
        load(b, handle, [source], TO)
        passed(relay, 100_000)
        b.worker.close()
    # The same payload is still there for another one.
    load(c, handle, [a.source], TO)
    assert loaded(c)[1] == set()
    assert np.array_equal(c.rows(TO, TOKENS), a.rows(FROM, TOKENS))


def test_heads_that_several_ranks_hold_are_pulled_by_each_of_them(sides: Callable[..., Side]) -> None:
    a = sides(producer=True)
    b = [sides(producer=False, replicas=2) for _ in range(2)]
    a.fill()
    handle = send(a, FROM)
    for side in b:
        load(side, handle, [a.source], TO)
        assert loaded(side)[1] == set()
        assert np.array_equal(side.rows(TO, TOKENS), a.rows(FROM, TOKENS))
    assert a.worker.sender is not None
    end = time.monotonic() + LIMIT
    while a.worker.sender.kept and time.monotonic() < end:
        time.sleep(0.02)
    assert a.worker.sender.kept == 0


def test_a_pull_that_is_too_large_and_an_offer_that_does_not_fit_are_declined(sides: Callable[..., Side]) -> None:
    a = sides(producer=True)
    a.fill()
    handle = send(a, FROM)
    sent(a)
    # A whole cache in the pull's place.
    with (
        skv.Engine(threads=1) as engine,
        a.pages.cache(FROM, TOKENS, handle) as cache,
        skv.Plan(engine, strategy="raw").solve(cache) as plan,
        engine.encode(cache, plan) as payload,
        skv.Endpoint(model=MODEL) as endpoint,
        endpoint.connect(a.source.uri) as conn,
        pytest.raises(skv.TransportError, match="a pull of"),
    ):
        conn.send(1, payload).result(10)
    # A prefill worker with more tokens than the handover said.
    b = sides(producer=False)
    job = LoadJob("d", handle, TO, 0, 8, (a.source,))
    b.worker.load(Step(loads=[job]))
    assert loaded(b)[1] == {"d"}
    assert not any(t.any() for t in b.tensors)


def test_a_payload_pulled_while_it_is_encoded_counts_as_encoded(sides: Callable[..., Side]) -> None:
    a, b = sides(producer=True), sides(producer=False, loads=8)
    a.fill()
    for turn in range(20):
        handle = new_handle(range(TOKENS))
        load(b, handle, [a.source], TO, request=f"d{turn}")
        a.worker.send(Step(sends=[SendJob(f"p{turn}", handle, FROM, TOKENS)]))
        assert loaded(b) == ({f"d{turn}"}, set(), set())
        assert sent(a) == {f"p{turn}"}
    assert a.worker.sender is not None
    end = time.monotonic() + LIMIT
    while a.worker.sender.kept and time.monotonic() < end:
        time.sleep(0.02)  # the sender hears of the end a moment after the receiver
    assert a.worker.sender.kept == 0
    counts = a.worker.take_stats()
    assert (counts["encoded"], counts["sent"]) == (20, 20)
    assert "encode_failures" not in counts
