# SPDX-License-Identifier: Apache-2.0
"""Hugging Face transformers: a model's `DynamicCache` as a payload, and prompt files for ``generate``::

    from spectrumkv import transformers as skvt

    name = skvt.fingerprint(model)                              # of the weights, once
    with skvt.Observer(model) as seen:                          # prefill once, keeping the last queries
        cache = model(ids, use_cache=True).past_key_values
    skvt.save_prompt("system.skv", cache, ids, name, budget=0.28, scores=seen.scores())

    cache = skvt.load_prompt("system.skv", model, more_ids, name)   # another process; more_ids begin with ids
    model.generate(more_ids, past_key_values=cache)

A prompt file is a payload and nothing else: ``spectrumkv inspect`` reads it. It names the model and the tokens it is of,
and loading it for others is an `IdentityError`.

Layers that attend to everything and layers with a sliding window are known, in any mix; others (static, quantized, linear
attention …) are refused. Keys lie in a head in the order of the model's own code, which is another one than llama.cpp's, so
these payloads and those of `spectrumkv.llamacpp` are of different models: `fingerprint` sees to it.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Sequence
from os import PathLike
from types import TracebackType
from typing import Any, Final, Self

import torch
import transformers
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from spectrumkv.buffers import describe
from spectrumkv.cache import Cache
from spectrumkv.constants import DEVICE_CPU, DType, Half, Status
from spectrumkv.engine import Engine
from spectrumkv.errors import ArgumentError, BudgetError, IdentityError, StateError
from spectrumkv.identity import hash_tokens
from spectrumkv.payload import Payload, Receipt
from spectrumkv.plan import Plan, Scores

_TORCH: Final = {DType.F16: torch.float16, DType.BF16: torch.bfloat16, DType.F32: torch.float32}
# Exactly these: a class derived from them holds more (an indexer's keys, a recurrent state) that would be lost.
_KNOWN: Final = (DynamicLayer, DynamicSlidingWindowLayer)
_QUERIES: Final = 16
"""Last queries that an `Observer` keeps, as the demo does."""


def fingerprint(model: Any) -> bytes:
    """32 bytes that name a model's weights as transformers holds them: SHA-256 of its state dict, names, types, shapes, values.

    Reads every weight (about a second a gigabyte); keep it. The same weights held in another type are another model.
    """
    digest = hashlib.sha256(b"spectrumkv.transformers\0")
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\0".encode())
        digest.update(value.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.digest()


# ------------------------------------------------------------------------------------------------- cache and payload


def view(
    cache: DynamicCache,
    *,
    fingerprint: bytes | str | None = None,
    request_id: bytes | str | None = None,
    row: int = 0,
) -> Cache:
    """A view of one sequence of a transformers cache; nothing is copied.

    Args:
        fingerprint, request_id: see `Cache.set_identity`.
        row: which sequence of the batch. Its padding tokens, if any, belong to the view.

    Raises:
        ArgumentError: an empty cache, a layer of another kind, or no such row.
    """
    layers = _layers(cache)
    made = Cache(len(layers))
    for index, layer in enumerate(layers):
        if not 0 <= row < layer.keys.shape[0]:
            raise ArgumentError(
                Status.E_RANGE, f"row {row}: wanted one of the {layer.keys.shape[0]} sequences of the batch"
            )
        pair = (layer.keys[row].detach(), layer.values[row].detach())
        first = int(layer.get_seq_length()) - int(layer.keys.shape[-2])
        made._set_arrays(index, pair, "htd", first, None, None, None)
        made.set_group(index, int(layer.is_sliding))
    made.set_identity(fingerprint, request_id)
    made.check()
    return made


def encode(
    cache: DynamicCache,
    *,
    budget: float | None = None,
    scores: Scores | None = None,
    fingerprint: bytes | str | None = None,
    request_id: bytes | str | None = None,
    row: int = 0,
    engine: Engine | None = None,
    **options: Any,
) -> Payload:
    """One sequence of a cache as a payload.

    Args:
        budget: bytes as a fraction of the cache at 16 bits an element; None: raw, every bit kept.
        scores: what errors cost; see `Observer.scores`. Budgets below 8 bits want queries in them, or a profile.
        engine: by default one for the device that holds the cache.
        options: more of `Plan`'s (``profile``, ``strategy``, ``pack``, ``unproven`` …).

    Raises:
        BudgetError, NonFiniteError: see `Plan.solve` and `Engine.encode`.
    """
    seen = view(cache, fingerprint=fingerprint, request_id=request_id, row=row)
    if budget is None and "budget_bytes" not in options:
        options.setdefault("strategy", "raw")
        options.setdefault("raw_dtype", describe(_layers(cache)[0].keys.detach(), on_device=True).kv_dtype)
    with seen, _Borrowed(engine, seen.device) as worker, Plan(worker, budget=budget, **options) as plan:
        if scores is not None:
            worker.score(seen, scores)
        return worker.encode(seen, plan.solve(seen, scores))


def decode(
    payload: Payload,
    model: Any,
    *,
    fingerprint: bytes | str | None = None,
    request_id: bytes | str | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    engine: Engine | None = None,
) -> DynamicCache:
    """A new cache of one sequence for ``model``, or a model's configuration.

    Args:
        dtype: of its tensors; by default what the payload was encoded from.
        device: where its tensors are made. With a CUDA device the payload must be there too (`Engine.open`).

    Raises:
        IdentityError: a payload of another model, request or shape.
        PayloadError, ChecksumError: damaged bytes.
        BudgetError: the payload drops tokens.
    """
    # Also keeps the memory made below within a small multiple of the payload's own bytes, whoever wrote them.
    if dropped := payload.receipt().dropped_rows:
        raise BudgetError(
            Status.E_PERMITTED, f"a payload without {dropped} of its rows: a DynamicCache cannot mask tokens"
        )
    config = getattr(model, "config", model)
    made = DynamicCache(config=config)
    layers = _layers(made, filled=False)
    if len(layers) != payload.layers:
        raise IdentityError(Status.E_LAYOUT, f"a payload of {payload.layers} layers for a model of {len(layers)}")
    pairs: list[tuple[torch.Tensor, torch.Tensor]] = []
    target = Cache(len(layers))
    for index, layer in enumerate(layers):
        segment = payload.segment(index)
        total = segment.first_position + segment.tokens
        kept = min(total, layer.sliding_window - 1) if layer.is_sliding else total
        if segment.v_dim == 0 or segment.tokens != kept:
            raise IdentityError(
                Status.E_LAYOUT,
                f"layer {index}: positions {segment.first_position} to {total} in the payload:"
                f" wanted the last {kept} of {total}, as this model's {type(layer).__name__} keeps them, keys and values",
            )
        kind = dtype or _TORCH[segment.dtype]
        shape = (1, segment.heads, segment.tokens)
        pair = (
            torch.empty((*shape, segment.k_dim), dtype=kind, device=device),
            torch.empty((*shape, segment.v_dim), dtype=kind, device=device),
        )
        target._set_arrays(index, pair, "bhtd", segment.first_position, None, None, None)
        target.set_group(index, segment.group)
        pairs.append(pair)
    target.set_identity(fingerprint, request_id)
    with target, _Borrowed(engine, target.device) as worker:
        worker.decode(payload, target)
    for index, (layer, (keys, values)) in enumerate(zip(layers, pairs)):
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = keys, values
        if layer.is_sliding:
            layer.cumulative_length = payload.segment(index).first_position + keys.shape[-2]
    return made


def _layers(cache: Any, filled: bool = True) -> list[Any]:
    layers = list(cache.layers)
    if not layers:
        raise ArgumentError(Status.E_ARGUMENT, "a cache without layers: wanted one that a model has filled")
    for index, layer in enumerate(layers):
        if type(layer) not in _KNOWN:
            raise ArgumentError(
                Status.E_ARGUMENT,
                f"layer {index} is a {type(layer).__name__}: wanted {' or '.join(kind.__name__ for kind in _KNOWN)}"
                f" (transformers {transformers.__version__})",
            )
        if filled and layer.get_seq_length() == 0:
            raise ArgumentError(Status.E_ARGUMENT, f"layer {index} holds no tokens")
        if (
            filled
            and layer.is_sliding
            and layer.keys.shape[-2] != min(layer.get_seq_length(), layer.sliding_window - 1)
        ):
            raise ArgumentError(Status.E_ARGUMENT, f"layer {index} records its past: call crop(0) on the cache first")
    return layers


class _Borrowed:
    """The caller's engine, or one of its own for a while."""

    def __init__(self, engine: Engine | None, device: int = DEVICE_CPU) -> None:
        self._own = None if engine is not None else Engine(device)
        self._engine = engine or self._own

    def __enter__(self) -> Engine:
        assert self._engine is not None
        return self._engine

    def __exit__(self, *_: object) -> None:
        if self._own is not None:
            self._own.close()


# ----------------------------------------------------------------------------------------------------- prompt files


def save_prompt(
    path: str | PathLike[str],
    cache: DynamicCache,
    tokens: torch.Tensor | Sequence[int],
    fingerprint: bytes | str,
    **options: Any,
) -> Receipt:
    """Writes the cache of a prompt to a file, whole or not at all. Returns the receipt.

    Args:
        tokens: what the cache was computed from, ``[tokens]`` or ``[1, tokens]``.
        fingerprint: of the model.
        options: of `encode`: ``budget``, ``scores``, ``row`` …

    Raises:
        ArgumentError: as many tokens as the cache has are wanted.
    """
    ids = _ids(tokens)
    count = int(_layers(cache)[0].get_seq_length())
    if len(ids) != count:
        raise ArgumentError(Status.E_ARGUMENT, f"{len(ids)} tokens for a cache of {count}: wanted as many")
    with encode(cache, fingerprint=fingerprint, request_id=hash_tokens(ids), **options) as payload:
        payload.save(path)
        return payload.receipt()


def load_prompt(
    path: str | PathLike[str],
    model: Any,
    tokens: torch.Tensor | Sequence[int],
    fingerprint: bytes | str,
    **options: Any,
) -> DynamicCache:
    """The cache in a file, for a prompt that begins with the file's.

    Args:
        tokens: the prompt, ``[tokens]`` or ``[1, tokens]``. ``generate`` wants it to be longer than the file's by one at least.
        fingerprint: of the model.
        options: of `decode`.

    Raises:
        IdentityError: a file of another model, or of tokens that the prompt does not begin with.
        PayloadError, ChecksumError: not such a file, or a damaged one.
    """
    ids = _ids(tokens)
    with Payload.load(path) as payload:
        held = payload.segment(0)
        count = held.first_position + held.tokens
        if count > len(ids):
            raise IdentityError(
                Status.E_REQUEST, f"a file of {count} tokens for a prompt of {len(ids)}: wanted at least as many"
            )
        return decode(payload, model, fingerprint=fingerprint, request_id=hash_tokens(ids[:count]), **options)


def _ids(tokens: torch.Tensor | Sequence[int]) -> list[int]:
    ids = tokens.tolist() if isinstance(tokens, torch.Tensor) else list(tokens)
    if len(ids) == 1 and isinstance(ids[0], list):
        ids = ids[0]
    if any(isinstance(token, list) for token in ids):
        raise ArgumentError(Status.E_ARGUMENT, f"tokens of {len(ids)} sequences: wanted those of one")
    return [int(token) for token in ids]


# ----------------------------------------------------------------------------------------------------------- scores


class Observer:
    """While active, keeps what scoring wants of a model's forward passes: the last queries, and a press's scores.

    Args:
        model: with an attention implementation of transformers' registry (``sdpa`` and the like; not ``eager``).
        queries: how many of the last tokens' queries are kept; 0 for none.
        press: a scorer of kvpress, or anything with its ``score(module, hidden_states, keys, values, attentions, kwargs)``
            that returns ``[batch, kv-heads, tokens]``. Nothing is pruned. Sliding-window layers are not asked about.

    Raises ArgumentError for ``eager``, whose attention functions are each model's own.
    """

    def __init__(self, model: Any, *, queries: int = _QUERIES, press: Any = None) -> None:
        self._model = model
        self._wanted = queries
        self._press = press
        self._queries: dict[int, torch.Tensor] = {}
        self._windows: dict[int, int] = {}
        self._scales: dict[int, float] = {}
        self._weights: dict[int, list[list[float]]] = {}  # by layer, then by sequence of the batch
        self._hooks: list[Any] = []
        self._lent: list[Any] = []  # attention modules that were given the model's rotary embedding
        self._modules = {
            id(module): module for module in model.modules() if isinstance(getattr(module, "layer_idx", None), int)
        }

    def __enter__(self) -> Self:
        if self._wanted:
            _watch(self, self._model.config._attn_implementation, self._modules)
        if self._press is not None:
            prepare = getattr(self._press, "post_init_from_model", None)
            if prepare is not None:
                prepare(self._model)
            rotary = [module for module in self._model.modules() if type(module).__name__.endswith("RotaryEmbedding")]
            for module in self._modules.values():
                if type(module).__name__.endswith("Attention"):
                    if rotary and not hasattr(module, "rotary_emb"):  # as kvpress does; not registered as a submodule
                        vars(module)["rotary_emb"] = rotary[0]
                        self._lent.append(module)
                    self._hooks.append(module.register_forward_hook(self._score, with_kwargs=True))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        _unwatch(self)
        while self._hooks:
            self._hooks.pop().remove()
        while self._lent:
            vars(self._lent.pop()).pop("rotary_emb", None)

    def scores(self, row: int = 0) -> Scores:
        """Scores for `encode`, of one sequence of the batch.

        A press's scores, where finite and not negative, are the weights as they are; else their ranks are. Each layer's are
        scaled to a mean of 1: a press says which tokens of a layer matter, not which layers.

        Raises StateError if nothing was seen.
        """
        if (self._wanted and not self._queries) or (self._press is not None and not self._weights):
            raise StateError(
                Status.E_STATE,
                "no attention was seen: wanted a forward pass inside the with block, of a model that calls"
                " the functions of transformers' registry",
            )
        made = Scores()
        for layer, queries in self._queries.items():
            made.set_queries(layer, queries[row], layout="hqd", scale=self._scales[layer], window=self._windows[layer])
        for layer, seen in self._weights.items():
            weights = _weights_of(seen[row])
            for half in Half:
                made.set_weights(layer, half, weights)
        return made

    def _see(self, module: Any, query: torch.Tensor, options: dict[str, Any]) -> None:
        """``query`` is ``[batch, heads, tokens, channels]``, after RoPE."""
        layer = int(module.layer_idx)
        last = query.detach()[:, :, -self._wanted :]
        before = self._queries.get(layer)
        if before is not None and last.shape[2] < self._wanted:
            last = torch.cat([before, last], dim=2)[:, :, -self._wanted :]
        self._queries[layer] = last.clone()
        self._scales[layer] = float(options.get("scaling") or 0.0)
        self._windows[layer] = int(options.get("sliding_window") or 0)

    def _score(self, module: Any, _arguments: Any, options: dict[str, Any], output: Any) -> None:
        cache, hidden = options.get("past_key_values"), options.get("hidden_states")
        if cache is None or hidden is None:
            return
        layer = cache.layers[module.layer_idx]
        if layer.is_sliding:
            return
        attentions = output[1] if isinstance(output, tuple) and len(output) > 1 else None
        seen = self._press.score(module, hidden, layer.keys, layer.values, attentions, options)
        if tuple(seen.shape) != tuple(layer.keys.shape[:3]):
            raise ArgumentError(
                Status.E_ARGUMENT,
                f"{type(self._press).__name__} gave scores of shape {tuple(seen.shape)}: wanted {tuple(layer.keys.shape[:3])}",
            )
        self._weights[int(module.layer_idx)] = seen.detach().float().mean(dim=1).tolist()


def _weights_of(scores: list[float]) -> list[float]:
    if any(not math.isfinite(score) or score < 0 for score in scores):
        order = sorted(range(len(scores)), key=lambda i: -math.inf if math.isnan(scores[i]) else scores[i])
        scores = [0.0] * len(scores)
        for rank, i in enumerate(order):
            scores[i] = rank + 1.0
    mean = sum(scores) / len(scores)
    return [score / mean for score in scores] if mean > 0 else [1.0] * len(scores)


# Attention functions are a registry of the process: one wrapper an implementation, for all observers.
_lock: Final = threading.Lock()
_observers: dict[int, Observer] = {}  # id of an attention module -> who watches it
_wrapped: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {}  # implementation -> (original, wrapper)


def _watch(observer: Observer, implementation: str, modules: dict[int, Any]) -> None:
    with _lock:
        taken = [key for key in modules if _observers.get(key, observer) is not observer]
        if taken:
            raise StateError(Status.E_STATE, "the model is observed already: wanted one Observer at a time")
        if implementation not in _wrapped:
            original = ALL_ATTENTION_FUNCTIONS.get(implementation)
            if original is None:
                raise ArgumentError(
                    Status.E_ARGUMENT,
                    f"attention implementation {implementation!r}: wanted one of {sorted(ALL_ATTENTION_FUNCTIONS)}"
                    ' (load the model with attn_implementation="sdpa")',
                )

            def seeing(module: Any, query: torch.Tensor, *arguments: Any, **options: Any) -> Any:
                watcher = _observers.get(id(module))
                if watcher is not None:
                    watcher._see(module, query, options)
                return original(module, query, *arguments, **options)

            ALL_ATTENTION_FUNCTIONS[implementation] = seeing
            _wrapped[implementation] = (original, seeing)
        _observers.update(dict.fromkeys(modules, observer))


def _unwatch(observer: Observer) -> None:
    with _lock:
        for key in [key for key, owner in _observers.items() if owner is observer]:
            del _observers[key]
        if not _observers:
            for implementation, (original, seeing) in _wrapped.items():
                if (
                    ALL_ATTENTION_FUNCTIONS.get(implementation) is seeing
                ):  # else somebody wrapped it again: ours stays inside
                    ALL_ATTENTION_FUNCTIONS[implementation] = original
            _wrapped.clear()
