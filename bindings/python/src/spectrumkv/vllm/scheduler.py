# SPDX-License-Identifier: Apache-2.0
"""The half of the connector that lives in vLLM's scheduler: which requests are sent and loaded, and where to.

Knows vLLM's requests and blocks only by the attributes used here, so that it can be tested without vLLM.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from spectrumkv.errors import SpectrumKVError
from spectrumkv.vllm.config import Settings
from spectrumkv.vllm.handover import KEY, Handover, Source, new_handle
from spectrumkv.vllm.load import LoadJob
from spectrumkv.vllm.queries import Watch, Watches
from spectrumkv.vllm.send import SendJob
from spectrumkv.vllm.stats import Tally

_log = logging.getLogger(__name__)

# Names of vLLM's RequestStatus that leave a whole prompt's KV cache behind.
_COMPLETE: Final = {"FINISHED_LENGTH_CAPPED", "FINISHED_STOPPED"}


@dataclass
class Step:
    """What a worker is to begin with in one step. Travels from the scheduler's process to the workers'."""

    sends: list[SendJob] = field(default_factory=list)
    loads: list[LoadJob] = field(default_factory=list)
    watches: list[Watch] = field(default_factory=list)


class SchedulerSide:
    """Scheduler half.

    Args:
        producer, consumer: whether requests are sent from here, loaded to here.
        block_size: tokens of a block.
    """

    def __init__(
        self, settings: Settings, fingerprint: bytes, block_size: int, *, producer: bool, consumer: bool, tally: Tally
    ) -> None:
        self._settings = settings
        self._fingerprint = fingerprint
        self._block_size = block_size
        self._producer = producer
        self._consumer = consumer
        self._tally = tally
        self._sources: tuple[Source, ...] = ()
        self._found: dict[str, Handover] = {}
        self._step = Step()
        self._watches = Watches(block_size, settings.queries)

    def set_sources(self, sources: Sequence[Source]) -> None:
        """This instance's own workers, by rank: what the decode side is told to pull from."""
        self._sources = tuple(sources)

    # ----------------------------------------------------------------------------------------------------- loading

    def matched(self, request: Any, computed: int) -> tuple[int, bool]:
        """Tokens beyond those computed that can be loaded, and whether that happens between steps."""
        handover = self._handover(request)
        count = 0 if handover is None else handover.tokens - computed
        return (count, True) if count > 0 else (0, False)

    def allocated(self, request: Any, block_ids: Sequence[int], external: int) -> None:
        """Blocks were allocated. ``external``: tokens to load into them; none: they are, or are to be, computed here.

        A request is loaded once: after a failure vLLM asks again, and it is computed.
        """
        handover = self._found.pop(request.request_id, None)
        params = request.kv_transfer_params
        if self._producer and params and params.get("do_remote_decode") and self._lossy(params):
            self._watches.add(request.request_id, len(request.prompt_token_ids or ()))
        if not params or not params.get("do_remote_prefill"):
            return
        params["do_remote_prefill"] = False
        if handover is None or external <= 0:
            return
        need = -(-handover.tokens // self._block_size)
        self._step.loads.append(
            LoadJob(
                request.request_id,
                handover.handle,
                tuple(block_ids[:need]),
                handover.tokens - external,
                handover.tokens,
                handover.sources,
            )
        )

    def _handover(self, request: Any) -> Handover | None:
        params = request.kv_transfer_params
        if not self._consumer or not params or not params.get("do_remote_prefill"):
            return None
        found = self._found.get(request.request_id)
        if found is not None:
            return found
        try:
            handover = Handover.from_json(params.get(KEY))
            handover.check(request.prompt_token_ids or (), self._fingerprint, _extra(request))
        except SpectrumKVError as error:
            _log.warning("request %s: its %s is refused, it is computed here: %s", request.request_id, KEY, error)
            self._tally.count("refused")
            params["do_remote_prefill"] = False
            return None
        self._found[request.request_id] = handover
        return handover

    # ----------------------------------------------------------------------------------------------------- sending

    def finished(self, request: Any, block_ids: Sequence[int]) -> tuple[bool, dict[str, Any] | None]:
        """A request ended: whether its blocks are still needed, and what the client is told."""
        self._found.pop(request.request_id, None)
        self._watches.drop(request.request_id)
        params = request.kv_transfer_params
        if not self._producer or not params or not params.get("do_remote_decode"):
            return False, None
        prompt = request.prompt_token_ids
        if not prompt or request.status.name not in _COMPLETE or not self._sources:
            return False, None
        tokens = min(request.num_computed_tokens, len(prompt))
        need = -(-tokens // self._block_size)
        if tokens < 1 or len(block_ids) < need:
            return False, None
        budget = _wish(params)
        handover = Handover(new_handle(prompt[:tokens], _extra(request)), tokens, self._fingerprint, self._sources)
        self._step.sends.append(SendJob(request.request_id, handover.handle, tuple(block_ids[:need]), tokens, budget))
        return True, {"do_remote_prefill": True, "do_remote_decode": False, KEY: handover.to_json()}

    # ------------------------------------------------------------------------------------------------------- steps

    def take_step(self, output: Any = None) -> Step:
        """What came together since the last step. ``output``: what vLLM's scheduler decided (SchedulerOutput)."""
        step, self._step = self._step, Step()
        step.watches = self._watches.step(output)
        return step

    def _lossy(self, params: Mapping[str, Any]) -> bool:
        """Whether a request's rows will be chosen by their importance."""
        budget = _wish(params) if self._settings.per_request else None
        return (self._settings.budget if budget is None else budget) not in ("raw", "int8")


def _wish(params: Mapping[str, Any]) -> Any:
    """The budget that a request itself asks for; not checked."""
    wish = params.get(KEY)
    return wish.get("budget") if isinstance(wish, Mapping) else None


def _extra(request: Any) -> list[str]:
    """What a request's KV cache depends on besides model and tokens."""
    extra = []
    adapter = getattr(request, "lora_request", None)
    if adapter is not None:
        extra.append(f"lora {adapter.lora_name}")
    extra.extend(f"mm {feature.identifier}" for feature in getattr(request, "mm_features", None) or ())
    return extra
