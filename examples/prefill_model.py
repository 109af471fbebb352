# SPDX-License-Identifier: Apache-2.0
"""The prefill side with a real model: SmolLM2-135M evaluates a text through llama.cpp, its KV cache is scored with the model's own last
queries, encoded, and sent to whoever connects: in whatever language that decodes.

    scripts/setup.sh                                                             # llama.cpp and the model, once
    PYTHONPATH=bindings/python/src build/venv/bin/python examples/prefill_model.py tcp://127.0.0.1:7411
    cargo run --example decode tcp://127.0.0.1:7411                              # in bindings/rust, or Go's decode
"""

from __future__ import annotations

import argparse
from pathlib import Path

import spectrumkv as skv
from spectrumkv.eval.prompt import prefill, set_queries
from spectrumkv.llamacpp import LlamaContext
from spectrumkv.models import fetch

TEXT = Path(__file__).parent / "text" / "us-constitution-and-declaration.txt"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("uri", nargs="?", default="tcp://127.0.0.1:0")
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--budget", type=float, default=0.3)
    parser.add_argument("--wait", type=float, default=60, help="seconds for a peer to come and take it")
    options = parser.parse_args()

    with skv.Endpoint() as endpoint:
        print("listening on", endpoint.listen(options.uri), flush=True)
        with LlamaContext(fetch("smollm2"), n_ctx=options.tokens + 256) as context:
            tokens = context.tokenize(TEXT.read_text())[: options.tokens]
            prompt = prefill(context, tokens, queries=64)
        engine, scores = skv.Engine(), skv.Scores()
        cache = skv.Cache.from_llama(prompt.state, prompt.kv_heads)
        set_queries(scores, prompt)
        engine.score(cache, scores)
        plan = skv.Plan(engine, budget=options.budget).solve(cache, scores)  # the logit probe on this cache gives the verdict
        payload = engine.encode(cache, plan)
        receipt = payload.receipt()
        with endpoint.accept(options.wait) as conn, conn.send(1, payload, options.wait) as request:
            request.result(options.wait)
        print(
            f"sent {len(tokens)} tokens, {payload.layers} layers: {len(payload)} bytes, {receipt.ratio:.3f} of raw;"
            f" tiers below 8 bits allowed by {receipt.proof.name}"
        )


if __name__ == "__main__":
    main()
