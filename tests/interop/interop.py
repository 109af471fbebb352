# SPDX-License-Identifier: Apache-2.0
"""The interop program in Python; see interop_test.py for what each of its commands does."""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path

import numpy as np

import spectrumkv as skv

LAYERS, TOKENS, HEADS, DIM = 3, 200, 2, 64


def view(memory: np.ndarray) -> skv.Cache:
    return skv.Cache.from_arrays([(layer[0], layer[1]) for layer in memory])


def encode(path: str) -> skv.Payload:
    memory = np.fromfile(path, np.float16).reshape(LAYERS, 2, TOKENS, HEADS, DIM)
    engine, cache = skv.Engine(), view(memory)
    return engine.encode(cache, skv.Plan(engine, budget=0.4, unproven=True).solve(cache))


def decode(payload: skv.Payload) -> None:
    first = payload.segment(0)
    memory = np.zeros((payload.layers, 2, first.tokens, first.heads, first.k_dim), np.float16)
    skv.Engine().decode(payload, view(memory))
    print(hashlib.sha256(memory.tobytes()).hexdigest(), flush=True)


def main() -> None:
    match sys.argv[1:]:
        case ["encode", tensors, out]:
            encode(tensors).save(out)
        case ["decode", *files]:
            for file in files:
                decode(skv.Payload.load(Path(file)))
        case ["send", tensors, uri]:
            payload = encode(tensors)
            with skv.Endpoint() as endpoint, endpoint.connect(uri) as conn, conn.send(1, payload) as request:
                request.result()
        case ["receive", uri, count]:
            with skv.Endpoint() as endpoint:
                print(endpoint.listen(uri), flush=True)
                for _ in range(int(count)):
                    with endpoint.accept(60) as conn:
                        decode(conn.receive())
        case ["calls", file, count]:
            payload = skv.Payload.load(Path(file))
            start = time.monotonic_ns()
            for _ in range(int(count)):
                payload.get(skv.PayloadKey.TOKENS, 0)
            print((time.monotonic_ns() - start) / int(count))
        case _:
            sys.exit("usage: encode TENSORS OUT | decode IN... | send TENSORS URI | receive URI COUNT | calls IN COUNT")


main()
