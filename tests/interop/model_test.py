# SPDX-License-Identifier: Apache-2.0
"""A real model's cache in every language: SmolLM2 evaluates a text here, scored with its own queries as examples/prefill_model.py does,
and the payload goes to each program (see interop_test.py) as a file and over TCP from this process.

    model_test.py NAME=COMMAND ...
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path

import numpy as np
from interop_test import named, over_tcp, run

import spectrumkv as skv
from spectrumkv.eval.prompt import prefill, set_queries
from spectrumkv.llamacpp import LlamaContext
from spectrumkv.models import fetch

TEXT = Path(__file__).parents[2] / "examples" / "text" / "us-constitution-and-declaration.txt"


def main() -> int:
    programs = named(sys.argv[1:])
    with LlamaContext(fetch("smollm2"), n_ctx=512) as context:
        prompt = prefill(context, context.tokenize(TEXT.read_text())[:256], queries=64)
    engine, scores, cache = skv.Engine(), skv.Scores(), skv.Cache.from_llama(prompt.state, prompt.kv_heads)
    set_queries(scores, prompt)
    engine.score(cache, scores)
    payload = engine.encode(cache, skv.Plan(engine, budget=0.4).solve(cache, scores))
    exact = engine.encode(cache, skv.Plan(engine, strategy="raw").solve(cache))

    def decoded(source: skv.Payload) -> np.ndarray:
        first = source.segment(0)
        memory = np.zeros((source.layers, 2, first.tokens, first.heads, first.k_dim), np.float16)
        engine.decode(source, skv.Cache.from_arrays([(layer[0], layer[1]) for layer in memory]))
        return memory

    def send(uri: str) -> None:
        with skv.Endpoint() as endpoint, endpoint.connect(uri) as conn, conn.send(1, payload) as request:
            request.result()

    values, original = decoded(payload), decoded(exact)
    reference = hashlib.sha256(values.tobytes()).hexdigest()
    difference = np.float64(values) - np.float64(original)
    error = np.sqrt(np.square(difference).sum() / np.square(np.float64(original)).sum())
    print(
        f"SmolLM2, {len(prompt.tokens)} tokens, {payload.layers} layers: {payload.nbytes} bytes, {payload.receipt().ratio:.3f} of raw,"
        f" relative error {error:.4f}; wanted {reference[:16]}"
    )
    wrong = int(not 0 < error < 0.1)  # a lossy payload of these very values
    print(f"{'decoded by':>12} | {'from a file':16} {'over TCP':16}")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.skv"
        payload.save(file)
        for name, command in programs.items():
            found = [run(command, "decode", str(file)).strip(), *over_tcp(command, [send])]
            right = found == [reference, reference]
            wrong += not right
            print(f"{name:>12} | {' '.join(digest[:16] for digest in found)}{'' if right else '   WRONG'}", flush=True)
    print("all right" if not wrong else "WRONG")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
