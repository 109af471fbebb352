# SPDX-License-Identifier: Apache-2.0
"""libspectrumkv: moves an LLM's KV cache from a prefill worker to a decode worker in a fraction of its bytes.

The flow: cache -> score -> plan -> encode -> payload -> send | receive -> payload -> decode -> cache::

    import numpy as np
    import spectrumkv as skv

    k, v = (np.random.randn(512, 2, 64).astype(np.float16) for _ in "kv")   # [tokens, kv-heads, dim]
    engine = skv.Engine()
    cache = skv.Cache.from_arrays([(k, v)])
    plan = skv.Plan(engine, budget=0.4, unproven=True).solve(cache)        # real models: queries or a profile
    payload = engine.encode(cache, plan)                                     # bytes(payload) travels

    k2, v2 = np.empty_like(k), np.empty_like(v)
    engine.decode(skv.Payload.open(bytes(payload)), skv.Cache.from_arrays([(k2, v2)]))

Needs nothing but the standard library and libspectrumkv.so (see `spectrumkv._abi.candidates` for where it is found).
Failures raise subclasses of `SpectrumKVError` that carry the C status.
"""

from __future__ import annotations

from spectrumkv._abi import library
from spectrumkv.buffers import Buffer, describe
from spectrumkv.cache import Cache
from spectrumkv.constants import (
    ABI_VERSION,
    ALL,
    DEVICE_CPU,
    NEEDLE_TRIALS,
    VERSION_MAJOR,
    VERSION_MINOR,
    VERSION_PATCH,
    CacheKey,
    Code,
    ConnKey,
    DType,
    EndpointKey,
    EngineKey,
    EventKind,
    Half,
    Pack,
    PayloadKey,
    Plane,
    PlanKey,
    Probe,
    Proof,
    RequestKey,
    RequestState,
    Scored,
    Security,
    Status,
    Target,
    Tier,
    Transform,
    Verdict,
)
from spectrumkv.engine import Engine
from spectrumkv.errors import (
    ArgumentError,
    BudgetError,
    ChecksumError,
    CudaError,
    IdentityError,
    InternalError,
    LibraryError,
    NcclError,
    NonFiniteError,
    PayloadError,
    ResourceError,
    SpectrumKVError,
    StateError,
    TransportError,
    TransportTimeoutError,
    VersionError,
)
from spectrumkv.payload import Payload, Receipt, Segment, aligned_bytearray
from spectrumkv.plan import STRATEGIES, Plan, Scores
from spectrumkv.profile import NeedleProbe, ProbeResult, Profile
from spectrumkv.transport import DEFAULT_TIMEOUT, Certificates, Conn, Endpoint, EndpointStats, Event, Request

__version__ = f"{VERSION_MAJOR}.{VERSION_MINOR}.{VERSION_PATCH}"

__all__ = [
    "ABI_VERSION",
    "ALL",
    "DEFAULT_TIMEOUT",
    "DEVICE_CPU",
    "NEEDLE_TRIALS",
    "STRATEGIES",
    "ArgumentError",
    "BudgetError",
    "Buffer",
    "Cache",
    "CacheKey",
    "Certificates",
    "ChecksumError",
    "Code",
    "Conn",
    "ConnKey",
    "CudaError",
    "DType",
    "Endpoint",
    "EndpointKey",
    "EndpointStats",
    "Engine",
    "EngineKey",
    "Event",
    "EventKind",
    "Half",
    "IdentityError",
    "InternalError",
    "LibraryError",
    "NcclError",
    "NeedleProbe",
    "NonFiniteError",
    "Pack",
    "Payload",
    "PayloadError",
    "PayloadKey",
    "Plan",
    "PlanKey",
    "Plane",
    "Probe",
    "ProbeResult",
    "Profile",
    "Proof",
    "Receipt",
    "Request",
    "RequestKey",
    "RequestState",
    "ResourceError",
    "Scored",
    "Scores",
    "Security",
    "Segment",
    "SpectrumKVError",
    "StateError",
    "Status",
    "Target",
    "Tier",
    "Transform",
    "TransportError",
    "TransportTimeoutError",
    "Verdict",
    "VersionError",
    "__version__",
    "aligned_bytearray",
    "describe",
    "library",
]
