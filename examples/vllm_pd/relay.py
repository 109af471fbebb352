# SPDX-License-Identifier: Apache-2.0
"""A bad network between the two instances: a TCP relay that slows down, falls silent, breaks off, or changes a byte."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self
from urllib.parse import urlsplit


class Relay:
    """Stands between the decode worker, which connects to it, and a prefill worker.

    Args:
        target: ``tcp://host:port`` of the prefill worker.
        rate: bytes a second towards the decode worker; None: as fast as it goes.
        flip: offset, in the bytes towards the decode worker, of one whose lowest bit is changed.
        stall: offset after which nothing comes any more.
        cut: offset after which the connection is closed.
    """

    def __init__(
        self,
        target: str,
        *,
        rate: float | None = None,
        flip: int | None = None,
        stall: int | None = None,
        cut: int | None = None,
    ) -> None:
        self.point(target)
        self._rate, self._flip, self._stall, self._cut = rate, flip, stall, cut
        self.passed = 0
        self.uri = ""
        self._tasks: set[asyncio.Task[None]] = set()

    def point(self, target: str) -> None:
        """Whom the next connection goes to."""
        parts = urlsplit(target)
        self._host, self._port = parts.hostname, parts.port

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.uri = f"tcp://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._keep(task)
        ends, up = [writer], None
        try:
            far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
            ends.append(far_writer)
            up = self._keep(asyncio.create_task(self._copy(reader, far_writer)))
            await self._down(far_reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # asyncio prints a traceback for a connection's task that ends as cancelled
        finally:
            for end in ends:
                end.close()
            if up is not None:
                up.cancel()

    def _keep(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        """Ends a task, at the latest, with the relay."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    @staticmethod
    async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 14):
            if self._stall is not None and self.passed + len(data) > self._stall:
                await asyncio.sleep(3600)
            if self._cut is not None and self.passed + len(data) > self._cut:
                writer.write(data[: self._cut - self.passed])
                await writer.drain()
                return
            at = None if self._flip is None else self._flip - self.passed
            if at is not None and 0 <= at < len(data):
                data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
            self.passed += len(data)
            writer.write(data)
            await writer.drain()
            if self._rate is not None:
                await asyncio.sleep(len(data) / self._rate)
