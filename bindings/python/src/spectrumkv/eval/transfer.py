# SPDX-License-Identifier: Apache-2.0
"""The way of a cache through a payload: plan, encode, the real bytes, open, decode, a state to continue from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from spectrumkv.cache import Cache
from spectrumkv.constants import CacheKey
from spectrumkv.engine import Engine
from spectrumkv.eval.arms import Arm, new_plan, solve
from spectrumkv.eval.inject import LayerInjection, inject_state
from spectrumkv.eval.kept import keep_cells, kept_tokens
from spectrumkv.eval.prompt import Prompt, set_queries
from spectrumkv.identity import hash_tokens
from spectrumkv.llamacpp import LlamaContext
from spectrumkv.payload import Payload, Receipt
from spectrumkv.plan import Scores
from spectrumkv.profile import Profile


@dataclass(frozen=True)
class Delivery:
    """What arrived."""

    state: NDArray[np.uint8]
    """For `LlamaContext.import_state`: injection undone, dropped tokens gone."""
    data: bytes
    """The payload that came first."""
    receipt: Receipt
    dropped: int
    """Tokens that were not sent, in the layer that misses most."""
    note: str
    """Why the budget is another one than asked for, or ""."""
    upgrade_bytes: int = 0
    """Of an upgrade that came after it."""

    def facts(self, arm: Arm) -> dict[str, Any]:
        """What a row of results says about it."""
        receipt = self.receipt
        return {
            "strategy": arm.strategy,
            "budget": arm.budget,
            "raw_bytes": receipt.raw_bytes,
            "payload_bytes": len(self.data) + self.upgrade_bytes,
            "code": receipt.code.name.lower(),
            "scored": receipt.scored.name.lower(),
            "k_rows": {tier.name.lower(): count for tier, count in receipt.k_rows.items() if count},
            "v_rows": {tier.name.lower(): count for tier, count in receipt.v_rows.items() if count},
            "dropped": self.dropped,
            "predicted_kl": receipt.predicted_kl,
            "note": self.note,
        }


def injected(prompt: Prompt, injection: list[LayerInjection]) -> Prompt:
    """The prompt of the model whose keys are transformed; its state must be one that `settle` gave."""
    return replace(
        prompt,
        state=inject_state(prompt.state, injection),
        queries=[layer.queries(rows) for layer, rows in zip(injection, prompt.queries)],
    )


class Sender:
    """A prompt's cache with its scores, ready to be sent in any arm. A context manager."""

    def __init__(
        self,
        engine: Engine,
        context: LlamaContext,
        prompt: Prompt,
        injection: list[LayerInjection] | None = None,
        profile: Profile | None = None,
    ) -> None:
        self._engine, self._context, self._injection, self._profile = engine, context, injection, profile
        if injection is not None:
            prompt = injected(prompt, injection)
        self.cache = Cache.from_llama(prompt.state, prompt.kv_heads)
        self.cache.set_identity(context.fingerprint, hash_tokens(prompt.tokens))
        self.cache.set(CacheKey.CAN_MASK, 1)  # see `kept`
        self.scores = Scores()
        set_queries(self.scores, prompt)
        engine.score(self.cache, self.scores)

    def send(self, arm: Arm) -> Delivery:
        """Encodes the cache and decodes the payload's bytes. Raises SpectrumKVError, `kept.DropError`."""
        plan, note = solve(arm, self._engine, self.cache, self.scores, profile=self._profile)
        with plan, self._engine.encode(self.cache, plan) as encoded:
            receipt = encoded.receipt()
            data = bytes(encoded)
        with Payload.open(data) as payload:
            state, dropped = self._decode(payload)
        return Delivery(state, data, receipt, dropped, note)

    def upgrade(self, arm: Arm, delivery: Delivery, share: float) -> Delivery:
        """What a decoder has that fetches an upgrade of this share of the raw bytes for a delivery. Raises SpectrumKVError,
        `kept.DropError`."""
        more = new_plan(self._engine, arm.strategy, budget=share, profile=self._profile)
        with Payload.open(delivery.data) as base:
            with (
                more.upgrade(base, self.cache, self.scores),
                self._engine.encode_upgrade(self.cache, base, more) as made,
            ):
                data = bytes(made)
            with Payload.open(data) as upgrade, base.apply(upgrade) as better:
                state, dropped = self._decode(better)
        return replace(delivery, state=state, dropped=dropped, upgrade_bytes=len(data))

    def _decode(self, payload: Payload) -> tuple[NDArray[np.uint8], int]:
        """The state that a payload gives, and how many tokens it lacks."""
        with Cache.to_llama(payload, self._context.v_trans, "f16", fingerprint=self._context.fingerprint) as target:
            target.set(CacheKey.CAN_MASK, 1)
            self._engine.decode(payload, target)
            state = np.frombuffer(target.blob, np.uint8).copy()
            kept = kept_tokens(payload)
        if self._injection is not None:
            state = inject_state(state, self._injection, undo=True)
        return keep_cells(state, kept), max(int((~keys).sum()) for keys, _ in kept)

    def close(self) -> None:
        """Frees the view and the scores."""
        self.scores.close()
        self.cache.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
