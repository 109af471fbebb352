# SPDX-License-Identifier: Apache-2.0
"""A router in front of several prefill and several decode workers, one of which dies under load.

Every worker is a process. The router hands requests to prefill workers and tells each which decode worker to send to; the KV
cache goes from prefill to decode directly. When a decode worker dies, the prefill workers that were sending to it say so within
three heartbeats, and the router gives those requests to others: each request ends exactly once, and what was decoded is
compared with what the prefill worker's own decoder makes of the payload.

    PYTHONPATH=bindings/python/src python examples/router.py --requests 60 --prefill 2 --decode 3 --kill-after 15
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing as mp
import os
import secrets
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np

import spectrumkv as skv

LAYERS, TOKENS, HEADS, DIM = 8, 512, 2, 64
HEARTBEAT = 0.2  # seconds: a dead worker is noticed after three


def tensors(request: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The KV cache that "prefill" leaves for a request."""
    rng = np.random.default_rng(request)
    shape = (TOKENS, HEADS, DIM)
    return [(rng.normal(size=shape).astype("float16"), rng.normal(size=shape).astype("float16")) for _ in range(LAYERS)]


def digest(layers: list[tuple[np.ndarray, np.ndarray]]) -> str:
    """What the router compares."""
    state = hashlib.sha256()
    for k, v in layers:
        state.update(k.tobytes())
        state.update(v.tobytes())
    return state.hexdigest()


def empty() -> list[tuple[np.ndarray, np.ndarray]]:
    """Memory to decode into."""
    shape = (TOKENS, HEADS, DIM)
    return [(np.zeros(shape, "float16"), np.zeros(shape, "float16")) for _ in range(LAYERS)]


def decode_worker(router: Connection, key: bytes) -> None:
    """Says where it listens; then decodes whatever arrives and reports (request, digest)."""
    engine = skv.Engine(threads=1)
    endpoint = skv.Endpoint(psk=key, heartbeat=HEARTBEAT)
    router.send(endpoint.listen("tcp://127.0.0.1:0"))
    lock = threading.Lock()

    def serve(conn: skv.Conn) -> None:
        arrays = empty()
        cache = skv.Cache.from_arrays(arrays)
        while True:
            try:
                offer = conn.recv_offer(3600)
                offer.result(3600)
                offer.accept(timeout=20, early_layers=True)
                payload = None
                for layer in range(LAYERS):
                    if not offer.wait_layer(layer, 20):
                        raise skv.TransportError(skv.Status.E_TIMED_OUT, "no layer came")
                    payload = payload or offer.payload()
                    with lock:
                        engine.decode_layer(payload, cache, layer)
                offer.result(20)
            except skv.StateError:
                return  # the conn is closed
            except skv.SpectrumKVError:
                if not conn.is_open:
                    return
                continue
            with lock:
                router.send((offer.key, digest(arrays)))

    while True:
        try:
            conn = endpoint.accept(3600)
        except skv.SpectrumKVError:
            return
        threading.Thread(target=serve, args=(conn,), daemon=True).start()


def prefill_worker(router: Connection, key: bytes) -> None:
    """Gets (request, URI of a decode worker), encodes and sends; reports (request, status, digest)."""
    engine = skv.Engine(threads=1)
    endpoint = skv.Endpoint(psk=key, heartbeat=HEARTBEAT)
    conns: dict[str, skv.Conn] = {}
    while True:
        job = router.recv()
        if job is None:
            return
        request, uri = job
        try:
            if uri not in conns or not conns[uri].is_open:
                conns[uri] = endpoint.connect(uri, 5)
            cache = skv.Cache.from_arrays(tensors(request))
            with skv.Plan(engine, budget=0.4, unproven=True) as plan:
                plan.solve(cache)
                made = skv.Payload.create(cache, plan)
                sending = conns[uri].send_layers(request, made, 20)
                for layer in range(LAYERS):
                    engine.encode_layer(cache, plan, layer, made)
            sending.result(25)
            arrays = empty()
            engine.decode(made, skv.Cache.from_arrays(arrays))
            router.send((request, "OK", digest(arrays)))
        except skv.SpectrumKVError as error:
            router.send((request, error.status_name, ""))


def main() -> int:
    """Runs the workers, kills one, and checks that every request was decoded once, and right."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=60)
    parser.add_argument("--prefill", type=int, default=2)
    parser.add_argument("--decode", type=int, default=3)
    parser.add_argument("--kill-after", type=int, default=15, help="requests done before a decode worker is killed")
    options = parser.parse_args()
    context = mp.get_context("spawn")
    key = secrets.token_bytes(32)

    def start(target: Any) -> tuple[Any, Connection]:
        here, there = context.Pipe()
        process = context.Process(target=target, args=(there, key), daemon=True)
        process.start()
        there.close()
        return process, here

    decoders = {}  # URI -> (process, connection)
    for _ in range(options.decode):
        process, connection = start(decode_worker)
        decoders[connection.recv()] = (process, connection)
    prefills = [start(prefill_worker) for _ in range(options.prefill)]

    waiting = list(range(options.requests))
    idle = [connection for _, connection in prefills]
    at: dict[int, str] = {}  # request -> decode worker it was given to
    sent: dict[int, str] = {}  # request -> digest of the prefill worker
    decoded: dict[int, list[tuple[str, str]]] = {}  # request -> (worker, digest)
    alive = dict.fromkeys(decoders, True)
    failures: dict[str, int] = {}
    killed = None
    turn = 0
    start_time = time.monotonic()
    while len(sent) < options.requests or any(request not in decoded for request in sent):
        if time.monotonic() - start_time > 120:
            print(f"stuck: {len(sent)} sent, {len(decoded)} decoded", file=sys.stderr)
            return 1
        while waiting and idle:
            uris = [uri for uri in decoders if alive[uri]]
            uri = uris[turn % len(uris)]
            turn += 1
            request = waiting.pop(0)
            at[request] = uri
            idle.pop().send((request, uri))
        if killed is None and len(sent) >= options.kill_after:
            # The one that the busiest prefill worker sends to right now.
            killed = at[max(at)] if at else next(iter(decoders))
            os.kill(decoders[killed][0].pid, signal.SIGKILL)
        for connection in wait([c for _, c in prefills] + [c for u, (_, c) in decoders.items() if alive[u]], 0.05):
            uri = next((u for u, (_, c) in decoders.items() if c is connection), None)
            try:
                message = connection.recv()
            except (EOFError, ConnectionResetError):
                if uri is None:
                    raise
                alive[uri] = False
                # What only the dead worker had is gone: those requests begin again.
                for request in [r for r, where in at.items() if where == uri and r in sent]:
                    del sent[request]
                    decoded.pop(request, None)
                    waiting.append(request)
                continue
            if uri is not None:
                request, found = message
                decoded.setdefault(request, []).append((uri, found))
                continue
            idle.append(connection)
            request, status, found = message
            if status == "OK" and alive[at[request]]:
                sent[request] = found
            else:
                failures[status] = failures.get(status, 0) + 1
                alive[at[request]] = alive[at[request]] and decoders[at[request]][0].is_alive()
                decoded.pop(request, None)
                waiting.append(request)
    for _, connection in prefills:
        connection.send(None)
    for process, _ in decoders.values():
        process.kill()
    wrong = [r for r, digest_ in sent.items() if decoded[r][-1][1] != digest_]
    by_worker = {uri: sum(where[-1][0] == uri for where in decoded.values()) for uri in decoders}
    print(f"{len(sent)} requests, {options.prefill} prefill and {options.decode} decode workers, one of them killed")
    for uri, count in by_worker.items():
        print(f"  {uri}: {count} requests{'  (killed)' if uri == killed else ''}")
    print(f"  tried again: {failures or 'none by status'}; wrong: {len(wrong)}; {time.monotonic() - start_time:.1f} s")
    return 1 if wrong or killed is None else 0


if __name__ == "__main__":
    sys.exit(main())
