# SPDX-License-Identifier: Apache-2.0
"""The table of constants and prototypes against include/spectrumkv.h."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import pytest

import spectrumkv as skv
from spectrumkv import _abi
from spectrumkv.constants import c_constants

SCALARS = {
    "int32_t": ctypes.c_int32,
    "int64_t": ctypes.c_int64,
    "uint8_t": ctypes.c_uint8,
    "uint32_t": ctypes.c_uint32,
    "uint64_t": ctypes.c_uint64,
    "size_t": ctypes.c_size_t,
    "float": ctypes.c_float,
    "double": ctypes.c_double,
    "char": ctypes.c_char,
    "skv_status": ctypes.c_int32,
    "void": None,
    "skv_executor": ctypes.c_void_p,  # a function of the caller's
}


@pytest.fixture(scope="module")
def header(root: Path) -> str:
    text = (root / "include" / "spectrumkv.h").read_text()
    return re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL)


def c_type(text: str) -> object:
    """The ctypes type of a C type such as ``const skv_cache*``."""
    text = re.sub(r"\bconst\b", "", text)
    name, stars = re.fullmatch(r"\s*(\w+)\s*((?:\*\s*)*)", text).groups()  # type: ignore[union-attr]
    depth = stars.count("*")
    if name == "char" and depth:
        base, depth = ctypes.c_char_p, depth - 1
    elif name == "void" and depth:
        base, depth = ctypes.c_void_p, depth - 1
    else:
        base = SCALARS[name] if name in SCALARS else getattr(_abi, name)
    for _ in range(depth):
        base = ctypes.POINTER(base)
    return base


def prototypes(header: str) -> dict[str, tuple[object, list[object]]]:
    found = {}
    for result, name, parameters in re.findall(r"SKV_API\s+([\w\s*]+?)\s*\b(skv_\w+)\s*\(([^)]*)\)\s*;", header):
        texts = [] if parameters.strip() == "void" else parameters.split(",")
        found[name] = (c_type(result), [c_type(re.sub(r"\w+\s*$", "", text, count=1)) for text in texts])
    return found


def test_every_function_has_its_prototype(header: str) -> None:
    in_header = prototypes(header)
    assert len(in_header) > 70
    assert sorted(in_header) == sorted(_abi.PROTOTYPES)
    for name, (result, parameters) in in_header.items():
        assert _abi.PROTOTYPES[name] == (result, tuple(parameters)), name


def test_every_constant_has_its_value(header: str) -> None:
    defines = dict(re.findall(r"^#define (SKV_\w+) \(?(-?\d+)\)?\s*$", header, flags=re.MULTILINE))
    assert len(defines) > 100
    assert {name: int(value) for name, value in defines.items()} == c_constants()


def test_every_struct_has_its_fields(header: str) -> None:
    bodies = {
        name: body for body, name in re.findall(r"typedef struct \w+ \{(.*?)\}\s*(\w+);", header, flags=re.DOTALL)
    }
    assert sorted(bodies) == sorted(struct.__name__ for struct in _abi.STRUCTS)
    for struct in _abi.STRUCTS:
        fields = []
        for kind, name, length in re.findall(r"(\w+)\s+(\w+)(?:\[(\d+)\])?;", bodies[struct.__name__]):
            base = SCALARS[kind]
            fields.append((name, base * int(length) if length else base))
        assert list(struct._fields_) == fields, struct.__name__
    assert ctypes.sizeof(_abi.skv_error) == 256


def test_the_library_agrees_on_versions_and_names() -> None:
    lib = skv.library()
    assert lib.version() == skv.__version__
    assert lib.dll.skv_abi_version() == skv.ABI_VERSION
    for status in skv.Status:
        assert lib.status_name(status) == f"SKV_{status.name}"
    assert lib.status_name(-9999) == "SKV_UNKNOWN"


def test_every_error_status_raises_its_own_kind() -> None:
    from spectrumkv.errors import error_for

    kinds = {}
    for status in skv.Status:
        if status < 0:
            error = error_for(status, "text", 5)
            assert isinstance(error, skv.SpectrumKVError)
            assert (error.status, error.status_name, error.native) == (status, f"SKV_{status.name}", 5)
            kinds.setdefault(-status // 10, set()).add(type(error))
    kinds[12].discard(skv.TransportTimeoutError)
    assert all(len(classes) == 1 for classes in kinds.values())
    assert len(set.union(*kinds.values())) == len(kinds)
    assert error_for(-9999, "").status_name == "SKV_UNKNOWN"


def test_a_missing_library_says_what_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECTRUMKV_LIBRARY", "/nowhere/libspectrumkv.so")
    with pytest.raises(skv.LibraryError, match="/nowhere/libspectrumkv.so"):
        skv.library.__wrapped__()


def test_a_library_of_another_abi_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_abi, "ABI_VERSION", 999)
    with pytest.raises(skv.LibraryError, match="needs 999"):
        _abi.Library(skv.library().path)
