# SPDX-License-Identifier: Apache-2.0
"""The packed form of docs/wire-format.md, written from its text: unpacking, and packing with cuts of its own.

zstd itself is the zstandard package's.
"""

from __future__ import annotations

import struct

import zstandard
from reference import HEADER, SEGMENT_HEADER, RefusedError, parse, require, sealed_segment
from xxh3 import xxh3_64

PACKED_HEADER = 64
RECORD_HEADER = 64
PIECE = 131072
MAX_EXPANSION = 64


def unpack_piece(data: bytes, plain: int) -> bytes:
    if len(data) == plain:
        return data
    try:
        out = zstandard.ZstdDecompressor().decompress(data, max_output_size=plain, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise RefusedError("MALFORMED", f"piece: {error}") from error
    require(len(out) == plain, "MALFORMED", "piece size")
    return out


def unpack(data: bytes) -> bytes:
    """The payload that a packed one holds."""
    require(len(data) >= PACKED_HEADER + HEADER, "TRUNCATED", "headers")
    magic, major, minor, header_bytes, flags, layers, total, plain, method = struct.unpack_from("<4sBBHIIQQI", data)
    require(magic == b"SKVP", "MALFORMED", "magic")
    require(major == 1, "VERSION", "major")
    require(xxh3_64(data[:56]) == int.from_bytes(data[56:64], "little"), "CHECKSUM", "header digest")
    require(header_bytes == PACKED_HEADER, "MALFORMED", "header bytes")
    require(1 <= layers <= 4096, "MALFORMED", "layer count")
    require(minor > 0 or not any(data[36:56]), "MALFORMED", "reserved")
    require(flags & 0xFFFF == 0, "FEATURE", "flags")
    require(method == 1, "FEATURE", "method")
    require(total <= len(data), "TRUNCATED", "packed payload")
    require(total == len(data), "TRAILING", "packed payload")
    require(plain >= HEADER + SEGMENT_HEADER and plain // MAX_EXPANSION <= len(data), "MALFORMED", "plain bytes")
    out = bytearray(data[PACKED_HEADER : PACKED_HEADER + HEADER])
    at = PACKED_HEADER + HEADER
    for ordinal in range(layers):
        left = data[at:]
        require(len(left) >= RECORD_HEADER, "MALFORMED", "record header")
        magic, layer, size, segment_bytes, pieces = struct.unpack_from("<4sIQQI", left)
        require(magic == b"SEGP" and layer == ordinal, "MALFORMED", "record magic or layer")
        require(RECORD_HEADER < size <= len(left) and size % 16 == 0, "MALFORMED", "record bytes")
        require(not any(left[28:56]), "MALFORMED", "record reserved")
        record = left[:size]
        require(sealed_segment(record) == record, "CHECKSUM", "record digest")
        require(1 <= pieces <= (size - RECORD_HEADER) // 8, "MALFORMED", "pieces")
        begin = RECORD_HEADER + 8 * pieces
        segment = bytearray()
        for i in range(pieces):
            piece, packed = struct.unpack_from("<II", record, RECORD_HEADER + 8 * i)
            require(1 <= packed <= piece <= PIECE and begin + packed <= size, "MALFORMED", "piece sizes")
            segment += unpack_piece(record[begin : begin + packed], piece)
            begin += packed
        require(len(segment) == segment_bytes, "MALFORMED", "plain bytes of a record")
        require(-(-begin // 16) * 16 == size and not any(record[begin:]), "MALFORMED", "padding")
        out += segment
        at += size
    require(at == len(data) and len(out) == plain, "MALFORMED", "records end elsewhere")
    payload, _ = parse(bytes(out))
    require(len(payload.layers) == layers, "MALFORMED", "layer count")
    return bytes(out)


def pack(data: bytes, cut: int = 1000, level: int = 19) -> bytes:
    """A packed payload with a cut every so many bytes, wherever sections begin."""
    _, segments = parse(data)
    records = []
    for ordinal, segment in enumerate(segments):
        pieces = [segment.data[i : i + cut] for i in range(0, len(segment.data), cut)]
        packed = [zstandard.ZstdCompressor(level=level).compress(piece) for piece in pieces]
        packed = [small if len(small) < len(piece) else piece for small, piece in zip(packed, pieces)]
        body = b"".join(struct.pack("<II", len(piece), len(small)) for piece, small in zip(pieces, packed))
        body += b"".join(packed)
        size = -(-(RECORD_HEADER + len(body)) // 16) * 16
        record = struct.pack("<4sIQQI", b"SEGP", ordinal, size, len(segment.data), len(pieces)).ljust(RECORD_HEADER, b"\0")
        records.append(sealed_segment((record + body).ljust(size, b"\0")))
    total = PACKED_HEADER + HEADER + sum(map(len, records))
    header = struct.pack("<4sBBHIIQQI", b"SKVP", 1, 0, PACKED_HEADER, 0, len(segments), total, len(data), 1)
    header = header.ljust(56, b"\0")
    return header + xxh3_64(header).to_bytes(8, "little") + data[:HEADER] + b"".join(records)
