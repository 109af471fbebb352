# SPDX-License-Identifier: Apache-2.0
"""Layer-wise: layers leave while others are encoded, and are decoded while others travel."""

from __future__ import annotations

import numpy as np
import pytest

import spectrumkv as skv
from conftest import kv_arrays

LAYERS = 4


class Work:
    """A cache with its solved plan and what it encodes to; and an empty destination."""

    def __init__(self) -> None:
        self.engine = skv.Engine(threads=1)
        arrays = kv_arrays(layers=LAYERS, tokens=320, seed=5)
        self.cache = skv.Cache.from_arrays(arrays)
        self.plan = skv.Plan(self.engine, budget=0.4, unproven=True)
        self.plan.solve(self.cache)
        self.whole = self.engine.encode(self.cache, self.plan)
        self.want = self.empty()
        self.engine.decode(self.whole, self.cache_of(self.want))
        self.got = self.empty()
        self.destination = self.cache_of(self.got)

    @staticmethod
    def empty() -> list[tuple[np.ndarray, np.ndarray]]:
        return [(np.zeros_like(k), np.zeros_like(v)) for k, v in kv_arrays(layers=LAYERS, tokens=320, seed=5)]

    @staticmethod
    def cache_of(arrays: list[tuple[np.ndarray, np.ndarray]]) -> skv.Cache:
        return skv.Cache.from_arrays(arrays)


@pytest.fixture
def conns() -> object:
    with skv.Endpoint() as server, skv.Endpoint() as client:
        bound = server.listen("tcp://127.0.0.1:0")
        with client.connect(bound, 5) as a, server.accept(5) as b:
            yield a, b


def early(conn: skv.Conn) -> skv.Request:
    request = conn.recv_offer(10)
    request.result(10)
    request.accept(timeout=10, early_layers=True)
    return request


def test_each_layer_travels_and_decodes_while_the_next_is_encoded(conns: tuple[skv.Conn, skv.Conn]) -> None:
    a, b = conns
    work = Work()
    made = skv.Payload.create(work.cache, work.plan)
    sending = a.send_layers(1, made, 10)
    receiving = early(b)
    payload = None
    for layer in range(LAYERS):
        assert not receiving.wait_layer(layer, 0.05), "it was not encoded yet"
        work.engine.encode_layer(work.cache, work.plan, layer, made)
        assert receiving.wait_layer(layer, 10)
        payload = payload or receiving.payload()
        work.engine.decode_layer(payload, work.destination, layer)
        for half in range(2):
            assert np.array_equal(work.got[layer][half], work.want[layer][half]), (layer, half)
        assert payload.segment(layer).tokens == 320
        if layer + 1 < LAYERS:
            with pytest.raises(skv.StateError, match="has not arrived"):
                work.engine.decode_layer(payload, work.destination, layer + 1)
            with pytest.raises(skv.StateError):
                bytes(payload)
            assert not work.got[layer + 1][0].any()
    assert payload is not None
    receiving.result(10)
    sending.result(10)
    assert bytes(payload) == bytes(work.whole)
    payload.verify()
    assert payload.receipt().wire_ns > 0


def test_layers_may_be_encoded_in_any_order(conns: tuple[skv.Conn, skv.Conn]) -> None:
    a, b = conns
    work = Work()
    made = skv.Payload.create(work.cache, work.plan)
    work.engine.encode_layer(work.cache, work.plan, 2, made)
    sending = a.send_layers(1, made, 10)
    receiving = early(b)
    for layer in (3, 1, 0):
        work.engine.encode_layer(work.cache, work.plan, layer, made)
    receiving.result(10)
    sending.result(10)
    assert bytes(receiving.payload()) == bytes(work.whole)


def test_a_payload_that_is_dropped_half_made_cancels_its_transfer(conns: tuple[skv.Conn, skv.Conn]) -> None:
    a, b = conns
    work = Work()
    made = skv.Payload.create(work.cache, work.plan)
    sending = a.send_layers(1, made, 10)
    receiving = early(b)
    work.engine.encode_layer(work.cache, work.plan, 0, made)
    assert receiving.wait_layer(0, 10)
    payload = receiving.payload()
    work.engine.decode_layer(payload, work.destination, 0)
    made.close()
    with pytest.raises(skv.TransportError, match="before all its layers"):
        sending.result(10)
    with pytest.raises(skv.TransportError) as caught:
        receiving.result(10)
    assert caught.value.status == skv.Status.E_CANCELLED
    for use in (lambda: work.engine.decode_layer(payload, work.destination, 0), lambda: bytes(payload)):
        with pytest.raises(skv.TransportError) as caught:
            use()
        assert caught.value.status == skv.Status.E_CANCELLED


def test_a_layer_that_never_comes_ends_at_the_deadline(conns: tuple[skv.Conn, skv.Conn]) -> None:
    a, b = conns
    work = Work()
    made = skv.Payload.create(work.cache, work.plan)
    sending = a.send_layers(1, made, 0.3)
    receiving = early(b)
    with pytest.raises(skv.TransportError) as caught:
        sending.result(10)
    assert caught.value.status == skv.Status.E_TIMED_OUT
    with pytest.raises(skv.TransportError):
        receiving.wait_layer(0, 10)


def test_a_plain_send_still_wants_the_whole(conns: tuple[skv.Conn, skv.Conn]) -> None:
    work = Work()
    with pytest.raises(skv.StateError, match="not encoded yet"):
        conns[0].send(1, skv.Payload.create(work.cache, work.plan))


def test_a_plan_may_allow_late_layers_to_be_cut_and_says_when_none_was(conns: tuple[skv.Conn, skv.Conn]) -> None:
    a, b = conns
    work = Work()
    work.plan.set(skv.PlanKey.LATE_TIER, skv.Tier.FOUR_BIT)
    with pytest.raises(skv.ArgumentError, match="LATE_TIER"):
        work.plan.set(skv.PlanKey.LATE_TIER, skv.Tier.TWO_BIT)
    made = skv.Payload.create(work.cache, work.plan)
    sending = a.send_layers(1, made, 60)
    receiving = early(b)
    for layer in range(LAYERS):
        work.engine.encode_layer(work.cache, work.plan, layer, made)
    sending.result(60)
    receiving.result(60)
    payload = receiving.payload()
    assert bytes(payload) == bytes(work.whole), "there was time enough"
    assert [payload.segment(layer).cut for layer in range(LAYERS)] == [None] * LAYERS
    assert payload.receipt().cut_layers == 0
