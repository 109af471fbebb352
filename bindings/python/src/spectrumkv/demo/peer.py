# SPDX-License-Identifier: Apache-2.0
"""How the prefill process starts, steers and ends the decode process.

Commands go to its standard input and results come from its standard output, one JSON object a line. Each side notices the
end of the other: the decode process ends itself when its input closes, the prefill process raises `PeerError`.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import IO, Any, Final, Self

_GRACE: Final = 5.0  # seconds a process gets to end by itself

Message = dict[str, Any]


class PeerError(RuntimeError):
    """The other process failed, died or did not answer in time."""


class Child:
    """The decode process, as the prefill process sees it."""

    def __init__(self, module: str, *, prefix: Sequence[str] = (), python: str = sys.executable) -> None:
        """Starts it. ``prefix`` is the command that runs it elsewhere (``ip netns exec NAME``)."""
        command = [*prefix, python, "-m", module]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self._messages: queue.Queue[Message | None] = queue.Queue()
        assert self._process.stdout is not None
        threading.Thread(target=_read, args=(self._process.stdout, self._messages), daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, **message: Any) -> None:
        """Sends a command."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError) as error:
            raise self._gone() from error

    def receive(self, kind: str, timeout: float) -> Iterator[Message]:
        """Its messages until the one of this kind, that one included. Raises `PeerError`."""
        end = time.monotonic() + timeout
        while True:
            try:
                message = self._messages.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise PeerError(f"the decode process (pid {self.pid}) did not answer within {timeout:.0f} s") from None
            if message is None:
                raise self._gone()
            if message["kind"] == "error":
                raise PeerError(f"the decode process failed: {message['text']}")
            yield message
            if message["kind"] == kind:
                return

    def answer(self, kind: str, timeout: float) -> Message:
        """Its next message of this kind."""
        *_, last = self.receive(kind, timeout)
        return last

    def check(self, wait: float = 0.0) -> None:
        """Raises `PeerError` if it ended, or ends within ``wait`` seconds. Costs a system call."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(wait)
            raise self._gone()

    def _gone(self) -> PeerError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)
        code = self._process.poll()
        how = (
            "closed its output"
            if code is None
            else f"was killed by signal {-code}"
            if code < 0
            else f"ended with exit code {code}"
        )
        return PeerError(f"the decode process (pid {self.pid}) {how}")

    def close(self) -> None:
        """Ends it: closes its input, then insists."""
        with contextlib.suppress(OSError, ValueError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        for insist in (self._process.terminate, self._process.kill):
            try:
                self._process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                insist()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Parent:
    """The prefill process, as the decode process sees it."""

    def __init__(self) -> None:
        # Results have their own descriptor: whatever else prints to standard output must not disturb them.
        self._out = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)
        self._messages: queue.Queue[Message | None] = queue.Queue()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        for line in sys.stdin:
            message = json.loads(line)
            if message["kind"] == "stop":
                self._messages.put(None)
                return
            self._messages.put(message)
        print("decode: the prefill process is gone, ending", file=sys.stderr, flush=True)
        os._exit(3)

    def commands(self) -> Iterator[Message]:
        """Its commands, until it says stop."""
        while True:
            message = self._messages.get()
            if message is None:
                return
            yield message

    def send(self, kind: str, **message: Any) -> None:
        """Sends a result."""
        with contextlib.suppress(BrokenPipeError):
            self._out.write(json.dumps({"kind": kind, **message}) + "\n")
            self._out.flush()


def _read(stream: IO[str], messages: queue.Queue[Message | None]) -> None:
    for line in stream:
        messages.put(json.loads(line))
    messages.put(None)
