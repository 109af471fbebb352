#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What scoring by queries costs beside the prefill that it follows, on a real model.

    PYTHONPATH=bindings/python/src build/venv/bin/python bench/scoring.py TEXT [--tokens N] [--rounds N] [--queries N]

Every round prefills the same prompt in an emptied llama.cpp context (SmolLM2-135M, queries captured) and scores its cache by the
last 16 queries of every layer, on one thread each; printed are medians and the median of the rounds' ratios, with the weights as they are
(Q4_1) and held as f32.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from spectrumkv import Cache, Engine, Scores
from spectrumkv.eval.prompt import prefill, set_queries
from spectrumkv.llamacpp import LlamaContext
from spectrumkv.models import fetch, full_precision


def measure(path: Path, text: str, tokens: int, rounds: int, queries: int) -> tuple[float, float, float]:
    """Seconds of prefill and of scoring, and scoring's share of prefill."""
    prefills, scorings = [], []
    with LlamaContext(path, n_ctx=tokens + 256, threads=1) as context, Engine(threads=1) as engine:
        prompt_tokens = context.tokenize(text)[:tokens]
        for _ in range(rounds + 1):
            start = time.perf_counter()
            prompt = prefill(context, prompt_tokens, queries)
            prefills.append(time.perf_counter() - start)
            cache = Cache.from_llama(prompt.state, prompt.kv_heads)
            with Scores() as scores:
                set_queries(scores, prompt)
                start = time.perf_counter()
                engine.score(cache, scores)
                scorings.append(time.perf_counter() - start)
    shares = [s / p for p, s in zip(prefills[1:], scorings[1:])]  # the first round warms up
    return statistics.median(prefills[1:]), statistics.median(scorings[1:]), statistics.median(shares)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--tokens", type=int, default=1792)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--queries", type=int, default=16, help="of a layer (default: %(default)s, as everywhere)")
    options = parser.parse_args()
    text = options.text.read_text()
    path = fetch("smollm2")
    for name, weights in (("Q4_1", path), ("f32", full_precision(path))):
        prefilled, scored, share = measure(weights, text, options.tokens, options.rounds, options.queries)
        print(
            f"SmolLM2-135M {name:5s} {options.tokens} tokens: prefill {prefilled:.2f} s, scoring by {options.queries} queries "
            f"{scored:.3f} s, {share:.1%} (medians of {options.rounds})"
        )


if __name__ == "__main__":
    main()
