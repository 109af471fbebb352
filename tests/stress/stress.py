# SPDX-License-Identifier: Apache-2.0
"""The stress program in Python; see watch.py for its arguments and for what each operation does."""

from __future__ import annotations

import gc
import os
import sys
import warnings
from collections.abc import Callable

import numpy as np

import spectrumkv as skv

LAYERS, TOKENS, DIM, ROUND = 2, 64, 64, 16
SOON = 60.0  # seconds

OPERATIONS, EVERY = int(sys.argv[1]), int(sys.argv[2])
LEAK = sys.argv[3] if len(sys.argv) > 3 else ""
kept: list[object] = []

Arrays = list[tuple[np.ndarray, np.ndarray]]
source: Arrays = [
    tuple(np.random.default_rng(2 * layer + half).normal(0, 1, (TOKENS, 1, DIM)).astype(np.float16) for half in (0, 1))
    for layer in range(LAYERS)
]  # type: ignore[misc]
target: Arrays = [(np.zeros_like(k), np.zeros_like(v)) for k, v in source]
engine = skv.Engine(threads=1)
cache, destination = skv.Cache.from_arrays(source), skv.Cache.from_arrays(target)


def solved(of: skv.Cache) -> skv.Plan:
    return skv.Plan(engine, budget=0.5, unproven=True).solve(of)


plan = solved(cache)
payload = engine.encode(cache, plan)
sent = bytes(payload)
damaged = bytearray(sent)
damaged[-40] ^= 1


def is_(call: Callable[[], object], *wanted: skv.Status) -> None:
    """Fails unless the call ends in one of these statuses."""
    try:
        call()
        got = skv.Status.OK
    except skv.SpectrumKVError as error:
        got = error.status
        assert str(error)
    assert got in wanted, f"got {got!r}, wanted {wanted!r}"


class Ends:
    def __init__(self, number: int) -> None:
        name = f"stress-{os.getpid()}-{number}"
        uri = [f"inproc://{name}", f"unix://@{name}", "tcp://127.0.0.1:0"][number % 3]
        # A busy machine is no lost peer.
        self.a, self.b = (skv.Endpoint(heartbeat=SOON, handshake_timeout=SOON) for _ in range(2))
        self.here = self.a.connect(self.b.listen(uri), SOON)
        self.there = self.b.accept(SOON)

    def close(self) -> None:
        for handle in (self.a, self.b, self.here, self.there):
            handle.close()
            handle.close()

    def offered(self) -> skv.Request:
        request = self.there.recv_offer(SOON)
        request.result(SOON)
        return request


def codec(into: bool) -> None:
    with skv.Cache.from_arrays(source) as first, skv.Cache.from_arrays(target) as second, solved(first) as own:
        encoded = engine.encode(first, own, out=skv.aligned_bytearray(own.nbytes) if into else None)
        for _, v in target:
            v[-1] = 0
        assert bytes(encoded) == sent
        with skv.Payload.open(bytes(encoded)) as opened:
            engine.decode(opened, second)
        assert target[-1][1][-1].any()
        if LEAK == "memory":
            kept.append(encoded)
        else:
            encoded.close()


def refused() -> None:
    is_(lambda: engine.encode(cache, plan, out=skv.aligned_bytearray(64)), skv.Status.E_TOO_SMALL)
    is_(lambda: skv.Payload.open(sent[: len(sent) // 2]), skv.Status.E_TRUNCATED)
    with skv.Payload.open(damaged) as opened:
        is_(lambda: engine.decode(opened, destination), skv.Status.E_CHECKSUM)


def closed() -> None:
    gone, other = skv.Payload.open(sent), skv.Cache.from_arrays(source)
    gone.close()
    gone.close()
    other.close()
    is_(gone.verify, skv.Status.E_CLOSED)
    is_(lambda: engine.decode(gone, destination), skv.Status.E_CLOSED)
    is_(lambda: solved(other), skv.Status.E_CLOSED)


def transfer(ends: Ends, into: bool) -> None:
    with ends.here.send(1, payload, SOON) as sending, ends.offered() as receiving:
        if into:
            is_(lambda: receiving.accept(skv.aligned_bytearray(len(sent) - 1)), skv.Status.E_TOO_SMALL)
        receiving.accept(skv.aligned_bytearray(len(sent)) if into else None, SOON)
        receiving.result(SOON)
        sending.result(SOON)
        got = receiving.payload()
    assert bytes(got) == sent
    got.close()


def rejected(ends: Ends) -> None:
    with ends.here.send(1, payload, SOON) as sending, ends.offered() as receiving:
        receiving.reject("no room")
        is_(lambda: sending.wait(SOON), skv.Status.E_REJECTED)
        is_(lambda: receiving.wait(SOON), skv.Status.E_REJECTED)


def cancelled(ends: Ends, accepted: bool) -> None:
    with ends.here.send(1, payload, SOON) as sending, ends.offered() as receiving:
        if accepted:
            receiving.accept(skv.aligned_bytearray(len(sent)), SOON)
            receiving.cancel()
        else:
            sending.cancel()
        is_(lambda: sending.wait(SOON), skv.Status.E_CANCELLED, skv.Status.OK)
        is_(lambda: receiving.wait(SOON), skv.Status.E_CANCELLED, skv.Status.OK)


def layers(ends: Ends) -> None:
    building = skv.Payload.create(cache, plan)
    with ends.here.send_layers(1, building, SOON) as sending, ends.offered() as receiving:
        receiving.accept(timeout=SOON)
        engine.encode_layer(cache, plan, 0, building)
        building.close()
        is_(lambda: sending.wait(SOON), skv.Status.E_CANCELLED)
        is_(lambda: receiving.wait(SOON), skv.Status.E_CANCELLED)


def dropped(ends: Ends, number: int) -> None:
    sending = ends.here.send(1, skv.Payload.open(bytearray(sent)), SOON)
    receiving = ends.offered()
    receiving.accept(timeout=SOON)
    if number % 2:
        sending.me, receiving.me = sending, receiving  # type: ignore[attr-defined]  # cycles: only the collector finds them
        if number % 64 == 1:
            del sending, receiving
            gc.collect()


def renewed(ends: Ends, number: int) -> Ends:
    waiting, sending = ends.here.recv_offer(SOON), ends.here.send(1, payload, SOON)
    if LEAK == "ends":
        kept.append(ends)
    else:
        ends.close()
        is_(lambda: sending.wait(SOON), skv.Status.E_CANCELLED)
        is_(lambda: waiting.wait(SOON), skv.Status.E_CANCELLED)
        is_(lambda: ends.here.send(1, payload, SOON), skv.Status.E_CLOSED)
    return Ends(number)


def main() -> None:
    warnings.simplefilter("ignore", ResourceWarning)  # of requests that are dropped on purpose
    ends = Ends(0)
    for n in range(OPERATIONS):
        kind, number = n % ROUND, n // ROUND
        match kind:
            case 6:
                refused()
            case 7:
                closed()
            case 8 | 9:
                transfer(ends, kind == 9)
            case 10:
                rejected(ends)
            case 11 | 12:
                cancelled(ends, kind == 12)
            case 13:
                layers(ends)
            case 14:
                dropped(ends, number)
            case 15:
                ends = renewed(ends, number + 1)
            case _:
                codec(n % 2 == 1)
        if (n + 1) % EVERY == 0:
            gc.collect()
            print(f"sample {n + 1}", flush=True)
            sys.stdin.readline()
    ends.close()


main()
