# SPDX-License-Identifier: Apache-2.0
"""Session files of llama.cpp: a sequence's state as a payload. Use them through `spectrumkv.llamacpp`::

    from llama_cpp import Llama
    from spectrumkv.llamacpp import load_session, save_session

    llama = Llama("model.gguf")
    llama.eval(tokens := llama.tokenize(text))
    save_session("chat.skv", llama, budget=0.28, profile=profile)

    llama = Llama("model.gguf")                                   # another process
    load_session("chat.skv", llama, llama.tokenize(longer_text))  # the file's tokens are not evaluated again
    llama.create_completion(longer_text)

A session file is a payload and nothing else: ``spectrumkv inspect`` reads it. It names the model's file and the tokens it is of,
and loading it for others is an `IdentityError` that leaves the context as it was. The other context may differ in flash attention and
in the cache's type (f16, bf16, f32).
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import POINTER, c_uint8
from os import PathLike
from pathlib import Path
from typing import Any, Final

import llama_cpp.llama_cpp as api
import numpy as np
from numpy.typing import NDArray

from spectrumkv.cache import Cache
from spectrumkv.constants import DType, Status
from spectrumkv.engine import Engine
from spectrumkv.errors import ArgumentError, BudgetError, IdentityError, StateError
from spectrumkv.identity import hash_tokens
from spectrumkv.models import fingerprint_of
from spectrumkv.payload import Payload, Receipt
from spectrumkv.plan import Plan, Scores
from spectrumkv.state_blob import parse

_DTYPES: Final = {0: DType.F32, 1: DType.F16, 30: DType.BF16}  # enum ggml_type
_U8P = POINTER(c_uint8)


def save_session(
    path: str | PathLike[str],
    llama: Any,
    tokens: Sequence[int] | None = None,
    *,
    budget: float | None = None,
    scores: Scores | None = None,
    engine: Engine | None = None,
    **options: Any,
) -> Receipt:
    """Writes the state of a context's sequence 0 to a file, whole or not at all. Returns the receipt.

    Args:
        llama: a ``llama_cpp.Llama`` or a `LlamaContext`.
        tokens: what was evaluated; a ``Llama`` knows it.
        budget: bytes as a fraction of the state at 16 bits an element; None: raw, every bit kept.
        scores: what errors cost. Budgets below 8 bits want queries in them (`LlamaContext.capture_queries`), or a profile.
        options: more of `Plan`'s (``profile``, ``strategy``, ``pack``, ``unproven`` …).

    Raises:
        ArgumentError: tokens that are not what the state holds.
        PayloadError, VersionError: a state of a kind that is not known, or a cache of quantized types.
        BudgetError, NonFiniteError: see `Plan.solve` and `Engine.encode`.
    """
    with encode_session(llama, tokens, budget=budget, scores=scores, engine=engine, **options) as payload:
        payload.save(path)
        return payload.receipt()


def load_session(path: str | PathLike[str], llama: Any, tokens: Sequence[int], *, engine: Engine | None = None) -> int:
    """Puts the state in a file into a context's sequence 0, for a prompt that begins with the file's tokens.

    Args:
        llama: a ``llama_cpp.Llama``, which then evaluates only what follows, or a `LlamaContext`.
        tokens: the prompt.

    Returns:
        Tokens restored; the next one to evaluate has this position.

    Raises:
        IdentityError: a file of another model, or of tokens that the prompt does not begin with; the context is as it was.
        PayloadError, ChecksumError: not such a file, or a damaged one; the context is as it was.
        StateError: llama.cpp refused the state; the sequence is empty.
    """
    with Payload.load(path) as payload:
        return decode_session(payload, llama, tokens, engine=engine)


def encode_session(
    llama: Any,
    tokens: Sequence[int] | None = None,
    *,
    budget: float | None = None,
    scores: Scores | None = None,
    engine: Engine | None = None,
    **options: Any,
) -> Payload:
    """`save_session` without the file: the payload, to be sent to another process."""
    sequence = _Sequence(llama)
    ids = sequence.tokens if tokens is None else [int(token) for token in tokens]
    if ids is None:
        raise ArgumentError(Status.E_ARGUMENT, f"a {type(llama).__name__} without tokens: wanted what it evaluated")
    state = sequence.export()
    streams = parse(state).streams
    held = max((int(stream.cells.positions.max()) + 1 for stream in streams if len(stream.cells.positions)), default=0)
    if held != len(ids) or held == 0:
        raise ArgumentError(Status.E_ARGUMENT, f"{len(ids)} tokens for a state of {held}: wanted as many, at least one")
    if budget is None and "budget_bytes" not in options:
        options.setdefault("strategy", "raw")
        options.setdefault("raw_dtype", sequence.dtype)
    worker = engine or Engine()
    try:
        with (
            Cache.from_llama(state, sequence.heads(sum(len(stream.keys) for stream in streams))) as cache,
            Plan(worker, budget=budget, **options) as plan,
        ):
            cache.set_identity(sequence.fingerprint, hash_tokens(ids))
            if scores is not None:
                worker.score(cache, scores)
            return worker.encode(cache, plan.solve(cache, scores))
    finally:
        if engine is None:
            worker.close()


def decode_session(payload: Payload, llama: Any, tokens: Sequence[int], *, engine: Engine | None = None) -> int:
    """`load_session` of a payload that came in another way."""
    sequence = _Sequence(llama)
    ids = [int(token) for token in tokens]
    segments = [payload.segment(layer) for layer in range(payload.layers)]
    count = max(segment.first_position + segment.tokens for segment in segments)
    if count > len(ids):
        raise IdentityError(
            Status.E_REQUEST, f"a state of {count} tokens for a prompt of {len(ids)}: wanted at least as many"
        )
    # Also keeps the memory made below within a small multiple of the payload's own bytes, whoever wrote them.
    if dropped := payload.receipt().dropped_rows:
        raise BudgetError(
            Status.E_PERMITTED, f"a payload without {dropped} of its rows: llama.cpp cannot mask tokens here"
        )
    worker = engine or Engine()
    try:
        for v_trans in sequence.v_trans:  # Llama does not say which it has; llama.cpp refuses the other
            with Cache.to_llama(payload, v_trans, sequence.dtype, fingerprint=sequence.fingerprint) as cache:
                cache.set_identity(sequence.fingerprint, hash_tokens(ids[:count]))
                worker.decode(payload, cache)
                state = np.frombuffer(cache.blob, np.uint8)
            if sequence.replace(state, ids[:count]):
                return count
    finally:
        if engine is None:
            worker.close()
    raise StateError(
        Status.E_STATE,
        f"llama.cpp refused a state of {count} tokens: wanted a context of at least as many, of the same cache",
    )


class _Sequence:
    """Sequence 0 of a ``llama_cpp.Llama`` or a `LlamaContext`."""

    def __init__(self, llama: Any) -> None:
        self._llama = llama
        ours = hasattr(llama, "export_state")
        self._context = llama._context if ours else llama.ctx
        self._ours = ours
        kinds = {llama.kv_type} if ours else {llama.context_params.type_k, llama.context_params.type_v}
        if len(kinds) > 1 or not kinds <= _DTYPES.keys():
            raise ArgumentError(
                Status.E_DTYPE, f"a cache of ggml types {sorted(kinds)}: wanted one of f32 (0), f16 (1), bf16 (30)"
            )
        self.dtype = _DTYPES[kinds.pop()]
        self.v_trans: tuple[int, ...] = (llama.v_trans,) if ours else (0, 1)

    @property
    def fingerprint(self) -> bytes:
        return fingerprint_of(Path(self._llama.path if self._ours else self._llama.model_path))

    @property
    def tokens(self) -> list[int] | None:
        return None if self._ours else [int(token) for token in self._llama.input_ids[: self._llama.n_tokens]]

    def heads(self, layers: int) -> list[int]:
        """kv-heads of the state's layers."""
        if self._ours:
            of_model: list[int] = self._llama.kv_heads
            if len(set(of_model)) > 1:  # the state's order matters, and finding it evaluates
                raise ArgumentError(Status.E_ARGUMENT, f"kv-heads {of_model}: wanted the same in every layer")
        else:
            metadata = self._llama.metadata
            prefix = metadata["general.architecture"] + ".attention.head_count"
            stated = metadata.get(prefix + "_kv", metadata[prefix])
            if not str(stated).isdecimal():
                raise ArgumentError(Status.E_ARGUMENT, f"kv-heads {stated}: wanted the same in every layer")
            of_model = [int(stated)]
        return [of_model[0]] * layers

    def export(self) -> NDArray[np.uint8]:
        size = api.llama_state_seq_get_size(self._context, 0)
        state = np.empty(size, np.uint8)
        written = api.llama_state_seq_get_data(self._context, state.ctypes.data_as(_U8P), size, 0)
        if written == 0:
            raise StateError(Status.E_STATE, "llama.cpp could not export the state")
        return state[:written]

    def replace(self, state: NDArray[np.uint8], tokens: list[int]) -> bool:
        """Whether llama.cpp took the state; if not, the sequence is empty."""
        api.llama_memory_seq_rm(api.llama_get_memory(self._context), 0, -1, -1)
        taken: int = api.llama_state_seq_set_data(self._context, state.ctypes.data_as(_U8P), state.size, 0)
        if not self._ours:
            self._llama.input_ids[: len(tokens)] = tokens
            self._llama.n_tokens = len(tokens) if taken else 0
            # As Llama.load_state does. Else a prompt that is exactly these tokens is answered from the logits before.
            self._llama._requires_eval = True
        return taken != 0
