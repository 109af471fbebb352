# SPDX-License-Identifier: Apache-2.0
"""Prefill side of a transfer: encodes the blocks of finished requests and serves pulls of the payloads.

A pull is an offer of a few bytes: a payload of zeros whose request id is the handle, whose heads are those wanted, and which has
as many tokens as there are workers that each pull these heads. It is accepted when the handle is known, and the cache's payload is
offered on the same conn; else it is declined with the reason.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from spectrumkv.cache import Cache
from spectrumkv.constants import DEVICE_CPU
from spectrumkv.engine import Engine
from spectrumkv.errors import SpectrumKVError, TransportTimeoutError
from spectrumkv.payload import Payload
from spectrumkv.plan import Plan
from spectrumkv.profile import Profile
from spectrumkv.transport import Conn, Endpoint, Request
from spectrumkv.vllm.config import Settings, check_budget
from spectrumkv.vllm.layout import Pages
from spectrumkv.vllm.policy import choose
from spectrumkv.vllm.queries import LayerQueries, scores_of
from spectrumkv.vllm.stats import Tally

_log = logging.getLogger(__name__)

# A pull may come before the step that tells this worker of the request: the reply leaves the scheduler first. Seconds.
_AHEAD: Final = 2.0
# A pull is zeros for the heads of a layer; whatever is larger is none. Bytes.
_MAX_PULL: Final = 1 << 20
# How often a waiting thread looks whether it should end. Seconds.
_SLICE: Final = 0.5


@dataclass(frozen=True)
class SendJob:
    """A finished request. Its blocks stay as they are until `Sender.finished` names it."""

    request: str
    handle: bytes
    blocks: Sequence[int]
    tokens: int
    budget: float | str | None = None


@dataclass
class _Kept:
    """A payload that can be pulled. Its layers may still be under construction."""

    payload: Payload
    nbytes: int
    expires: float
    # Encoding a layer and sending layers are calls on one handle, which takes one at a time.
    turn: threading.Lock = field(default_factory=threading.Lock)
    pulls: dict[int, int] = field(default_factory=dict)  # head -> times
    users: int = 1  # who encodes it, and who sends it


class Sender:
    """Owns the endpoint, a thread that encodes and one for each peer."""

    def __init__(self, settings: Settings, pages: Pages, rank: int, tally: Tally, wake: threading.Event) -> None:
        self._settings = settings
        self._pages = pages
        self._tally = tally
        self._wake = wake
        self._profile = None
        if settings.profile is not None:
            with open(settings.profile, "rb") as file:  # noqa: PTH123
                self._profile = Profile.open(file.read())
        self._device = pages.layers[0].buffer.device
        self._engine = Engine(self._device, threads=settings.threads)
        self._endpoint = Endpoint(model=pages.fingerprint, **settings.endpoint_options())
        self.uri: Final = self._endpoint.listen(settings.listen_on(rank))
        self._jobs: queue.SimpleQueue[tuple[SendJob, list[LayerQueries] | None] | None] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._queued: set[bytes] = set()
        self._refused: OrderedDict[bytes, str] = OrderedDict()  # handles that could not be encoded, and why
        self._finished: set[str] = set()
        self._told: set[str] = set()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._encode_all, name="skv-encode", daemon=True),
            threading.Thread(target=self._accept_all, name="skv-accept", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    # ---------------------------------------------------------------------------------------------- vLLM's thread

    def start(self, job: SendJob, queries: list[LayerQueries] | None = None) -> None:
        """Queues a request for encoding.

        Args:
            queries: the last ones of its prompt, of every layer. Kept until it is encoded.
        """
        with self._changed:
            self._queued.add(job.handle)
        self._jobs.put((job, queries))

    def finished(self) -> set[str]:
        """Requests whose blocks are not needed any more, since the last call."""
        self._drop_expired()
        with self._changed:
            done, self._finished = self._finished, set()
        return done

    @property
    def kept(self) -> int:
        """Payloads that wait to be pulled."""
        with self._changed:
            return len(self._kept)

    def close(self) -> None:
        """Ends every transfer and frees every payload."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._jobs.put(None)
        self._endpoint.close()
        for thread in self._threads:
            thread.join(5)
        with self._changed:
            for kept in self._kept.values():
                kept.payload.close()
            self._kept.clear()

    # --------------------------------------------------------------------------------------------------- encoding

    def _encode_all(self) -> None:
        while (next_job := self._jobs.get()) is not None:
            job, queries = next_job
            del next_job
            try:
                self._encode(job, queries)
            except Exception as error:
                # The blocks must be given back whatever happened; the peer hears why.
                _log.warning("request %s: KV cache not encoded: %s", job.request, error)
                self._tally.count("encode_failures")
                with self._changed:
                    self._refused[job.handle] = str(error)
                    while len(self._refused) > 1024:
                        self._refused.popitem(last=False)
                    self._changed.notify_all()
            finally:
                del queries
                with self._changed:
                    self._queued.discard(job.handle)
                    self._finished.add(job.request)
                    self._changed.notify_all()
                self._wake.set()

    def _encode(self, job: SendJob, queries: list[LayerQueries] | None) -> None:
        began = time.monotonic()
        settings = self._settings
        budget = settings.budget
        if job.budget is not None and settings.per_request:
            budget = check_budget(job.budget)
        with contextlib.ExitStack() as scope:
            cache = scope.enter_context(self._pages.cache(job.blocks, job.tokens, job.handle))
            scores = None
            if queries is not None and budget not in ("raw", "int8"):
                try:
                    scores = scope.enter_context(scores_of(self._engine, cache, queries))
                except SpectrumKVError as error:
                    self._say(f"queries of no use, keys and values are scored instead: {error}")
            chosen = choose(
                self._engine,
                cache,
                budget,
                self._pages.layers[0].dtype,
                profile=self._profile,
                unproven=settings.unproven,
                pack=settings.pack,
                scores=scores,
            )
            if chosen.reason:
                self._tally.count("fallbacks")
                self._say(f"budget {budget} not kept, {chosen.name} instead: {chosen.reason}")
            elif scores is not None:
                self._tally.count("queries_used")
            kept = self._fill(job, cache, scope.enter_context(chosen.plan))
        with kept.turn:
            receipt = kept.payload.receipt()
        self._tally.count("encoded")
        self._tally.count("encoded_bytes", receipt.payload_bytes)
        self._tally.count("encoded_raw_bytes", receipt.raw_bytes)
        self._tally.time("encode_seconds", time.monotonic() - began)
        _log.debug(
            "request %s: %s, ratio %.4f, scored %s", job.request, chosen.name, receipt.ratio, receipt.scored.name
        )
        self._done_with(job.handle, kept)

    def _fill(self, job: SendJob, cache: Cache, plan: Plan) -> _Kept:
        """Encodes. The payload can be pulled from the start, its layers leave as they are made; packed ones, and those that a GPU
        makes, can be pulled once they are whole."""
        if self._device != DEVICE_CPU or self._settings.pack:
            with self._engine.encode(cache, plan) as encoded:
                return self._keep(job, Payload.open(bytes(encoded)))
        kept = self._keep(job, Payload.create(cache, plan))
        try:
            for layer in range(len(self._pages.layers)):
                with kept.turn:
                    self._engine.encode_layer(cache, plan, layer, kept.payload)
        except SpectrumKVError:
            with self._changed:
                self._kept.pop(job.handle, None)
            self._done_with(job.handle, kept)
            raise
        return kept

    def _say(self, text: str) -> None:
        """A warning once for each kind, so that a busy server's log stays readable."""
        kind = text[:60]
        if kind not in self._told:
            self._told.add(kind)
            _log.warning("%s (said once; counted as fallbacks)", text)

    # -------------------------------------------------------------------------------------------------- keeping

    def _keep(self, job: SendJob, payload: Payload) -> _Kept:
        kept = _Kept(payload, payload.nbytes, time.monotonic() + self._settings.expiry)
        with self._changed:
            self._kept[job.handle] = kept
            self._changed.notify_all()
        self._drop_expired()
        return kept

    def _drop_expired(self) -> None:
        now = time.monotonic()
        with self._changed:
            held = sum(kept.nbytes for kept in self._kept.values())
            for handle, kept in list(self._kept.items()):
                if kept.users:
                    continue
                if now > kept.expires or held > self._settings.kept_bytes:
                    held -= kept.nbytes
                    del self._kept[handle]
                    kept.payload.close()
                    self._tally.count("expired")

    def _done_with(self, handle: bytes, kept: _Kept) -> None:
        """One user less. The last one of a payload that is in the table no more frees it."""
        with self._changed:
            kept.users -= 1
            if kept.users == 0 and self._kept.get(handle) is not kept:
                kept.payload.close()

    def _find(self, handle: bytes) -> _Kept | str:
        """What a handle names, as a user of it, or why there is nothing."""
        began = time.monotonic()
        with self._changed:
            while not self._closed:
                kept = self._kept.get(handle)
                if kept is not None:
                    kept.users += 1
                    return kept
                if handle in self._refused:
                    return f"not encoded: {self._refused[handle]}"
                patience = self._settings.load_timeout if handle in self._queued else _AHEAD
                left = began + patience - time.monotonic()
                if left <= 0:
                    return "no such handle: pulled already, expired or never there"
                self._changed.wait(left)
        return "shutting down"

    # ---------------------------------------------------------------------------------------------------- serving

    def _accept_all(self) -> None:
        while not self._closed:
            try:
                conn = self._endpoint.accept(_SLICE)
            except TransportTimeoutError:
                continue
            except SpectrumKVError:
                return
            threading.Thread(target=self._serve, args=(conn,), name="skv-serve", daemon=True).start()

    def _serve(self, conn: Conn) -> None:
        with conn, contextlib.suppress(SpectrumKVError):
            while not self._closed:
                offer = conn.recv_offer(3600)
                while not offer.wait(_SLICE):
                    if self._closed:
                        return
                self._answer(conn, offer)

    def _answer(self, conn: Conn, offer: Request) -> None:
        handle = offer.identity[1]
        found = self._find(handle) if offer.nbytes <= _MAX_PULL else f"a pull of {offer.nbytes} bytes"
        if isinstance(found, str):
            self._tally.count("unknown_pulls")
            offer.reject(found[:200])
            return
        sent = False
        try:
            timeout = self._settings.load_timeout
            offer.accept(timeout=timeout)
            offer.result(timeout)
            with offer.payload() as pull:
                wanted = pull.segment(0)
            with found.turn:
                request = conn.send_layers(offer.key, found.payload, timeout)
            request.result(timeout)
            sent = True
        except SpectrumKVError as error:
            self._tally.count("send_failures")
            _log.warning("pull of %s: %s", handle.hex(), error)
            raise
        finally:
            if sent:
                self._tally.count("sent")
                with self._changed:
                    for head in range(wanted.first_head, wanted.first_head + wanted.heads):
                        found.pulls[head] = found.pulls.get(head, 0) + 1
                    here = range(self._pages.first_head, self._pages.first_head + self._pages.heads)
                    if all(found.pulls.get(head, 0) >= wanted.tokens for head in here):
                        self._kept.pop(handle, None)
            self._done_with(handle, found)
