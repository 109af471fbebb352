# SPDX-License-Identifier: Apache-2.0
"""LMCache: chunks of its L2 tier as payloads. Importing this module registers the serde ``spectrumkv``; run as a program it is LMCache's
own command with the serde in it::

    python -m spectrumkv.lmcache server --l2-adapter '{"type": "fs", "base_path": "/cache",
        "serde": {"type": "spectrumkv", "head_dim": 128, "budget": 0.40, "profile": "model.json"}}'

Every chunk is a payload of its own, named after its `ObjectKey`: a chunk that comes back under another key, of another model
or damaged is an error, which LMCache treats as a miss. Nothing of it reaches the destination then.

A chunk that the codec refuses (values that are not finite) is not stored. One too small for the budget is stored at 8 bits.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from lmcache.v1.distributed.serde import (
    AsyncSerdeProcessor,
    Deserializer,
    SerdeProcessor,
    Serializer,
    get_registered_serde_types,
    register_serde_factory,
)

from spectrumkv.buffers import describe_bytes
from spectrumkv.cache import Cache
from spectrumkv.constants import Status
from spectrumkv.engine import Engine
from spectrumkv.errors import ArgumentError, BudgetError, PayloadError
from spectrumkv.payload import Payload
from spectrumkv.plan import Plan
from spectrumkv.profile import Profile

NAME: Final = "spectrumkv"
_ALIGNMENT: Final = 16  # of memory that Engine.encode writes into
_TOTAL_BYTES: Final = slice(16, 24)  # of a payload's header, docs/wire-format.md


class _Codec:
    """What both directions share: options and one engine a thread."""

    def __init__(
        self,
        head_dim: int,
        budget: float | None = None,
        profile: str | Path | None = None,
        unproven: bool = False,
        sinks: int | None = None,
        threads: int = 1,
    ) -> None:
        """See `create`."""
        if head_dim <= 0 or head_dim % 8:
            raise ArgumentError(Status.E_RANGE, f"head_dim {head_dim}: wanted a multiple of 8 above 0")
        if budget is not None and not 0 < budget <= 1:
            raise ArgumentError(Status.E_RANGE, f"budget {budget}: wanted a fraction above 0, at most 1")
        self.head_dim = head_dim
        self._budget = budget
        self._options: dict[str, Any] = {"unproven": unproven, "sinks": sinks}
        self.fingerprint: bytes | None = None
        if profile is not None:
            text = Path(profile).read_text()
            self._options["profile"] = Profile.open(text)
            self.fingerprint = bytes.fromhex(json.loads(text)["model"])
        self._threads = threads
        self._engines = threading.local()
        self._sizes: dict[tuple[Any, ...], int] = {}

    @property
    def engine(self) -> Engine:
        """This thread's."""
        engine: Engine | None = getattr(self._engines, "engine", None)
        if engine is None:
            engine = self._engines.engine = Engine(threads=self._threads)
        return engine

    def view(self, tensors: Sequence[torch.Tensor], key: Any) -> Cache:
        """Groups of ``[2, layers, tokens, kv-heads * head_dim]``, or ``[1, …]`` of latents without V."""
        pairs: list[tuple[int, torch.Tensor, torch.Tensor | None]] = []
        for group, tensor in enumerate(tensors):
            shape = tuple(int(n) for n in tensor.shape)
            if len(shape) != 4 or shape[0] not in (1, 2) or (shape[0] == 2 and shape[3] % self.head_dim):
                raise ArgumentError(
                    Status.E_GEOMETRY,
                    f"a chunk of shape {shape}: wanted [2, layers, tokens, a multiple of head_dim {self.head_dim}]"
                    " or [1, layers, tokens, channels]",
                )
            heads = shape[3] // self.head_dim if shape[0] == 2 else 1
            rows = tensor.reshape(*shape[:3], heads, shape[3] // heads)
            if rows.data_ptr() != tensor.data_ptr():
                raise ArgumentError(Status.E_STRIDE, f"a chunk of strides {tensor.stride()}: wanted contiguous rows")
            pairs += [(group, rows[0, i], rows[1, i] if shape[0] == 2 else None) for i in range(shape[1])]
        made = Cache(len(pairs))
        for layer, (group, k, v) in enumerate(pairs):
            made._set_arrays(layer, (k, v), "thd", 0, None, None, None)
            made.set_group(layer, group)
        made.set_identity(*self._identity(key))
        made.check()
        return made

    def _identity(self, key: Any) -> tuple[bytes | None, bytes | None]:
        if key is None:
            return self.fingerprint, None
        model = hashlib.sha256(b"spectrumkv.lmcache\0" + key.model_name.encode()).digest()
        parts = (key.model_name, key.kv_rank, getattr(key, "object_group_id", 0), getattr(key, "cache_salt", ""))
        named = hashlib.sha256("\0".join(map(str, parts)).encode() + b"\0" + bytes(key.chunk_hash)).digest()
        return self.fingerprint or model, named[:16]

    def solve(self, view: Cache) -> Plan:
        """The plan for a chunk: the budget's, else 8 bits."""
        if self._budget is not None:
            try:
                return Plan(self.engine, budget=self._budget, **self._options).solve(view)
            except BudgetError as error:
                if error.status != Status.E_BUDGET:
                    raise
        options = {name: value for name, value in self._options.items() if name != "profile"}
        return Plan(self.engine, strategy="uniform-8", **options).solve(view)

    def size(self, shapes: Sequence[Any], dtypes: Sequence[Any]) -> int:
        """Bytes that every chunk of a layout takes: the budget, or what 8 bits come to."""
        layout = tuple((*map(int, shape), dtype) for shape, dtype in zip(shapes, dtypes, strict=True))
        known = self._sizes.get(layout)
        if known is None:
            zeros = [torch.zeros(tuple(shape), dtype=dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]
            with self.view(zeros, None) as view:
                view.set_identity(self.fingerprint, None)
                with self.solve(view) as plan:
                    wanted = math.floor((self._budget or 0.0) * view.raw_bytes)
                    # A plan stays below its budget by up to a row; how far, depends on the values.
                    known = wanted if plan.nbytes <= wanted else plan.nbytes
            self._sizes[layout] = known
        return known


def _tensors(memory: Any, what: str) -> list[torch.Tensor]:
    shapes = getattr(getattr(memory, "meta", None), "shapes", None)
    found = [memory.get_tensor(i) for i in range(len(shapes))] if shapes and len(shapes) > 1 else [memory.tensor]
    if any(tensor is None for tensor in found):
        raise ArgumentError(Status.E_NULL, f"{what} has no tensor")
    return found


class SpectrumKVSerializer(Serializer):  # type: ignore[misc,unused-ignore]
    """KV-shaped memory to payload bytes. Arguments: those of `create`."""

    def __init__(self, codec: _Codec) -> None:
        self._codec = codec

    def serialize(self, src: Any, dst: Any, key: Any = None) -> int:
        """Encodes a chunk into a byte buffer and fills it with zeros up to the estimate, which is returned.

        Always the estimate, because readers of LMCache 0.5 want files as long as their buffer.

        Raises:
            ArgumentError: no tensor, or not a chunk's shape. ResourceError: ``dst`` is smaller than the estimate.
            BudgetError, NonFiniteError: see `Plan.solve` and `Engine.encode`.
        """
        tensors = _tensors(src, "the source")
        (target,) = _tensors(dst, "the destination")
        room = describe_bytes(target.detach(), writable=True).memory()
        size = self._codec.size([tensor.shape for tensor in tensors], [tensor.dtype for tensor in tensors])
        with self._codec.view(tensors, key) as view, self._codec.solve(view) as plan:
            if plan.nbytes > size or size > len(room):
                raise ArgumentError(
                    Status.E_TOO_SMALL, f"a buffer of {len(room)} bytes for {max(size, plan.nbytes)}: wanted as many"
                )
            aligned = target.data_ptr() % _ALIGNMENT == 0
            with self._codec.engine.encode(view, plan, out=room if aligned else None) as payload:
                count = payload.nbytes
                if not aligned:
                    room[:count] = payload.data
            room[count:size] = bytes(size - count)
        return size

    def estimate_serialized_size(self, layout_desc: Any) -> int:
        """Bytes that `serialize` writes for a layout, exactly."""
        return self._codec.size(layout_desc.shapes, layout_desc.dtypes)


class SpectrumKVDeserializer(Deserializer):  # type: ignore[misc,unused-ignore]
    """Payload bytes to KV-shaped memory. Arguments: those of `create`."""

    def __init__(self, codec: _Codec) -> None:
        self._codec = codec

    def deserialize(self, src: Any, dst: Any, key: Any = None) -> None:
        """Decodes a chunk. Its dtype may be another one than the source's.

        Raises:
            PayloadError, ChecksumError, VersionError: not a payload, or a damaged one.
            IdentityError: of another key, model or shape. ArgumentError: no tensor, or not a chunk's shape.
        On any of them the destination is untouched.
        """
        (source,) = _tensors(src, "the source")
        data = describe_bytes(source.detach()).memory()
        if len(data) == 0:
            raise PayloadError(Status.E_TRUNCATED, "a stored chunk of 0 bytes: wanted a payload")
        total = int.from_bytes(data[_TOTAL_BYTES], "little")
        with (
            self._codec.view(_tensors(dst, "the destination"), key) as view,
            Payload.open(data[:total] if 0 < total <= len(data) else data) as payload,
        ):
            self._codec.engine.decode(payload, view)


def create(
    *,
    head_dim: int,
    budget: float | None = None,
    profile: str | Path | None = None,
    unproven: bool = False,
    sinks: int | None = None,
    threads: int = 1,
    max_workers: int = 1,
) -> SerdeProcessor:
    """The serde, as LMCache wants it.

    Args:
        head_dim: channels of a kv-head, which LMCache's layouts do not tell.
        budget: bytes as a fraction of the chunk at 16 bits an element; None: 8 bits for every row (about 0.53).
        profile: file with what is known of the model; budgets that need rows below 8 bits want one that allows them.
        unproven: or this, without proof.
        sinks: leading tokens of *every* chunk kept RAW (default 4), because a chunk does not know its position.
        threads: of the engine of each worker.
        max_workers: chunks at a time.
    """
    codec = _Codec(head_dim, budget, profile, unproven, sinks, threads)
    return AsyncSerdeProcessor(SpectrumKVSerializer(codec), SpectrumKVDeserializer(codec), max_workers=max_workers)


def _factory(options: dict[str, Any]) -> SerdeProcessor:
    known = {"head_dim", "budget", "profile", "unproven", "sinks", "threads", "max_workers"}
    given = {name: value for name, value in options.items() if name != "type"}
    if "head_dim" not in given or not set(given) <= known:
        raise ArgumentError(
            Status.E_ARGUMENT, f"serde {NAME} with {sorted(given)}: wanted head_dim, and of {sorted(known)} at most"
        )
    return create(**given)


if NAME not in get_registered_serde_types():
    register_serde_factory(NAME, _factory)

if __name__ == "__main__":
    from lmcache.cli.main import main

    sys.exit(main())
