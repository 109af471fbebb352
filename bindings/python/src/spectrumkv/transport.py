# SPDX-License-Identifier: Apache-2.0
"""Transport: a local endpoint, its conns to peers, and requests (one asynchronous operation each).

URIs: ``inproc://NAME``, ``unix:///PATH`` or ``unix://@NAME``, ``tcp://HOST:PORT`` (port 0: any). Timeouts are seconds
from now; there is no call without one. All objects here may be used from several threads at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import warnings
import weakref
from collections.abc import Iterable, Mapping
from ctypes import addressof, byref, c_int32, c_int64, c_size_t, c_uint8, c_void_p, create_string_buffer, sizeof
from dataclasses import dataclass
from typing import Any, Final

from spectrumkv._abi import CONN, ENDPOINT, PAYLOAD, REQUEST, library, skv_endpoint_stats, skv_event
from spectrumkv._handle import Handle
from spectrumkv.buffers import describe_bytes, id_bytes
from spectrumkv.constants import (
    FINGERPRINT_BYTES,
    REQUEST_ID_BYTES,
    ConnKey,
    EndpointKey,
    EventKind,
    Plane,
    RequestKey,
    RequestState,
    Security,
    Status,
)
from spectrumkv.errors import SpectrumKVError, TransportTimeoutError
from spectrumkv.payload import Payload

DEFAULT_TIMEOUT: Final = 30.0
"""Seconds, where the caller says nothing."""

# Blocking calls return to Python this often, so that signals (Ctrl-C) are handled. Seconds.
_SLICE: Final = 0.2

# How long a dropped request may take to let go of its memory after its cancellation. Seconds.
_REAP: Final = 2.0


@dataclass(frozen=True)
class EndpointStats:
    """Counters: handshakes, transfers by outcome, payload bytes, errors; and what is now (see ``spectrumkv.h``).

    The histograms are powers of two: item i counts 2**i <= value < 2**(i + 1). ``time_log2`` and ``queue_log2`` are in
    microseconds.
    """

    conns: int
    handshakes_ok: int
    handshakes_failed: int
    sent_ok: int
    received_ok: int
    failed: int
    bytes_sent: int
    bytes_received: int
    protocol_errors: int
    checksum_errors: int
    auth_errors: int
    handshakes_refused: int
    handshakes_pending: int
    cancelled: int
    timed_out: int
    peer_lost: int
    rejected: int
    no_resource: int
    sending: int
    receiving: int
    offers_waiting: int
    credit_held: int
    credit_stalls: int
    events_lost: int
    time_log2: tuple[int, ...]
    queue_log2: tuple[int, ...]
    bytes_log2: tuple[int, ...]


@dataclass(frozen=True)
class Event:
    """What happened at an endpoint. ``time_ns`` is of the monotonic clock; ``transfer`` 0: about the conn."""

    time_ns: int
    kind: EventKind
    status: Status
    conn: int
    transfer: int
    key: int
    bytes: int
    duration_ns: int
    sending: bool


@dataclass(frozen=True)
class Certificates:
    """PEM files: this end's chain and key, and the authority that must have signed the peer's.

    peer_name: what the peer's certificate must be for. By default the host of the URI when connecting, anything the authority
    signed when accepting.
    """

    certificate: str | os.PathLike[str]
    key: str | os.PathLike[str]
    authority: str | os.PathLike[str]
    peer_name: str | None = None


class Endpoint(Handle):
    """A local end: listens, connects, and carries requests.

    Args:
        model: fingerprint (32 bytes, or hexadecimal) of the model served here. Two ends whose fingerprints differ refuse
            each other with `IdentityError`. None: all zero.
        progress_thread: whether an own thread moves the bytes (default); else call `progress`.
        max_payload: bytes; larger offers are rejected (default 8 GiB).
        max_conns: default 1024.
        handshake_timeout: seconds (default 5).
        heartbeat: seconds between pings; a peer silent for three of them is lost (default 1).
        chunk: bytes of a data frame, 4 KiB … 1 MiB (default 256 KiB).
        allow_open_tcp: permit listening on a non-loopback address although nothing authenticates peers.
        psk: a shared key of 16 … 1024 random bytes for TCP and Unix conns; bytes travel in the clear.
        tls_psk: the same, with TLS 1.3 on TCP.
        tls: certificates for TCP conns, `Certificates`.
        peer_uid: user id that Unix peers may have besides this process's own and root.
        events: records kept for `events` (default 1024).
        max_handshakes, handshake_rate: peers in their handshake at once (default 128), and a second (default 1000).
        transfer_credit: bytes a sender may have under way in one transfer (default 32 MiB).
        credit: the same for all transfers to this endpoint together (default 256 MiB).
        planes: what conns may move payloads on; two ends take the first of NCCL, UCX, INLINE that both have. One alone forces
            it (default: INLINE, the control stream's own).
        libraries: paths that planes load in the place of the libraries they would look for.
        device: plane NCCL: the CUDA device that payloads are in and go to (default 0).
        abort_timeout: plane NCCL: seconds that ending an operation may take before its request ends as poisoned (default 5).

    Closing it closes every conn; live requests end as cancelled.
    """

    def __init__(
        self,
        *,
        model: bytes | str | None = None,
        progress_thread: bool = True,
        max_payload: int | None = None,
        max_conns: int | None = None,
        handshake_timeout: float | None = None,
        heartbeat: float | None = None,
        chunk: int | None = None,
        allow_open_tcp: bool = False,
        psk: bytes | None = None,
        tls_psk: bytes | None = None,
        tls: Certificates | None = None,
        peer_uid: int | None = None,
        max_handshakes: int | None = None,
        handshake_rate: int | None = None,
        events: int | None = None,
        transfer_credit: int | None = None,
        credit: int | None = None,
        planes: Iterable[Plane] | None = None,
        libraries: Mapping[Plane, str | os.PathLike[str]] | None = None,
        device: int | None = None,
        abort_timeout: float | None = None,
    ) -> None:
        lib = library()
        handle = ENDPOINT()
        lib.call("skv_endpoint_create", byref(handle))
        super().__init__(handle, lib.dll.skv_endpoint_destroy)
        self._requests: weakref.WeakValueDictionary[int, Request] = weakref.WeakValueDictionary()
        options = {
            EndpointKey.PROGRESS_THREAD: None if progress_thread else 0,
            EndpointKey.MAX_PAYLOAD: max_payload,
            EndpointKey.MAX_CONNS: max_conns,
            EndpointKey.HANDSHAKE_MS: None if handshake_timeout is None else round(handshake_timeout * 1000),
            EndpointKey.HEARTBEAT_MS: None if heartbeat is None else round(heartbeat * 1000),
            EndpointKey.CHUNK: chunk,
            EndpointKey.ALLOW_OPEN_TCP: 1 if allow_open_tcp else None,
            EndpointKey.PEER_UID: peer_uid,
            EndpointKey.MAX_HANDSHAKES: max_handshakes,
            EndpointKey.HANDSHAKE_RATE: handshake_rate,
            EndpointKey.EVENTS: events,
            EndpointKey.TRANSFER_CREDIT: transfer_credit,
            EndpointKey.CREDIT: credit,
            EndpointKey.PLANES: None if planes is None else sum({1 << plane for plane in planes}),
            EndpointKey.DEVICE: device,
            EndpointKey.ABORT_MS: None if abort_timeout is None else round(abort_timeout * 1000),
        }
        for key, value in options.items():
            if value is not None:
                self.set(key, value)
        if model is not None:
            self.set_model(model)
        if psk is not None:
            self.set_psk(Security.PSK, psk)
        if tls_psk is not None:
            self.set_psk(Security.TLS_PSK, tls_psk)
        if tls is not None:
            self.set_tls(tls)
        for plane, path in (libraries or {}).items():
            with self._use() as endpoint:
                lib.call("skv_endpoint_set_library", endpoint, plane, os.fsencode(path))

    def set_psk(self, security: Security, key: bytes) -> None:
        """A shared key, with `Security.PSK` or `Security.TLS_PSK`; before the first `listen` or `connect`."""
        with self._use() as endpoint:
            library().call(
                "skv_endpoint_set_psk", endpoint, security, (c_uint8 * len(key)).from_buffer_copy(key), len(key)
            )

    def set_tls(self, certificates: Certificates) -> None:
        """Certificates for TCP conns; before the first `listen` or `connect`. Raises `TransportError` for unusable files."""
        paths = [os.fsencode(p) for p in (certificates.certificate, certificates.key, certificates.authority)]
        name = None if certificates.peer_name is None else certificates.peer_name.encode()
        with self._use() as endpoint:
            library().call("skv_endpoint_set_tls", endpoint, *paths, name)

    def set(self, key: EndpointKey, value: int) -> None:
        """Sets an option, before the first `listen` or `connect`."""
        with self._use() as endpoint:
            library().call("skv_endpoint_set", endpoint, key, value)

    def set_model(self, fingerprint: bytes | str) -> None:
        """The model served here; before the first `listen` or `connect`."""
        with self._use() as endpoint:
            library().call("skv_endpoint_set_model", endpoint, id_bytes(fingerprint, FINGERPRINT_BYTES, "fingerprint"))

    def listen(self, uri: str) -> str:
        """Starts listening and returns the URI with the real port.

        Raises:
            TransportError: the address. BudgetError: non-loopback TCP without ``allow_open_tcp``.
        """
        bound = create_string_buffer(512)
        with self._use() as endpoint:
            library().call("skv_listen", endpoint, uri.encode(), bound, len(bound))
        return bound.value.decode()

    def accept(self, timeout: float = DEFAULT_TIMEOUT) -> Conn:
        """Waits for the next peer that finished its handshake. Raises `TransportTimeoutError`."""
        end = time.monotonic() + timeout
        with self._use() as endpoint:
            while True:
                left = end - time.monotonic()
                handle = CONN()
                try:
                    library().call("skv_accept", endpoint, library().deadline(min(left, _SLICE)), byref(handle))
                    return Conn(handle, self)
                except TransportTimeoutError:
                    if left <= _SLICE or self.closed:
                        raise

    def connect(self, uri: str, timeout: float = DEFAULT_TIMEOUT) -> Conn:
        """Connects and shakes hands.

        Raises:
            TransportError: address, timeout, peer lost, no spectrumkv there. VersionError, IdentityError: another
            version or model.
        """
        handle = CONN()
        with self._use() as endpoint:
            library().call("skv_connect", endpoint, uri.encode(), library().deadline(timeout), byref(handle))
        return Conn(handle, self)

    def fileno(self) -> int:
        """A descriptor that becomes readable when `poll` (or `progress`, without a progress thread) has something."""
        out = c_int32()
        with self._use() as endpoint:
            library().call("skv_endpoint_fd", endpoint, byref(out))
        return out.value

    def progress(self, timeout: float) -> bool:
        """Runs I/O until something completed (True) or the timeout passed (False). Without a progress thread only."""
        with self._use() as endpoint:
            return library().call("skv_endpoint_progress", endpoint, library().deadline(timeout)) == Status.OK

    def drain(self, timeout: float = DEFAULT_TIMEOUT) -> bool:
        """Stops listening and says goodbye to every peer; True once what is under way has ended, False: not in time."""
        end = time.monotonic() + timeout
        with self._use() as endpoint:
            while True:
                left = end - time.monotonic()
                if library().call("skv_endpoint_drain", endpoint, library().deadline(min(left, _SLICE))) == Status.OK:
                    return True
                if left <= _SLICE:
                    return False

    def poll(self, capacity: int = 64) -> list[Request]:
        """Requests that ended, or have an offer to decide on, since they were last reported. Never waits."""
        found = (REQUEST * capacity)()
        count = c_size_t()
        with self._use() as endpoint:
            library().call("skv_endpoint_poll", endpoint, found, capacity, byref(count))
        requests = (self._requests.get(_address(found[i])) for i in range(count.value))
        return [request for request in requests if request is not None]

    def stats(self) -> EndpointStats:
        """Counters so far."""
        raw = skv_endpoint_stats(struct_size=sizeof(skv_endpoint_stats))
        with self._use() as endpoint:
            library().call("skv_endpoint_get_stats", endpoint, byref(raw))
        values: dict[str, Any] = {name: getattr(raw, name) for name in EndpointStats.__dataclass_fields__}
        for name in ("time_log2", "queue_log2", "bytes_log2"):
            values[name] = tuple(values[name])
        return EndpointStats(**values)

    def events(self, capacity: int = 1024) -> list[Event]:
        """What happened since the last call, oldest first; `EndpointStats.events_lost` counts what came too late."""
        found = (skv_event * capacity)()
        count = c_size_t()
        with self._use() as endpoint:
            library().call("skv_endpoint_events", endpoint, found, capacity, byref(count))
        return [
            Event(
                raw.time_ns,
                EventKind(raw.kind),
                Status(raw.status),
                raw.conn,
                raw.transfer,
                raw.key,
                raw.bytes,
                raw.duration_ns,
                raw.sending != 0,
            )
            for raw in found[: count.value]
        ]


class Conn(Handle):
    """One peer. Made by `Endpoint.accept` and `Endpoint.connect`; keeps its endpoint alive.

    Closing it says goodbye; its live requests end as cancelled here, and as peer lost or cancelled there.
    """

    def __init__(self, handle: Any, endpoint: Endpoint) -> None:
        super().__init__(handle, library().dll.skv_conn_destroy)
        self.endpoint = endpoint

    def get(self, key: ConnKey) -> int:
        """A fact about the conn."""
        out = c_int64()
        with self._use() as conn:
            library().call("skv_conn_get", conn, key, byref(out))
        return out.value

    @property
    def plane(self) -> Plane:
        """What carries the bytes."""
        return Plane(self.get(ConnKey.PLANE))

    @property
    def security(self) -> Security:
        """How the peer proved who it is."""
        return Security(self.get(ConnKey.SECURITY))

    @property
    def is_open(self) -> bool:
        """Whether the conn is usable."""
        return self.get(ConnKey.OPEN) != 0

    @property
    def peer_version(self) -> int:
        """The peer's library version, major * 10000 + minor * 100 + patch."""
        return self.get(ConnKey.PEER_VERSION)

    def set_communicator(self, communicator: int, *, sending: bool) -> None:
        """Plane NCCL: lends an ``ncclComm_t`` (its address) of two ranks for the payloads of one direction.

        Both ends lend one, before the first transfer. It must stay until the conn is closed; it is never destroyed here.

        Raises:
            StateError: another plane, or too late. ArgumentError: not two ranks, another device.
        """
        with self._use() as conn:
            library().call("skv_conn_set_communicator", conn, c_void_p(communicator), 1 if sending else 0)

    def send(self, key: int, payload: Payload, timeout: float = DEFAULT_TIMEOUT) -> Request:
        """Offers a payload under a key of the caller's choice, and sends it once the peer accepts.

        The request keeps the payload's bytes alive; the payload object may be dropped or closed at once. Keep the request:
        one that is dropped while live is cancelled.

        Raises:
            StateError: closed, or the payload is incomplete. TransportError: the timeout is not positive.
        """
        handle = REQUEST()
        with self._use() as conn, payload._use() as source:
            library().call("skv_send", conn, key, source, library().deadline(timeout), byref(handle))
        return Request(handle, self, [payload._buffer])

    def send_layers(self, key: int, payload: Payload, timeout: float = DEFAULT_TIMEOUT) -> Request:
        """`send` for a payload under construction (`Payload.create`): each layer leaves once `Engine.encode_layer` made it.

        Keep the payload until its last layer is encoded: closing it before cancels the request.
        """
        handle = REQUEST()
        with self._use() as conn, payload._use() as source:
            library().call("skv_send_layers", conn, key, source, library().deadline(timeout), byref(handle))
        return Request(handle, self, [payload._buffer])

    def recv_offer(self, timeout: float = DEFAULT_TIMEOUT) -> Request:
        """Starts waiting for the peer's next offer. `Request.wait`, look at it, then accept or reject it."""
        handle = REQUEST()
        with self._use() as conn:
            library().call("skv_recv_offer", conn, library().deadline(timeout), byref(handle))
        return Request(handle, self, [])

    def receive(self, timeout: float = DEFAULT_TIMEOUT) -> Payload:
        """Accepts the peer's next offer and waits for it: the simple way. Raises `TransportError`."""
        end = time.monotonic() + timeout
        with self.recv_offer(timeout) as request:
            request.result(end - time.monotonic())
            request.accept(timeout=end - time.monotonic())
            request.result(end - time.monotonic())
            return request.payload()


class Request(Handle):
    """One asynchronous operation. It reaches exactly one terminal status; until then it keeps its memory alive.

    A request that is closed or collected while live is cancelled.
    """

    def __init__(self, handle: Any, conn: Conn, keep: list[object]) -> None:
        self._keep: list[object] = keep
        super().__init__(handle, _Reaper(keep))
        self.conn = conn
        conn.endpoint._requests[_address(handle)] = self

    def get(self, key: RequestKey) -> int:
        """A fact about the request."""
        out = c_int64()
        with self._use() as request:
            library().call("skv_request_get", request, key, byref(out))
        return out.value

    @property
    def state(self) -> RequestState:
        """Where it stands."""
        return RequestState(self.get(RequestKey.STATE))

    @property
    def key(self) -> int:
        """The sender's key."""
        return self.get(RequestKey.KEY)

    @property
    def nbytes(self) -> int:
        """Payload bytes offered."""
        return self.get(RequestKey.BYTES)

    @property
    def layers(self) -> int:
        """Segments offered."""
        return self.get(RequestKey.LAYERS)

    @property
    def moved(self) -> int:
        """Payload bytes moved so far."""
        return self.get(RequestKey.MOVED)

    @property
    def layers_ready(self) -> int:
        """Leading layers that arrived and verified."""
        return self.get(RequestKey.LAYERS_READY)

    @property
    def wire_ns(self) -> int:
        """Nanoseconds from acceptance to the end."""
        return self.get(RequestKey.WIRE_NS)

    @property
    def identity(self) -> tuple[bytes, bytes]:
        """(fingerprint, request_id) of the offer. Raises `StateError` before there is one."""
        fingerprint, request_id = (c_uint8 * FINGERPRINT_BYTES)(), (c_uint8 * REQUEST_ID_BYTES)()
        with self._use() as request:
            library().call("skv_request_identity", request, fingerprint, request_id)
        return bytes(fingerprint), bytes(request_id)

    def accept(
        self, out: object | None = None, timeout: float = DEFAULT_TIMEOUT, *, early_layers: bool = False
    ) -> None:
        """Takes the offer.

        Args:
            out: writable, 16-byte aligned memory of at least `nbytes` bytes, not touched by the caller until the request
                ends, and kept alive. By default the library allocates.
            early_layers: `payload` may be called once `wait_layer(0)` said so, and each layer decoded once `wait_layer`
                said that it arrived. If the transfer fails later, what was decoded is the caller's to discard.

        Raises:
            StateError: no offer. ResourceError: ``out`` is too small, or no memory. ArgumentError: alignment.
        """
        on_device = out is not None and self.conn.plane == Plane.NCCL
        memory = None if out is None else describe_bytes(out, writable=True, on_device=on_device)
        with self._use() as request:
            pointer, size = (None, 0) if memory is None else (c_void_p(memory.pointer), memory.nbytes)
            if memory is not None:
                self._keep.append(memory)
            if early_layers:
                library().call("skv_request_set", request, RequestKey.EARLY_LAYERS, 1)
            library().call("skv_offer_accept", request, pointer, size, library().deadline(timeout))

    def reject(self, reason: str) -> None:
        """Declines the offer: the sender gets the reason (at most 200 bytes)."""
        with self._use() as request:
            library().call("skv_offer_reject", request, reason.encode())

    def test(self) -> bool:
        """Whether it has an offer to decide on, or ended well. Raises its terminal status otherwise. Never waits."""
        with self._use() as request:
            return library().call("skv_request_test", request) == Status.OK

    def wait(self, timeout: float = DEFAULT_TIMEOUT) -> bool:
        """`test`, waiting up to so many seconds. False: still in progress; the request goes on."""
        return self._sliced("skv_request_wait", timeout)

    def wait_layer(self, layer: int, timeout: float = DEFAULT_TIMEOUT) -> bool:
        """Waits until the leading ``layer + 1`` layers arrived and verified. False: not yet."""
        return self._sliced("skv_request_wait_layer", timeout, layer)

    def stream_wait(self, layer: int, stream: int) -> None:
        """Plane NCCL: what follows on a CUDA stream (its address) waits until a layer is in the buffer.

        Raises:
            ResourceError: a plane that brings bytes to the host. TransportError: the request failed.
        """
        with self._use() as request:
            library().call("skv_request_stream_wait", request, layer, c_void_p(stream))

    def _sliced(self, name: str, timeout: float, *arguments: int) -> bool:
        end = time.monotonic() + timeout
        with self._use() as request:
            while True:
                left = end - time.monotonic()
                if library().call(name, request, *arguments, library().deadline(min(left, _SLICE))) == Status.OK:
                    return True
                if left <= _SLICE:
                    return False

    def result(self, timeout: float = DEFAULT_TIMEOUT) -> None:
        """`wait`, but still being in progress raises `TransportTimeoutError`."""
        if not self.wait(timeout):
            raise TransportTimeoutError(Status.E_TIMED_OUT, f"still in progress after {timeout:.3f} s")

    async def wait_async(self, timeout: float = DEFAULT_TIMEOUT) -> bool:
        """`wait` for coroutines, in a worker thread. Cancelling the coroutine cancels the request."""
        try:
            return await asyncio.to_thread(self.wait, timeout)
        except asyncio.CancelledError:
            self.cancel()
            raise

    def cancel(self) -> None:
        """Asks for an early end. It still reaches one terminal status: cancelled, unless it had ended."""
        with self._use() as request:
            library().call("skv_request_cancel", request)

    def payload(self) -> Payload:
        """The received payload of a request that ended well, opened and validated. Once.

        With ``early_layers`` also while it moves: layers that have not arrived raise `StateError`, and everything raises
        the request's status if that fails.

        Raises:
            StateError: not ended (or no layer arrived), or taken already; and those of `Payload.open`.
        """
        handle = PAYLOAD()
        with self._use() as request:
            library().call("skv_request_payload", request, byref(handle))
        return Payload(handle, list(self._keep))


def _address(handle: Any) -> int:
    return addressof(handle.contents)


class _Reaper:
    """Destroys a request; one that is live is cancelled first, and its memory kept until it ended."""

    # Memory of requests that could not be ended: lost on purpose, because a late write must not hit reused memory.
    lost: Final[list[list[object]]] = []

    def __init__(self, keep: list[object]) -> None:
        self._keep = keep

    def __call__(self, handle: Any) -> None:
        lib, moved = library(), False
        try:
            try:
                lib.call("skv_request_destroy", handle)
            except SpectrumKVError:  # it moves bytes; asking for its state before that could be too early
                moved = True
                lib.call("skv_request_cancel", handle)
                with contextlib.suppress(SpectrumKVError):  # its terminal status does not matter any more
                    lib.call("skv_request_wait", handle, lib.deadline(_REAP))
                lib.call("skv_request_destroy", handle)
            self._keep.clear()
        except SpectrumKVError:
            self.lost.append(list(self._keep))
        if moved:
            warnings.warn(
                "a spectrumkv.Request was closed while it moved bytes: cancelled", ResourceWarning, stacklevel=2
            )
