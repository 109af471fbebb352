# SPDX-License-Identifier: Apache-2.0
"""Names of what a payload belongs to."""

from __future__ import annotations

import hashlib
import sys
from array import array
from collections.abc import Iterable


def hash_tokens(tokens: Iterable[int]) -> bytes:
    """16 bytes that name a prompt, for request ids: of the SHA-256 of its token ids as little-endian int32."""
    ids = array("i", (int(token) for token in tokens))
    if sys.byteorder == "big":
        ids.byteswap()
    return hashlib.sha256(ids.tobytes()).digest()[:16]
