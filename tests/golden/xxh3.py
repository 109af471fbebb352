# SPDX-License-Identifier: Apache-2.0
"""XXH3-64 with seed 0 and the default secret, in plain Python."""

from __future__ import annotations

import struct

_SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f"
    "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c"
    "3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364"
    "eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e"
    "2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)
_M64 = (1 << 64) - 1
_M32 = (1 << 32) - 1
_P32 = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)
_P64 = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)
_STRIPE = 64
_BLOCK_STRIPES = 16
_STRIPE_KEYS = [struct.unpack_from("<8Q", _SECRET, 8 * n) for n in range(_BLOCK_STRIPES)]
_SCRAMBLE_KEYS = struct.unpack_from("<8Q", _SECRET, 128)
_LAST_KEYS = struct.unpack_from("<8Q", _SECRET, 121)


def _u64(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 8], "little")


def _u32(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 4], "little")


def _fold(a: int, b: int) -> int:
    product = a * b
    return (product & _M64) ^ (product >> 64)


def _avalanche(h: int) -> int:
    h ^= h >> 37
    h = h * 0x165667919E3779F9 & _M64
    return h ^ (h >> 32)


def _xxh64_avalanche(h: int) -> int:
    h ^= h >> 33
    h = h * _P64[1] & _M64
    h ^= h >> 29
    h = h * _P64[2] & _M64
    return h ^ (h >> 32)


def _mix16(data: bytes, at: int, secret: int) -> int:
    return _fold(_u64(data, at) ^ _u64(_SECRET, secret), _u64(data, at + 8) ^ _u64(_SECRET, secret + 8))


def _to_16(data: bytes) -> int:
    n = len(data)
    if n > 8:
        low = _u64(data, 0) ^ _u64(_SECRET, 24) ^ _u64(_SECRET, 32)
        high = _u64(data, n - 8) ^ _u64(_SECRET, 40) ^ _u64(_SECRET, 48)
        swapped = int.from_bytes(low.to_bytes(8, "little"), "big")
        return _avalanche((n + swapped + high + _fold(low, high)) & _M64)
    if n >= 4:
        h = (_u32(data, n - 4) + (_u32(data, 0) << 32)) ^ _u64(_SECRET, 8) ^ _u64(_SECRET, 16)
        h ^= (h << 49 & _M64 | h >> 15) ^ (h << 24 & _M64 | h >> 40)
        h = h * 0x9FB21C651E98DF25 & _M64
        h ^= (h >> 35) + n
        h = h * 0x9FB21C651E98DF25 & _M64
        return h ^ (h >> 28)
    if n > 0:
        h = data[0] << 16 | data[n >> 1] << 24 | data[n - 1] | n << 8
        return _xxh64_avalanche(h ^ _u32(_SECRET, 0) ^ _u32(_SECRET, 4))
    return _xxh64_avalanche(_u64(_SECRET, 56) ^ _u64(_SECRET, 64))


def _to_128(data: bytes) -> int:
    n = len(data)
    h = n * _P64[0]
    for i in range((n - 1) // 32 + 1):
        h += _mix16(data, 16 * i, 32 * i) + _mix16(data, n - 16 * (i + 1), 32 * i + 16)
    return _avalanche(h & _M64)


def _to_240(data: bytes) -> int:
    n = len(data)
    h = n * _P64[0] + sum(_mix16(data, 16 * i, 16 * i) for i in range(8))
    h = _avalanche(h & _M64)
    h += sum(_mix16(data, 16 * i, 16 * (i - 8) + 3) for i in range(8, n // 16))
    h += _mix16(data, n - 16, 136 - 17)
    return _avalanche(h & _M64)


def _accumulate(acc: list[int], stripe: tuple[int, ...], keys: tuple[int, ...]) -> None:
    for i in range(8):
        value = stripe[i]
        mixed = value ^ keys[i]
        acc[i ^ 1] += value
        acc[i] = (acc[i] + (mixed & _M32) * (mixed >> 32)) & _M64


def _long(data: bytes) -> int:
    n = len(data)
    acc = [_P32[2], _P64[0], _P64[1], _P64[2], _P64[3], _P32[1], _P64[4], _P32[0]]
    for stripe in range((n - 1) // _STRIPE):
        key = stripe % _BLOCK_STRIPES
        _accumulate(acc, struct.unpack_from("<8Q", data, stripe * _STRIPE), _STRIPE_KEYS[key])
        if key == _BLOCK_STRIPES - 1:
            for i in range(8):
                lane = acc[i] & _M64
                acc[i] = (lane ^ (lane >> 47) ^ _SCRAMBLE_KEYS[i]) * _P32[0] & _M64
    _accumulate(acc, struct.unpack_from("<8Q", data, n - _STRIPE), _LAST_KEYS)
    h = n * _P64[0]
    for i in range(0, 8, 2):
        h += _fold(acc[i] & _M64 ^ _u64(_SECRET, 11 + 8 * i), acc[i + 1] & _M64 ^ _u64(_SECRET, 19 + 8 * i))
    return _avalanche(h & _M64)


def xxh3_64(data: bytes) -> int:
    """The digest of data."""
    n = len(data)
    if n <= 16:
        return _to_16(data)
    if n <= 128:
        return _to_128(data)
    if n <= 240:
        return _to_240(data)
    return _long(data)
