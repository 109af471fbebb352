# SPDX-License-Identifier: Apache-2.0
"""The prefill end of each way to move the cache. A way's time is from "the cache is there, and planned" to "the decode end
holds a state to continue from", by the one clock that both processes share."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from typing import Any

from spectrumkv.cache import Cache
from spectrumkv.demo.peer import Child
from spectrumkv.engine import Engine
from spectrumkv.payload import Payload
from spectrumkv.plan import Plan
from spectrumkv.transport import Conn

TIMEOUT = 120.0
BARE = "bare"


@dataclass
class Ends:
    """What lives as long as the run."""

    child: Child
    conn: Conn
    bare: socket.socket
    engine: Engine


def bare(ends: Ends, state: memoryview) -> dict[str, Any]:
    """The state's bytes through a bare socket: what an engine without this library sends."""
    ends.child.send(kind="bare", bytes=len(state))
    ends.child.answer("armed", TIMEOUT)
    start = time.monotonic_ns()
    ends.bare.sendall(state)
    result = ends.child.answer("result", TIMEOUT)
    return {"ms": (result["done"] - start) / 1e6, "bytes": len(state)}


def whole(ends: Ends, cache: Cache, plan: Plan) -> dict[str, Any]:
    """Encode, then send, then decode: one after the other, as the receipt's break-even supposes."""
    ends.child.send(kind="whole")
    ends.child.answer("armed", TIMEOUT)
    start = time.monotonic_ns()
    with ends.engine.encode(cache, plan) as payload, ends.conn.send(0, payload, TIMEOUT) as sending:
        sending.result(TIMEOUT)
        receipt = payload.receipt()
    return _row(ends, start, receipt.payload_bytes, receipt.encode_ns, receipt.raw_bytes)


def frame(ends: Ends, cache: Cache, plan: Plan) -> None:
    """A first transfer, after which the decode end knows the memory that layer-wise ones decode into."""
    ends.child.send(kind="frame")
    ends.child.answer("armed", TIMEOUT)
    with ends.engine.encode(cache, plan) as payload, ends.conn.send(0, payload, TIMEOUT) as sending:
        sending.result(TIMEOUT)
    ends.child.answer("result", TIMEOUT)


def layers(ends: Ends, cache: Cache, plan: Plan, count: int) -> dict[str, Any]:
    """A layer is encoded while the one before it travels and the one before that is decoded."""
    ends.child.send(kind="layers", layers=count)
    ends.child.answer("armed", TIMEOUT)
    start = time.monotonic_ns()
    with Payload.create(cache, plan) as payload, ends.conn.send_layers(0, payload, TIMEOUT) as sending:
        for layer in range(count):
            ends.engine.encode_layer(cache, plan, layer, payload)
        sending.result(TIMEOUT)
        receipt = payload.receipt()
    return _row(ends, start, receipt.payload_bytes, receipt.encode_ns, receipt.raw_bytes)


def _row(ends: Ends, start: int, size: int, encode_ns: int, raw: int) -> dict[str, Any]:
    result = ends.child.answer("result", TIMEOUT)
    saved_bits = 8 * (raw - size)
    return {
        "ms": (result["done"] - start) / 1e6,
        "bytes": size,
        "encode_ms": encode_ns / 1e6,
        "wire_ms": result["wire_ns"] / 1e6,
        "decode_ms": result["decode_ns"] / 1e6,
        "break_even_gbps": saved_bits / (encode_ns + result["decode_ns"]),
        "decode_end_raw_is_faster": result["raw_is_faster"],
    }
