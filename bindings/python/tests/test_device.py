# SPDX-License-Identifier: Apache-2.0
"""CUDA memory as this package sees it, on machines with no GPU: what is described, refused and passed on.

The library's CUDA engine itself is tested by tests/cuda and tests/gpu."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import spectrumkv as skv
from spectrumkv.buffers import describe, describe_bytes


class OnGpuByDlpack:
    """A tensor whose producer says that its (host) address is that of a CUDA device."""

    def __init__(self, inner: np.ndarray, device: tuple[int, int] = (2, 3)) -> None:
        self._inner = inner
        self._device = device
        self.streams: list[object] = []

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._device

    def __dlpack__(self, *, stream: object = None, **options: Any) -> object:
        self.streams.append(stream)
        return self._inner.__dlpack__(**options)


class OnGpuByInterface:
    """What numba and older libraries offer."""

    def __init__(self, inner: np.ndarray, device: int | None = None) -> None:
        self._inner = inner
        if device is not None:
            self.device = SimpleNamespace(id=device)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self._inner.shape,
            "typestr": self._inner.dtype.str,
            "data": (self._inner.ctypes.data, False),
            "strides": None,
            "version": 3,
        }


@pytest.mark.parametrize("make", [OnGpuByDlpack, lambda a: OnGpuByInterface(a, 3)])
def test_cuda_memory_is_described_where_it_is_welcome(make: Any) -> None:
    array = np.zeros((4, 2, 64), np.float16)
    buffer = describe(make(array), on_device=True)
    assert (buffer.device, buffer.pointer, buffer.shape) == (3, array.ctypes.data, (4, 2, 64))
    assert (buffer.strides, buffer.kv_dtype, buffer.readonly) == (array.strides, skv.DType.F16, False)
    with pytest.raises(skv.ArgumentError, match="CUDA device 3"):
        buffer.memory()


@pytest.mark.parametrize("make", [OnGpuByDlpack, OnGpuByInterface])
def test_cuda_memory_is_refused_where_the_host_reads(make: Any) -> None:
    for use in (describe, describe_bytes, skv.Payload.open):
        with pytest.raises(skv.ResourceError, match="wanted host memory") as caught:
            use(make(np.zeros(64, np.uint8)))
        assert caught.value.status is skv.Status.E_UNAVAILABLE


def test_other_devices_are_refused() -> None:
    with pytest.raises(skv.ResourceError, match="DLPack device 10"):
        describe(OnGpuByDlpack(np.zeros(1), (10, 0)), on_device=True)


def test_producers_add_no_ordering_of_their_own() -> None:
    tensor = OnGpuByDlpack(np.zeros(8))
    describe(tensor, on_device=True)
    assert tensor.streams == [-1]


def test_the_owners_current_stream_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def current_stream(device: int) -> SimpleNamespace:
        asked.append(device)
        return SimpleNamespace(cuda_stream=0x7000 + len(asked))

    torch = ModuleType("torch")
    torch.cuda = SimpleNamespace(current_stream=current_stream)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(OnGpuByDlpack, "__module__", "torch")
    array = np.zeros((8, 1, 64), np.float32)
    cache = skv.Cache.from_arrays([(OnGpuByDlpack(array), OnGpuByDlpack(array.copy()))])
    assert cache.device == 3
    assert asked == []  # at the call, not when the view is made
    assert (cache.stream, cache.stream) == (0x7001, 0x7002)
    assert asked == [3, 3]


def test_libraries_that_are_not_imported_stay_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.setattr(OnGpuByDlpack, "__module__", "cupy.core")
    buffer = describe(OnGpuByDlpack(np.zeros(8)), on_device=True)
    assert (buffer.library, buffer.stream) == ("cupy", 0)
    assert "cupy" not in sys.modules


def test_a_cpu_engine_never_sees_device_addresses(engine: skv.Engine) -> None:
    array = np.zeros((8, 1, 64), np.float32)
    cache = skv.Cache.from_arrays([(OnGpuByDlpack(array), None)])
    plan = skv.Plan(engine, strategy="uniform-4", unproven=True)
    host = skv.Cache.from_arrays([(array, None)])
    payload = engine.encode(host, plan.solve(host))
    calls = (
        lambda: plan.solve(cache),
        lambda: engine.encode(cache, plan),
        lambda: engine.decode(payload, cache),
        lambda: engine.decode_layer(payload, cache, 0),
        lambda: engine.encode_layer(cache, plan, 0, payload),
        lambda: engine.score(cache, skv.Scores()),
    )
    for call in calls:
        with pytest.raises(skv.ArgumentError, match="memory of device 3"):
            call()
    mixed = skv.Cache(1)
    mixed.set_plane(0, skv.Half.K, array, stride_token=256, stride_head=256, stride_elem=4)
    mixed.set_plane(0, skv.Half.V, OnGpuByDlpack(array), stride_token=256, stride_head=256, stride_elem=4)
    with pytest.raises(skv.ArgumentError, match="wanted one"):
        engine.encode(mixed, plan)


def test_host_payloads_are_the_hosts(engine: skv.Engine) -> None:
    cache = skv.Cache.from_arrays([(np.ones((8, 1, 64), np.float16), None)])
    payload = engine.encode(cache, skv.Plan(engine, strategy="uniform-8").solve(cache))
    assert (engine.device, payload.device) == (skv.DEVICE_CPU, skv.DEVICE_CPU)
    assert not hasattr(payload, "__cuda_array_interface__")
    again = engine.open(bytes(payload))  # on a CPU engine the same as Payload.open
    assert bytes(again) == bytes(payload)


def test_without_a_gpu_a_device_is_unavailable() -> None:
    try:
        skv.Engine(device=0)
    except skv.ResourceError as error:
        assert error.status is skv.Status.E_UNAVAILABLE
        assert "wanted" in str(error)
    else:
        pytest.skip("there is a GPU here: tests/gpu/check_python.py covers it")
    with pytest.raises(skv.ResourceError):
        skv.Engine(device=1000)
