# SPDX-License-Identifier: Apache-2.0
"""Memory of other libraries, without importing any of them.

`describe` takes what numpy, torch, CuPy, JAX, ml_dtypes, mmap, bytes and the like already offer
(``__array_interface__``, DLPack, ``__cuda_array_interface__``, the buffer protocol) and says where it lies: device,
address, shape, strides, element type. Nothing is ever copied.
"""

from __future__ import annotations

import ctypes
import sys
import weakref
from ctypes import (
    POINTER,
    Structure,
    c_char_p,
    c_int,
    c_int32,
    c_int64,
    c_ssize_t,
    c_uint8,
    c_uint16,
    c_uint64,
    c_void_p,
)
from dataclasses import dataclass, field, replace
from typing import Any, Final

from spectrumkv.constants import DEVICE_CPU, DType, Status
from spectrumkv.errors import ArgumentError, ResourceError

_KV_DTYPES: Final = {"float16": DType.F16, "bfloat16": DType.BF16, "float32": DType.F32}
_ALIASES: Final = {
    "f16": "float16",
    "fp16": "float16",
    "half": "float16",
    "bf16": "bfloat16",
    "f32": "float32",
    "fp32": "float32",
}


def to_dtype(value: DType | str | int) -> DType:
    """``DType`` from a member, its number or a name (``"f16"``, ``"bfloat16"``…). Raises `ArgumentError`."""
    if isinstance(value, str):
        name = value.lower().removeprefix("torch.")
        found = _KV_DTYPES.get(_ALIASES.get(name, name))
        if found is None:
            raise ArgumentError(Status.E_DTYPE, f"dtype {value!r}: wanted float16, bfloat16 or float32")
        return found
    try:
        return DType(value)
    except ValueError:
        raise ArgumentError(Status.E_DTYPE, f"dtype {value!r}: wanted one of {[int(d) for d in DType]}") from None


@dataclass(frozen=True)
class Buffer:
    """A view of somebody's memory.

    Attributes:
        pointer: address of element (0, 0, …).
        nbytes: bytes from `pointer` to the end of the last element that the view reaches.
        shape: elements along each axis.
        strides: bytes between neighbours along each axis.
        dtype: ``"float16"``, ``"bfloat16"``, ``"float32"``, ``"uint8"`` …
        itemsize: bytes of an element.
        readonly: whether writing is forbidden.
        owner: keeps the memory alive; hold on to it (or to this object) as long as the address is used.
        device: CUDA ordinal of the memory, `DEVICE_CPU` for the host's.
        library: the package the object came from ("torch", "cupy"…), whose current stream orders work on it.
    """

    pointer: int
    nbytes: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str
    itemsize: int
    readonly: bool
    owner: object = field(repr=False, compare=False)
    device: int = DEVICE_CPU
    library: str = field(default="", compare=False)

    @property
    def stream(self) -> int:
        """The stream on which the owner's library works now: a ``cudaStream_t`` as a number, 0 for the default one."""
        module: Any = sys.modules.get(self.library)
        if self.device < 0 or module is None:
            return 0
        if self.library == "torch":
            return int(module.cuda.current_stream(self.device).cuda_stream)
        if self.library == "cupy":
            with module.cuda.Device(self.device):
                return int(module.cuda.get_current_stream().ptr)
        return 0

    @property
    def contiguous(self) -> bool:
        """Whether elements follow each other in C order without gaps."""
        expected = self.itemsize
        for length, stride in zip(reversed(self.shape), reversed(self.strides)):
            if length != 1 and stride != expected:
                return False
            expected *= length
        return True

    @property
    def kv_dtype(self) -> DType:
        """The element type as the library knows it. Raises `ArgumentError` for others."""
        found = _KV_DTYPES.get(self.dtype)
        if found is None:
            raise ArgumentError(Status.E_DTYPE, f"dtype {self.dtype}: wanted float16, bfloat16 or float32")
        return found

    def memory(self) -> memoryview:
        """The bytes from `pointer` on, read-only if they are. The view keeps the owner alive."""
        if self.device >= 0:
            raise ArgumentError(Status.E_ARGUMENT, f"memory of CUDA device {self.device}: the host cannot read it")
        block = (c_uint8 * self.nbytes).from_address(self.pointer)
        block._owner = self.owner  # type: ignore[attr-defined]
        view = memoryview(block).cast("B")
        return view.toreadonly() if self.readonly else view

    def as_dtype(self, dtype: DType) -> Buffer:
        """The same bytes under another element type of the same size (bfloat16 kept in a uint16 array)."""
        if dtype.itemsize != self.itemsize:
            raise ArgumentError(
                Status.E_DTYPE,
                f"dtype {dtype.name} has {dtype.itemsize} bytes, elements of {self.dtype} have {self.itemsize}",
            )
        return replace(self, dtype={v: k for k, v in _KV_DTYPES.items()}[dtype])


def describe(obj: object, *, writable: bool = False, on_device: bool = False) -> Buffer:
    """Where an object's memory lies.

    Args:
        obj: a `Buffer`; or an object with ``__array_interface__`` (numpy), ``__dlpack__`` (torch, CuPy, JAX…),
            ``__cuda_array_interface__`` (numba…), or the buffer protocol (bytes, bytearray, memoryview, mmap, ctypes).
        writable: refuse read-only memory.
        on_device: CUDA memory is welcome too.

    Raises:
        ResourceError: the memory is on a GPU, and this use needs the host's, or it is no CUDA device.
        ArgumentError: no such interface, a byte order or element type without a name, negative strides, or read-only
            memory where ``writable`` is asked for.
    """
    buffer = _find(obj)
    if buffer.device >= 0 and not on_device:
        raise ResourceError(
            Status.E_UNAVAILABLE,
            f"{type(obj).__name__} is in the memory of CUDA device {buffer.device}: wanted host memory",
        )
    if writable and buffer.readonly:
        raise ArgumentError(Status.E_ARGUMENT, f"{type(obj).__name__} is read-only: wanted memory that can be written")
    if any(stride < 0 for stride in buffer.strides):
        raise ArgumentError(Status.E_STRIDE, f"{type(obj).__name__} has strides {buffer.strides}: wanted none below 0")
    return buffer


def _find(obj: object) -> Buffer:
    if isinstance(obj, Buffer):
        return obj
    interface = getattr(obj, "__array_interface__", None)
    if interface is not None:
        return _from_array_interface(obj, interface)
    if hasattr(obj, "__dlpack__"):
        return _from_dlpack(obj)
    interface = getattr(obj, "__cuda_array_interface__", None)
    if interface is not None:
        found = _from_array_interface(obj, interface)
        return replace(found, device=_ordinal_of(obj), library=_library_of(obj))
    return _from_buffer_protocol(obj)


def _library_of(obj: object) -> str:
    return type(obj).__module__.partition(".")[0]


def _ordinal_of(obj: Any) -> int:
    """Of an object whose interface does not say: what torch, CuPy and numba call it, else the first."""
    device = getattr(obj, "device", None)
    for name in ("index", "id"):
        ordinal = getattr(device, name, None)
        if isinstance(ordinal, int):
            return ordinal
    return 0


def _make(
    pointer: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...] | None,
    dtype: str,
    itemsize: int,
    readonly: bool,
    owner: object,
) -> Buffer:
    if strides is None:
        steps = []
        step = itemsize
        for length in reversed(shape):
            steps.append(step)
            step *= max(length, 1)
        strides = tuple(reversed(steps))
    empty = 0 in shape
    span = 0 if empty else sum((n - 1) * max(s, 0) for n, s in zip(shape, strides)) + itemsize
    return Buffer(pointer, span, shape, strides, dtype, itemsize, readonly, owner)


# ------------------------------------------------------------------------------------------- __array_interface__

_KINDS: Final = {"f": "float", "i": "int", "u": "uint", "b": "bool", "c": "complex"}


def _from_array_interface(obj: object, interface: dict[str, Any]) -> Buffer:
    typestr = str(interface["typestr"])
    order, kind, itemsize = typestr[0], typestr[1], int(typestr[2:])
    if kind == "V":  # extension types such as ml_dtypes.bfloat16 only have a name
        name = str(getattr(getattr(obj, "dtype", None), "name", typestr))
    else:
        name = "bool" if kind == "b" else f"{_KINDS.get(kind, kind)}{itemsize * 8}"
    if order == ">" and itemsize > 1:
        raise ArgumentError(Status.E_DTYPE, f"dtype {typestr} is big-endian: wanted little-endian")
    data = interface.get("data")
    if data is None:
        return _from_buffer_protocol(obj)
    strides = interface.get("strides")
    return _make(
        int(data[0]),
        tuple(int(n) for n in interface["shape"]),
        None if strides is None else tuple(int(n) for n in strides),
        name,
        itemsize,
        bool(data[1]),
        obj,
    )


# -------------------------------------------------------------------------------------------------------- DLPack


class DLTensor(Structure):
    """``DLTensor`` of dlpack.h."""

    _fields_ = (
        ("data", c_void_p),
        ("device_type", c_int32),
        ("device_id", c_int32),
        ("ndim", c_int32),
        ("code", c_uint8),
        ("bits", c_uint8),
        ("lanes", c_uint16),
        ("shape", POINTER(c_int64)),
        ("strides", POINTER(c_int64)),
        ("byte_offset", c_uint64),
    )


class DLManagedTensor(Structure):
    """``DLManagedTensor`` of dlpack.h, before version 1."""

    _fields_ = (("tensor", DLTensor), ("manager", c_void_p), ("deleter", c_void_p))


class DLManagedTensorVersioned(Structure):
    """``DLManagedTensorVersioned`` of dlpack.h 1.x."""

    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("manager", c_void_p),
        ("deleter", c_void_p),
        ("flags", c_uint64),
        ("tensor", DLTensor),
    )


_DL_HOST: Final = {1: "cpu", 3: "pinned host"}
_DL_CUDA: Final = {2: "cuda", 13: "managed"}
_DL_NO_ORDER: Final = -1  # stream=-1: the producer adds no ordering; calls run on its current stream anyway
_DL_CODES: Final = {0: "int", 1: "uint", 2: "float", 4: "bfloat", 5: "complex", 6: "bool"}
_DL_READ_ONLY: Final = 1

_capsule_is_valid = ctypes.pythonapi.PyCapsule_IsValid
_capsule_is_valid.restype, _capsule_is_valid.argtypes = c_int, (ctypes.py_object, c_char_p)
_capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.restype, _capsule_pointer.argtypes = c_void_p, (ctypes.py_object, c_char_p)


def _from_dlpack(obj: Any) -> Buffer:
    kind, ordinal = (int(part) for part in obj.__dlpack_device__())
    if kind not in _DL_HOST and kind not in _DL_CUDA:
        raise ResourceError(
            Status.E_UNAVAILABLE,
            f"{type(obj).__name__} is on DLPack device {kind}: wanted host or CUDA memory",
        )
    order: dict[str, Any] = {"stream": _DL_NO_ORDER} if kind in _DL_CUDA else {}
    try:
        try:
            capsule = obj.__dlpack__(max_version=(1, 0), **order)
        except TypeError:
            capsule = obj.__dlpack__(**order)
    except (BufferError, RuntimeError) as error:
        raise ArgumentError(Status.E_ARGUMENT, f"{type(obj).__name__} cannot be exported by DLPack: {error}") from error
    # The capsule is never renamed, so it stays the owner: its destructor calls the producer's deleter.
    if _capsule_is_valid(capsule, b"dltensor_versioned"):
        address = _capsule_pointer(capsule, b"dltensor_versioned")
        versioned = DLManagedTensorVersioned.from_address(address or 0)
        if versioned.major != 1:
            raise ArgumentError(Status.E_ARGUMENT, f"DLPack version {versioned.major}: wanted 1")
        tensor, readonly = versioned.tensor, bool(versioned.flags & _DL_READ_ONLY)
    else:
        address = _capsule_pointer(capsule, b"dltensor")
        tensor, readonly = DLManagedTensor.from_address(address or 0).tensor, False
    if tensor.lanes != 1 or tensor.bits % 8 != 0:
        raise ArgumentError(
            Status.E_DTYPE, f"DLPack type of {tensor.bits} bits x {tensor.lanes} lanes: wanted whole bytes, 1 lane"
        )
    itemsize = tensor.bits // 8
    shape = tuple(tensor.shape[i] for i in range(tensor.ndim))
    strides = tuple(tensor.strides[i] * itemsize for i in range(tensor.ndim)) if tensor.strides else None
    name = f"{_DL_CODES.get(tensor.code, f'code{tensor.code}_')}{tensor.bits}"
    found = _make((tensor.data or 0) + tensor.byte_offset, shape, strides, name, itemsize, readonly, (capsule, obj))
    return replace(found, device=ordinal, library=_library_of(obj)) if kind in _DL_CUDA else found


# ----------------------------------------------------------------------------------------------- buffer protocol


class _PyBuffer(Structure):
    """``Py_buffer``; part of CPython's stable ABI since 3.11 and unchanged since 3.3."""

    _fields_ = (
        ("buf", c_void_p),
        ("obj", c_void_p),
        ("len", c_ssize_t),
        ("itemsize", c_ssize_t),
        ("readonly", c_int),
        ("ndim", c_int),
        ("format", c_char_p),
        ("shape", POINTER(c_ssize_t)),
        ("strides", POINTER(c_ssize_t)),
        ("suboffsets", POINTER(c_ssize_t)),
        ("internal", c_void_p),
    )


_PYBUF_STRIDED_FORMAT: Final = 0x0010 | 0x0008 | 0x0004  # PyBUF_STRIDES (includes ND) | PyBUF_FORMAT

_get_buffer = ctypes.pythonapi.PyObject_GetBuffer
_get_buffer.restype, _get_buffer.argtypes = c_int, (ctypes.py_object, POINTER(_PyBuffer), c_int)
_release_buffer = ctypes.pythonapi.PyBuffer_Release
_release_buffer.restype, _release_buffer.argtypes = None, (POINTER(_PyBuffer),)

_FORMATS: Final = {"e": "float16", "f": "float32", "d": "float64", "B": "uint8", "c": "uint8", "b": "int8", "?": "bool"}
_INTEGERS: Final = {**dict.fromkeys("HILQN", "uint"), **dict.fromkeys("hilqn", "int")}


class _Export:
    """A held buffer export; releases it when collected."""

    def __init__(self, obj: object) -> None:
        self.view = _PyBuffer()
        try:
            _get_buffer(obj, self.view, _PYBUF_STRIDED_FORMAT)
        except (TypeError, BufferError) as error:
            raise ArgumentError(
                Status.E_ARGUMENT,
                f"{type(obj).__name__} offers no memory (__array_interface__, __dlpack__ or the buffer protocol): {error}",
            ) from error
        weakref.finalize(self, _release_buffer, self.view)


def _from_buffer_protocol(obj: object) -> Buffer:
    export = _Export(obj)
    view = export.view
    text = (view.format or b"B").decode()
    if text[0] in ">!" and view.itemsize > 1:
        raise ArgumentError(Status.E_DTYPE, f"buffer format {text!r} is big-endian: wanted little-endian")
    letter = text.lstrip("@=<")
    if letter in _INTEGERS:
        name = f"{_INTEGERS[letter]}{view.itemsize * 8}"
    else:
        name = _FORMATS.get(letter, f"format {text!r}")
    shape = tuple(view.shape[i] for i in range(view.ndim))
    strides = tuple(view.strides[i] for i in range(view.ndim)) if view.strides else None
    return _make(view.buf or 0, shape, strides, name, int(view.itemsize), bool(view.readonly), export)


def describe_bytes(obj: object, *, writable: bool = False, on_device: bool = False) -> Buffer:
    """`describe` for memory that is just bytes: one contiguous run, whatever the element type."""
    buffer = describe(obj, writable=writable, on_device=on_device)
    if not buffer.contiguous:
        raise ArgumentError(
            Status.E_STRIDE, f"{type(obj).__name__} with strides {buffer.strides}: wanted contiguous bytes"
        )
    return buffer


def id_bytes(value: object | None, length: int, name: str) -> Any:
    """A fingerprint or request id as a ctypes array, None staying None. Raises `ArgumentError` for another length."""
    if value is None:
        return None
    raw = bytes.fromhex(value) if isinstance(value, str) else bytes(memoryview(value))  # type: ignore[arg-type]
    if len(raw) != length:
        raise ArgumentError(Status.E_ARGUMENT, f"{name} of {len(raw)} bytes: wanted {length}")
    return (c_uint8 * length).from_buffer_copy(raw)
