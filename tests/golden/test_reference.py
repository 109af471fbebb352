# SPDX-License-Identifier: Apache-2.0
"""The committed golden files are what the reference makes, and what it makes it can read."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import make_malformed  # noqa: E402
from reference import (  # noqa: E402
    EMBEDDED,
    F32,
    MEAN,
    Half,
    Layer,
    Payload,
    RefusedError,
    apply,
    decode,
    encode,
    facts_of,
    main,
    make,
    status_of,
)
from upgrade_set import status_of_apply  # noqa: E402
from xxh3 import xxh3_64  # noqa: E402

UPGRADES = json.loads((HERE / "upgrades.json").read_text())
GOLDEN = json.loads((HERE / "golden.json").read_text())
MALFORMED = json.loads((HERE / "malformed.json").read_text())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("golden")
    make(directory)
    return directory


def test_no_file_is_missing_or_left_over(made: Path) -> None:
    committed = {p.name for p in HERE.iterdir() if p.suffix in (".skv", ".src")}
    assert committed == {p.name for p in made.iterdir() if p.suffix in (".skv", ".src")}
    assert {p.name for p in (HERE / "malformed").iterdir()} == set(MALFORMED)
    for folder in ("upgrades", "upgrades/refused"):
        names = {p.name for p in (HERE / folder).iterdir()}
        assert names == {p.name for p in (made / folder).iterdir()}
        for file in (p for p in (HERE / folder).iterdir() if p.is_file()):
            assert (made / folder / file.name).read_bytes() == file.read_bytes()
    assert (made / "upgrades.json").read_bytes() == (HERE / "upgrades.json").read_bytes()
    assert (made / "golden.json").read_bytes() == (HERE / "golden.json").read_bytes()


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_bytes_are_made_again(made: Path, name: str) -> None:
    for file in (name, name.replace(".skv", ".src")):
        assert (made / file).read_bytes() == (HERE / file).read_bytes()


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_decodes_to_the_recorded_tensors(name: str) -> None:
    data = (HERE / name).read_bytes()
    payload, hashes = decode(data)
    assert {**facts_of(payload), "bytes": len(data), "sha256": hashes} == GOLDEN[name]


def test_malformed_files_are_made_again(tmp_path: Path) -> None:
    make_malformed.make(tmp_path)
    assert (tmp_path / "malformed.json").read_bytes() == (HERE / "malformed.json").read_bytes()
    for name in MALFORMED:
        assert (tmp_path / "malformed" / name).read_bytes() == (HERE / "malformed" / name).read_bytes()


@pytest.mark.parametrize("name", sorted(MALFORMED))
def test_refuses_malformed(name: str) -> None:
    assert status_of((HERE / "malformed" / name).read_bytes()) == MALFORMED[name]


@pytest.mark.parametrize("name", sorted(UPGRADES["upgrades"]))
def test_upgrades_give_the_recorded_results(name: str) -> None:
    facts = UPGRADES["upgrades"][name]
    result = apply((HERE / name).read_bytes(), (HERE / "upgrades" / name).read_bytes())
    assert (len(result), hashlib.sha256(result).hexdigest()) == (facts["result_bytes"], facts["result_sha256"])
    assert status_of(result) == "SKV_OK"


@pytest.mark.parametrize("name", sorted(UPGRADES["refused"]))
def test_upgrades_of_other_payloads_are_refused(name: str) -> None:
    facts = UPGRADES["refused"][name]
    base = (HERE / facts["base"]).read_bytes()
    assert status_of_apply(base, (HERE / "upgrades" / "refused" / name).read_bytes()) == facts["status"]


def test_commands(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["check", str(HERE / "one-token.skv")]) == 0
    assert capsys.readouterr().out == "SKV_OK\n"
    assert main(["decode", str(HERE / "one-token.skv")]) == 0
    assert json.loads(capsys.readouterr().out)["sha256"] == GOLDEN["one-token.skv"]["sha256"]
    upgraded = tmp_path / "upgraded.skv"
    assert main(["apply", str(HERE / "tiny.skv"), str(HERE / "upgrades" / "tiny.skv"), str(upgraded)]) == 0
    assert status_of(upgraded.read_bytes()) == "SKV_OK"
    assert main([]) == 2
    with pytest.raises(RefusedError):
        decode(b"")


@pytest.mark.parametrize(
    ("elements", "status"),
    [
        ((0x7F800000, 0), "NON_FINITE"),  # Inf
        ((0, 0x7FC00000), "NON_FINITE"),  # NaN
        ((0x47800000, 0x47800000), "OVERFLOW"),  # a mean of 65536
        ((0x7F000000, 0xFF000000), "OVERFLOW"),  # a scale of 2^127 / 127
    ],
)
def test_values_that_cannot_be_encoded(elements: tuple[int, int], status: str) -> None:
    data = b"".join(bits.to_bytes(4, "little") * 8 for bits in elements)
    half = Half(8, MEAN, bytes([4, 4]), data)
    with pytest.raises(RefusedError) as caught:
        encode(Payload([Layer(2, 1, F32, F32, 32, EMBEDDED, (half, Half(0)))]))
    assert caught.value.status == f"SKV_E_{status}"


def test_digest_of_every_length_class() -> None:
    """Values of the C implementation for bytes (i * 2654435761 mod 2^32) >> 13 mod 256."""
    data = bytes((i * 2654435761 & 0xFFFFFFFF) >> 13 & 255 for i in range(70000))
    wanted = {
        0: 0x2D06800538D394C2,
        1: 0xC44BDFF4074EECDB,
        3: 0xA1C4A8259B827291,
        4: 0xBB4E3D89EE0B271D,
        8: 0x79D02238B80E37B1,
        9: 0xF64CECC4271FF461,
        16: 0x222E9AEAD6BDDD51,
        17: 0x47AAD6B375EB4BBA,
        128: 0x421A9C905C6E66BA,
        129: 0x9E2414800F83768A,
        240: 0xB714C5FD22744964,
        241: 0xBC424A2C480DD281,
        1024: 0x1FD15E7D36F5E1BC,
        1025: 0xFE08E5A874D23FD2,
        2000: 0xDED5DE4146667D29,
        70000: 0xAD5B670987211577,
    }
    assert {n: xxh3_64(data[:n]) for n in wanted} == wanted
