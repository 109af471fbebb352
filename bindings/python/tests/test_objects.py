# SPDX-License-Identifier: Apache-2.0
"""Engine, cache, scores, plan, payload and buffers."""

from __future__ import annotations

import array
import ctypes
import gc
import mmap
import os
import pickle
import threading
import warnings
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import spectrumkv as skv
from conftest import empty_like, encode, kv_arrays
from spectrumkv.buffers import describe, describe_bytes
from spectrumkv.payload import read_file

MODEL = bytes(range(32))
OTHER = bytes(32)


class OnlyDlpack:
    """An array that offers DLPack and nothing else, as torch tensors do."""

    def __init__(self, inner: np.ndarray) -> None:
        self._inner = inner

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def __dlpack__(self, **options: Any) -> object:
        return self._inner.__dlpack__(**options)


class OldDlpack(OnlyDlpack):
    """A producer of the time before DLPack had versions."""

    def __dlpack__(self, stream: object = None) -> object:  # type: ignore[override]
        return self._inner.__dlpack__()


def close(a: np.ndarray, b: np.ndarray, tolerance: float) -> None:
    a, b = a.astype(np.float32), b.astype(np.float32)
    assert np.abs(a - b).max() <= tolerance


# ------------------------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("dtype", ["float16", "float32", ml_dtypes.bfloat16])
def test_raw_is_lossless(engine: skv.Engine, dtype: Any) -> None:
    layers = kv_arrays(dtype=dtype)
    target = empty_like(layers)
    with skv.Cache.from_arrays(layers) as source, skv.Cache.from_arrays(target) as destination:
        payload = encode(engine, source, budget=None, strategy="raw")
        engine.decode(payload, destination)
    for (k, v), (k2, v2) in zip(layers, target):
        assert k.tobytes() == k2.tobytes()
        assert v.tobytes() == v2.tobytes()


@pytest.mark.parametrize("dtype", ["float16", "float32", ml_dtypes.bfloat16])
@pytest.mark.parametrize("strategy", ["error-aware", "greedy", "uniform-8"])
def test_quantized_round_trip_is_close(engine: skv.Engine, dtype: Any, strategy: str) -> None:
    layers = kv_arrays(dtype=dtype)
    target = empty_like(layers)
    source = skv.Cache.from_arrays(layers)
    payload = encode(engine, source, budget=0.55, strategy=strategy)
    engine.decode(payload, skv.Cache.from_arrays(target))
    for (k, v), (k2, v2) in zip(layers, target):
        close(k, k2, 0.4)
        close(v, v2, 0.4)
    assert payload.raw_bytes == source.raw_bytes == 2 * 2 * 320 * 2 * 64 * 2


def test_budget_is_kept_and_the_plan_knows_the_size(engine: skv.Engine) -> None:
    cache = skv.Cache.from_arrays(kv_arrays())
    for budget in (0.3, 0.5, 0.8):
        plan = skv.Plan(engine, budget=budget, unproven=True).solve(cache)
        payload = engine.encode(cache, plan)
        assert payload.nbytes == plan.nbytes == len(bytes(payload)) <= budget * cache.raw_bytes
        receipt = payload.receipt()
        assert receipt.payload_bytes == payload.nbytes
        assert sum(receipt.k_rows.values()) == sum(receipt.v_rows.values()) == 2 * 320
        assert receipt.encode_ns > 0
        assert receipt.scored is skv.Scored.KV


def test_a_budget_below_the_floor_is_refused(engine: skv.Engine) -> None:
    cache = skv.Cache.from_arrays(kv_arrays())
    with pytest.raises(skv.BudgetError, match=r"\d") as caught:
        skv.Plan(engine, budget=0.01, unproven=True).solve(cache)
    assert caught.value.status is skv.Status.E_BUDGET


@pytest.mark.parametrize("layout", ["thd", "htd", "bhtd", "dht"])
def test_layouts_carry_the_same_elements(engine: skv.Engine, layout: str) -> None:
    layers = kv_arrays()
    axes = {"thd": "thd", "htd": "htd", "bhtd": "htd", "dht": "dht"}[layout]
    order = tuple("thd".index(letter) for letter in axes)

    def lay(a: np.ndarray) -> np.ndarray:
        moved = np.ascontiguousarray(a.transpose(order))
        return moved[None] if layout == "bhtd" else moved

    reference = encode(engine, skv.Cache.from_arrays(layers))
    payload = encode(engine, skv.Cache.from_arrays([(lay(k), lay(v)) for k, v in layers], layout=layout))
    assert bytes(payload) == bytes(reference)

    target = [(np.zeros_like(lay(k)), np.zeros_like(lay(v))) for k, v in layers]
    engine.decode(payload, skv.Cache.from_arrays(target, layout=layout))
    plain = empty_like(layers)
    engine.decode(payload, skv.Cache.from_arrays(plain))
    for (k, v), (k2, v2) in zip(plain, target):
        assert lay(k).tobytes() == k2.tobytes()
        assert lay(v).tobytes() == v2.tobytes()


def test_strided_slices_are_views_not_copies(engine: skv.Engine) -> None:
    fused = np.random.default_rng(3).normal(0, 1, (1, 100, 2, 128)).astype(np.float16)  # [1, t, h, k|v]
    k, v = fused[0, ..., :64], fused[0, ..., 64:]
    a = encode(engine, skv.Cache.from_arrays([(k, v)]), budget=None, strategy="raw")
    b = encode(engine, skv.Cache.from_arrays([(k.copy(), v.copy())]), budget=None, strategy="raw")
    assert bytes(a) == bytes(b)


@pytest.mark.parametrize("layout", ["bthd", "bhtd", "bhdt"])
def test_paged_to_contiguous_and_back(engine: skv.Engine, layout: str) -> None:
    tokens, block_tokens, blocks = 70, 16, [7, 2, 9, 0, 4]
    rng = np.random.default_rng(5)
    shape = {"b": 11, "t": block_tokens, "h": 2, "d": 64}
    pages = [rng.normal(0, 1, [shape[a] for a in layout]).astype(np.float16) for _ in range(2)]
    cache = skv.Cache.from_arrays([(pages[0], pages[1])], layout=layout, blocks=blocks, tokens=tokens)
    payload = encode(engine, cache, budget=None, strategy="raw")
    flat = [(np.zeros((tokens, 2, 64), np.float16), np.zeros((tokens, 2, 64), np.float16))]
    engine.decode(payload, skv.Cache.from_arrays(flat))
    for page, got in zip(pages, flat[0]):
        thd = page.transpose([layout.index(a) for a in "bthd"])
        assert np.array_equal(np.concatenate([thd[b] for b in blocks])[:tokens], got)

    other = [np.zeros([{"b": 30, "t": 4, "h": 2, "d": 64}[a] for a in layout], np.float16) for _ in range(2)]
    table = list(range(29, 29 - 18, -1))
    engine.decode(payload, skv.Cache.from_arrays([(other[0], other[1])], layout=layout, blocks=table, tokens=tokens))
    thd = other[0].transpose([layout.index(a) for a in "bthd"])
    assert np.array_equal(np.concatenate([thd[b] for b in table])[:tokens], flat[0][0])


def test_a_layer_without_v(engine: skv.Engine) -> None:
    latent = np.random.default_rng(7).normal(0, 1, (64, 96)).astype(np.float16)
    payload = encode(engine, skv.Cache.from_arrays([(latent, None)], layout="td"))
    assert payload.segment(0).v_dim == 0
    got = np.zeros_like(latent)
    engine.decode(payload, skv.Cache.from_arrays([(got, None)], layout="td"))
    close(latent, got, 0.4)


def test_decoding_into_another_dtype_and_a_head_subset(engine: skv.Engine) -> None:
    layers = kv_arrays(layers=1, heads=4)
    payload = encode(engine, skv.Cache.from_arrays(layers), budget=None, strategy="raw")
    target = [(np.zeros((320, 2, 64), np.float32), np.zeros((320, 2, 64), np.float32))]
    engine.decode(payload, skv.Cache.from_arrays(target, first_head=1))
    assert np.array_equal(target[0][0], layers[0][0][:, 1:3].astype(np.float32))


def test_layer_by_layer_equals_at_once(engine: skv.Engine) -> None:
    layers = kv_arrays(layers=3)
    cache = skv.Cache.from_arrays(layers)
    plan = skv.Plan(engine, budget=0.4, unproven=True).solve(cache)
    whole = engine.encode(cache, plan)
    parts = skv.Payload.create(cache, plan)
    for layer in (2, 0, 1):
        with pytest.raises(skv.StateError):
            _ = parts.data
        engine.encode_layer(cache, plan, layer, parts)
    assert bytes(parts) == bytes(whole)
    a, b = empty_like(layers), empty_like(layers)
    engine.decode(whole, skv.Cache.from_arrays(a))
    destination = skv.Cache.from_arrays(b)
    for layer in range(3):
        engine.decode_layer(parts, destination, layer)
    assert all(x.tobytes() == y.tobytes() for p, q in zip(a, b) for x, y in zip(p, q))


def test_encoding_into_the_callers_memory(engine: skv.Engine) -> None:
    cache = skv.Cache.from_arrays(kv_arrays())
    plan = skv.Plan(engine, budget=0.4, unproven=True).solve(cache)
    memory = skv.aligned_bytearray(plan.nbytes)
    payload = engine.encode(cache, plan, out=memory)
    assert bytes(memory) == bytes(payload)
    with pytest.raises(skv.ResourceError, match="buffer"):
        engine.encode(cache, plan, out=skv.aligned_bytearray(plan.nbytes - 16))
    with pytest.raises(skv.ArgumentError):
        engine.encode(cache, plan, out=bytes(plan.nbytes))


@pytest.mark.parametrize("size", [1000, (32 << 20) + 1])
def test_memory_for_payloads_is_aligned_and_zero(size: int) -> None:
    memory = skv.aligned_bytearray(size, 64)
    assert len(memory) == size and not memory.readonly
    assert ctypes.addressof(ctypes.c_char.from_buffer(memory)) % 64 == 0
    assert not any(memory[:: size - 1])
    memory[-1] = 7
    assert bytes(memory[-2:]) == b"\0\7"


@pytest.mark.parametrize("size", [0, 5, 70_000, (32 << 20) + 7])
def test_files_are_read_whole(size: int, tmp_path: Path) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    file = tmp_path / "data"
    file.write_bytes(data[:size])
    assert read_file(file) == data[:size]


def test_pipes_are_read_whole(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"spectrum" * 20_000,))
    writer.start()
    assert read_file(pipe) == b"spectrum" * 20_000
    writer.join(10)


def test_tiers_can_be_read_and_replaced(engine: skv.Engine) -> None:
    cache = skv.Cache.from_arrays(kv_arrays(layers=1))
    plan = skv.Plan(engine, strategy="uniform-8").solve(cache)
    assert list(plan.tiers(0, skv.Half.K, 320))[:6] == [5, 5, 5, 5, 4, 4]
    before = plan.nbytes
    plan.set_tiers(0, skv.Half.V, [skv.Tier.FOUR_BIT] * 320)
    payload = engine.encode(cache, plan)
    assert payload.nbytes == plan.nbytes < before
    assert payload.tiers(0, skv.Half.V) == bytes([skv.Tier.FOUR_BIT] * 320)
    assert payload.tiers(0, skv.Half.K) == plan.tiers(0, skv.Half.K, 320)


def test_dropped_tokens_need_a_destination_that_masks(engine: skv.Engine) -> None:
    layers = kv_arrays(layers=1)
    cache = skv.Cache.from_arrays(layers, can_mask=True)
    plan = skv.Plan(engine, strategy="uniform-8").solve(cache)
    plan.set_tiers(0, skv.Half.K, [skv.Tier.RAW] * 319 + [skv.Tier.DROP])
    payload = engine.encode(cache, plan)
    target = empty_like(layers)
    with pytest.raises(skv.BudgetError) as caught:
        engine.decode(payload, skv.Cache.from_arrays(target))
    assert caught.value.status is skv.Status.E_PERMITTED
    assert not target[0][0].any()
    engine.decode(payload, skv.Cache.from_arrays(target, can_mask=True))
    assert not target[0][0][319].any()


# ------------------------------------------------------------------------------------------------------ scores


def test_weights_and_queries_steer_the_plan(engine: skv.Engine) -> None:
    layers = kv_arrays(layers=1)
    cache = skv.Cache.from_arrays(layers)
    scores = skv.Scores()
    with pytest.raises(skv.StateError):
        scores.get(0, skv.Half.K, 320)
    weights = np.where(np.arange(320) < 160, 1e4, 1e-4).astype(np.float32)
    scores.set_weights(skv.ALL, skv.Half.K, weights)
    scores.set_weights(skv.ALL, skv.Half.V, weights.tolist())
    engine.score(cache, scores)
    assert np.allclose(scores.get(0, skv.Half.K, 320), weights)
    plan = skv.Plan(engine, budget=0.4, unproven=True).solve(cache, scores)
    tiers = np.frombuffer(plan.tiers(0, skv.Half.K, 320), np.uint8)
    assert tiers[:160].mean() > tiers[160:].mean() + 1
    assert engine.encode(cache, plan).receipt().scored is skv.Scored.CALLER

    queries = np.random.default_rng(9).normal(0, 1, (6, 64, 64)).astype(np.float32)
    by_query = skv.Scores()
    by_query.set_queries(0, queries, layout="hqd")
    del queries
    gc.collect()
    plan = skv.Plan(engine, budget=0.4, unproven=True).solve(cache, engine.score(cache, by_query))
    assert engine.encode(cache, plan).receipt().scored is skv.Scored.QUERIES
    bad = skv.Scores()
    bad.set_queries(0, np.zeros((8, 3, 64), np.float32))
    with pytest.raises(skv.ArgumentError):
        engine.score(cache, bad)
    with pytest.raises(skv.NonFiniteError):
        bad.set_weights(0, skv.Half.K, [float("nan")])


# ----------------------------------------------------------------------------------------------------- buffers


def test_dlpack_old_and_new(engine: skv.Engine) -> None:
    layers = kv_arrays(layers=1)
    want = bytes(encode(engine, skv.Cache.from_arrays(layers)))
    for wrapper in (OnlyDlpack, OldDlpack):
        wrapped = [(wrapper(k), wrapper(v)) for k, v in layers]
        described = describe(wrapped[0][0])
        assert (described.shape, described.dtype, described.readonly) == ((320, 2, 64), "float16", False)
        assert described.strides == layers[0][0].strides
        assert bytes(encode(engine, skv.Cache.from_arrays(wrapped))) == want


def test_dlpack_keeps_its_producer_alive() -> None:
    freed = threading.Event()

    class Tracked(np.ndarray):
        def __del__(self) -> None:
            freed.set()

    array_ = np.ones((4, 4), np.float32).view(Tracked)
    buffer = describe(OldDlpack(array_))
    del array_
    gc.collect()
    assert not freed.is_set()
    assert ctypes.c_float.from_address(buffer.pointer).value == 1.0
    del buffer
    gc.collect()
    assert freed.is_set()


@pytest.mark.parametrize(
    ("obj", "dtype", "readonly"),
    [
        (b"12345678", "uint8", True),
        (bytearray(8), "uint8", False),
        (array.array("f", [1, 2]), "float32", False),
        (array.array("H", [1, 2]), "uint16", False),
        (memoryview(b"12345678")[2:4], "uint8", True),
        ((ctypes.c_float * 2)(), "float32", False),
        (np.zeros(2, np.float16), "float16", False),
        (np.zeros(2, ml_dtypes.bfloat16), "bfloat16", False),
        (np.zeros(2, np.int64), "int64", False),
        (np.frombuffer(b"1234", np.float32), "float32", True),
        (mmap.mmap(-1, 8), "uint8", False),
    ],
)
def test_describe_names_what_it_sees(obj: object, dtype: str, readonly: bool) -> None:
    buffer = describe(obj)
    assert (buffer.dtype, buffer.readonly, buffer.contiguous) == (dtype, readonly, True)
    assert buffer.nbytes == memoryview(obj).nbytes if dtype != "bfloat16" else 4  # type: ignore[arg-type]
    if readonly:
        with pytest.raises(skv.ArgumentError, match="read-only"):
            describe(obj, writable=True)


def test_describe_refuses_what_it_cannot_serve() -> None:
    with pytest.raises(skv.ArgumentError, match="big-endian"):
        describe(np.zeros(2, ">f4"))
    with pytest.raises(skv.ArgumentError, match="strides"):
        describe(np.zeros(4, np.float32)[::-1])
    with pytest.raises(skv.ArgumentError, match="contiguous"):
        describe_bytes(np.zeros((4, 4), np.float32)[:, ::2])
    with pytest.raises(skv.ArgumentError, match="no memory"):
        describe(object())
    with pytest.raises(skv.ArgumentError, match="float64"):
        skv.Cache.from_arrays([(np.zeros((4, 1, 64)), np.zeros((4, 1, 64)))])


def test_an_export_is_held_while_the_view_lives() -> None:
    data = bytearray(64)
    buffer = describe(data)
    with pytest.raises(BufferError):
        data.extend(b"x")
    del buffer
    gc.collect()
    data.extend(b"x")


def test_bfloat16_kept_in_uint16(engine: skv.Engine) -> None:
    layers = kv_arrays(layers=1, dtype=ml_dtypes.bfloat16)  # type: ignore[arg-type]
    words = [(k.view(np.uint16), v.view(np.uint16)) for k, v in layers]
    a = encode(engine, skv.Cache.from_arrays(layers))
    b = encode(engine, skv.Cache.from_arrays(words, dtype="bf16"))
    assert bytes(a) == bytes(b)
    assert a.segment(0).dtype is skv.DType.BF16


# ---------------------------------------------------------------------------------------------------- lifetime


def test_views_keep_their_buffers_alive(engine: skv.Engine) -> None:
    cache = skv.Cache.from_arrays(kv_arrays())
    gc.collect()
    np.full((1 << 20,), 7, np.uint8)  # would land in freed memory
    a = encode(engine, cache)
    assert bytes(a) == bytes(encode(engine, skv.Cache.from_arrays(kv_arrays())))


def test_payload_bytes_outlive_the_payload(engine: skv.Engine) -> None:
    payload = encode(engine, skv.Cache.from_arrays(kv_arrays()))
    copy = bytes(payload)
    view = payload.data
    part = view[16:64]
    payload.close()
    del payload, view
    gc.collect()
    assert bytes(part) == copy[16:64]
    assert part.readonly
    opened = skv.Payload.open(bytearray(copy))
    gc.collect()
    opened.verify()
    assert bytes(opened) == copy


def test_use_after_close_is_a_state_error(engine: skv.Engine) -> None:
    layers = kv_arrays()
    cache, scores = skv.Cache.from_arrays(layers), skv.Scores()
    plan = skv.Plan(engine, budget=0.5, unproven=True).solve(cache)
    payload = engine.encode(cache, plan)
    for handle in (cache, scores, plan, payload):
        handle.close()
        handle.close()
        assert handle.closed
        assert "closed" in repr(handle)
    calls = [
        lambda: cache.raw_bytes,
        lambda: scores.get(0, skv.Half.K, 1),
        lambda: plan.nbytes,
        lambda: payload.data,
        lambda: payload.nbytes,
        lambda: engine.decode(payload, skv.Cache.from_arrays(layers)),
        cache.__enter__,
    ]
    for call in calls:
        with pytest.raises(skv.StateError) as caught:
            call()
        assert caught.value.status is skv.Status.E_CLOSED


def test_closing_during_a_call_in_another_thread_is_safe() -> None:
    for _ in range(20):
        engine = skv.Engine(threads=1)
        cache = skv.Cache.from_arrays(kv_arrays(layers=1))
        plan = skv.Plan(engine, budget=0.5, unproven=True)
        errors: list[BaseException] = []

        def work(plan: skv.Plan = plan, cache: skv.Cache = cache, errors: list[BaseException] = errors) -> None:
            try:
                plan.solve(cache)
            except skv.StateError as error:
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        plan.close()
        cache.close()
        engine.close()
        thread.join()


def test_no_handles_leak_warnings(engine: skv.Engine) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(50):
            encode(engine, skv.Cache.from_arrays(kv_arrays(layers=1, tokens=32)))
        gc.collect()


# ------------------------------------------------------------------------------------------------------ misuse


def test_read_only_destinations_are_refused(engine: skv.Engine) -> None:
    layers = kv_arrays(layers=1)
    payload = encode(engine, skv.Cache.from_arrays(layers))
    frozen = [(k.copy(), v.copy()) for k, v in layers]
    frozen[0][1].flags.writeable = False
    destination = skv.Cache.from_arrays(frozen)
    assert not destination.writable
    before = frozen[0][0].copy()
    for decode in (lambda: engine.decode(payload, destination), lambda: engine.decode_layer(payload, destination, 0)):
        with pytest.raises(skv.ArgumentError, match="read-only"):
            decode()
    assert np.array_equal(before, frozen[0][0])
    encode(engine, destination)  # reading is fine


def test_identity_guards_the_destination(engine: skv.Engine) -> None:
    layers = kv_arrays(layers=1)
    payload = encode(engine, skv.Cache.from_arrays(layers, fingerprint=MODEL, request_id=b"r" * 16))
    assert payload.identity == (MODEL, b"r" * 16)
    target = empty_like(layers)
    with pytest.raises(skv.IdentityError) as caught:
        engine.decode(payload, skv.Cache.from_arrays(target, fingerprint=OTHER))
    assert caught.value.status is skv.Status.E_MODEL
    with pytest.raises(skv.IdentityError) as caught:
        engine.decode(payload, skv.Cache.from_arrays(target, fingerprint=MODEL, request_id=b"s" * 16))
    assert caught.value.status is skv.Status.E_REQUEST
    with pytest.raises(skv.IdentityError) as caught:
        engine.decode(payload, skv.Cache.from_arrays(kv_arrays(layers=1, tokens=32), fingerprint=MODEL))
    assert caught.value.status is skv.Status.E_LAYOUT
    assert not target[0][0].any()
    engine.decode(payload, skv.Cache.from_arrays(target, fingerprint=MODEL.hex()))
    with pytest.raises(skv.ArgumentError, match="32"):
        skv.Cache.from_arrays(target, fingerprint=b"short")


def test_damaged_bytes_are_refused(engine: skv.Engine) -> None:
    layers = kv_arrays(layers=1)
    good = bytes(encode(engine, skv.Cache.from_arrays(layers)))
    with pytest.raises(skv.PayloadError):
        skv.Payload.open(good[:-1])
    with pytest.raises(skv.PayloadError):
        skv.Payload.open(good + b"\0")
    with pytest.raises(skv.PayloadError):
        skv.Payload.open(b"")
    with pytest.raises(skv.VersionError):
        skv.Payload.open(good[:4] + b"\x09" + good[5:])
    bad = bytearray(good)
    bad[-20] ^= 1
    payload = skv.Payload.open(bad)
    with pytest.raises(skv.ChecksumError):
        payload.verify()
    target = empty_like(layers)
    with pytest.raises(skv.ChecksumError):
        engine.decode(payload, skv.Cache.from_arrays(target))
    assert not target[0][0].any()


def test_bad_views_are_refused() -> None:
    a = np.zeros((16, 2, 64), np.float16)
    with pytest.raises(skv.ArgumentError, match="wanted the same"):
        skv.Cache.from_arrays([(a, a[:8])])
    with pytest.raises(skv.ArgumentError) as caught:
        skv.Cache.from_arrays([(a, a)])
    assert caught.value.status is skv.Status.E_OVERLAP
    with pytest.raises(skv.ArgumentError, match="layout"):
        skv.Cache.from_arrays([(a, None)], layout="xyz")
    with pytest.raises(skv.ArgumentError, match="3 axes"):
        skv.Cache.from_arrays([(a[0], None)])
    with pytest.raises(skv.ArgumentError, match="17 tokens"):
        skv.Cache.from_arrays([(a, None)], tokens=17)
    with pytest.raises(skv.ArgumentError, match="without tokens"):
        skv.Cache.from_arrays([(a, None)], blocks=[0])
    with pytest.raises(skv.ArgumentError, match="wanted 1"):
        skv.Cache.from_arrays([(a, None)], layout="btd")
    for blocks in ([0, 0], [0, 99], [0]):
        pages = np.zeros((4, 16, 2, 64), np.float16)
        with pytest.raises(skv.ArgumentError) as caught:
            skv.Cache.from_arrays([(pages, None)], layout="bthd", blocks=blocks, tokens=32)
        assert caught.value.status is skv.Status.E_BLOCK_ID
    cache = skv.Cache(1)
    with pytest.raises(skv.ArgumentError) as caught:
        cache.check()
    assert caught.value.status is skv.Status.E_EMPTY


def test_non_finite_values_are_refused(engine: skv.Engine) -> None:
    layers = kv_arrays(layers=1)
    layers[0][0][100, 1, 3] = np.nan
    cache = skv.Cache.from_arrays(layers)
    with pytest.raises(skv.NonFiniteError):
        encode(engine, cache, budget=None, strategy="uniform-4")


def test_bad_options_are_refused(engine: skv.Engine) -> None:
    with pytest.raises(skv.ArgumentError, match="strategy|name"):
        skv.Plan(engine, strategy="magic")
    with pytest.raises(skv.ArgumentError, match="wanted one"):
        skv.Plan(engine, budget=0.5, budget_bytes=100)
    with pytest.raises(skv.ArgumentError):
        skv.Plan(engine, chunk=33)
    with pytest.raises(skv.ArgumentError):
        skv.Engine(threads=100000)
    with pytest.raises(skv.SpectrumKVError):
        skv.Engine(device=1000)
    with pytest.raises(skv.StateError):
        skv.Plan(engine).nbytes  # noqa: B018
    with pytest.raises(skv.StateError):
        skv.Plan(engine).solve(skv.Cache.from_arrays(kv_arrays()))
    plan = skv.Plan(
        engine, strategy="greedy", budget=0.5, unproven=True, sinks=0, k_tiers=[skv.Tier.FOUR_BIT, skv.Tier.EIGHT_BIT]
    )
    plan.close()


def test_errors_survive_pickling() -> None:
    error = skv.BudgetError(skv.Status.E_BUDGET, "below the floor", 3)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.status, again.message, again.native) == (skv.BudgetError, -40, "below the floor", 3)
