# SPDX-License-Identifier: Apache-2.0
"""The C ABI: one table of prototypes, the search for the library, and the call that turns statuses into exceptions.

`PROTOTYPES` is compared with ``include/spectrumkv.h`` by a test: every function, every parameter, every type.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Iterator
from ctypes import (
    POINTER,
    Structure,
    c_char,
    c_char_p,
    c_double,
    c_float,
    c_int32,
    c_int64,
    c_size_t,
    c_uint8,
    c_uint32,
    c_uint64,
    c_void_p,
)
from pathlib import Path
from typing import Any, Final

from spectrumkv.constants import ABI_VERSION
from spectrumkv.errors import LibraryError, error_for


class skv_engine(Structure):
    """Opaque."""


class skv_cache(Structure):
    """Opaque."""


class skv_scores(Structure):
    """Opaque."""


class skv_profile(Structure):
    """Opaque."""


class skv_needle_probe(Structure):
    """Opaque."""


class skv_plan(Structure):
    """Opaque."""


class skv_payload(Structure):
    """Opaque."""


class skv_endpoint(Structure):
    """Opaque."""


class skv_conn(Structure):
    """Opaque."""


class skv_request(Structure):
    """Opaque."""


class skv_error(Structure):
    """Caller-owned error, 256 bytes, frozen."""

    _fields_ = (("status", c_int32), ("native", c_int32), ("message", c_char * 248))


class skv_receipt(Structure):
    """What was done to make, move and read a payload."""

    _fields_ = (
        ("struct_size", c_uint32),
        ("scored", c_int32),
        ("raw_bytes", c_uint64),
        ("budget_bytes", c_uint64),
        ("payload_bytes", c_uint64),
        ("ratio", c_double),
        ("k_rows", c_uint64 * 8),
        ("v_rows", c_uint64 * 8),
        ("score_ns", c_uint64),
        ("plan_ns", c_uint64),
        ("encode_ns", c_uint64),
        ("decode_ns", c_uint64),
        ("wire_ns", c_uint64),
        ("plane", c_int32),
        ("code", c_int32),
        ("break_even_bits_per_s", c_double),
        ("int4", c_int32),
        ("proof", c_int32),
        ("predicted_kl", c_double),
        ("worst_snr_db", c_double),
        ("worst_layer", c_int32),
        ("worst_head", c_int32),
        ("escalated_layers", c_uint32),
        ("raw_is_faster", c_int32),
        ("dropped_rows", c_uint64),
        ("k_mass", c_double * 8),
        ("v_mass", c_double * 8),
        ("link_bits_per_s", c_double),
        ("unpacked_bytes", c_uint64),
        ("cut_layers", c_uint32),
        ("reserved", c_uint32),
    )


class skv_endpoint_stats(Structure):
    """Counters of an endpoint."""

    _fields_ = (
        ("struct_size", c_uint32),
        ("conns", c_uint32),
        ("handshakes_ok", c_uint64),
        ("handshakes_failed", c_uint64),
        ("sent_ok", c_uint64),
        ("received_ok", c_uint64),
        ("failed", c_uint64),
        ("bytes_sent", c_uint64),
        ("bytes_received", c_uint64),
        ("protocol_errors", c_uint64),
        ("checksum_errors", c_uint64),
        ("auth_errors", c_uint64),
        ("handshakes_refused", c_uint64),
        ("handshakes_pending", c_uint64),
        ("cancelled", c_uint64),
        ("timed_out", c_uint64),
        ("peer_lost", c_uint64),
        ("rejected", c_uint64),
        ("no_resource", c_uint64),
        ("sending", c_uint64),
        ("receiving", c_uint64),
        ("offers_waiting", c_uint64),
        ("credit_held", c_uint64),
        ("credit_stalls", c_uint64),
        ("events_lost", c_uint64),
        ("time_log2", c_uint64 * 32),
        ("queue_log2", c_uint64 * 32),
        ("bytes_log2", c_uint64 * 40),
    )


class skv_event(Structure):
    """What happened at an endpoint, 64 bytes, frozen."""

    _fields_ = (
        ("time_ns", c_uint64),
        ("kind", c_int32),
        ("status", c_int32),
        ("conn", c_uint64),
        ("transfer", c_uint64),
        ("key", c_uint64),
        ("bytes", c_uint64),
        ("duration_ns", c_uint64),
        ("sending", c_int32),
        ("reserved", c_int32),
    )


STRUCTS: Final[tuple[type[Structure], ...]] = (skv_error, skv_receipt, skv_endpoint_stats, skv_event)

Type = Any  # a ctypes type; None is void

STATUS: Final = c_int32
ENGINE: Final = POINTER(skv_engine)
CACHE: Final = POINTER(skv_cache)
SCORES: Final = POINTER(skv_scores)
PROFILE: Final = POINTER(skv_profile)
NEEDLE_PROBE: Final = POINTER(skv_needle_probe)
PLAN: Final = POINTER(skv_plan)
PAYLOAD: Final = POINTER(skv_payload)
ENDPOINT: Final = POINTER(skv_endpoint)
CONN: Final = POINTER(skv_conn)
REQUEST: Final = POINTER(skv_request)
ERR: Final = POINTER(skv_error)
BYTES: Final = POINTER(c_uint8)
_I32, _I64, _U32, _U64 = c_int32, c_int64, c_uint32, c_uint64

# name -> (result, parameters)
PROTOTYPES: Final[dict[str, tuple[Type, tuple[Type, ...]]]] = {
    # versions
    "skv_version": (_U32, ()),
    "skv_version_string": (c_char_p, ()),
    "skv_abi_version": (_U32, ()),
    "skv_wire_version": (_U32, ()),
    "skv_status_name": (c_char_p, (STATUS,)),
    # engine
    "skv_engine_create": (STATUS, (_I32, POINTER(ENGINE), ERR)),
    "skv_engine_set": (STATUS, (ENGINE, _I32, _I64, ERR)),
    "skv_engine_set_executor": (STATUS, (ENGINE, c_void_p, c_void_p, _I32, ERR)),
    "skv_engine_get": (STATUS, (ENGINE, _I32, POINTER(_I64), ERR)),
    "skv_engine_describe": (STATUS, (ENGINE, c_char_p, c_size_t, ERR)),
    "skv_engine_destroy": (None, (ENGINE,)),
    # cache
    "skv_cache_create": (STATUS, (_I32, POINTER(CACHE), ERR)),
    "skv_cache_set_tokens": (STATUS, (CACHE, _I32, _I64, _I64, ERR)),
    "skv_cache_set_layer": (STATUS, (CACHE, _I32, _I32, _I32, _I32, _I32, ERR)),
    "skv_cache_set_first_head": (STATUS, (CACHE, _I32, _I32, ERR)),
    "skv_cache_set_group": (STATUS, (CACHE, _I32, _I32, ERR)),
    "skv_cache_set_plane": (STATUS, (CACHE, _I32, _I32, c_void_p, c_size_t, _I64, _I64, _I64, _I64, ERR)),
    "skv_cache_set_blocks": (STATUS, (CACHE, _I32, POINTER(_I32), c_size_t, _I32, ERR)),
    "skv_cache_set_identity": (STATUS, (CACHE, BYTES, BYTES, ERR)),
    "skv_cache_set": (STATUS, (CACHE, _I32, _I64, ERR)),
    "skv_cache_check": (STATUS, (CACHE, ERR)),
    "skv_cache_raw_bytes": (STATUS, (CACHE, POINTER(_U64), ERR)),
    "skv_cache_destroy": (None, (CACHE,)),
    "skv_cache_from_llama": (STATUS, (c_void_p, c_size_t, POINTER(_I32), _I32, POINTER(CACHE), ERR)),
    "skv_llama_blob_bytes": (STATUS, (PAYLOAD, _I32, _I32, POINTER(_U64), ERR)),
    "skv_cache_to_llama": (STATUS, (PAYLOAD, _I32, _I32, BYTES, c_void_p, c_size_t, POINTER(CACHE), ERR)),
    # scores
    "skv_scores_create": (STATUS, (POINTER(SCORES), ERR)),
    "skv_scores_set_weights": (STATUS, (SCORES, _I32, _I32, POINTER(c_float), c_size_t, ERR)),
    "skv_scores_set_queries": (
        STATUS,
        (SCORES, _I32, c_void_p, c_size_t, _I32, _I32, _I32, _I64, _I64, _I64, c_float, _I32, ERR),
    ),
    "skv_score": (STATUS, (ENGINE, CACHE, SCORES, ERR)),
    "skv_scores_get": (STATUS, (SCORES, _I32, _I32, POINTER(c_float), c_size_t, ERR)),
    "skv_scores_destroy": (None, (SCORES,)),
    # profile
    "skv_profile_create": (STATUS, (BYTES, _I32, _I32, POINTER(PROFILE), ERR)),
    "skv_profile_open": (STATUS, (c_char_p, c_size_t, POINTER(PROFILE), ERR)),
    "skv_profile_save": (STATUS, (PROFILE, c_char_p, c_size_t, POINTER(c_size_t), ERR)),
    "skv_profile_calibrate": (STATUS, (PROFILE, _I32, _I32, _I32, c_double, c_double, ERR)),
    "skv_profile_set_verdict": (STATUS, (PROFILE, _I32, _I32, _I32, _I32, ERR)),
    "skv_profile_get_verdict": (STATUS, (PROFILE, _I32, POINTER(_I32), POINTER(_I32), POINTER(_I32), ERR)),
    "skv_profile_destroy": (None, (PROFILE,)),
    "skv_needle_probe_create": (STATUS, (_U32, POINTER(NEEDLE_PROBE), ERR)),
    "skv_needle_probe_prompt": (STATUS, (NEEDLE_PROBE, _I32, POINTER(c_char_p), ERR)),
    "skv_needle_probe_answer": (STATUS, (NEEDLE_PROBE, _I32, c_char_p, c_size_t, POINTER(_I32), ERR)),
    "skv_needle_probe_verdict": (STATUS, (NEEDLE_PROBE, PROFILE, ERR)),
    "skv_needle_probe_destroy": (None, (NEEDLE_PROBE,)),
    # plan
    "skv_plan_create": (STATUS, (ENGINE, POINTER(PLAN), ERR)),
    "skv_plan_set": (STATUS, (PLAN, _I32, _I64, ERR)),
    "skv_plan_set_budget": (STATUS, (PLAN, c_double, ERR)),
    "skv_plan_set_budget_bytes": (STATUS, (PLAN, _U64, ERR)),
    "skv_plan_set_strategy": (STATUS, (PLAN, c_char_p, ERR)),
    "skv_plan_set_profile": (STATUS, (PLAN, PROFILE, ERR)),
    "skv_plan_cost": (STATUS, (PLAN, _I32, _I32, POINTER(c_double), ERR)),
    "skv_plan_solve": (STATUS, (PLAN, CACHE, SCORES, ERR)),
    "skv_plan_bytes": (STATUS, (PLAN, POINTER(_U64), ERR)),
    "skv_plan_get_tiers": (STATUS, (PLAN, _I32, _I32, BYTES, c_size_t, ERR)),
    "skv_plan_set_tiers": (STATUS, (PLAN, _I32, _I32, BYTES, c_size_t, ERR)),
    "skv_plan_destroy": (None, (PLAN,)),
    # payload
    "skv_encode": (STATUS, (ENGINE, CACHE, PLAN, c_void_p, POINTER(PAYLOAD), ERR)),
    "skv_encode_into": (STATUS, (ENGINE, CACHE, PLAN, c_void_p, c_void_p, c_size_t, POINTER(PAYLOAD), ERR)),
    "skv_payload_create": (STATUS, (CACHE, PLAN, c_void_p, c_size_t, POINTER(PAYLOAD), ERR)),
    "skv_encode_layer": (STATUS, (ENGINE, CACHE, PLAN, _I32, c_void_p, PAYLOAD, ERR)),
    "skv_payload_open": (STATUS, (c_void_p, c_size_t, POINTER(PAYLOAD), ERR)),
    "skv_payload_open_on": (STATUS, (ENGINE, c_void_p, c_size_t, POINTER(PAYLOAD), ERR)),
    "skv_payload_pack": (STATUS, (ENGINE, PAYLOAD, POINTER(PAYLOAD), ERR)),
    "skv_payload_verify": (STATUS, (PAYLOAD, ERR)),
    "skv_payload_copy": (STATUS, (PAYLOAD, c_void_p, c_size_t, ERR)),
    "skv_payload_data": (STATUS, (PAYLOAD, POINTER(c_void_p), POINTER(c_size_t), ERR)),
    "skv_payload_identity": (STATUS, (PAYLOAD, BYTES, BYTES, ERR)),
    "skv_payload_get": (STATUS, (PAYLOAD, _I32, _I32, POINTER(_I64), ERR)),
    "skv_payload_get_tiers": (STATUS, (PAYLOAD, _I32, _I32, BYTES, c_size_t, ERR)),
    "skv_plan_upgrade": (STATUS, (PLAN, PAYLOAD, CACHE, SCORES, ERR)),
    "skv_encode_upgrade": (STATUS, (ENGINE, CACHE, PAYLOAD, PLAN, POINTER(PAYLOAD), ERR)),
    "skv_payload_apply": (STATUS, (PAYLOAD, PAYLOAD, POINTER(PAYLOAD), ERR)),
    "skv_plan_truncate": (STATUS, (PLAN, PAYLOAD, SCORES, ERR)),
    "skv_payload_truncate": (STATUS, (PAYLOAD, PLAN, POINTER(PAYLOAD), ERR)),
    "skv_decode": (STATUS, (ENGINE, PAYLOAD, CACHE, c_void_p, ERR)),
    "skv_decode_layer": (STATUS, (ENGINE, PAYLOAD, CACHE, _I32, c_void_p, ERR)),
    "skv_payload_destroy": (None, (PAYLOAD,)),
    "skv_payload_receipt": (STATUS, (PAYLOAD, POINTER(skv_receipt), ERR)),
    # transport
    "skv_now_ns": (_U64, ()),
    "skv_deadline_ms": (_U64, (_U64,)),
    "skv_endpoint_create": (STATUS, (POINTER(ENDPOINT), ERR)),
    "skv_endpoint_set": (STATUS, (ENDPOINT, _I32, _I64, ERR)),
    "skv_endpoint_set_model": (STATUS, (ENDPOINT, BYTES, ERR)),
    "skv_endpoint_set_psk": (STATUS, (ENDPOINT, _I32, BYTES, c_size_t, ERR)),
    "skv_endpoint_set_tls": (STATUS, (ENDPOINT, c_char_p, c_char_p, c_char_p, c_char_p, ERR)),
    "skv_endpoint_set_library": (STATUS, (ENDPOINT, _I32, c_char_p, ERR)),
    "skv_listen": (STATUS, (ENDPOINT, c_char_p, c_char_p, c_size_t, ERR)),
    "skv_accept": (STATUS, (ENDPOINT, _U64, POINTER(CONN), ERR)),
    "skv_connect": (STATUS, (ENDPOINT, c_char_p, _U64, POINTER(CONN), ERR)),
    "skv_endpoint_fd": (STATUS, (ENDPOINT, POINTER(_I32), ERR)),
    "skv_endpoint_progress": (STATUS, (ENDPOINT, _U64, ERR)),
    "skv_endpoint_drain": (STATUS, (ENDPOINT, _U64, ERR)),
    "skv_endpoint_poll": (STATUS, (ENDPOINT, POINTER(REQUEST), c_size_t, POINTER(c_size_t), ERR)),
    "skv_endpoint_get_stats": (STATUS, (ENDPOINT, POINTER(skv_endpoint_stats), ERR)),
    "skv_endpoint_events": (STATUS, (ENDPOINT, POINTER(skv_event), c_size_t, POINTER(c_size_t), ERR)),
    "skv_endpoint_destroy": (None, (ENDPOINT,)),
    "skv_conn_get": (STATUS, (CONN, _I32, POINTER(_I64), ERR)),
    "skv_conn_set_communicator": (STATUS, (CONN, c_void_p, _I32, ERR)),
    "skv_conn_destroy": (None, (CONN,)),
    "skv_send": (STATUS, (CONN, _U64, PAYLOAD, _U64, POINTER(REQUEST), ERR)),
    "skv_send_layers": (STATUS, (CONN, _U64, PAYLOAD, _U64, POINTER(REQUEST), ERR)),
    "skv_recv_offer": (STATUS, (CONN, _U64, POINTER(REQUEST), ERR)),
    "skv_offer_accept": (STATUS, (REQUEST, c_void_p, c_size_t, _U64, ERR)),
    "skv_offer_reject": (STATUS, (REQUEST, c_char_p, ERR)),
    "skv_request_get": (STATUS, (REQUEST, _I32, POINTER(_I64), ERR)),
    "skv_request_set": (STATUS, (REQUEST, _I32, _I64, ERR)),
    "skv_request_identity": (STATUS, (REQUEST, BYTES, BYTES, ERR)),
    "skv_request_test": (STATUS, (REQUEST, ERR)),
    "skv_request_wait": (STATUS, (REQUEST, _U64, ERR)),
    "skv_request_wait_layer": (STATUS, (REQUEST, _I32, _U64, ERR)),
    "skv_request_stream_wait": (STATUS, (REQUEST, _I32, c_void_p, ERR)),
    "skv_request_cancel": (STATUS, (REQUEST, ERR)),
    "skv_request_payload": (STATUS, (REQUEST, POINTER(PAYLOAD), ERR)),
    "skv_request_destroy": (STATUS, (REQUEST, ERR)),
}

SONAME: Final = f"libspectrumkv.so.{ABI_VERSION}"


def candidates() -> Iterator[str]:
    """Where the library is looked for, in order.

    ``SPECTRUMKV_LIBRARY`` (then nothing else), the package's own folder (wheels), ``build/release`` and ``build/dev``
    of a source checkout, and the loader's path under the SONAME.
    """
    explicit = os.environ.get("SPECTRUMKV_LIBRARY")
    if explicit:
        yield explicit
        return
    package = Path(__file__).resolve().parent
    for name in (SONAME, "libspectrumkv.so"):
        if (package / name).is_file():
            yield str(package / name)
    checkout = package.parents[3] if len(package.parents) > 3 else package
    if (checkout / "include" / "spectrumkv.h").is_file():
        for folder in ("release", "dev"):  # never a sanitizer's build: loading one into Python ends the process
            path = checkout / "build" / folder / "libspectrumkv.so"
            if path.is_file():
                yield str(path)
    yield SONAME


def _raise_for_status(status: int, _function: object, arguments: tuple[Any, ...]) -> int:
    if status < 0:
        error = arguments[-1]
        raise error_for(status, error.message.decode("utf-8", "replace"), error.native)
    return status


class Library:
    """The loaded library: functions with their prototypes, exceptions for statuses."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.dll = ctypes.CDLL(path)
        self.dll.skv_abi_version.restype = c_uint32
        found = self.dll.skv_abi_version()
        if found != ABI_VERSION:
            raise LibraryError(f"{path}: ABI version {found}, this package needs {ABI_VERSION}")
        for name, (result, parameters) in PROTOTYPES.items():
            function = getattr(self.dll, name)
            function.restype = result
            function.argtypes = parameters
            if parameters and parameters[-1] is ERR:
                function.errcheck = _raise_for_status

    def call(self, name: str, *arguments: Any) -> int:
        """Calls a fallible function, without its trailing error. Returns OK or IN_PROGRESS, raises for errors."""
        return int(getattr(self.dll, name)(*arguments, skv_error()))

    def version(self) -> str:
        """The library's version, e.g. ``"0.1.0"``."""
        return str(self.dll.skv_version_string().decode())

    def wire_version(self) -> tuple[int, int]:
        """Payload format it writes, (major, minor)."""
        value = int(self.dll.skv_wire_version())
        return value >> 8, value & 255

    def status_name(self, status: int) -> str:
        """``"SKV_E_BUDGET"`` etc."""
        return str(self.dll.skv_status_name(status).decode())

    def deadline(self, seconds: float) -> int:
        """Absolute deadline so many seconds from now, in CLOCK_MONOTONIC nanoseconds."""
        milliseconds = min(max(seconds, 0.0), 1e12) * 1000.0
        return int(self.dll.skv_deadline_ms(int(-(-milliseconds // 1))))


@functools.cache
def library() -> Library:
    """The library, loaded once. Raises `LibraryError` that lists what was tried."""
    tried: list[str] = []
    for path in candidates():
        try:
            return Library(path)
        except (OSError, AttributeError) as error:
            tried.append(f"{path}: {error}")
    raise LibraryError(
        "libspectrumkv was not found (build it with `cmake --preset release && cmake --build --preset release`, or set"
        " SPECTRUMKV_LIBRARY). Tried:\n  " + "\n  ".join(tried)
    )
