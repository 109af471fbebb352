# SPDX-License-Identifier: Apache-2.0
"""What ``kv_connector_extra_config`` may say."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from spectrumkv.constants import Security, Status
from spectrumkv.errors import ArgumentError

LOCAL: Final = ("tcp://127.0.0.1:*", "tcp://localhost:*", "unix://*")
"""Whom a decode side without a key pulls from, unless told: a client's parameters must not name just any address."""

_SECURITY: Final = {"psk": Security.PSK, "tls_psk": Security.TLS_PSK}


@dataclass(frozen=True)
class Settings:
    """The keys of ``kv_connector_extra_config``. Times are seconds.

    Attributes:
        listen: where a prefill worker waits for pulls. Port 0: any; another port is that of rank 0, further tensor-parallel
            ranks take the next ones.
        budget: bytes of a payload as a fraction of the cache's 16-bit size, everything counted; ``"raw"``: lossless; ``"int8"``:
            every row at 8 bits. Prefill side.
        profile: JSON of `spectrumkv probe`, whose verdict permits tiers below 8 bits; see docs/profile.md.
        fingerprint: 64 hexadecimal digits that name the model. By default a digest of its configuration and of samples of its
            weight files. To use a profile made elsewhere for the same weights, give the profile's ``model``.
        unproven: tiers below 8 bits without a profile.
        queries: last queries of a prompt that are recorded, and choose which tokens get more bits; 0: keys and values choose.
            Prefill side. At most 4096.
        pack: payloads are packed (`Engine.pack`): at the same budget more precise, but made whole before their first byte leaves.
            For slow links.
        per_request: a request's ``kv_transfer_params`` may carry ``{"spectrumkv": {"budget": …}}``.
        expiry: how long a payload that nobody pulls is kept.
        kept_bytes: payloads kept at most, in bytes of host memory; the oldest goes first.
        load_timeout: for a pull from its start to the last decoded layer; then the request is recomputed.
        loads: pulls at a time.
        threads: of each engine that encodes or decodes.
        psk_file: file with a shared key of 16 … 1024 bytes, the same at both ends.
        security: what the key is for: ``"psk"`` (proves who the peer is) or ``"tls_psk"`` (also encrypts).
        peers: patterns (``tcp://10.0.*``) of the endpoints to pull from. Default: any with a key, else `LOCAL`.
        heartbeat: a silent peer is lost after three of them.
    """

    listen: str = "tcp://127.0.0.1:0"
    budget: float | str = "raw"
    profile: str | None = None
    fingerprint: str | None = None
    unproven: bool = False
    queries: int = 16
    pack: bool = False
    per_request: bool = True
    expiry: float = 60.0
    kept_bytes: int = 1 << 30
    load_timeout: float = 30.0
    loads: int = 4
    threads: int = 1
    psk_file: str | None = None
    security: str = "psk"
    peers: tuple[str, ...] | None = None
    heartbeat: float = 1.0

    @classmethod
    def parse(cls, extra: Mapping[str, Any]) -> Settings:
        """Raises `ArgumentError` for a key that is not known, or a value of another kind."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(extra) - known)
        if unknown:
            raise ArgumentError(
                Status.E_KEY,
                f"kv_connector_extra_config has {', '.join(unknown)}: wanted of {', '.join(sorted(known))}",
            )
        values = dict(extra)
        if values.get("peers") is not None:
            values["peers"] = tuple(str(pattern) for pattern in values["peers"])
        settings = cls(**values)
        check_budget(settings.budget)
        for name in ("expiry", "load_timeout", "heartbeat", "kept_bytes", "loads", "threads"):
            value = getattr(settings, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
                raise ArgumentError(Status.E_RANGE, f"{name} is {value!r}: wanted a number above 0")
        if (
            isinstance(settings.queries, bool)
            or not isinstance(settings.queries, int)
            or not 0 <= settings.queries <= 4096
        ):
            raise ArgumentError(Status.E_RANGE, f"queries is {settings.queries!r}: wanted 0 … 4096")
        if settings.security not in _SECURITY:
            raise ArgumentError(Status.E_ARGUMENT, f"security is {settings.security!r}: wanted psk or tls_psk")
        return settings

    def listen_on(self, rank: int) -> str:
        """The URI of a tensor-parallel rank's endpoint."""
        head, colon, port = self.listen.rpartition(":")
        if self.listen.startswith("tcp://") and port.isdigit():
            return f"{head}{colon}{int(port) + rank if int(port) else 0}"
        return self.listen if rank == 0 else f"{self.listen}.{rank}"

    def endpoint_options(self) -> dict[str, Any]:
        """Arguments of `Endpoint` that both sides have to agree on."""
        options: dict[str, Any] = {"heartbeat": self.heartbeat}
        if self.psk_file is not None:
            options[self.security] = Path(self.psk_file).read_bytes().strip()
        return options

    def may_pull_from(self, uri: str) -> bool:
        """Whether an endpoint that a request names is one to connect to."""
        patterns = self.peers if self.peers is not None else LOCAL if self.psk_file is None else ("*",)
        return any(fnmatch.fnmatchcase(uri, pattern) for pattern in patterns)


def check_budget(value: object) -> float | str:
    """A budget as it may be given. Raises `ArgumentError`."""
    if value in ("raw", "int8"):
        return str(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 4:
        raise ArgumentError(Status.E_RANGE, f'budget is {value!r}: wanted "raw", "int8" or a fraction above 0')
    return float(value)
