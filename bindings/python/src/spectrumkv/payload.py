# SPDX-License-Identifier: Apache-2.0
"""Payloads (the encoded bytes) and receipts (what was done)."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import weakref
from ctypes import byref, c_int64, c_size_t, c_uint8, c_void_p, sizeof
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from spectrumkv._abi import PAYLOAD, library, skv_receipt
from spectrumkv._handle import Handle
from spectrumkv.buffers import Buffer, describe_bytes
from spectrumkv.constants import (
    ALL,
    FINGERPRINT_BYTES,
    REQUEST_ID_BYTES,
    Code,
    DType,
    Half,
    PayloadKey,
    Plane,
    Proof,
    Scored,
    Tier,
    Transform,
    Verdict,
)

if TYPE_CHECKING:
    from spectrumkv.cache import Cache
    from spectrumkv.plan import Plan


@dataclass(frozen=True)
class Receipt:
    """What was done. Times are nanoseconds, and 0 where the step did not happen in this process.

    Attributes:
        scored: origin of the plan's scores.
        raw_bytes: at 16 bits an element.
        budget_bytes: asked for; 0 when the strategy takes none.
        payload_bytes: achieved, everything counted.
        ratio: payload_bytes / raw_bytes.
        k_rows, v_rows: rows (tokens x layers) by tier.
        score_ns, plan_ns, encode_ns, decode_ns: scoring, allocation, encoding, decoding.
        wire_ns: from acceptance to the end, of the request that moved the payload.
        plane: what moved it.
        code: the quantizer.
        break_even_bits_per_s: link speed above which raw is faster; 0 when unknown.
        int4: verdict on tiers below 8 bits, of the profile or logit probe that was asked.
        proof: who allowed them.
        predicted_kl: nats, with a calibrated profile; else 0.
        worst_snr_db, worst_layer, worst_head: the logit probe's worst head at 4 bits; layer -1 when not probed.
        escalated_layers: layers whose keys the probe raised to 8 bits.
        raw_is_faster: whether the link measured was faster than break-even; None when unknown.
        dropped_rows: K and V rows not sent.
        k_mass, v_mass: attention of the queries by the tier of the tokens' K and V rows; empty without queries.
        link_bits_per_s: payload bits over wire time; 0 when not sent here.
        unpacked_bytes: of the payload before it was packed; 0: not packed.
        cut_layers: layers cut because they would have been late; `Segment.cut` says to what.
    """

    scored: Scored
    raw_bytes: int
    budget_bytes: int
    payload_bytes: int
    ratio: float
    k_rows: dict[Tier, int]
    v_rows: dict[Tier, int]
    score_ns: int
    plan_ns: int
    encode_ns: int
    decode_ns: int
    wire_ns: int
    plane: Plane
    code: Code
    break_even_bits_per_s: float
    int4: Verdict
    proof: Proof
    predicted_kl: float
    worst_snr_db: float
    worst_layer: int
    worst_head: int
    escalated_layers: int
    raw_is_faster: bool | None
    dropped_rows: int
    k_mass: dict[Tier, float]
    v_mass: dict[Tier, float]
    link_bits_per_s: float
    unpacked_bytes: int
    cut_layers: int


@dataclass(frozen=True)
class Segment:
    """One layer of a payload; bytes and offset are of its segment in the payload. ``cut``: the tier that it was cut to because it
    would have been late."""

    layer: int
    offset: int
    nbytes: int
    raw_bytes: int
    tokens: int
    first_position: int
    heads: int
    first_head: int
    k_dim: int
    v_dim: int
    dtype: DType
    raw_dtype: DType
    chunk: int
    code: Code
    k_transforms: Transform
    v_transforms: Transform
    group: int
    cut: Tier | None


class Payload(Handle):
    """The encoded bytes, self-describing. Made by `Engine.encode`, `Payload.create`, `Payload.open` or a request."""

    def __init__(self, handle: Any, buffer: object | None) -> None:
        super().__init__(handle, library().dll.skv_payload_destroy)
        self._buffer = buffer  # memory of somebody else's that the payload reads

    @classmethod
    def open(cls, data: object) -> Payload:
        """Opens contiguous bytes as a payload. They are not copied, but kept alive; do not change them.

        Safe on untrusted bytes: header, lengths, maps and fields are checked here, digests when decoding or by `verify`.

        Raises:
            PayloadError, VersionError, ChecksumError (of the header).
        """
        memory = describe_bytes(data)
        handle = PAYLOAD()
        library().call("skv_payload_open", c_void_p(memory.pointer), memory.nbytes, byref(handle))
        return cls(handle, memory)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Payload:
        """Opens a file's bytes."""
        return cls.open(read_file(path))

    def save(self, path: str | PathLike[str]) -> int:
        """Writes the bytes to a file, whole or not at all, and returns how many they are."""
        target = Path(path)
        part = target.with_name(f"{target.name}.{os.getpid()}.part")
        try:
            size = part.write_bytes(self.data)
            part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return size

    @classmethod
    def create(cls, cache: Cache, plan: Plan, *, out: object | None = None) -> Payload:
        """An empty payload for a solved plan, to be filled by `Engine.encode_layer`, readable once every layer is in.

        ``out`` is writable, 16-byte aligned memory of at least ``plan.nbytes`` bytes; by default the payload owns it.
        """
        memory: Buffer | None = None if out is None else describe_bytes(out, writable=True, on_device=plan._device >= 0)
        handle = PAYLOAD()
        with cache._use() as view, plan._use() as solved:
            pointer, size = (None, 0) if memory is None else (c_void_p(memory.pointer), memory.nbytes)
            library().call("skv_payload_create", view, solved, pointer, size, byref(handle))
        return cls(handle, memory)

    def verify(self) -> None:
        """Checks every segment's digest. Raises `ChecksumError`."""
        with self._use() as payload:
            library().call("skv_payload_verify", payload)

    def apply(self, upgrade: Payload) -> Payload:
        """This payload with an upgrade of it: a new one in host memory, which may be upgraded again.

        Raises:
            IdentityError: an upgrade of another payload (status E_BASE).
            ChecksumError, PayloadError: damaged bytes.
            StateError: not a payload and an upgrade.
        """
        handle = PAYLOAD()
        with self._use() as base, upgrade._use() as added:
            library().call("skv_payload_apply", base, added, byref(handle))
        return Payload(handle, None)

    def truncate(self, plan: Plan) -> Payload:
        """This payload at the tiers of a plan that `Plan.truncate` solved for it: a new one in host memory.

        Raises:
            StateError: the plan was not solved by `Plan.truncate`.
            IdentityError: solved for another payload (status E_BASE).
        """
        handle = PAYLOAD()
        with self._use() as whole, plan._use() as solved:
            library().call("skv_payload_truncate", whole, solved, byref(handle))
        return Payload(handle, None)

    @property
    def upgrade(self) -> bool:
        """Whether it is an upgrade, which `apply` takes and nothing decodes."""
        return self.get(PayloadKey.UPGRADE) == 1

    @property
    def device(self) -> int:
        """Where the bytes are: a CUDA ordinal, `DEVICE_CPU` for the host."""
        return self.get(PayloadKey.DEVICE)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """The bytes of a payload in device memory, for ``torch.as_tensor(payload, device="cuda")``, CuPy and numba."""
        if self.device < 0:
            raise AttributeError("the payload is in host memory")
        pointer, size = c_void_p(), c_size_t()
        with self._use() as payload:
            library().call("skv_payload_data", payload, byref(pointer), byref(size))
        return {"shape": (size.value,), "typestr": "|u1", "data": (pointer.value, False), "version": 3, "stream": None}

    @property
    def data(self) -> memoryview:
        """The bytes, read-only: the payload's own, valid even after `close`; from device memory a copy."""
        if self.device >= 0:
            copy = bytearray(self.nbytes)
            with self._use() as payload:
                room = (c_uint8 * len(copy)).from_buffer(copy)
                library().call("skv_payload_copy", payload, room, len(copy))
            return memoryview(copy).toreadonly()
        pointer, size = c_void_p(), c_size_t()
        handle = self._owned.acquire()
        try:
            library().call("skv_payload_data", handle, byref(pointer), byref(size))
        except BaseException:
            self._owned.release()
            raise
        block = (c_uint8 * size.value).from_address(pointer.value or 0)
        # The view holds the block; the block's end releases this payload and the memory it reads.
        weakref.finalize(block, _end_of_view, self._owned, self._buffer)
        return memoryview(block).cast("B").toreadonly()

    def __bytes__(self) -> bytes:
        return self.data.tobytes()

    def __len__(self) -> int:
        return self.nbytes

    @property
    def identity(self) -> tuple[bytes, bytes]:
        """(fingerprint, request_id): 32 and 16 bytes."""
        fingerprint, request_id = (c_uint8 * FINGERPRINT_BYTES)(), (c_uint8 * REQUEST_ID_BYTES)()
        with self._use() as payload:
            library().call("skv_payload_identity", payload, fingerprint, request_id)
        return bytes(fingerprint), bytes(request_id)

    def get(self, key: PayloadKey, layer: int = ALL) -> int:
        """A fact about the payload (``layer`` `ALL`) or one segment. Raises `ArgumentError`."""
        out = c_int64()
        with self._use() as payload:
            library().call("skv_payload_get", payload, layer, key, byref(out))
        return out.value

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.get(PayloadKey.BYTES)

    @property
    def raw_bytes(self) -> int:
        """Size of the same elements at 16 bits each."""
        return self.get(PayloadKey.RAW_BYTES)

    @property
    def layers(self) -> int:
        """Number of segments."""
        return self.get(PayloadKey.LAYERS)

    @property
    def tokens(self) -> int:
        """The most tokens of any segment."""
        return self.get(PayloadKey.TOKENS)

    @property
    def wire_version(self) -> tuple[int, int]:
        """Format of these bytes, (major, minor)."""
        value = self.get(PayloadKey.WIRE)
        return value >> 8, value & 255

    def segment(self, layer: int) -> Segment:
        """Facts about one layer."""
        get = self.get
        return Segment(
            layer=layer,
            offset=get(PayloadKey.OFFSET, layer),
            nbytes=get(PayloadKey.BYTES, layer),
            raw_bytes=get(PayloadKey.RAW_BYTES, layer),
            tokens=get(PayloadKey.TOKENS, layer),
            first_position=get(PayloadKey.POSITION, layer),
            heads=get(PayloadKey.HEADS, layer),
            first_head=get(PayloadKey.FIRST_HEAD, layer),
            k_dim=get(PayloadKey.K_DIM, layer),
            v_dim=get(PayloadKey.V_DIM, layer),
            dtype=DType(get(PayloadKey.DTYPE, layer)),
            raw_dtype=DType(get(PayloadKey.RAW_DTYPE, layer)),
            chunk=get(PayloadKey.CHUNK, layer),
            code=Code(get(PayloadKey.CODE, layer)),
            k_transforms=Transform(get(PayloadKey.K_TRANSFORMS, layer)),
            v_transforms=Transform(get(PayloadKey.V_TRANSFORMS, layer)),
            group=get(PayloadKey.GROUP, layer),
            cut=Tier(cut) if (cut := get(PayloadKey.CUT, layer)) else None,
        )

    def tiers(self, layer: int, half: Half) -> bytes:
        """The tiers of a segment's K or V, one byte (a `Tier`) a token."""
        tokens = self.get(PayloadKey.TOKENS, layer)
        out = (c_uint8 * tokens)()
        with self._use() as payload:
            library().call("skv_payload_get_tiers", payload, layer, half, out, tokens)
        return bytes(out)

    def receipt(self) -> Receipt:
        """What was done so far: after encoding, after a transfer, after decoding."""
        raw = skv_receipt(struct_size=sizeof(skv_receipt))
        with self._use() as payload:
            library().call("skv_payload_receipt", payload, byref(raw))
        return Receipt(
            scored=Scored(raw.scored),
            raw_bytes=raw.raw_bytes,
            budget_bytes=raw.budget_bytes,
            payload_bytes=raw.payload_bytes,
            ratio=raw.ratio,
            k_rows={tier: raw.k_rows[tier] for tier in Tier},
            v_rows={tier: raw.v_rows[tier] for tier in Tier},
            score_ns=raw.score_ns,
            plan_ns=raw.plan_ns,
            encode_ns=raw.encode_ns,
            decode_ns=raw.decode_ns,
            wire_ns=raw.wire_ns,
            plane=Plane(raw.plane),
            code=Code(raw.code),
            break_even_bits_per_s=raw.break_even_bits_per_s,
            int4=Verdict(raw.int4),
            proof=Proof(raw.proof),
            predicted_kl=raw.predicted_kl,
            worst_snr_db=raw.worst_snr_db,
            worst_layer=raw.worst_layer,
            worst_head=raw.worst_head,
            escalated_layers=raw.escalated_layers,
            raw_is_faster=None if raw.raw_is_faster < 0 else bool(raw.raw_is_faster),
            dropped_rows=raw.dropped_rows,
            k_mass={tier: raw.k_mass[tier] for tier in Tier if raw.k_mass[tier]},
            v_mass={tier: raw.v_mass[tier] for tier in Tier if raw.v_mass[tier]},
            link_bits_per_s=raw.link_bits_per_s,
            unpacked_bytes=raw.unpacked_bytes,
            cut_layers=raw.cut_layers,
        )


def _end_of_view(owned: Any, _buffer: object) -> None:
    owned.release()


_HUGE_PAGE: Final = 2 << 20
_LEAST_MAPPED: Final = 32 << 20
"""As in src/payload_memory.cc: a larger bytearray is made of pages of 4 KiB never touched before, at 2 us each."""


def aligned_bytearray(size: int, alignment: int = 16) -> memoryview:
    """Writable memory of ``size`` zero bytes at an aligned address, for `Engine.encode`, `Request.accept` and
    `Cache.to_llama`; from 32 MiB on in huge pages, where the kernel has them."""
    if size < _LEAST_MAPPED:
        store: bytearray | mmap.mmap = bytearray(size + alignment)
    else:
        alignment = max(alignment, _HUGE_PAGE)
        store = mmap.mmap(-1, size + alignment, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with contextlib.suppress(OSError):  # of a kernel without them
            store.madvise(mmap.MADV_HUGEPAGE)
    start = -ctypes.addressof(ctypes.c_char.from_buffer(store)) % alignment
    return memoryview(store)[start : start + size]


def read_file(path: str | PathLike[str]) -> memoryview:
    """A file's bytes in an `aligned_bytearray`: large ones in a quarter of the time that ``read_bytes`` takes, which writes
    to every page of 4 KiB for the first time (docs/results/performance.md)."""
    with Path(path).open("rb", buffering=0) as file:
        memory = aligned_bytearray(os.fstat(file.fileno()).st_size)
        done = 0
        while done < len(memory) and (count := file.readinto(memory[done:])):
            done += count
        rest = file.read()  # of a pipe, or one that grew
    return memoryview(bytes(memory[:done]) + rest) if rest else memory[:done]
