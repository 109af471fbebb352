# SPDX-License-Identifier: Apache-2.0
"""The decode process: receives a cache in each way, and gives the first token if a model was loaded."""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from spectrumkv.cache import Cache
from spectrumkv.demo.peer import Message, Parent
from spectrumkv.engine import Engine
from spectrumkv.payload import Payload, aligned_bytearray
from spectrumkv.transport import Endpoint
from ttft.capture import context_of
from ttft.ways import TIMEOUT


class Worker:
    """What lives as long as the process. Its memory is made once: an engine has its cache already."""

    def __init__(self, start: Message) -> None:
        self.context = context_of(Path(start["model"]), start["tokens"], start["threads"])
        self.engine = Engine(threads=start["threads"])
        self.endpoint = Endpoint(model=self.context.fingerprint, heartbeat=3.0)
        self.conn = self.endpoint.connect(start["uri"], TIMEOUT)
        self.bare = socket.create_connection(tuple(start["bare"]))
        self.state = aligned_bytearray(start["state_bytes"])
        self.payload = aligned_bytearray(start["state_bytes"] + (1 << 20))
        np.frombuffer(self.state, np.uint8)[:] = 0  # its pages are there
        np.frombuffer(self.payload, np.uint8)[:] = 0

    def run_bare(self, command: Message, parent: Parent) -> dict[str, Any]:
        view = self.state[: command["bytes"]]
        parent.send("armed")
        have = 0
        while have < len(view):
            n = self.bare.recv_into(view[have:])
            if n == 0:
                raise RuntimeError(f"the bare socket ended after {have} of {len(view)} bytes")
            have += n
        return {}

    def run_whole(self, _command: Message, parent: Parent) -> dict[str, Any]:
        with self.conn.recv_offer(TIMEOUT) as request:
            parent.send("armed")
            request.result(TIMEOUT)
            request.accept(self.payload, TIMEOUT)
            request.result(TIMEOUT)
            with request.payload() as payload, self._target(payload) as target:
                self.engine.decode(payload, target)
                return self._facts(payload)

    def run_layers(self, command: Message, parent: Parent) -> dict[str, Any]:
        with self.conn.recv_offer(TIMEOUT) as request:
            parent.send("armed")
            request.result(TIMEOUT)
            request.accept(self.payload, TIMEOUT, early_layers=True)
            request.wait_layer(0, TIMEOUT)
            with request.payload() as payload:
                # Framing the engine's memory needs every layer's geometry, known here from the first request.
                target = self._known
                for layer in range(command["layers"]):
                    request.wait_layer(layer, TIMEOUT)
                    self.engine.decode_layer(payload, target, layer)
                request.result(TIMEOUT)
                return self._facts(payload)

    _known: Cache

    def _target(self, payload: Payload) -> Cache:
        return Cache.to_llama(
            payload, self.context.v_trans, "f16", fingerprint=self.context.fingerprint, out=self.state
        )

    def run_frame(self, _command: Message, parent: Parent) -> dict[str, Any]:
        """A first transfer, whose framed memory the layer-wise ones decode into."""
        with self.conn.recv_offer(TIMEOUT) as request:
            parent.send("armed")
            request.result(TIMEOUT)
            request.accept(timeout=TIMEOUT)
            request.result(TIMEOUT)
            with request.payload() as payload:
                self._known = self._target(payload)
                self.engine.decode(payload, self._known)
                return self._facts(payload)

    @staticmethod
    def _facts(payload: Payload) -> dict[str, Any]:
        done = time.monotonic_ns()
        receipt = payload.receipt()
        return {
            "done": done,
            "wire_ns": receipt.wire_ns,
            "decode_ns": receipt.decode_ns,
            "raw_is_faster": receipt.raw_is_faster,
        }

    def first_token(self, command: Message) -> dict[str, Any]:
        """The first token after the prompt's last one, from what was received."""
        size = command["state_bytes"]
        self.context.import_state(np.frombuffer(self.state, np.uint8)[:size])
        logits = self.context.evaluate([command["token"]], command["position"], "last")
        assert logits is not None
        return {"token": int(logits[0].argmax())}


def main() -> int:
    """Entry point of the process."""
    parent = Parent()
    worker: Worker | None = None
    try:
        for command in parent.commands():
            kind = command["kind"]
            if kind == "start":
                worker = Worker(command)
                parent.send("ready")
                continue
            assert worker is not None
            run = {
                "bare": worker.run_bare,
                "whole": worker.run_whole,
                "layers": worker.run_layers,
                "frame": worker.run_frame,
            }.get(kind)
            facts = worker.first_token(command) if run is None else run(command, parent)
            parent.send("result", **{"done": time.monotonic_ns(), **facts})
    except Exception as error:
        parent.send("error", text=f"{type(error).__name__}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
