# SPDX-License-Identifier: Apache-2.0
"""Every constant of ``spectrumkv.h``, as enumerations.

A constant's C name is the class's prefix (see `PREFIXES`) followed by the member's name: ``Tier.RAW`` is
``SKV_TIER_RAW``. A test compares all of them with the header.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

VERSION_MAJOR: Final = 0
VERSION_MINOR: Final = 1
VERSION_PATCH: Final = 0
ABI_VERSION: Final = 0
WIRE_MAJOR: Final = 1
WIRE_MINOR: Final = 0

ALL: Final = -1
"""Every layer, where a layer index is taken and the documentation allows it."""
FINGERPRINT_BYTES: Final = 32
REQUEST_ID_BYTES: Final = 16
NEEDLE_TRIALS: Final = 3
DEVICE_CPU: Final = -1


class Status(IntEnum):
    """What a call returned: 0 is success, 1 is "not finished", negative is an error, in decades by kind."""

    OK = 0
    IN_PROGRESS = 1
    E_ARGUMENT = -10
    E_NULL = -11
    E_RANGE = -12
    E_DTYPE = -13
    E_STRIDE = -14
    E_OVERLAP = -15
    E_BLOCK_ID = -16
    E_KEY = -17
    E_GEOMETRY = -18
    E_EMPTY = -19
    E_STATE = -20
    E_BUSY = -21
    E_CLOSED = -22
    E_NO_MEMORY = -30
    E_NO_RESOURCE = -31
    E_UNAVAILABLE = -32
    E_TOO_SMALL = -33
    E_IO = -34
    E_BUDGET = -40
    E_PERMITTED = -41
    E_MALFORMED = -50
    E_TRUNCATED = -51
    E_TRAILING = -52
    E_VERSION = -60
    E_FEATURE = -61
    E_MODEL = -70
    E_REQUEST = -71
    E_LAYOUT = -72
    E_BASE = -73
    E_CHECKSUM = -80
    E_NON_FINITE = -90
    E_OVERFLOW = -91
    E_CUDA = -100
    E_NCCL = -110
    E_NCCL_VERSION = -111
    E_TIMED_OUT = -120
    E_CANCELLED = -121
    E_PEER_LOST = -122
    E_REJECTED = -123
    E_PROTOCOL = -124
    E_POISONED = -125
    E_ADDRESS = -126
    E_AUTH = -127
    E_INTERNAL = -130


class Half(IntEnum):
    """Which half of a layer."""

    K = 0
    V = 1


class DType(IntEnum):
    """Element type of a cache."""

    F16 = 1
    BF16 = 2
    F32 = 3

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return 4 if self is DType.F32 else 2


class Tier(IntEnum):
    """How a token's row is sent. ``DROP`` is only for engines that can mask a token."""

    DROP = 0
    TWO_BIT = 1
    FOUR_BIT = 2
    SIX_BIT = 3
    EIGHT_BIT = 4
    RAW = 5

    @property
    def words(self) -> str:
        """For people: "dropped", "4 bits", "raw"."""
        return {Tier.DROP: "dropped", Tier.RAW: "raw"}.get(self, f"{2 * self} bits")


class Transform(IntFlag):
    """Transforms of a half before quantization; Hadamard works over channels a stride of dim/n apart."""

    NONE = 0
    MEAN = 1
    BALANCE = 2
    HADAMARD8 = 4
    HADAMARD16 = 8


class Code(IntEnum):
    """Quantizer: four nested 2-bit planes, or the paper's (arXiv 2606.08635)."""

    EMBEDDED = 0
    PAPER = 1


class Scored(IntEnum):
    """Where a plan's scores came from."""

    NONE = 0
    KV = 1
    QUERIES = 2
    CALLER = 3


class Plane(IntEnum):
    """What carries the bytes between two peers."""

    NONE = 0
    INPROC = 1
    INLINE = 2
    NCCL = 3
    UCX = 4


class Security(IntEnum):
    """How the ends of a conn prove who they are."""

    NONE = 0
    PSK = 1
    TLS = 2
    TLS_PSK = 3


class EngineKey(IntEnum):
    """Options of an engine."""

    THREADS = 1
    TARGET = 2


class Target(IntEnum):
    """Instruction set of the kernels."""

    AUTO = 0
    SCALAR = 1
    AVX2 = 2
    AVX512 = 3
    NEON = 4


class CacheKey(IntEnum):
    """Options of a cache."""

    CAN_MASK = 1


class PlanKey(IntEnum):
    """Options of a plan, set before it is solved."""

    SINKS = 1
    CHUNK = 2
    K_TRANSFORMS = 3
    V_TRANSFORMS = 4
    CODE = 5
    K_TIERS = 6
    V_TIERS = 7
    RAW_DTYPE = 8
    UNPROVEN = 9
    PACK = 10
    LINK_MBPS = 11
    LATE_TIER = 12


class Pack(IntEnum):
    """Whether `Engine.encode` packs: an entropy coder takes without loss what the tiers left."""

    NEVER = 0
    ALWAYS = 1
    AUTO = 2


class Verdict(IntEnum):
    """What a probe said about tiers below 8 bits."""

    NONE = 0
    YES = 1
    NO = 2


class Probe(IntEnum):
    """Probes whose verdict a profile holds."""

    LOGITS = 0
    NEEDLE = 1


class Proof(IntEnum):
    """Who allowed tiers below 8 bits."""

    NONE = 0
    CALLER = 1
    PROFILE = 2
    LOGITS = 3


class PayloadKey(IntEnum):
    """Facts about a payload or one of its segments."""

    BYTES = 1
    LAYERS = 2
    RAW_BYTES = 3
    WIRE = 4
    TOKENS = 5
    POSITION = 6
    HEADS = 7
    K_DIM = 8
    V_DIM = 9
    DTYPE = 10
    RAW_DTYPE = 11
    CHUNK = 12
    CODE = 13
    K_TRANSFORMS = 14
    V_TRANSFORMS = 15
    GROUP = 16
    FIRST_HEAD = 17
    OFFSET = 18
    DEVICE = 19
    UPGRADE = 20
    CUT = 21


class EndpointKey(IntEnum):
    """Options of an endpoint, set before it listens or connects."""

    PROGRESS_THREAD = 1
    MAX_PAYLOAD = 2
    MAX_CONNS = 3
    HANDSHAKE_MS = 4
    HEARTBEAT_MS = 5
    CHUNK = 6
    ALLOW_OPEN_TCP = 7
    TRANSFER_CREDIT = 8
    CREDIT = 9
    PEER_UID = 10
    MAX_HANDSHAKES = 11
    HANDSHAKE_RATE = 12
    EVENTS = 13
    PLANES = 14
    DEVICE = 15
    ABORT_MS = 16


class EventKind(IntEnum):
    """What an endpoint's event is about."""

    CONN_OPEN = 1
    CONN_CLOSED = 2
    HANDSHAKE_FAILED = 3
    OFFERED = 4
    ACCEPTED = 5
    ENDED = 6


class ConnKey(IntEnum):
    """Facts about a conn."""

    PLANE = 1
    OPEN = 2
    PEER_VERSION = 3
    SECURITY = 4


class RequestState(IntEnum):
    """State of a request."""

    PENDING = 0
    OFFERED = 1
    MOVING = 2
    ENDED = 3


class RequestKey(IntEnum):
    """Facts about a request."""

    STATE = 1
    KEY = 2
    BYTES = 3
    LAYERS = 4
    MOVED = 5
    LAYERS_READY = 6
    WIRE_NS = 7
    EARLY_LAYERS = 8


PREFIXES: Final[dict[type[IntEnum | IntFlag], str]] = {
    Status: "SKV_",
    Half: "SKV_",
    DType: "SKV_",
    Tier: "SKV_TIER_",
    Transform: "SKV_TRANSFORM_",
    Code: "SKV_CODE_",
    Scored: "SKV_SCORED_",
    Verdict: "SKV_VERDICT_",
    Probe: "SKV_PROBE_",
    Proof: "SKV_PROOF_",
    Pack: "SKV_PACK_",
    Plane: "SKV_PLANE_",
    Security: "SKV_SECURITY_",
    EngineKey: "SKV_ENGINE_",
    Target: "SKV_TARGET_",
    CacheKey: "SKV_CACHE_",
    PlanKey: "SKV_PLAN_",
    PayloadKey: "SKV_PAYLOAD_",
    EndpointKey: "SKV_ENDPOINT_",
    EventKind: "SKV_EVENT_",
    ConnKey: "SKV_CONN_",
    RequestState: "SKV_REQUEST_",
    RequestKey: "SKV_REQUEST_",
}
"""C prefix of each enumeration's members."""

# Names that would begin with a digit in Python.
_C_NAMES: Final = {
    "SKV_TIER_TWO_BIT": "SKV_TIER_2BIT",
    "SKV_TIER_FOUR_BIT": "SKV_TIER_4BIT",
    "SKV_TIER_SIX_BIT": "SKV_TIER_6BIT",
    "SKV_TIER_EIGHT_BIT": "SKV_TIER_8BIT",
}


def c_constants() -> dict[str, int]:
    """Every constant under its C name."""
    table = {
        "SKV_VERSION_MAJOR": VERSION_MAJOR,
        "SKV_VERSION_MINOR": VERSION_MINOR,
        "SKV_VERSION_PATCH": VERSION_PATCH,
        "SKV_ABI_VERSION": ABI_VERSION,
        "SKV_WIRE_MAJOR": WIRE_MAJOR,
        "SKV_WIRE_MINOR": WIRE_MINOR,
        "SKV_ALL": ALL,
        "SKV_FINGERPRINT_BYTES": FINGERPRINT_BYTES,
        "SKV_REQUEST_ID_BYTES": REQUEST_ID_BYTES,
        "SKV_DEVICE_CPU": DEVICE_CPU,
        "SKV_NEEDLE_TRIALS": NEEDLE_TRIALS,
    }
    for enumeration, prefix in PREFIXES.items():
        for name, member in enumeration.__members__.items():
            c_name = prefix + name
            table[_C_NAMES.get(c_name, c_name)] = int(member)
    return table
