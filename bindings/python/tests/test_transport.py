# SPDX-License-Identifier: Apache-2.0
"""Endpoint, conn and request over every plane."""

from __future__ import annotations

import asyncio
import gc
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import byref, c_int64
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import spectrumkv as skv
from conftest import empty_like, encode, kv_arrays
from spectrumkv._abi import library
from spectrumkv.transport import _Reaper

MODEL = bytes(range(32))


@pytest.fixture(params=["inproc", "unix", "abstract", "tcp"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return {
        "inproc": f"inproc://{tmp_path.name}",
        "unix": f"unix://{tmp_path}/s",
        "abstract": f"unix://@skv-{os.getpid()}-{tmp_path.name}",
        "tcp": "tcp://127.0.0.1:0",
    }[request.param]


@contextmanager
def pair(uri: str, **options: object) -> Iterator[tuple[skv.Conn, skv.Conn]]:
    """(conn of the connecting end, conn of the listening end)."""
    with skv.Endpoint(**options) as server, skv.Endpoint(**options) as client:  # type: ignore[arg-type]
        bound = server.listen(uri)
        with client.connect(bound, 5) as a, server.accept(5) as b:
            yield a, b


def some_payload(layers: int = 2, tokens: int = 320, seed: int = 1, **identity: bytes) -> skv.Payload:
    with skv.Engine(threads=1) as engine:
        cache = skv.Cache.from_arrays(kv_arrays(layers=layers, tokens=tokens, seed=seed), **identity)  # type: ignore[arg-type]
        return encode(engine, cache)


def test_a_payload_arrives(uri: str) -> None:
    payload = some_payload(fingerprint=MODEL, request_id=b"q" * 16)
    with pair(uri, model=MODEL) as (a, b):
        assert a.plane is b.plane is (skv.Plane.INPROC if uri.startswith("inproc") else skv.Plane.INLINE)
        assert a.is_open and b.is_open
        assert a.peer_version == 100
        sending = a.send(42, payload, 5)
        offer = b.recv_offer(5)
        assert offer.wait(5)
        assert offer.state is skv.RequestState.OFFERED
        assert (offer.key, offer.nbytes, offer.layers) == (42, payload.nbytes, 2)
        assert offer.identity == (MODEL, b"q" * 16)
        offer.accept()
        assert offer.wait_layer(0, 5)
        assert offer.wait(5)
        assert sending.wait(5)
        assert offer.state is sending.state is skv.RequestState.ENDED
        assert offer.moved == payload.nbytes
        assert offer.layers_ready == 2
        got = offer.payload()
        assert bytes(got) == bytes(payload)
        assert got.receipt().wire_ns > 0
        with pytest.raises(skv.StateError):
            offer.payload()
        assert b.endpoint.stats().received_ok == 1
        offer.close()
        got.verify()  # outlives its request


def test_into_the_callers_memory(uri: str) -> None:
    payload = some_payload()
    with pair(uri) as (a, b):
        sending = a.send(1, payload)
        offer = b.recv_offer()
        offer.result(5)
        with pytest.raises(skv.ResourceError):
            offer.accept(skv.aligned_bytearray(offer.nbytes - 16))
        with pytest.raises(skv.ArgumentError, match="read-only"):
            offer.accept(bytes(offer.nbytes))
        memory = skv.aligned_bytearray(offer.nbytes)
        offer.accept(memory)
        offer.result(5)
        got = offer.payload()
        assert bytes(memory) == bytes(got) == bytes(payload)
        del memory, offer
        gc.collect()
        got.verify()
        sending.result(5)


def test_a_packed_payload_arrives_and_is_what_it_was(uri: str) -> None:
    with skv.Engine(threads=1) as engine, some_payload(layers=3) as plain, engine.pack(plain) as packed:
        assert packed.nbytes < plain.nbytes
        with pytest.raises(skv.StateError, match="packed already"):
            engine.pack(packed)
        with pair(uri) as (a, b):
            sending = a.send(7, packed)
            offer = b.recv_offer()
            assert offer.wait(5)
            offer.accept()
            offer.result(5)
            sending.result(5)
            got = offer.payload()
            assert bytes(got) == bytes(packed)
            receipt = got.receipt()
            assert (receipt.payload_bytes, receipt.unpacked_bytes) == (packed.nbytes, plain.nbytes)
            arrays = [empty_like(kv_arrays(layers=3)) for _ in range(2)]
            for source, memory in zip((plain, got), arrays):
                with skv.Cache.from_arrays(memory) as cache:
                    engine.decode(source, cache)
            for (k, v), (packed_k, packed_v) in zip(*arrays):
                assert k.any() and np.array_equal(k, packed_k) and np.array_equal(v, packed_v)


def test_collection_during_a_send_is_safe(uri: str) -> None:
    want = bytes(some_payload(layers=4, tokens=2048))
    with pair(uri) as (a, b):
        store = np.frombuffer(want, np.uint8).copy()
        sending = a.send(1, skv.Payload.open(store))  # caller-owned bytes, payload dropped at once
        del store
        gc.collect()
        noise = [np.full(len(want), i, np.uint8) for i in range(8)]
        offer = b.recv_offer()
        offer.result(5)
        offer.accept()
        del noise
        gc.collect()
        offer.result(10)
        assert bytes(offer.payload()) == want
        sending.result(5)


def test_a_dropped_request_is_cancelled(uri: str) -> None:
    with pair(uri) as (a, b):
        a.send(1, some_payload())
        gc.collect()
        offer = b.recv_offer(1)
        with pytest.raises(skv.TransportError):
            offer.result(3)
            offer.accept()
            offer.result(3)
        kept = a.send(2, some_payload())  # the conn goes on
        assert b.receive(5).nbytes == kept.nbytes
        kept.result(5)


def test_a_request_that_begins_to_move_while_it_is_dropped_is_not_lost(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lib, lost = library(), len(_Reaper.lost)
    with pair(uri) as (a, b), skv.Engine(threads=1) as engine:
        cache = skv.Cache.from_arrays(kv_arrays())
        plan = skv.Plan(engine, strategy="raw").solve(cache)
        building = skv.Payload.create(cache, plan)  # no layer of it comes: once accepted, its request goes on moving
        sending, offer = a.send_layers(1, building), b.recv_offer()
        offer.result(5)
        call, destroyed = lib.call, 0

        def late(name: str, *arguments: Any) -> skv.Status:
            nonlocal destroyed
            if name == "skv_request_destroy":
                destroyed += 1
                if destroyed == 1:  # the peer's answer comes just now
                    offer.accept()
                    state = c_int64()
                    while state.value != skv.RequestState.MOVING:
                        call("skv_request_get", arguments[0], skv.RequestKey.STATE, byref(state))
            return call(name, *arguments)

        monkeypatch.setattr(lib, "call", late)
        with pytest.warns(ResourceWarning, match="while it moved bytes"):
            sending.close()
        monkeypatch.undo()
        assert destroyed == 2
        assert len(_Reaper.lost) == lost
        with pytest.raises(skv.TransportError) as caught:
            offer.result(5)
        assert caught.value.status is skv.Status.E_CANCELLED


def test_rejection_carries_the_reason(uri: str) -> None:
    with pair(uri) as (a, b):
        sending = a.send(1, some_payload())
        offer = b.recv_offer()
        offer.result(5)
        offer.reject("no room for request 1")
        with pytest.raises(skv.TransportError, match="no room for request 1") as caught:
            sending.result(5)
        assert caught.value.status is skv.Status.E_REJECTED
        with pytest.raises(skv.TransportError):
            offer.result(5)


def test_deadlines(uri: str) -> None:
    with pair(uri) as (a, b):
        started = time.monotonic()
        with pytest.raises(skv.TransportTimeoutError):
            b.endpoint.accept(0.3)
        sending = a.send(1, some_payload(), 0.5)
        assert not sending.wait(0.1)
        assert not sending.test()
        with pytest.raises(skv.TransportTimeoutError) as caught:
            sending.result(5)
        assert isinstance(caught.value, TimeoutError)
        waiting = a.recv_offer(0.3)
        with pytest.raises(skv.TransportTimeoutError):
            waiting.result(5)
        assert time.monotonic() - started < 4


def test_cancel(uri: str) -> None:
    with pair(uri) as (a, b):
        sending = a.send(1, some_payload())
        waiting = a.recv_offer()
        for request in (sending, waiting):
            request.cancel()
            with pytest.raises(skv.TransportError) as caught:
                request.result(5)
            assert caught.value.status is skv.Status.E_CANCELLED
            request.close()
            request.close()
            with pytest.raises(skv.StateError):
                request.test()
        assert b.is_open


def test_another_model_is_refused(uri: str) -> None:
    with skv.Endpoint(model=MODEL) as server, skv.Endpoint() as client:
        bound = server.listen(uri)
        with pytest.raises(skv.IdentityError) as caught:
            client.connect(bound, 5)
        assert caught.value.status is skv.Status.E_MODEL


def test_closing_ends_what_is_live(uri: str) -> None:
    with pair(uri) as (a, b):
        waiting = a.recv_offer(20)
        theirs = b.recv_offer(20)
        a.endpoint.close()
        a.endpoint.close()
        for request in (waiting, theirs):
            with pytest.raises(skv.TransportError) as caught:
                request.result(5)
            assert caught.value.status in (skv.Status.E_CANCELLED, skv.Status.E_PEER_LOST)
        with pytest.raises(skv.SpectrumKVError):
            a.send(1, some_payload())


def test_many_at_once_with_poll(uri: str) -> None:
    payloads = [some_payload(seed=seed) for seed in range(4)]
    with pair(uri) as (a, b):
        sending = {i: a.send(i, payload) for i, payload in enumerate(payloads)}
        offers = [b.recv_offer() for _ in payloads]
        done: dict[int, bytes] = {}
        end = time.monotonic() + 10
        while len(done) < len(payloads) and time.monotonic() < end:
            select.select([b.endpoint.fileno()], [], [], 1.0)
            for request in b.endpoint.poll():
                assert request in offers
                if request.state is skv.RequestState.OFFERED:
                    request.accept()
                else:
                    done[request.key] = bytes(request.payload())
        assert done == {i: bytes(payload) for i, payload in enumerate(payloads)}
        for request in sending.values():
            request.result(5)


def test_without_a_progress_thread() -> None:
    payload = some_payload()
    with skv.Endpoint(progress_thread=False) as server, skv.Endpoint() as client:
        bound = server.listen("tcp://127.0.0.1:0")
        conns: list[skv.Conn] = []
        thread = threading.Thread(target=lambda: conns.append(client.connect(bound, 5)))
        thread.start()
        conn = server.accept(5)
        thread.join()
        sending = conns[0].send(1, payload)
        offer = conn.recv_offer()
        while not offer.test():
            server.progress(0.5)
        offer.accept()
        while offer.state is not skv.RequestState.ENDED:
            server.progress(0.5)
        assert bytes(offer.payload()) == bytes(payload)
        while not sending.test():
            server.progress(0.1)


def test_coroutines() -> None:
    payload = some_payload()

    async def move(a: skv.Conn, b: skv.Conn) -> bytes:
        sending, offer = a.send(1, payload), b.recv_offer()
        assert await offer.wait_async(5)
        offer.accept()
        assert all(await asyncio.gather(offer.wait_async(5), sending.wait_async(5)))
        return bytes(offer.payload())

    with pair("tcp://127.0.0.1:0") as (a, b):
        assert asyncio.run(move(a, b)) == bytes(payload)


def test_bad_addresses_and_options() -> None:
    with skv.Endpoint() as endpoint:
        with pytest.raises(skv.TransportError):
            endpoint.listen("http://127.0.0.1:1")
        with pytest.raises(skv.BudgetError, match="(?i)loopback|ALLOW_OPEN_TCP"):
            endpoint.listen("tcp://0.0.0.0:0")
        with pytest.raises(skv.TransportError):
            endpoint.connect("tcp://127.0.0.1:1", 1)
    with pytest.raises(skv.ArgumentError):
        skv.Endpoint(chunk=1)
    with pytest.raises(skv.StateError):
        endpoint.listen("tcp://127.0.0.1:0")


PEER = """
import sys, time
import spectrumkv as skv
endpoint = skv.Endpoint(heartbeat=0.2)
conn = endpoint.connect(sys.argv[1], 10)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGSTOP])
def test_a_killed_or_stopped_peer_is_noticed(kill: signal.Signals) -> None:
    with skv.Endpoint(heartbeat=0.2) as server:
        bound = server.listen("tcp://127.0.0.1:0")
        with subprocess.Popen([sys.executable, "-c", PEER, bound], stdout=subprocess.PIPE) as peer:
            try:
                conn = server.accept(15)
                assert peer.stdout is not None
                assert peer.stdout.readline() == b"ready\n"
                sending = conn.send(1, some_payload(), 30)
                waiting = conn.recv_offer(30)
                peer.send_signal(kill)
                started = time.monotonic()
                for request in (sending, waiting):
                    with pytest.raises(skv.TransportError) as caught:
                        request.result(10)
                    assert caught.value.status is skv.Status.E_PEER_LOST
                assert time.monotonic() - started < 5
                assert not conn.is_open
            finally:
                peer.kill()


def test_keys_and_certificates(tmp_path: Path) -> None:
    key = os.urandom(32)
    for options, security in (({"psk": key}, skv.Security.PSK), ({"tls_psk": key}, skv.Security.TLS_PSK)):
        with pair("tcp://127.0.0.1:0", **options) as (a, b):
            assert a.security is b.security is security
            sending = a.send(1, some_payload())
            assert bytes(b.receive(5)) == bytes(some_payload())
            sending.result(5)
        with skv.Endpoint(**options) as server, skv.Endpoint(**{name: os.urandom(32) for name in options}) as stranger:
            bound = server.listen("tcp://127.0.0.1:0")
            with pytest.raises(skv.TransportError) as caught:
                stranger.connect(bound, 5)
            assert caught.value.status == skv.Status.E_AUTH
    with pytest.raises(skv.ArgumentError, match="16..1024"):
        skv.Endpoint(psk=b"short")
    missing = tmp_path / "none.pem"
    with pytest.raises(skv.TransportError, match=r"none\.pem"):
        skv.Endpoint(tls=skv.Certificates(missing, missing, missing))


def test_draining_ends_what_is_under_way() -> None:
    with pair("tcp://127.0.0.1:0") as (a, b):
        sending = a.send(1, some_payload())
        offer = b.recv_offer()
        offer.result(5)
        assert not b.endpoint.drain(0.05)
        offer.accept()
        assert b.endpoint.drain(5)
        sending.result(5)
        with pytest.raises(skv.StateError):
            a.send(2, some_payload())


def test_planes_are_chosen_and_never_switched() -> None:
    with pair("tcp://127.0.0.1:0", planes=[skv.Plane.INLINE]) as (a, b):
        assert a.plane is b.plane is skv.Plane.INLINE
        with pytest.raises(skv.StateError, match="plane is not nccl"):
            a.set_communicator(1, sending=True)
        sending = a.send(1, some_payload(), 5)
        offer = b.recv_offer(5)
        offer.result(5)
        offer.accept(timeout=5)
        with pytest.raises(skv.ResourceError, match="brings bytes to the host"):
            offer.stream_wait(0, 0)
        offer.result(5)
        sending.result(5)
    with skv.Endpoint(planes=[skv.Plane.NCCL], libraries={skv.Plane.NCCL: "/nowhere/libnccl.so.2"}) as endpoint:
        with pytest.raises(skv.ResourceError, match="/nowhere/libnccl.so.2"):
            endpoint.listen("tcp://127.0.0.1:0")
        endpoint.set(skv.EndpointKey.PLANES, 1 << skv.Plane.INLINE)  # nothing was begun
        endpoint.listen("tcp://127.0.0.1:0")
