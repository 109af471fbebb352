# SPDX-License-Identifier: Apache-2.0
"""An endpoint's counters for others to read: Prometheus text, and files that an `Exporter` keeps up to date.

The JSON file is what ``spectrumkv top`` shows; the text file is for Prometheus' node exporter (textfile collector), or for
whatever serves it at ``/metrics``.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from spectrumkv.errors import StateError
from spectrumkv.transport import Endpoint, EndpointStats

FORMAT: Final = "spectrumkv-stats 1"
"""First field of the JSON file."""

# What is now; everything else only grows.
_GAUGES: Final = {"conns", "handshakes_pending", "sending", "receiving", "offers_waiting", "credit_held"}

# Histogram -> (name, help, what one unit of its bins is in the exported unit)
_HISTOGRAMS: Final[dict[str, tuple[str, str, float]]] = {
    "time_log2": ("transfer_seconds", "Transfers that ended well, from accepted to ended.", 1e-6),
    "queue_log2": ("offer_wait_seconds", "Offers taken here, from offered to accepted.", 1e-6),
    "bytes_log2": ("transfer_bytes", "Payload bytes of transfers that ended well.", 1.0),
}

_HELP: Final = {
    "conns": "Open conns.",
    "handshakes_ok": "Handshakes that were finished.",
    "handshakes_failed": "Handshakes that were not: garbage, scanners, other versions, models or keys, too slow.",
    "sent_ok": "Transfers from here that ended well.",
    "received_ok": "Transfers to here that ended well.",
    "failed": "Transfers that ended otherwise.",
    "bytes_sent": "Payload bytes sent.",
    "bytes_received": "Payload bytes received.",
    "protocol_errors": "Conns that ended because the peer broke the protocol.",
    "checksum_errors": "Transfers whose bytes arrived changed.",
    "auth_errors": "Peers that were not who they must be, or took this end for that.",
    "handshakes_refused": "Handshakes refused because there were too many at once or a second.",
    "handshakes_pending": "Handshakes under way.",
    "cancelled": "Transfers cancelled.",
    "timed_out": "Transfers whose deadline passed.",
    "peer_lost": "Transfers that lost their peer.",
    "rejected": "Transfers that the receiver declined.",
    "no_resource": "Transfers over a cap.",
    "sending": "Transfers offered or moving from here.",
    "receiving": "Transfers moving to here.",
    "offers_waiting": "Offers of peers that are not decided on.",
    "credit_held": "Bytes granted to senders that have not arrived.",
    "credit_stalls": "Times a sender here had bytes and no credit.",
    "events_lost": "Events overwritten before they were read.",
}


def _labels(labels: dict[str, str]) -> str:
    escaped = {k: v.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n") for k, v in labels.items()}
    return ",".join(f'{name}="{value}"' for name, value in escaped.items())


def prometheus(stats: EndpointStats, **labels: str) -> str:
    """The counters in Prometheus' text exposition format (0.0.4), every sample with these labels."""
    plain = "{" + _labels(labels) + "}" if labels else ""
    lines = []
    for name, text in _HELP.items():
        gauge = name in _GAUGES
        full = f"spectrumkv_{name}" if gauge else f"spectrumkv_{name}_total"
        lines += [f"# HELP {full} {text}", f"# TYPE {full} {'gauge' if gauge else 'counter'}"]
        lines.append(f"{full}{plain} {getattr(stats, name)}")
    for field, (name, text, unit) in _HISTOGRAMS.items():
        full = f"spectrumkv_{name}"
        lines += [f"# HELP {full} {text}", f"# TYPE {full} histogram"]
        bins: tuple[int, ...] = getattr(stats, field)
        total = 0
        for i, count in enumerate(bins[:-1]):
            total += count
            lines.append(f"{full}_bucket{{{_labels({**labels, 'le': f'{2 ** (i + 1) * unit:.9g}'})}}} {total}")
        total += bins[-1]
        lines.append(f"{full}_bucket{{{_labels({**labels, 'le': '+Inf'})}}} {total}")
        # Sums are not counted; the lower ends of the bins give a bound from below.
        lines.append(f"{full}_sum{plain} {sum(c * 2**i for i, c in enumerate(bins)) * unit:.9g}")
        lines.append(f"{full}_count{plain} {total}")
    return "\n".join(lines) + "\n"


def _replace(path: Path, text: str) -> None:
    """Readers see the old file or the new one, never half of one."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(text)
    scratch.replace(path)


class Exporter:
    """Writes an endpoint's counters and latest events to files, from a thread of its own.

    Args:
        endpoint: exported until it or the exporter is closed.
        json_path: for ``spectrumkv top``.
        prometheus_path: Prometheus text.
        name: of the endpoint, shown and exported as label ``endpoint``.
        interval: seconds between snapshots.

    The exporter empties the endpoint's event ring.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        json_path: str | os.PathLike[str] | None = None,
        prometheus_path: str | os.PathLike[str] | None = None,
        *,
        name: str = "",
        interval: float = 1.0,
    ) -> None:
        self._endpoint = endpoint
        self._json = None if json_path is None else Path(json_path)
        self._text = None if prometheus_path is None else Path(prometheus_path)
        self._name = name
        self._interval = interval
        self._events: deque[dict[str, Any]] = deque(maxlen=64)
        self._stop = threading.Event()
        self._write()  # a path that cannot be written is the caller's to hear of
        self._thread = threading.Thread(target=self._run, name="skv-exporter", daemon=True)
        self._thread.start()

    def _write(self) -> None:
        stats = self._endpoint.stats()
        for event in self._endpoint.events():
            fields = {name: getattr(event, name) for name in event.__dataclass_fields__}
            self._events.append({**fields, "kind": event.kind.name, "status": event.status.name})
        if self._json is not None:
            snapshot = {
                "format": FORMAT,
                "name": self._name,
                "pid": os.getpid(),
                "time": time.time(),
                "monotonic_ns": time.monotonic_ns(),
                "interval": self._interval,
                "stats": {name: getattr(stats, name) for name in stats.__dataclass_fields__},
                "events": list(self._events),
            }
            _replace(self._json, json.dumps(snapshot))
        if self._text is not None:
            _replace(self._text, prometheus(stats, **({"endpoint": self._name} if self._name else {})))

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            try:
                self._write()
            except (StateError, OSError):  # the endpoint is closed, or the folder is gone
                return

    def close(self) -> None:
        """Stops, and removes the files: what is not kept up to date must not look as if it were."""
        self._stop.set()
        self._thread.join()
        for path in (self._json, self._text):
            if path is not None:
                path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
