# SPDX-License-Identifier: Apache-2.0
"""The last queries of each prompt, taken where vLLM computes them: they say which tokens the next ones will attend to.

vLLM gives connectors keys and values only. An attention layer hands its queries to ``impl.forward``, which `Recorder.hook` wraps for
the layers of this instance; nothing of vLLM's code is changed. The scheduler says which rows of a step belong to which prompt
(`Watch`), by the block that a row's last token is written to: no two requests write to one block.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spectrumkv.cache import Cache
from spectrumkv.engine import Engine
from spectrumkv.plan import Scores
from spectrumkv.vllm.layout import Layer

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Watch:
    """A prompt that a step computes tokens of, some of them among its last.

    Attributes:
        block: of the block table, which the step's last token of this prompt is written to.
        computed: tokens before the step.
        count: tokens in the step.
        prompt: tokens of the whole prompt.
    """

    request: str
    block: int
    computed: int
    count: int
    prompt: int


@dataclass(frozen=True)
class LayerQueries:
    """The last queries of a layer, ``[query, head, channel]``, with what its attention does with them."""

    tensor: Any
    scale: float
    window: int


class Watches:
    """Scheduler half: follows the blocks of the prompts that will be sent."""

    def __init__(self, block_size: int, keep: int) -> None:
        self._block_size = block_size
        self._keep = keep
        self._prompts: dict[str, int] = {}
        self._blocks: dict[str, list[int]] = {}

    def add(self, request: str, prompt: int) -> None:
        """A request whose cache will be sent when it has finished."""
        if self._keep:
            self._prompts[request] = prompt

    def drop(self, request: str) -> None:
        """The request ended."""
        self._prompts.pop(request, None)
        self._blocks.pop(request, None)

    def step(self, output: Any) -> list[Watch]:
        """What is to be recorded in a step (vLLM's SchedulerOutput)."""
        if not self._prompts or output is None:
            return []
        watches = []
        for new in output.scheduled_new_reqs:
            if new.req_id in self._prompts:
                self._blocks[new.req_id] = list(new.block_ids[0])
                watches += self._watch(new.req_id, new.num_computed_tokens, output.num_scheduled_tokens)
        cached = output.scheduled_cached_reqs
        for request, more, computed in zip(cached.req_ids, cached.new_block_ids, cached.num_computed_tokens):
            if request in self._prompts:
                if request in cached.resumed_req_ids:
                    self._blocks[request] = []
                self._blocks.setdefault(request, []).extend(more[0] if more else ())
                watches += self._watch(request, computed, output.num_scheduled_tokens)
        return watches

    def _watch(self, request: str, computed: int, scheduled: Mapping[str, int]) -> list[Watch]:
        prompt, count = self._prompts[request], scheduled.get(request, 0)
        end = computed + count
        index = (end - 1) // self._block_size
        blocks = self._blocks[request]
        # Steps before the last queries, and those that generate.
        if count < 1 or end <= prompt - self._keep or computed >= prompt or index >= len(blocks):
            return []
        return [Watch(request, blocks[index], computed, count, prompt)]


class Recorder:
    """Worker half: keeps the last queries of the prompts watched, until they are taken or dropped.

    Args:
        layers: as in the cache, in the model's order.
        block_size: tokens of a block in block tables.
        keep: queries of a prompt kept, at most.
    """

    def __init__(self, layers: Sequence[Layer], block_size: int, keep: int) -> None:
        self._layers = layers
        self._block_size = block_size
        self._keep = keep
        self._hooked: dict[int, tuple[float, int]] = {}
        self._watches: dict[int, Watch] = {}
        self._kept: dict[str, dict[int, tuple[int, Any]]] = {}
        self._rows: tuple[Any, list[tuple[Watch, int, int]]] = (None, [])
        self._stopped = False

    def hook(self, index: int, attention: Any) -> bool:
        """Wraps a layer's attention (vLLM's ``Attention``). False when its queries would not say what it attends to."""
        impl = attention.impl
        # What scoring by queries does not model: other terms in the softmax. And a forward that may be compiled with the model.
        for name in ("alibi_slopes", "logits_soft_cap", "sinks"):
            value = getattr(impl, name, None)
            if value is not None and not (isinstance(value, int | float) and value == 0):
                return False
        if getattr(attention, "use_direct_call", False) or not callable(getattr(impl, "forward", None)):
            return False
        window = getattr(attention, "sliding_window", None)
        self._hooked[index] = float(getattr(impl, "scale", 0.0)), int(window or 0)
        impl.forward = self._wrapped(index, impl.forward)
        return True

    def _wrapped(self, index: int, forward: Callable[..., Any]) -> Callable[..., Any]:
        def recording(layer: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
            if self._watches and not self._stopped:
                # Key, value, cache, metadata.
                metadata = args[3] if len(args) > 3 else kwargs.get("attn_metadata")
                self._record(index, query, metadata)
            return forward(layer, query, *args, **kwargs)

        return recording

    def watch(self, watches: Sequence[Watch]) -> None:
        """Before a step's forward."""
        self._watches = {watch.block: watch for watch in watches}
        self._rows = (None, [])

    def _record(self, index: int, query: Any, metadata: Any) -> None:
        try:
            if metadata is None:
                return
            if self._rows[0] is not metadata:
                self._rows = metadata, self._find(metadata, self._layers[index].block_tokens)
            for watch, first, end in self._rows[1]:
                start = watch.computed
                skip = max(0, watch.prompt - self._keep - start)
                stop = min(end - first, watch.prompt - start)
                piece = _copy(query[first + skip : first + stop])
                kept = self._kept.setdefault(watch.request, {})
                before = kept.get(index)
                if before is not None and before[0] + before[1].shape[0] == start + skip:
                    kept[index] = before[0], _join(before[1], piece)
                else:
                    kept[index] = start + skip, piece
        except Exception as error:  # the model's answer does not depend on what is recorded here
            self.stop()
            _log.warning("no queries from now on, keys and values are scored: %s: %s", type(error).__name__, error)

    def stop(self) -> None:
        """Records no more: not every layer's queries can be had."""
        self._stopped = True
        self._kept.clear()

    def _find(self, metadata: Any, block_tokens: int) -> list[tuple[Watch, int, int]]:
        """The rows of a step that are watched: first and end of their queries. Reads small tensors, once a step."""
        starts = metadata.query_start_loc.tolist()
        lengths = metadata.seq_lens.tolist()
        parts = self._block_size // block_tokens
        rows = []
        for row, length in enumerate(lengths[: len(starts) - 1]):
            if length < 1:
                continue
            block = int(metadata.block_table[row, (length - 1) // block_tokens]) // parts
            watch = self._watches.get(block)
            if (
                watch is not None
                and length == watch.computed + watch.count
                and starts[row + 1] - starts[row] == watch.count
            ):
                rows.append((watch, starts[row], starts[row + 1]))
        return rows

    def take(self, request: str, tokens: int) -> list[LayerQueries] | None:
        """The queries of a request's last tokens, of every layer; None unless all of them are there, up to token ``tokens``."""
        kept = self._kept.pop(request, {})
        found = []
        for index in range(len(self._layers)):
            if index not in kept or kept[index][0] + kept[index][1].shape[0] != tokens:
                return None
            scale, window = self._hooked[index]
            found.append(LayerQueries(kept[index][1][-self._keep :], scale, window))
        return found

    def drop(self, request: str) -> None:
        """A request that ended and is not sent."""
        self._kept.pop(request, None)


def scores_of(engine: Engine, cache: Cache, queries: Sequence[LayerQueries]) -> Scores:
    """Scores of a cache by its last queries. Raises as `Engine.score` does."""
    scores = Scores()
    try:
        for index, layer in enumerate(queries):
            scores.set_queries(index, layer.tensor, scale=layer.scale, window=layer.window)
        return engine.score(cache, scores)
    except BaseException:
        scores.close()
        raise


def _copy(rows: Any) -> Any:
    """Of a part of a tensor that the next step overwrites."""
    return rows.detach().clone() if hasattr(rows, "detach") else rows.copy()


def _join(before: Any, after: Any) -> Any:
    if not hasattr(before, "new_empty"):
        import numpy as np  # noqa: PLC0415

        return np.concatenate((before, after))
    import torch  # noqa: PLC0415

    return torch.cat((before, after))
