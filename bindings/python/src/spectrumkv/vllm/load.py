# SPDX-License-Identifier: Apache-2.0
"""Decode side of a transfer: pulls payloads by their handles and decodes them into paged blocks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from spectrumkv.cache import Cache
from spectrumkv.constants import DType, Half, Status
from spectrumkv.engine import Engine
from spectrumkv.errors import ArgumentError, TransportError, TransportTimeoutError
from spectrumkv.payload import Payload
from spectrumkv.plan import Plan
from spectrumkv.transport import Conn, Endpoint, Request
from spectrumkv.vllm.config import Settings
from spectrumkv.vllm.handover import Source
from spectrumkv.vllm.layout import Pages, pages_of
from spectrumkv.vllm.stats import Tally

_log = logging.getLogger(__name__)

# More than a layer's header, maps and channel vectors take besides its rows. Bytes.
_HEADERS: Final = 1 << 16
# How often a waiting thread looks whether its request was aborted. Seconds.
_SLICE: Final = 0.2


@dataclass(frozen=True)
class LoadJob:
    """A request whose KV cache is to be loaded.

    Attributes:
        blocks: its block table, from the first token on.
        start: tokens that are there already (prefix-cache hits), whole blocks: these are shared and not written.
        tokens: to load, counted from the first one.
        sources: the prefill workers that hold heads of it.
    """

    request: str
    handle: bytes
    blocks: Sequence[int]
    start: int
    tokens: int
    sources: tuple[Source, ...]


class Loader:
    """Owns an endpoint, threads that pull, and idle conns to the prefill workers."""

    def __init__(self, settings: Settings, pages: Pages, rank: int, tally: Tally, wake: threading.Event) -> None:
        self._settings = settings
        self._pages = pages
        self._rank = rank
        self._tally = tally
        self._wake = wake
        self._endpoint = Endpoint(model=pages.fingerprint, **settings.endpoint_options())
        self._threads = ThreadPoolExecutor(settings.loads, thread_name_prefix="skv-load")
        self._lock = threading.Lock()
        self._idle: dict[str, list[Conn]] = {}
        self._engines: list[Engine] = []
        self._live: dict[str, threading.Event] = {}
        self._finished: set[str] = set()
        self._failed: set[str] = set()
        self._bad_blocks: set[int] = set()

    # ---------------------------------------------------------------------------------------------- vLLM's thread

    def start(self, job: LoadJob) -> None:
        """Begins to load. `take` names the request once that has ended, well or not."""
        cancelled = threading.Event()
        with self._lock:
            self._live[job.request] = cancelled
        self._threads.submit(self._run, job, cancelled, time.monotonic() + self._settings.load_timeout)

    def cancel(self, requests: Iterable[str]) -> None:
        """Of requests that were aborted: their loads end soon, and are still reported by `take`."""
        with self._lock:
            for request in requests:
                if request in self._live:
                    self._live[request].set()

    @property
    def live(self) -> int:
        """Loads that have not ended."""
        with self._lock:
            return len(self._live)

    def take(self) -> tuple[set[str], set[str], set[int]]:
        """Requests whose load ended since the last call, those of them that failed, and the blocks without valid content."""
        with self._lock:
            taken = self._finished, self._failed, self._bad_blocks
            self._finished, self._failed, self._bad_blocks = set(), set(), set()
        return taken

    def close(self) -> None:
        """Cancels every load and closes every conn."""
        with self._lock:
            for cancelled in self._live.values():
                cancelled.set()
        self._endpoint.close()
        self._threads.shutdown(wait=True, cancel_futures=True)

    # ---------------------------------------------------------------------------------------------------- loading

    def _run(self, job: LoadJob, cancelled: threading.Event, deadline: float) -> None:
        began = time.monotonic()
        failed = True
        try:
            moved = self._load(job, cancelled, deadline)
            failed = False
            self._tally.count("loaded")
            self._tally.count("loaded_bytes", moved)
            self._tally.count("loaded_tokens", job.tokens - job.start)
            self._tally.time("load_seconds", time.monotonic() - began)
        except Exception as error:
            # Whatever it was, vLLM must hear of it: the request would wait for ever.
            if not cancelled.is_set():
                self._tally.count("load_failures")
                _log.warning(
                    "request %s: KV cache not loaded after %.3f s, it is recomputed: %s",
                    job.request,
                    time.monotonic() - began,
                    error,
                )
        finally:
            with self._lock:
                del self._live[job.request]
                self._finished.add(job.request)
                if failed:
                    self._failed.add(job.request)
                    self._bad_blocks.update(job.blocks[job.start // self._pages.block_size :])
            self._wake.set()

    def _load(self, job: LoadJob, cancelled: threading.Event, deadline: float) -> int:
        moved = 0
        missing = set(range(self._pages.first_head, self._pages.first_head + self._pages.heads))
        # Where several prefill workers hold the same heads, each worker here begins with another one.
        turn = self._rank % len(job.sources)
        for source in (*job.sources[turn:], *job.sources[:turn]):
            wanted = sorted(missing & set(range(source.first_head, source.first_head + source.heads)))
            if wanted:
                moved += self._pull(job, source, (wanted[0], wanted[-1] + 1 - wanted[0]), cancelled, deadline)
                missing -= set(wanted)
        if missing:
            raise ArgumentError(Status.E_LAYOUT, f"no prefill worker holds the heads {sorted(missing)}")
        return moved

    def _pull(
        self, job: LoadJob, source: Source, heads: tuple[int, int], cancelled: threading.Event, deadline: float
    ) -> int:
        if not self._settings.may_pull_from(source.uri):
            raise ArgumentError(Status.E_PERMITTED, f"{source.uri} is not among the peers to pull from")
        conn = self._conn(source.uri, deadline)
        good = False
        try:
            moved = self._receive(job, source, conn, heads, cancelled, deadline)
            good = True
            return moved
        finally:
            if good:
                with self._lock:
                    self._idle.setdefault(source.uri, []).append(conn)
            else:
                conn.close()

    def _conn(self, uri: str, deadline: float) -> Conn:
        with self._lock:
            idle = self._idle.get(uri, [])
            while idle:
                conn = idle.pop()
                if conn.is_open:
                    return conn
                conn.close()
        return self._endpoint.connect(uri, _left(deadline))

    def _most(self, tokens: int, heads: int) -> int:
        """Bytes that a payload can have: every row as float32, and what describes them."""
        rows = sum(4 * (layer.k.dim + (0 if layer.v is None else layer.v.dim)) for layer in self._pages.layers)
        return tokens * (heads * rows + 16 * len(self._pages.layers)) + (len(self._pages.layers) + 1) * _HEADERS

    def _receive(
        self,
        job: LoadJob,
        source: Source,
        conn: Conn,
        heads: tuple[int, int],
        cancelled: threading.Event,
        deadline: float,
    ) -> int:
        engine = self._engine()
        try:
            key = int.from_bytes(job.handle[:8], "little") >> 1
            with _pull_payload(self._pages, job.handle, heads) as pull:
                _until(conn.send(key, pull, _left(deadline)), cancelled, deadline)
            with conn.recv_offer(_left(deadline)) as offer:
                _until(offer, cancelled, deadline)
                most = self._most(job.tokens, source.heads)
                if (
                    offer.identity[1] != job.handle
                    or offer.layers != len(self._pages.layers)
                    or not 0 < offer.nbytes <= most
                ):
                    offer.reject("not what was pulled")
                    raise ArgumentError(
                        Status.E_REQUEST,
                        f"the prefill worker offers {offer.layers} layers in {offer.nbytes} bytes for another request or"
                        f" cache: wanted {len(self._pages.layers)} layers in at most {most} bytes",
                    )
                offer.accept(timeout=_left(deadline), early_layers=True)
                self._decode(engine, job, offer, heads, cancelled, deadline)
                # The last word: all digests verified, and the sender meant all of it.
                _until(offer, cancelled, deadline)
                return offer.moved
        finally:
            with self._lock:
                self._engines.append(engine)

    def _engine(self) -> Engine:
        with self._lock:
            if self._engines:
                return self._engines.pop()
        return Engine(self._pages.layers[0].buffer.device, threads=self._settings.threads)

    def _decode(
        self,
        engine: Engine,
        job: LoadJob,
        offer: Request,
        heads: tuple[int, int],
        cancelled: threading.Event,
        deadline: float,
    ) -> None:
        """Layer by layer, as they arrive."""
        staged = _Staged(self._pages, job, heads) if job.start else None
        with staged.cache if staged else self._pages.cache(job.blocks, job.tokens, job.handle, heads=heads) as cache:
            payload: Payload | None = None
            try:
                for layer in range(len(self._pages.layers)):
                    _until(offer, cancelled, deadline, layer)
                    payload = payload or offer.payload()
                    engine.decode_layer(payload, cache, layer)
                    if staged:
                        staged.copy(layer)
            finally:
                if payload is not None:
                    payload.close()


class _Staged:
    """Memory beside the pages for all tokens of a request of which some blocks are shared: only the others are copied."""

    def __init__(self, pages: Pages, job: LoadJob, heads: tuple[int, int]) -> None:
        import numpy as np  # noqa: PLC0415  (vLLM brings it)

        self._pages = pages
        self._job = job
        self._skip = heads[0] - pages.first_head
        self._arrays: list[tuple[Any, Any]] = []
        for layer in pages.layers:
            if layer.buffer.device >= 0:
                raise ArgumentError(Status.E_UNAVAILABLE, "prefix-cache hits in GPU memory are not loaded around")
            kind = np.float32 if layer.dtype == DType.F32 else np.uint16
            k, v = (
                None if plane is None else np.empty((job.tokens, heads[1], plane.dim), kind)
                for plane in (layer.k, layer.v)
            )
            self._arrays.append((k, v))
        self.cache = Cache.from_arrays(
            self._arrays,
            dtype=pages.layers[0].dtype,
            fingerprint=pages.fingerprint,
            request_id=job.handle,
            first_head=heads[0],
        )

    def copy(self, index: int) -> None:
        """A decoded layer into its blocks."""
        layer, job = self._pages.layers[index], self._job
        table = self._pages.table(layer, job.blocks, job.tokens)
        for half, array in zip((Half.K, Half.V), self._arrays[index]):
            if array is None:
                continue
            pages = pages_of(layer, half)
            heads = slice(self._skip, self._skip + array.shape[1])
            for first in range(job.start, job.tokens, layer.block_tokens):
                count = min(layer.block_tokens, job.tokens - first)
                pages[table[first // layer.block_tokens], :count, heads] = array[first : first + count]


def _pull_payload(pages: Pages, handle: bytes, heads: tuple[int, int]) -> Payload:
    """What asks for a handle, see `spectrumkv.vllm.send`. It is made on the host, whatever device the pages are on."""
    row = 2 * 8 * heads[1]  # 8 channels of 2 bytes are the least that a head can have
    memory = bytearray(row * pages.replicas)
    with Engine(threads=1) as engine, Cache(1) as cache, Plan(engine, strategy="raw") as plan:
        cache.set_tokens(0, 0, pages.replicas)
        cache.set_layer(0, heads[1], 8, 0, DType.F16)
        cache.set_first_head(0, heads[0])
        cache.set_plane(0, Half.K, memory, stride_token=row, stride_head=16, stride_elem=2)
        cache.set_identity(pages.fingerprint, handle)
        plan.solve(cache)
        return engine.encode(cache, plan)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TransportTimeoutError(Status.E_TIMED_OUT, "the load's deadline passed")
    return left


def _until(request: Request, cancelled: threading.Event, deadline: float, layer: int | None = None) -> None:
    """Waits for a request, or a layer of it. Raises its status, that of an abort, or `TransportTimeoutError`."""
    while True:
        if cancelled.is_set():
            raise TransportError(Status.E_CANCELLED, "the request was aborted")
        left = min(_left(deadline), _SLICE)
        if request.wait(left) if layer is None else request.wait_layer(layer, left):
            return
