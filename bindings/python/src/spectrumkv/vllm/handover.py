# SPDX-License-Identifier: Apache-2.0
"""What a prefill instance tells a decode instance about a finished request, through the client or proxy between them.

It is untrusted where it arrives: the decode side takes no length or address from it without checking it, and the payload that
it leads to must carry the same handle, whose second half is a digest of the very tokens that the decode side was asked for.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from spectrumkv.constants import FINGERPRINT_BYTES, REQUEST_ID_BYTES, Status
from spectrumkv.errors import ArgumentError

KEY: Final = "spectrumkv"
"""Member of ``kv_transfer_params`` that holds it."""

VERSION: Final = 1
_DIGEST_BYTES: Final = 8
_MAX_SOURCES: Final = 1024  # tensor-parallel ranks; more are no deployment


@dataclass(frozen=True)
class Source:
    """One prefill worker: where it listens and which kv-heads it holds."""

    uri: str
    first_head: int
    heads: int


@dataclass(frozen=True)
class Handover:
    """Names the KV cache of a prompt's first tokens.

    Attributes:
        handle: the payloads' request id: 8 random bytes, then 8 of the digest of the tokens.
        tokens: how many.
        fingerprint: of the model.
        sources: the prefill workers, by rank.
    """

    handle: bytes
    tokens: int
    fingerprint: bytes
    sources: tuple[Source, ...]

    def to_json(self) -> dict[str, Any]:
        """As `kv_transfer_params` carries it."""
        return {
            "version": VERSION,
            "handle": self.handle.hex(),
            "tokens": self.tokens,
            "fingerprint": self.fingerprint.hex(),
            "sources": [[source.uri, source.first_head, source.heads] for source in self.sources],
        }

    @classmethod
    def from_json(cls, value: object) -> Handover:
        """Raises `ArgumentError` for anything that is not one."""
        if not isinstance(value, Mapping):
            raise ArgumentError(Status.E_ARGUMENT, f"a {type(value).__name__}: wanted an object")
        if value.get("version") != VERSION:
            raise ArgumentError(Status.E_VERSION, f"version {value.get('version')!r}: wanted {VERSION}")
        sources = value.get("sources")
        if not isinstance(sources, list | tuple) or not 1 <= len(sources) <= _MAX_SOURCES:
            raise ArgumentError(Status.E_ARGUMENT, "sources: wanted a list of prefill workers")
        return cls(
            _hex(value, "handle", REQUEST_ID_BYTES),
            _whole(value.get("tokens"), "tokens", 1, 1 << 28),
            _hex(value, "fingerprint", FINGERPRINT_BYTES),
            tuple(_source(item) for item in sources),
        )

    def check(self, tokens: Sequence[int], fingerprint: bytes, extra: Iterable[str] = ()) -> None:
        """Raises `ArgumentError` unless it is about these tokens (a prompt) and this model."""
        if self.fingerprint != fingerprint:
            raise ArgumentError(
                Status.E_MODEL, f"of model {self.fingerprint.hex()[:16]}…: wanted {fingerprint.hex()[:16]}…"
            )
        if self.tokens > len(tokens):
            raise ArgumentError(Status.E_LAYOUT, f"{self.tokens} tokens: the prompt here has {len(tokens)}")
        if self.handle[-_DIGEST_BYTES:] != digest(tokens[: self.tokens], extra):
            raise ArgumentError(Status.E_REQUEST, f"its {self.tokens} tokens are not the first of the prompt here")


def digest(tokens: Sequence[int], extra: Iterable[str] = ()) -> bytes:
    """Of what a cache depends on besides the model: token ids, and e.g. the adapter's name and images' hashes."""
    state = hashlib.sha256()
    state.update(b"".join(int(token).to_bytes(8, "little") for token in tokens))
    for text in extra:
        state.update(b"\0" + text.encode())
    return state.digest()[:_DIGEST_BYTES]


def new_handle(tokens: Sequence[int], extra: Iterable[str] = ()) -> bytes:
    """A handle for the cache of these tokens that cannot be guessed."""
    return secrets.token_bytes(REQUEST_ID_BYTES - _DIGEST_BYTES) + digest(tokens, extra)


def _whole(value: object, name: str, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ArgumentError(Status.E_RANGE, f"{name} is {value!r}: wanted {least} … {most}")
    return value


def _hex(value: Mapping[str, object], name: str, length: int) -> bytes:
    text = value.get(name)
    try:
        raw = bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        raw = b""
    if len(raw) != length:
        raise ArgumentError(Status.E_ARGUMENT, f"{name}: wanted {2 * length} hexadecimal digits")
    return raw


def _source(item: object) -> Source:
    if not isinstance(item, list | tuple) or len(item) != 3 or not isinstance(item[0], str) or len(item[0]) > 512:
        raise ArgumentError(Status.E_ARGUMENT, "sources: wanted [uri, first head, heads] of each")
    return Source(item[0], _whole(item[1], "first head", 0, 65535), _whole(item[2], "heads", 1, 1024))
