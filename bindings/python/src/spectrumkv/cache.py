# SPDX-License-Identifier: Apache-2.0
"""The cache: a view of KV memory that somebody else owns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ctypes import byref, c_int32, c_uint64, c_void_p
from typing import Any

from spectrumkv._abi import CACHE, library
from spectrumkv._handle import Handle
from spectrumkv.buffers import Buffer, describe, describe_bytes, id_bytes, to_dtype
from spectrumkv.constants import ALL, DEVICE_CPU, FINGERPRINT_BYTES, REQUEST_ID_BYTES, CacheKey, DType, Half, Status
from spectrumkv.errors import ArgumentError
from spectrumkv.payload import Payload, aligned_bytearray


class Cache(Handle):
    """A view of KV memory: the source of scoring and encoding, the destination of decoding.

    ``Cache(layers)`` and the setters below build any view the C header can express; `from_arrays` builds the usual ones
    from tensors. Layer indices may be `ALL` where noted. The view keeps every buffer given to it alive.

    Args:
        layers: 1 … 4096.
    """

    def __init__(self, layers: int) -> None:
        lib = library()
        handle = CACHE()
        lib.call("skv_cache_create", layers, byref(handle))
        self._adopt(handle)

    def _adopt(self, handle: Any) -> None:
        Handle.__init__(self, handle, library().dll.skv_cache_destroy)
        self._planes: dict[tuple[int, int], Buffer] = {}
        self._writable = True
        self._blob: memoryview | None = None

    # ------------------------------------------------------------------------------------------------- setters

    def set_tokens(self, layer: int, first_position: int, tokens: int) -> None:
        """Token range of a layer (or `ALL`); positions count from the first token of the sequence."""
        with self._use() as cache:
            library().call("skv_cache_set_tokens", cache, layer, first_position, tokens)

    def set_layer(self, layer: int, kv_heads: int, k_dim: int, v_dim: int, dtype: DType | str) -> None:
        """Geometry of a layer (or `ALL`): dims are channels of a head, multiples of 8; ``v_dim`` 0 means no V."""
        with self._use() as cache:
            library().call("skv_cache_set_layer", cache, layer, kv_heads, k_dim, v_dim, to_dtype(dtype))

    def set_first_head(self, layer: int, first_head: int) -> None:
        """Index, in the model's layer, of this view's head 0 (tensor-parallel slices). ``layer`` may be `ALL`."""
        with self._use() as cache:
            library().call("skv_cache_set_first_head", cache, layer, first_head)

    def set_group(self, layer: int, group: int) -> None:
        """KV-cache group of a layer (or `ALL`), 0 … 255. Travels with the payload."""
        with self._use() as cache:
            library().call("skv_cache_set_group", cache, layer, group)

    def set_plane(
        self,
        layer: int,
        half: Half,
        memory: object,
        *,
        stride_token: int,
        stride_head: int,
        stride_elem: int,
        stride_block: int = 0,
    ) -> None:
        """Memory of a layer's K or V, strides in bytes.

        Element (token t, head h, channel c) lies at ``memory + block * stride_block + (t % block_tokens) * stride_token +
        h * stride_head + c * stride_elem``. Read-only memory makes the view one that cannot be decoded into.
        """
        buffer = describe(memory, on_device=True)
        with self._use() as cache:
            library().call(
                "skv_cache_set_plane",
                cache,
                layer,
                half,
                c_void_p(buffer.pointer),
                buffer.nbytes,
                stride_block,
                stride_token,
                stride_head,
                stride_elem,
            )
        self._planes[layer, half] = buffer

    def set_blocks(self, layer: int, block_ids: Sequence[int], block_tokens: int) -> None:
        """Block table of a layer (or `ALL`), copied: token t is slot ``t % block_tokens`` of block
        ``block_ids[t // block_tokens]``."""
        ids = (c_int32 * len(block_ids))(*(int(i) for i in block_ids))
        with self._use() as cache:
            library().call("skv_cache_set_blocks", cache, layer, ids, len(block_ids), block_tokens)

    def set_identity(self, fingerprint: bytes | str | None, request_id: bytes | str | None = None) -> None:
        """Model (32 bytes) and request (16 bytes) that this cache belongs to; str is hexadecimal, None all zero.

        A destination accepts only a payload of an equal fingerprint, and of an equal request id unless its own is zero.
        """
        with self._use() as cache:
            library().call(
                "skv_cache_set_identity",
                cache,
                id_bytes(fingerprint, FINGERPRINT_BYTES, "fingerprint"),
                id_bytes(request_id, REQUEST_ID_BYTES, "request_id"),
            )

    def set(self, key: CacheKey, value: int) -> None:
        """Sets an option."""
        with self._use() as cache:
            library().call("skv_cache_set", cache, key, value)

    # --------------------------------------------------------------------------------------------------- facts

    def check(self) -> None:
        """Checks the whole view: everything set, inside its memory, block ids distinct, nothing overlapping.

        Every call that uses the view does this too. Raises `ArgumentError`.
        """
        with self._use() as cache:
            library().call("skv_cache_check", cache)

    @property
    def raw_bytes(self) -> int:
        """Bytes of the elements at 16 bits each: what ratios and budget fractions refer to."""
        out = c_uint64()
        with self._use() as cache:
            library().call("skv_cache_raw_bytes", cache, byref(out))
        return out.value

    @property
    def device(self) -> int:
        """Where its memory is: a CUDA ordinal, `DEVICE_CPU` for the host. Raises `ArgumentError` when it is in several."""
        devices = {plane.device for plane in self._planes.values()}
        if len(devices) > 1:
            raise ArgumentError(Status.E_ARGUMENT, f"planes on devices {sorted(devices)} (-1: host): wanted one")
        return next(iter(devices), DEVICE_CPU)

    @property
    def stream(self) -> int:
        """The stream on which the library that owns its memory works now, 0 for the default one."""
        return next((plane.stream for plane in self._planes.values()), 0)

    @property
    def writable(self) -> bool:
        """Whether all its memory may be written, so that it can be decoded into."""
        return self._writable and not any(plane.readonly for plane in self._planes.values())

    @property
    def blob(self) -> memoryview:
        """The llama.cpp state behind a cache of `to_llama` (complete once decoded) or `from_llama`."""
        if self._blob is None:
            raise ArgumentError(Status.E_ARGUMENT, "this cache is not a view of a llama.cpp state")
        return self._blob

    # ------------------------------------------------------------------------------------------------ builders

    @classmethod
    def from_arrays(
        cls,
        layers: Sequence[tuple[object, object | None]],
        *,
        layout: str = "thd",
        first_position: int = 0,
        tokens: int | None = None,
        blocks: Sequence[int] | Mapping[int, Sequence[int]] | None = None,
        dtype: DType | str | None = None,
        fingerprint: bytes | str | None = None,
        request_id: bytes | str | None = None,
        first_head: int = 0,
        can_mask: bool = False,
    ) -> Cache:
        """A view of one (K, V) pair of arrays a layer. Nothing is copied; strides are honoured.

        Args:
            layers: (k, v) of each layer; v None where a layer has no V. Anything `spectrumkv.buffers.describe` takes.
            layout: the order of each array's axes, one letter an axis: ``t`` token, ``h`` kv-head, ``d`` channel, ``b``.
                ``"thd"`` [tokens, heads, dim]; ``"htd"``; ``"bhtd"`` [1, heads, tokens, dim] as in transformers;
                ``"td"`` one head. With ``blocks``, ``b`` is the block and ``t`` the token in the block: ``"bthd"`` pages
                [blocks, block_tokens, heads, dim], ``"bhtd"`` head-major pages, ``"bhdt"`` transposed ones.
            first_position: of token 0, counted from the first token of the sequence.
            tokens: how many leading tokens belong to the view; all by default, with ``blocks`` it must be given.
            blocks: block table for all layers, or one for each layer index.
            dtype: overrides the arrays' element type (bfloat16 kept in uint16).
            fingerprint, request_id: see `set_identity`.
            first_head: see `set_first_head`.
            can_mask: the engine behind this cache can mask dropped tokens.

        Raises:
            ArgumentError: a shape or dtype that does not fit.
            ResourceError: memory of a device that is neither the host nor CUDA.
        """
        if blocks is not None and tokens is None:
            raise ArgumentError(Status.E_ARGUMENT, "blocks without tokens: wanted the number of tokens in the blocks")
        cache = cls(len(layers))
        for index, pair in enumerate(layers):
            table = blocks[index] if isinstance(blocks, Mapping) else blocks
            cache._set_arrays(index, pair, layout, first_position, tokens, table, dtype)
        if first_head:
            cache.set_first_head(ALL, first_head)
        cache.set_identity(fingerprint, request_id)
        if can_mask:
            cache.set(CacheKey.CAN_MASK, 1)
        cache.check()
        return cache

    def _set_arrays(
        self,
        layer: int,
        pair: tuple[object, object | None],
        layout: str,
        first_position: int,
        tokens: int | None,
        blocks: Sequence[int] | None,
        dtype: DType | str | None,
    ) -> None:
        k = _Axes(pair[0], layout, blocks is not None, dtype, f"layer {layer} K")
        v = None if pair[1] is None else _Axes(pair[1], layout, blocks is not None, dtype, f"layer {layer} V")
        if v is not None and (k.heads, k.tokens, k.kv_dtype) != (v.heads, v.tokens, v.kv_dtype):
            raise ArgumentError(
                Status.E_ARGUMENT,
                f"layer {layer}: K has {k.tokens} tokens, {k.heads} heads, {k.kv_dtype.name};"
                f" V has {v.tokens}, {v.heads}, {v.kv_dtype.name}: wanted the same",
            )
        count = k.tokens if tokens is None else tokens
        if blocks is None and count > k.tokens:
            raise ArgumentError(Status.E_RANGE, f"layer {layer}: {count} tokens asked for, the arrays have {k.tokens}")
        self.set_tokens(layer, first_position, count)
        self.set_layer(layer, k.heads, k.dim, 0 if v is None else v.dim, k.kv_dtype)
        for half, axes in ((Half.K, k), (Half.V, v)):
            if axes is not None:
                self.set_plane(
                    layer,
                    half,
                    axes.buffer,
                    stride_block=axes.stride["b"],
                    stride_token=axes.stride["t"],
                    stride_head=axes.stride["h"],
                    stride_elem=axes.stride["d"],
                )
        if blocks is not None:
            self.set_blocks(layer, blocks, k.tokens)

    @classmethod
    def from_llama(cls, blob: object, heads: int | Sequence[int], layers: int | None = None) -> Cache:
        """A view, for reading, of a llama.cpp sequence state (``llama_state_seq_get_data``).

        Args:
            blob: contiguous bytes, kept alive by the view.
            heads: kv-heads of each layer in blob order (a sliding-window model's full-attention cache first), or one
                number for ``layers`` equal ones.
            layers: with one number of heads, how many layers.

        Raises:
            PayloadError: not such a state. VersionError: quantized or unknown types. ArgumentError: heads do not fit.
        """
        if isinstance(heads, int):
            if layers is None:
                raise ArgumentError(
                    Status.E_ARGUMENT, "one number of heads without layers: wanted both, or a list of heads"
                )
            heads = [heads] * layers
        elif layers is not None and layers != len(heads):
            raise ArgumentError(Status.E_RANGE, f"{len(heads)} numbers of heads for {layers} layers")
        memory = describe_bytes(blob)
        counts = (c_int32 * len(heads))(*heads)
        handle = CACHE()
        library().call(
            "skv_cache_from_llama", c_void_p(memory.pointer), memory.nbytes, counts, len(heads), byref(handle)
        )
        cache = cls.__new__(cls)
        cache._adopt(handle)
        cache._planes[ALL, 0] = memory
        cache._writable = False
        cache._blob = memory.memory()
        return cache

    @classmethod
    def to_llama(
        cls,
        payload: Payload,
        v_trans: int,
        dtype: DType | str = DType.F16,
        *,
        fingerprint: bytes | str | None = None,
        out: object | None = None,
    ) -> Cache:
        """A destination whose decoding completes a blob that ``llama_state_seq_set_data`` accepts, found in `blob`.

        Args:
            payload: what will be decoded; its geometry frames the blob.
            v_trans: 0 for a context with flash attention, 1 without.
            dtype: element type of the context's cache.
            fingerprint: the model served here; decoding refuses a payload of another one. None: all zero.
            out: writable contiguous memory of at least `llama_blob_bytes` bytes; by default an `aligned_bytearray`.

        Raises:
            IdentityError: not the shape of a llama.cpp cache. ResourceError: ``out`` is too small.
        """
        kind = to_dtype(dtype)
        size = cls.llama_blob_bytes(payload, v_trans, kind)
        target = aligned_bytearray(size) if out is None else out
        memory = describe_bytes(target, writable=True)
        handle = CACHE()
        with payload._use() as source:
            library().call(
                "skv_cache_to_llama",
                source,
                v_trans,
                kind,
                id_bytes(fingerprint, FINGERPRINT_BYTES, "fingerprint"),
                c_void_p(memory.pointer),
                memory.nbytes,
                byref(handle),
            )
        cache = cls.__new__(cls)
        cache._adopt(handle)
        cache._planes[ALL, 0] = memory
        cache._blob = memory.memory()[:size]
        return cache

    @staticmethod
    def llama_blob_bytes(payload: Payload, v_trans: int, dtype: DType | str = DType.F16) -> int:
        """Bytes of the blob that holds a payload's cells."""
        out = c_uint64()
        with payload._use() as source:
            library().call("skv_llama_blob_bytes", source, v_trans, to_dtype(dtype), byref(out))
        return out.value


class _Axes:
    """An array's axes by letter."""

    def __init__(self, array: object, layout: str, paged: bool, dtype: DType | str | None, what: str) -> None:
        wanted = {"t", "d"} | ({"b"} if paged else set())
        if len(set(layout)) != len(layout) or not wanted <= set(layout) <= set("bthd"):
            raise ArgumentError(
                Status.E_ARGUMENT,
                f"layout {layout!r}: wanted each of {''.join(sorted(wanted))} once, and of bthd at most once",
            )
        buffer = describe(array, on_device=True)
        if dtype is not None:
            buffer = buffer.as_dtype(to_dtype(dtype))
        if len(buffer.shape) != len(layout):
            raise ArgumentError(
                Status.E_ARGUMENT, f"{what} of shape {buffer.shape}: wanted {len(layout)} axes, {layout!r}"
            )
        size = {"b": 1, "h": 1, **dict(zip(layout, buffer.shape))}
        self.stride = {"b": 0, **dict(zip(layout, buffer.strides))}
        self.stride.setdefault("h", size["d"] * buffer.itemsize)
        if not paged and size["b"] != 1:
            raise ArgumentError(
                Status.E_ARGUMENT, f"{what}: {size['b']} sequences in the batch axis, wanted 1 (or blocks)"
            )
        self.buffer = buffer
        self.kv_dtype = buffer.kv_dtype
        self.tokens, self.heads, self.dim = size["t"], size["h"], size["d"]
