# SPDX-License-Identifier: Apache-2.0
"""The packed form between the library and a reader made from the text: each reads what the other wrote."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parents[1] / "bindings/python/src"))

from packed import pack, unpack  # noqa: E402
from reference import RefusedError, decode  # noqa: E402

import spectrumkv  # noqa: E402

NAMES = ["layers", "leaves", "tiny", "no-v", "dim-80-bf16", "paper", "all-drop", "f32-raw-f16"]


@pytest.mark.parametrize("element", [0, 2, 4])
@pytest.mark.parametrize("name", NAMES)
def test_the_library_reads_what_the_reference_packed(name: str, element: int) -> None:
    plain = (HERE / f"{name}.skv").read_bytes()
    packed = pack(plain, element=element)
    assert unpack(packed) == plain
    with spectrumkv.Payload.open(packed) as payload, spectrumkv.Payload.open(plain) as direct:
        payload.verify()
        assert payload.nbytes == len(packed)
        assert payload.receipt().unpacked_bytes == len(plain)
        assert payload.receipt().k_rows == direct.receipt().k_rows
        for layer in range(direct.layers):
            assert payload.segment(layer).tokens == direct.segment(layer).tokens


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_reads_what_the_library_packed(name: str) -> None:
    plain = (HERE / f"{name}.skv").read_bytes()
    with spectrumkv.Engine(threads=1) as engine, spectrumkv.Payload.open(plain) as payload:
        with engine.pack(payload) as packed:
            data = bytes(packed.data)
    assert unpack(data) == plain
    assert decode(unpack(data))


@pytest.mark.parametrize("element", [0, 2])
@pytest.mark.parametrize("at", [4, 6, 8, 16, 24, 32, 40, 64, 200, 208, 216, 224, 256, 259, 260, 300])
def test_both_refuse_the_same(at: int, element: int) -> None:
    packed = bytearray(pack((HERE / "tiny.skv").read_bytes(), element=element))
    packed[at] ^= 0x5A
    with pytest.raises(RefusedError):
        unpack(bytes(packed))
    refusals = (spectrumkv.PayloadError, spectrumkv.ChecksumError, spectrumkv.VersionError)
    with pytest.raises(refusals), spectrumkv.Payload.open(bytes(packed)) as payload:
        payload.verify()
