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


def unpack_piece(data: bytes, plain: int, element: int) -> bytes:
    if len(data) == plain:
        return data
    out, left = b"", data
    try:
        while left:  # frame by frame
            frame = zstandard.ZstdDecompressor().decompressobj()
            out += frame.decompress(left)
            require(frame.eof, "MALFORMED", "piece ends in a frame")
            left = frame.unused_data
    except zstandard.ZstdError as error:
        raise RefusedError("MALFORMED", f"piece: {error}") from error
    require(len(out) == plain, "MALFORMED", "piece size")
    if element == 0:
        return out
    columns = [out[i * plain // element : (i + 1) * plain // element] for i in range(element)]
    return b"".join(bytes(reversed(of)) for of in zip(*columns))  # the highest came first


def columns_of(piece: bytes, element: int) -> list[bytes]:
    """The highest byte of every element, then the next, ... the lowest."""
    return [piece[element - 1 - i :: element] for i in range(element)]


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
    require(method in (1, 2), "FEATURE", "method")
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
            piece, element = piece & 0xFFFFFF, piece >> 24
            require(1 <= packed <= piece <= PIECE and begin + packed <= size, "MALFORMED", "piece sizes")
            if element:
                require(method == 2 and element in (2, 4), "MALFORMED", "element bytes")
                require(piece % element == 0 and packed < piece, "MALFORMED", "columns")
            segment += unpack_piece(record[begin : begin + packed], piece, element)
            begin += packed
        require(len(segment) == segment_bytes, "MALFORMED", "plain bytes of a record")
        require(-(-begin // 16) * 16 == size and not any(record[begin:]), "MALFORMED", "padding")
        out += segment
        at += size
    require(at == len(data) and len(out) == plain, "MALFORMED", "records end elsewhere")
    payload, _ = parse(bytes(out))
    require(len(payload.layers) == layers, "MALFORMED", "layer count")
    return bytes(out)


def pack(data: bytes, cut: int = 1000, level: int = 19, element: int = 0) -> bytes:
    """A packed payload with a cut every so many bytes, wherever sections begin.

    element: every piece whose size it divides is packed as columns of elements of so many bytes, whatever they are.
    """
    _, segments = parse(data)
    records = []
    for ordinal, segment in enumerate(segments):
        pieces = [segment.data[i : i + cut] for i in range(0, len(segment.data), cut)]
        table, body = b"", b""
        for piece in pieces:
            in_columns = element != 0 and len(piece) % element == 0
            parts = columns_of(piece, element) if in_columns else [piece]
            small = b"".join(zstandard.ZstdCompressor(level=level).compress(part) for part in parts)
            if len(small) >= len(piece):
                small, in_columns = piece, False
            table += struct.pack("<II", len(piece) | (element if in_columns else 0) << 24, len(small))
            body += small
        body = table + body
        size = -(-(RECORD_HEADER + len(body)) // 16) * 16
        record = struct.pack("<4sIQQI", b"SEGP", ordinal, size, len(segment.data), len(pieces)).ljust(
            RECORD_HEADER, b"\0"
        )
        records.append(sealed_segment((record + body).ljust(size, b"\0")))
    total = PACKED_HEADER + HEADER + sum(map(len, records))
    header = struct.pack(
        "<4sBBHIIQQI", b"SKVP", 1, 0, PACKED_HEADER, 0, len(segments), total, len(data), 2 if element else 1
    )
    header = header.ljust(56, b"\0")
    return header + xxh3_64(header).to_bytes(8, "little") + data[:HEADER] + b"".join(records)
