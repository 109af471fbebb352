# SPDX-License-Identifier: Apache-2.0
"""The engine: a device with its threads, which scores, encodes and decodes."""

from __future__ import annotations

from ctypes import byref, c_int64, c_void_p, create_string_buffer
from typing import TYPE_CHECKING, Final

from spectrumkv._abi import ENGINE, PAYLOAD, library
from spectrumkv._handle import Handle
from spectrumkv.buffers import describe_bytes
from spectrumkv.constants import DEVICE_CPU, EngineKey, Status, Target
from spectrumkv.errors import ArgumentError
from spectrumkv.payload import Payload
from spectrumkv.plan import need_device

if TYPE_CHECKING:
    from spectrumkv.cache import Cache
    from spectrumkv.plan import Plan, Scores


class Engine(Handle):
    """A device with its threads and scratch. Its kernels are chosen once.

    Args:
        device: `DEVICE_CPU` (the default), or a CUDA ordinal: the engine then works on tensors of that device, on the
            stream that is current in the library that owns them (torch, CuPy), and its payloads stay there.
        threads: worker threads including the caller's, 1 … 256; 0: one a core, at most 8.
        target: pin the instruction set; `Target.AUTO` takes the best of this CPU (or ``SPECTRUMKV_TARGET``).

    Raises:
        ResourceError: no such device, or a target that this CPU lacks.

    One call at a time per engine; distinct engines are independent.
    """

    def __init__(self, device: int = DEVICE_CPU, *, threads: int = 0, target: Target = Target.AUTO) -> None:
        lib = library()
        handle = ENGINE()
        lib.call("skv_engine_create", device, byref(handle))
        super().__init__(handle, lib.dll.skv_engine_destroy)
        self.device: Final = device
        if threads:
            self.set(EngineKey.THREADS, threads)
        if target:
            self.set(EngineKey.TARGET, target)

    def set(self, key: EngineKey, value: int) -> None:
        """Sets an option."""
        with self._use() as engine:
            library().call("skv_engine_set", engine, key, value)

    def get(self, key: EngineKey) -> int:
        """An option's value in force."""
        out = c_int64()
        with self._use() as engine:
            library().call("skv_engine_get", engine, key, byref(out))
        return out.value

    @property
    def threads(self) -> int:
        """Worker threads, the caller's included."""
        return self.get(EngineKey.THREADS)

    @property
    def target(self) -> Target:
        """The instruction set in use."""
        return Target(self.get(EngineKey.TARGET))

    def describe(self) -> str:
        """A line such as ``"cpu avx512 2 threads"``."""
        text = create_string_buffer(256)
        with self._use() as engine:
            library().call("skv_engine_describe", engine, text, len(text))
        return text.value.decode()

    def score(self, cache: Cache, scores: Scores) -> Scores:
        """Computes every weight that the caller did not give, from the queries set, else from keys and values.

        Returns ``scores``. Raises `ArgumentError` (view, queries that do not fit), `NonFiniteError`. A CUDA engine reads
        on the legacy default stream: other streams' writes must have ended.
        """
        need_device(self.device, cache)
        with self._use() as engine, cache._use() as view, scores._use() as target:
            library().call("skv_score", engine, view, target)
        return scores

    def encode(self, cache: Cache, plan: Plan, *, out: object | None = None, stream: int | None = None) -> Payload:
        """Encodes the whole cache by a solved plan.

        Args:
            out: writable, 16-byte aligned memory of at least ``plan.nbytes`` bytes to encode into, on the engine's device.
                The payload keeps it alive. By default the payload owns its bytes.
            stream: a ``cudaStream_t`` as a number; by default the one current in the library that owns the cache's
                memory. The call is ordered on it and returns when the payload is complete.

        Raises:
            StateError: the plan is not solved.
            IdentityError: the cache is not the one that the plan was solved for.
            NonFiniteError: Inf, NaN or too large values in a row that would be quantized.
            ResourceError: ``out`` is too small, or no memory.
        """
        on = self._stream(cache, stream)
        handle = PAYLOAD()
        with self._use() as engine, cache._use() as view, plan._use() as solved:
            if out is None:
                library().call("skv_encode", engine, view, solved, on, byref(handle))
                return Payload(handle, None)
            memory = describe_bytes(out, writable=True, on_device=self.device >= 0)
            library().call(
                "skv_encode_into", engine, view, solved, on, c_void_p(memory.pointer), memory.nbytes, byref(handle)
            )
            return Payload(handle, memory)

    def encode_layer(
        self, cache: Cache, plan: Plan, layer: int, payload: Payload, *, stream: int | None = None
    ) -> None:
        """Encodes one layer into its place in a payload of `Payload.create`, while other layers are still computed."""
        on = self._stream(cache, stream)
        with self._use() as engine, cache._use() as view, plan._use() as solved, payload._use() as target:
            library().call("skv_encode_layer", engine, view, solved, layer, on, target)

    def pack(self, payload: Payload) -> Payload:
        """The same payload packed: without loss 6 to 16 % fewer bytes, for slow links. Used like any other; in host memory.

        Raises:
            StateError: layers are missing, or it is packed already.
        """
        handle = PAYLOAD()
        with self._use() as engine, payload._use() as source:
            library().call("skv_payload_pack", engine, source, byref(handle))
        return Payload(handle, None)

    def encode_upgrade(self, cache: Cache, base: Payload, plan: Plan) -> Payload:
        """What a plan solved by `Plan.upgrade` adds to the base: a payload of the raised rows' new planes, in host memory.

        The cache must still hold what the base was encoded from: every raised row is compared with the base's.

        Raises:
            StateError: the plan was not solved by `Plan.upgrade`.
            IdentityError: solved for another payload, or a row of the cache changed (status E_BASE); or another cache.
            NonFiniteError: Inf, NaN or too large values in a row that was dropped and would be quantized.
        """
        need_device(self.device, cache)
        handle = PAYLOAD()
        with self._use() as engine, cache._use() as view, base._use() as payload, plan._use() as solved:
            library().call("skv_encode_upgrade", engine, view, payload, solved, byref(handle))
        return Payload(handle, None)

    def open(self, data: object) -> Payload:
        """Opens contiguous bytes on the engine's device (CUDA memory for a CUDA engine) as a payload, as `Payload.open`
        does with the host's. They must be complete; they are not copied, but kept alive.
        """
        memory = describe_bytes(data, on_device=self.device >= 0)
        handle = PAYLOAD()
        with self._use() as engine:
            library().call("skv_payload_open_on", engine, c_void_p(memory.pointer), memory.nbytes, byref(handle))
        return Payload(handle, memory)

    def decode(self, payload: Payload, cache: Cache, *, stream: int | None = None) -> None:
        """Decodes every layer into the cache, whose layout, block size, dtype and head range may differ.
        ``stream`` is as for `encode`.

        Digests, identity, geometry and view are checked before the first byte is written; on any error the
        destination is untouched.

        Raises:
            ArgumentError: the view, or read-only memory.
            IdentityError: another model, request or shape.
            ChecksumError: damaged bytes.
            BudgetError: the payload drops tokens and the cache cannot mask them.
        """
        self._need_writable(cache)
        on = self._stream(cache, stream)
        with self._use() as engine, payload._use() as source, cache._use() as view:
            library().call("skv_decode", engine, source, view, on)

    def decode_layer(self, payload: Payload, cache: Cache, layer: int, *, stream: int | None = None) -> None:
        """`decode` for one layer."""
        self._need_writable(cache)
        on = self._stream(cache, stream)
        with self._use() as engine, payload._use() as source, cache._use() as view:
            library().call("skv_decode_layer", engine, source, view, layer, on)

    def _stream(self, cache: Cache, stream: int | None) -> c_void_p:
        need_device(self.device, cache)
        if self.device < 0:
            return c_void_p(stream)
        return c_void_p(cache.stream if stream is None else stream)

    @staticmethod
    def _need_writable(cache: Cache) -> None:
        if not cache.writable:
            raise ArgumentError(
                Status.E_ARGUMENT, "the cache views read-only memory: wanted memory that can be written"
            )
