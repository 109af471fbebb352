# SPDX-License-Identifier: Apache-2.0
"""What every object that owns a C handle shares: use counting, idempotent close, release by the garbage collector."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from spectrumkv.constants import Status
from spectrumkv.errors import StateError

if TYPE_CHECKING:
    from typing import Self


class Owned:
    """A C handle with its users counted: it is destroyed when closed and no call or memory view uses it any more."""

    def __init__(self, handle: Any, destroy: Callable[[Any], object], name: str) -> None:
        self._handle = handle
        self._destroy = destroy
        self._name = name
        self._lock = threading.Lock()
        self._users = 0
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    def acquire(self) -> Any:
        with self._lock:
            if self._closed:
                raise StateError(Status.E_CLOSED, f"{self._name} is closed")
            self._users += 1
            return self._handle

    def release(self) -> None:
        with self._lock:
            self._users -= 1
            last = self._closed and self._users == 0
        if last:
            self._destroy(self._handle)

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            last = self._users == 0
        if last:
            self._destroy(self._handle)


class Handle:
    """Base of the objects that own a C handle.

    ``close()`` is idempotent, and happens by itself when the object is collected or its ``with`` block ends. Using a
    closed object raises `StateError`. A call that runs in another thread when the object is closed finishes normally.
    """

    def __init__(self, handle: Any, destroy: Callable[[Any], object]) -> None:
        self._owned = Owned(handle, destroy, type(self).__name__)
        self._finalizer = weakref.finalize(self, self._owned.close)

    @contextmanager
    def _use(self) -> Iterator[Any]:
        handle = self._owned.acquire()
        try:
            yield handle
        finally:
            self._owned.release()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._owned.closed

    def close(self) -> None:
        """Releases the handle. Calling it again does nothing."""
        self._finalizer()

    def __enter__(self) -> Self:
        if self.closed:
            raise StateError(Status.E_CLOSED, f"{type(self).__name__} is closed")
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<spectrumkv.{type(self).__name__}{' closed' if self.closed else ''}>"
