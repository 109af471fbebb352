# SPDX-License-Identifier: Apache-2.0
"""The decode process: receives a cache, continues from it, and measures how far that is from the original."""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from spectrumkv.cache import Cache
from spectrumkv.demo.peer import Message, Parent
from spectrumkv.demo.prefill import CONTINUATION, HEARTBEAT, generate
from spectrumkv.engine import Engine
from spectrumkv.llamacpp import LlamaContext
from spectrumkv.quality import kl_divergence, negative_log_likelihood, top1_agreement
from spectrumkv.transport import Conn, Endpoint


@dataclass
class Worker:
    """What lives as long as the process."""

    parent: Parent
    context: LlamaContext
    engine: Engine
    endpoint: Endpoint
    conn: Conn
    timeout: float

    @classmethod
    def start(cls, parent: Parent, command: Message) -> Worker:
        """Loads the model and connects to the prefill process."""
        context = LlamaContext(command["model"], n_ctx=command["n_ctx"], threads=command["threads"])
        endpoint = Endpoint(model=context.fingerprint, heartbeat=HEARTBEAT)
        conn = endpoint.connect(command["uri"], command["timeout"])
        engine = Engine(threads=command["threads"])
        return cls(parent, context, engine, endpoint, conn, command["timeout"])

    def arm(self, command: Message, window: Message) -> dict[str, Any]:
        """Receives one payload and says what became of it."""
        context, position = self.context, int(window["position"])
        with self.conn.recv_offer(self.timeout) as request:
            request.result(self.timeout)
            if request.key != command["key"]:
                request.reject(f"key {request.key}: wanted {command['key']}")
                raise RuntimeError(f"got the payload of arm {request.key}, wanted {command['key']}")
            request.accept(timeout=self.timeout)
            request.result(self.timeout)
            payload = request.payload()
        cache = Cache.to_llama(payload, context.v_trans, "f16", fingerprint=context.fingerprint)
        self.engine.decode(payload, cache)
        receipt = payload.receipt()
        state = np.frombuffer(cache.blob, np.uint8)

        forced = np.asarray(window["forced"])
        count = int(window["generate"])
        total = CONTINUATION + count
        context.import_state(state)
        logits = context.evaluate(
            forced[:CONTINUATION].tolist(), position, "all", lambda done, _: self._progress(done, total)
        )
        assert logits is not None
        context.import_state(state)
        text = generate(
            context, int(window["first"]), position, count, lambda done, _: self._progress(CONTINUATION + done, total)
        )
        reference = np.load(window["reference"])
        return {
            "transfer_ms": receipt.wire_ns / 1e6,
            "decode_ms": receipt.decode_ns / 1e6,
            "kl": kl_divergence(reference, logits),
            "nll": float(negative_log_likelihood(logits, forced[1:]).mean()),
            "reference_nll": float(negative_log_likelihood(reference, forced[1:]).mean()),
            "top1": top1_agreement(reference, logits),
            "bit_equal": reference.tobytes() == logits.tobytes(),
            "text": text,
        }

    def _progress(self, done: int, total: int) -> None:
        self.parent.send("progress", done=done, total=total)

    def close(self) -> None:
        """Says goodbye."""
        self.conn.close()
        self.endpoint.close()
        self.engine.close()
        self.context.close()


def main() -> int:
    """Entry point of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both processes: the prefill process ends this one
    parent = Parent()
    worker: Worker | None = None
    window: Message = {}
    try:
        for command in parent.commands():
            if command["kind"] == "start":
                worker = Worker.start(parent, command)
                parent.send("ready")
            elif command["kind"] == "window":
                window = command
            elif worker is not None:
                parent.send("result", **worker.arm(command, window))
    except Exception as error:
        parent.send("error", text=f"{type(error).__name__}: {error}")
        return 1
    finally:
        if worker is not None:
            worker.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
