# SPDX-License-Identifier: Apache-2.0
"""SWIG reads the same header with its own parser: its module and its parse tree judge the ctypes table of the package."""

from __future__ import annotations

import ctypes
import os
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import spectrumkv_swig as raw

import spectrumkv as skv
from spectrumkv import _abi
from spectrumkv.constants import c_constants


def attributes(node: ET.Element) -> dict[str, str]:
    found = node.find("attributelist")
    return {} if found is None else {a.get("name", ""): a.get("value", "") for a in found.findall("attribute")}


@pytest.fixture(scope="module")
def tree() -> ET.Element:
    root = ET.fromstring(Path(os.environ["SKV_SWIG_XML"]).read_text(errors="replace"))
    for include in root.iter("include"):
        if attributes(include).get("name", "").endswith("spectrumkv.h"):
            return include
    raise AssertionError("SWIG's tree does not hold spectrumkv.h")


SCALARS = {
    "int32_t": ctypes.c_int32,
    "skv_status": ctypes.c_int32,
    "int64_t": ctypes.c_int64,
    "uint8_t": ctypes.c_uint8,
    "uint32_t": ctypes.c_uint32,
    "uint64_t": ctypes.c_uint64,
    "size_t": ctypes.c_size_t,
    "float": ctypes.c_float,
    "double": ctypes.c_double,
}


def c_type(swig: str) -> object:
    """The ctypes type of SWIG's ``p.q(const).skv_cache``."""
    stars = swig.count("p.")
    base = re.sub(r"(p|q\(const\))\.", "", swig)
    if base == "void":
        kind: object = None if stars == 0 else ctypes.c_void_p
        stars -= 1 if stars else 0
    elif base == "skv_executor":  # a function of the caller's
        kind = ctypes.c_void_p
    elif base == "char" and stars:
        kind = ctypes.c_char_p
        stars -= 1
    else:
        kind = SCALARS.get(base) or getattr(_abi, base)
    for _ in range(stars):
        kind = ctypes.POINTER(kind)  # type: ignore[arg-type]
    return kind


def test_every_prototype_is_the_ctypes_tables(tree: ET.Element) -> None:
    found = {}
    for node in tree.iter("cdecl"):
        facts = attributes(node)
        if facts.get("kind") != "function" or not facts.get("name", "").startswith("skv_"):
            continue
        own = node.find("attributelist")
        assert own is not None
        parms = own.find("parmlist")
        types = [] if parms is None else [attributes(p)["type"] for p in parms.findall("parm")]
        # "f(...).p." with "q(const).char" is a function that returns const char*.
        result = facts["decl"].rpartition(").")[2] + facts["type"]
        # A void list is SWIG's one parameter of type void.
        found[facts["name"]] = (c_type(result), tuple(c_type(t) for t in types if t != "void"))
    missing = sorted(set(found) ^ set(_abi.PROTOTYPES))
    assert not missing, f"in the header or in the ctypes table only: {', '.join(missing)}"
    for name, prototype in found.items():
        assert _abi.PROTOTYPES[name] == prototype, name


def test_every_function_and_constant_is_in_the_module() -> None:
    functions = {name for name in dir(raw) if name.startswith("skv_") and callable(getattr(raw, name))}
    structs = {struct.__name__ for struct in _abi.STRUCTS}
    assert functions - structs == set(_abi.PROTOTYPES)
    constants = {name: getattr(raw, name) for name in dir(raw) if name.startswith("SKV_") and name != "SKV_API"}
    assert {name: value for name, value in constants.items() if isinstance(value, int)} == c_constants()


def test_structs_have_the_same_fields_and_sizes() -> None:
    for struct in _abi.STRUCTS:
        swig = getattr(raw, struct.__name__)
        fields = {name for name in dir(swig) if isinstance(getattr(swig, name), property)} - {"thisown"}
        assert fields == {field[0] for field in struct._fields_}, struct.__name__
    assert raw.skv_receipt().struct_size == ctypes.sizeof(_abi.skv_receipt)
    assert raw.skv_endpoint_stats().struct_size == ctypes.sizeof(_abi.skv_endpoint_stats)


def cache(array: np.ndarray) -> object:
    tokens, heads, dim = array.shape
    _, view = raw.skv_cache_create(1)
    raw.skv_cache_set_tokens(view, raw.SKV_ALL, 0, tokens)
    raw.skv_cache_set_layer(view, 0, heads, dim, 0, raw.SKV_F16)
    raw.skv_cache_set_plane(view, 0, raw.SKV_K, array, 0, *array.strides)
    return view


def test_the_two_bindings_make_the_same_bytes() -> None:
    k = np.random.default_rng(1).normal(0, 1, (320, 2, 64)).astype(np.float16)
    engine = skv.Engine()
    source = skv.Cache.from_arrays([(k, None)])
    wanted = engine.encode(source, skv.Plan(engine, budget=0.4, unproven=True).solve(source))

    _, device = raw.skv_engine_create(raw.SKV_DEVICE_CPU)
    _, plan = raw.skv_plan_create(device)
    raw.skv_plan_set(plan, raw.SKV_PLAN_UNPROVEN, 1)
    raw.skv_plan_set_budget(plan, 0.4)
    view = cache(k)
    raw.skv_plan_solve(plan, view, None)
    _, payload = raw.skv_encode(device, view, plan, None)
    _, data = raw.skv_payload_data(payload)
    assert data == bytes(wanted)

    _, opened = raw.skv_payload_open(data)
    assert raw.skv_payload_get(opened, 0, raw.SKV_PAYLOAD_TOKENS) == [0, 320]
    tiers = bytearray(320)
    raw.skv_payload_get_tiers(opened, 0, raw.SKV_K, tiers)
    assert bytes(tiers) == wanted.tiers(0, skv.Half.K)
    a, b = np.zeros_like(k), np.zeros_like(k)
    target = cache(a)
    raw.skv_decode(device, opened, target, None)
    engine.decode(wanted, skv.Cache.from_arrays([(b, None)]))
    assert a.tobytes() == b.tobytes() != bytes(k.nbytes)
    for handle, kind in ((opened, "payload"), (payload, "payload"), (plan, "plan"), (view, "cache"), (target, "cache")):
        getattr(raw, f"skv_{kind}_destroy")(handle)
    raw.skv_engine_destroy(device)


def test_errors_carry_status_native_and_message() -> None:
    with pytest.raises(RuntimeError) as caught:
        raw.skv_engine_create(7)
    status, native, message = caught.value.args
    assert status == raw.SKV_E_UNAVAILABLE
    assert native >= 0  # with the CUDA kernels built in, the code that the driver gave
    assert message
