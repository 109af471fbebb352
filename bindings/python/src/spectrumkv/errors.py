# SPDX-License-Identifier: Apache-2.0
"""Exceptions: one class for each decade of statuses."""

from __future__ import annotations

from spectrumkv.constants import Status


class SpectrumKVError(Exception):
    """A call failed.

    Attributes:
        status: the library's status (negative), a member of `Status` where this version knows it.
        status_name: its C name, e.g. ``"SKV_E_BUDGET"``.
        native: errno, CUDA or NCCL code, else 0.
        message: what was got and what is wanted.
    """

    def __init__(self, status: int, message: str, native: int = 0) -> None:
        self.status: int = Status(status) if status in Status._value2member_map_ else status
        self.status_name: str = f"SKV_{self.status.name}" if isinstance(self.status, Status) else "SKV_UNKNOWN"
        self.native = native
        self.message = message
        super().__init__(f"{self.status_name}: {message}" if message else self.status_name)

    def __reduce__(self) -> tuple[type[SpectrumKVError], tuple[int, str, int]]:
        return type(self), (int(self.status), self.message, self.native)


class LibraryError(ImportError):
    """libspectrumkv was not found, cannot be loaded, or is of another ABI version."""


class ArgumentError(SpectrumKVError, ValueError):
    """The call was wrong and nothing was done: argument, range, dtype, stride, overlap, block id, key, geometry."""


class StateError(SpectrumKVError):
    """The object is not in the state the call needs, still busy, or closed."""


class ResourceError(SpectrumKVError):
    """Memory, threads, sockets, a buffer too small, or something this build or machine lacks."""


class BudgetError(SpectrumKVError):
    """The byte budget is below the floor (the message names it), or something needed was not permitted."""


class PayloadError(SpectrumKVError):
    """Bytes that are not a well-formed payload (or llama.cpp state): malformed, truncated, trailing."""


class VersionError(SpectrumKVError):
    """Another wire version, or a feature that this version does not know."""


class IdentityError(SpectrumKVError):
    """Payload of another model, of another request, or of another shape than the destination."""


class ChecksumError(SpectrumKVError):
    """A digest does not match its bytes."""


class NonFiniteError(SpectrumKVError, ValueError):
    """Inf, NaN or values too large for the quantizer in a row that would be quantized."""


class CudaError(SpectrumKVError):
    """CUDA failed; `native` holds its code."""


class NcclError(SpectrumKVError):
    """NCCL failed; `native` holds its result."""


class TransportError(SpectrumKVError):
    """A transfer or connection ended badly: cancelled, peer lost, rejected, protocol, poisoned, address."""


class TransportTimeoutError(TransportError, TimeoutError):
    """The deadline passed."""


class InternalError(SpectrumKVError):
    """A defect of the library: please report it."""


_BY_DECADE: dict[int, type[SpectrumKVError]] = {
    1: ArgumentError,
    2: StateError,
    3: ResourceError,
    4: BudgetError,
    5: PayloadError,
    6: VersionError,
    7: IdentityError,
    8: ChecksumError,
    9: NonFiniteError,
    10: CudaError,
    11: NcclError,
    12: TransportError,
    13: InternalError,
}


def error_for(status: int, message: str, native: int = 0) -> SpectrumKVError:
    """The exception of a negative status."""
    if status == Status.E_TIMED_OUT:
        return TransportTimeoutError(status, message, native)
    return _BY_DECADE.get(-status // 10, SpectrumKVError)(status, message, native)
