# SPDX-License-Identifier: Apache-2.0
"""A decoder that starts on a payload of 0.22 of the raw bytes and gets better while it runs.

SmolLM2-135M evaluates a text; its KV cache is sent over TCP at 0.22, and the decoder starts to read on. Meanwhile upgrades follow: only
the next bit planes of the rows whose errors cost most. After each one the decoder joins it to what it has, byte for byte what would have
been encoded at those tiers, and goes on. Printed are the bytes of each step and the KL to the uncompressed model, in nats: over the tokens
read while the step was in force, and over the whole continuation as if it had been there from the start.

    scripts/setup.sh                                                             # llama.cpp and the model, once
    PYTHONPATH=bindings/python/src build/venv/bin/python examples/upgrade.py
"""

from __future__ import annotations

import argparse
import threading
from pathlib import Path

import numpy as np

import spectrumkv as skv
from spectrumkv.eval.prompt import Prompt, prefill, set_queries
from spectrumkv.llamacpp import LlamaContext
from spectrumkv.models import fetch, full_precision
from spectrumkv.quality import kl_divergence

TEXT = Path(__file__).parent / "text" / "us-constitution-and-declaration.txt"
WAIT = 60.0  # seconds


class PrefillSide:
    """Sends the payload, then an upgrade a step, each planned on top of what the decoder has by then."""

    def __init__(self, prompt: Prompt, start: float, steps: list[float]) -> None:
        self.engine, self.scores, self.steps = skv.Engine(), skv.Scores(), steps
        self.cache = skv.Cache.from_llama(prompt.state, prompt.kv_heads)
        set_queries(self.scores, prompt)
        self.engine.score(self.cache, self.scores)
        plan = skv.Plan(self.engine, budget=start).solve(self.cache, self.scores)
        self.sent = self.engine.encode(self.cache, plan)

    def run(self, uri: str) -> None:
        with skv.Endpoint() as endpoint, endpoint.connect(uri, WAIT) as conn:
            conn.send(0, self.sent, WAIT).result(WAIT)
            for number, budget in enumerate(self.steps, 1):
                plan = skv.Plan(self.engine, budget=budget).upgrade(self.sent, self.cache, self.scores)
                upgrade = self.engine.encode_upgrade(self.cache, self.sent, plan)
                conn.send(number, upgrade, WAIT).result(WAIT)
                self.sent = self.sent.apply(upgrade)  # the base of the next one


def received(conn: skv.Conn) -> skv.Payload:
    with conn.recv_offer(WAIT) as offer:
        offer.result(WAIT)
        offer.accept()
        offer.result(WAIT)
        return offer.payload()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=1024, help="of the prompt")
    parser.add_argument("--read", type=int, default=64, help="tokens read between two steps")
    parser.add_argument("--start", type=float, default=0.22, help="first payload, of the raw bytes")
    parser.add_argument(
        "--upgrades", type=float, nargs="+", default=[0.06, 0.12], help="each one's share of the raw bytes"
    )
    options = parser.parse_args()

    steps = len(options.upgrades) + 1
    with LlamaContext(full_precision(fetch("smollm2")), n_ctx=options.tokens + options.read * steps + 256) as context:
        text = context.tokenize(TEXT.read_text())[: options.tokens + options.read * steps]
        tokens, rest = text[: options.tokens], text[options.tokens :]
        prompt = prefill(context, tokens, queries=64)

        def read(state: np.ndarray) -> np.ndarray:
            """Logits of the whole continuation after a prompt's state."""
            context.import_state(state)
            logits = context.evaluate(rest, len(tokens), "all")
            assert logits is not None
            return logits

        raw = read(prompt.state)
        prefill_side = PrefillSide(prompt, options.start, options.upgrades)
        engine, total = skv.Engine(), 0
        with skv.Endpoint() as endpoint:
            uri = endpoint.listen("tcp://127.0.0.1:0")
            sender = threading.Thread(target=prefill_side.run, args=(uri,))
            sender.start()
            with endpoint.accept(WAIT) as conn:
                print("step       bytes  of raw   in all   KL while it ran   KL over all")
                payload = None
                for step in range(steps):
                    came = received(conn)
                    payload = came if payload is None else payload.apply(came)
                    with skv.Cache.to_llama(payload, context.v_trans) as target:
                        engine.decode(payload, target)
                        logits = read(np.frombuffer(target.blob, np.uint8))
                    total += len(came)
                    here = slice(step * options.read, (step + 1) * options.read)
                    print(
                        f"{'base' if step == 0 else f'+{step}':4} {len(came):11} {len(came) / payload.raw_bytes:7.3f}"
                        f" {total / payload.raw_bytes:8.3f} {kl_divergence(raw[here], logits[here]):17.5f}"
                        f" {kl_divergence(raw, logits):13.5f}",
                        flush=True,
                    )
            sender.join()


if __name__ == "__main__":
    main()
