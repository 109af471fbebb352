# SPDX-License-Identifier: Apache-2.0
"""The half of the connector that lives in a vLLM worker: its paged memory, and what is sent from and loaded to it."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any, Final

from spectrumkv.vllm.config import Settings
from spectrumkv.vllm.handover import Source
from spectrumkv.vllm.layout import Pages
from spectrumkv.vllm.load import Loader
from spectrumkv.vllm.queries import Recorder
from spectrumkv.vllm.scheduler import Step
from spectrumkv.vllm.send import Sender
from spectrumkv.vllm.stats import Tally

# A step without tokens waits so long for a transfer to end: vLLM would call for the next one at once. Seconds.
_IDLE: Final = 0.002


class WorkerSide:
    """Worker half. Of its methods vLLM's thread calls one at a time.

    Args:
        rank: tensor-parallel rank.
    """

    def __init__(self, settings: Settings, pages: Pages, rank: int, *, producer: bool, consumer: bool) -> None:
        self._wake = threading.Event()
        self._tally = Tally()
        self.pages: Final = pages
        self.sender = Sender(settings, pages, rank, self._tally, self._wake) if producer else None
        self.loader = Loader(settings, pages, rank, self._tally, self._wake) if consumer else None
        self.recorder: Final = (
            Recorder(pages.layers, pages.block_size, settings.queries) if producer and settings.queries else None
        )
        self._sending = 0
        self._failed: set[str] = set()
        self._bad_blocks: set[int] = set()

    @property
    def source(self) -> Source | None:
        """Where this worker can be pulled from."""
        if self.sender is None:
            return None
        return Source(self.sender.uri, self.pages.first_head, self.pages.heads)

    def send(self, step: Step) -> None:
        """Begins with a step's sends; before the step's forward."""
        if self.sender is not None:
            for job in step.sends:
                self._sending += 1
                queries = None if self.recorder is None else self.recorder.take(job.request, job.tokens)
                self.sender.start(job, queries)
        if self.recorder is not None:
            self.recorder.watch(step.watches)

    def load(self, step: Step) -> None:
        """Begins with a step's loads."""
        if self.loader is not None:
            for job in step.loads:
                self.loader.start(job)

    def wait(self) -> None:
        """In a step that computes no token: waits a moment for a transfer to end."""
        if self._sending or (self.loader is not None and self.loader.live):
            self._wake.wait(_IDLE)
        self._wake.clear()

    def finished(self, ended: Iterable[str]) -> tuple[set[str], set[str]]:
        """Requests whose blocks were read, and those whose blocks were written (or will not be any more).

        Args:
            ended: requests that ended in vLLM; loads of theirs are cancelled.
        """
        sent: set[str] = set()
        loaded: set[str] = set()
        if self.sender is not None:
            if self.recorder is not None:
                for request in ended:
                    self.recorder.drop(request)
            sent = self.sender.finished()
            self._sending -= len(sent)
        if self.loader is not None:
            self.loader.cancel(ended)
            loaded, failed, blocks = self.loader.take()
            self._failed |= failed
            self._bad_blocks |= blocks
        return sent, loaded

    def take_failures(self) -> tuple[set[str], set[int]]:
        """Of what `finished` said: the requests that were not loaded, and their blocks."""
        failures = self._failed, self._bad_blocks
        self._failed, self._bad_blocks = set(), set()
        return failures

    def take_stats(self) -> dict[str, Any]:
        """Counts since the last call."""
        return self._tally.take()

    def close(self) -> None:
        """Ends all transfers."""
        if self.loader is not None:
            self.loader.close()
        if self.sender is not None:
            self.sender.close()
