# SPDX-License-Identifier: Apache-2.0
"""A prompt that was evaluated: the cache to be moved, and the queries that score it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectrumkv.eval.steps import Update
from spectrumkv.llamacpp import LlamaContext
from spectrumkv.plan import Scores
from spectrumkv.state_blob import StateBlob, parse


@dataclass(frozen=True)
class Prompt:
    """A prefilled prompt."""

    tokens: list[int]
    state: NDArray[np.uint8]
    """The sequence's state as llama.cpp exports it."""
    queries: list[NDArray[np.float32]]
    """Per layer of the *state* ``[n, q_heads, dim]``, after RoPE: the last tokens'. Empty if none were wanted."""
    logits: NDArray[np.float32]
    """``[n_vocab]``, of the last token."""
    kv_heads: list[int]
    """Per layer of the state."""
    windows: list[int]
    """Per layer of the state: the tokens that the layer looks back on, 0 for all."""


def prefill(context: LlamaContext, tokens: Sequence[int], queries: int, update: Update | None = None) -> Prompt:
    """Evaluates a prompt in an emptied context, which then holds it, keeping its last ``queries`` queries."""
    order = context.state_layers
    context.clear()
    if queries:
        with context.capture_queries(queries):
            logits = context.evaluate(tokens, 0, "last", update)
        by_layer = context.queries
        kept = [by_layer[layer] for layer in order]
    else:
        logits, kept = context.evaluate(tokens, 0, "last", update), []
    assert logits is not None
    state = context.export_state()
    kv_heads = context.kv_heads
    return Prompt(
        list(tokens), state, kept, logits[0], [kv_heads[layer] for layer in order], _windows(parse(state), context)
    )


def _windows(state: StateBlob, context: LlamaContext) -> list[int]:
    """Of a sliding-window model's two caches the second is the window's."""
    counts = [len(stream.keys) for stream in state.streams]
    if len(counts) == 1:
        return [0] * counts[0]
    return [0] * counts[0] + [context.sliding_window] * sum(counts[1:])


def set_queries(scores: Scores, prompt: Prompt) -> None:
    """Gives a prompt's queries to scores, layer by layer of its state."""
    for layer, (queries, window) in enumerate(zip(prompt.queries, prompt.windows)):
        scores.set_queries(layer, queries, window=window)
