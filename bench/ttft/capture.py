# SPDX-License-Identifier: Apache-2.0
"""A real prompt's cache, evaluated once and kept: every request moves these bytes."""

from __future__ import annotations

from pathlib import Path

from spectrumkv.cache import Cache
from spectrumkv.engine import Engine
from spectrumkv.eval import text
from spectrumkv.eval.prompt import Prompt, prefill, set_queries
from spectrumkv.eval.session import model_file
from spectrumkv.eval.steps import Steps
from spectrumkv.identity import hash_tokens
from spectrumkv.llamacpp import LlamaContext
from spectrumkv.plan import Scores

QUERIES = 16  # as everywhere: docs/results/quality.md


def context_of(model: Path, tokens: int, threads: int) -> LlamaContext:
    """A context with room for the prompt and what follows."""
    return LlamaContext(model, n_ctx=-(-(tokens + 8) // 256) * 256, threads=threads)


class Capture:
    """The prompt, its cache as a view, its scores."""

    def __init__(self, tokens: int, weights: str, threads: int, steps: Steps) -> None:
        self.model = model_file("smollm2", weights, steps)
        self.context = context_of(self.model, tokens, threads)
        path, self.published = text.find(None)
        content = path.read_text(encoding="utf-8")[: 10 * tokens + 1000]
        self.tokens = text.windows(self.context.tokenize(content), tokens, 1)[0]
        self.prompt = self.evaluate()

    def evaluate(self, queries: bool = True) -> Prompt:
        """Prefill, with the queries that scoring wants."""
        return prefill(self.context, self.tokens, QUERIES if queries else 0)

    def cache(self, prompt: Prompt) -> Cache:
        """A view of a prompt's cache."""
        cache = Cache.from_llama(prompt.state, prompt.kv_heads)
        cache.set_identity(self.context.fingerprint, hash_tokens(prompt.tokens))
        return cache

    def scores(self, engine: Engine, cache: Cache, prompt: Prompt) -> Scores:
        """Of the last queries."""
        scores = Scores()
        set_queries(scores, prompt)
        engine.score(cache, scores)
        return scores
