# SPDX-License-Identifier: Apache-2.0
"""Progress: a bar with the time left on a terminal, plain lines otherwise."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, NoReturn

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

Update = Callable[[int, int], None]

_LINE_EVERY: Final = 10.0  # seconds between plain lines of one step


class Steps:
    """Shows the steps of a job on a console."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._interrupted = False
        self._work = self._done = 0.0
        self._started = time.monotonic()

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """While active, Ctrl-C ends the job at the next step at the latest. Python forgets one that arrives inside a
        finalizer."""

        def remember(_number: int, _frame: FrameType | None) -> NoReturn:
            self._interrupted = True
            raise KeyboardInterrupt

        usual = signal.getsignal(signal.SIGINT)
        if usual is not signal.default_int_handler:  # ignored, or the host's own
            yield
            return
        signal.signal(signal.SIGINT, remember)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, usual)

    def _stop_if_interrupted(self) -> None:
        if self._interrupted:
            raise KeyboardInterrupt

    def expect(self, work: float) -> None:
        """The whole job's work, in units of the caller's; steps that say theirs then show the time left in all."""
        self._work, self._done, self._started = work, 0.0, time.monotonic()

    def _left(self) -> str:
        if not 0 < self._done < self._work:
            return ""
        seconds = (time.monotonic() - self._started) * (self._work - self._done) / self._done
        return (
            f" (about {seconds / 60:.0f} min left in all)" if seconds > 90 else f" (about {seconds:.0f} s left in all)"
        )

    def say(self, text: str) -> None:
        """A line."""
        self.console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def step(self, text: str, work: float = 0.0) -> Iterator[Update]:
        """One step, of so much of the expected work; call what it gives with (done, total) to move it on."""
        self._stop_if_interrupted()
        started = time.monotonic()
        shown = self._bar(text + self._left()) if self.console.is_terminal else self._lines(text, started)
        with shown as update:
            yield update
        self._stop_if_interrupted()
        self._done += work
        self.say(f"{text}: {time.monotonic() - started:.1f} s{self._left() if work else ''}")

    @contextmanager
    def _bar(self, text: str) -> Iterator[Update]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task(text, total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)

    @contextmanager
    def _lines(self, text: str, started: float) -> Iterator[Update]:
        last = started

        def update(done: int, total: int) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last > _LINE_EVERY and 0 < done < total:
                left = (now - started) * (total - done) / done
                self.say(f"{text}: {100 * done // total} %, about {left:.0f} s left")
                last = now

        yield update
