# SPDX-License-Identifier: Apache-2.0
"""As much of torch and transformers as `spectrumkv.transformers` and `spectrumkv.lmcache` touch, on numpy: for environments
without them. Behaviour is that of torch 2.13 and transformers 5.23; the same tests run on the real ones with label engines."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


class Tensor(np.ndarray):
    def detach(self) -> Tensor:
        return self

    def cpu(self) -> Tensor:
        return self

    def clone(self) -> Tensor:
        return self.copy()

    def contiguous(self) -> Tensor:
        return np.ascontiguousarray(self).view(Tensor)

    def float(self) -> Tensor:
        return self.astype(np.float32)

    def mean(self, dim: int) -> Any:  # type: ignore[override]
        return np.mean(np.asarray(self), axis=dim).view(Tensor)

    def numel(self) -> int:
        return int(self.size)

    def numpy(self) -> np.ndarray:
        return np.asarray(self)

    def data_ptr(self) -> int:
        return int(self.ctypes.data)

    def stride(self) -> tuple[int, ...]:
        return tuple(step // self.itemsize for step in self.strides)

    @property
    def device(self) -> str:
        return "cpu"


def tensor(values: Any, dtype: Any = None) -> Tensor:
    return np.array(values, dtype=dtype).view(Tensor)


def _torch() -> types.ModuleType:
    torch: Any = types.ModuleType("torch")
    torch.Tensor, torch.tensor = Tensor, tensor
    torch.Size = tuple
    torch.device = torch.dtype = str
    torch.float16, torch.float32, torch.uint8 = np.dtype("float16"), np.dtype("float32"), np.dtype("uint8")
    torch.bfloat16 = "bfloat16"
    torch.empty = lambda shape, dtype, device="cpu": np.empty(shape, dtype).view(Tensor)
    torch.zeros = lambda shape, dtype: np.zeros(shape, dtype).view(Tensor)
    torch.cat = lambda parts, dim: np.concatenate(parts, axis=dim).view(Tensor)
    torch.equal = np.array_equal
    torch.no_grad = contextlib.nullcontext
    return torch


class DynamicLayer:
    is_sliding = False

    def __init__(self) -> None:
        self.keys: Any = None
        self.values: Any = None
        self.is_initialized = False

    def lazy_initialization(self, keys: Any, values: Any) -> None:
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True

    def update(self, keys: Any, values: Any) -> None:
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values

    def get_seq_length(self) -> int:
        return 0 if self.keys is None else int(self.keys.shape[-2])


class DynamicSlidingWindowLayer(DynamicLayer):
    is_sliding = True

    def __init__(self, sliding_window: int) -> None:
        super().__init__()
        self.sliding_window = sliding_window
        self.cumulative_length = 0

    def update(self, keys: Any, values: Any) -> None:
        self.cumulative_length += keys.shape[-2]
        super().update(keys[:, :, 1 - self.sliding_window :], values[:, :, 1 - self.sliding_window :])

    def get_seq_length(self) -> int:
        return self.cumulative_length


class DynamicCache:
    def __init__(self, config: Any) -> None:
        windows = [config.sliding_window if "sliding" in kind else 0 for kind in config.layer_types]
        self.layers = [DynamicSlidingWindowLayer(window) if window else DynamicLayer() for window in windows]

    def update(self, keys: Any, values: Any, layer: int) -> None:
        self.layers[layer].update(keys, values)


ATTENTION: dict[str, Callable[..., Any]] = {"sdpa": lambda module, query, *rest, **options: (query, None)}


@contextlib.contextmanager
def standing_in(**more: types.ModuleType) -> Iterator[None]:
    """While active, the fakes and ``more`` are imported by the names of packages that are not installed; nobody else sees them."""
    transformers: Any = types.ModuleType("transformers")
    transformers.__version__ = "fake"
    transformers.DynamicCache = DynamicCache
    utils: Any = types.ModuleType("transformers.cache_utils")
    utils.DynamicLayer, utils.DynamicSlidingWindowLayer = DynamicLayer, DynamicSlidingWindowLayer
    modeling: Any = types.ModuleType("transformers.modeling_utils")
    modeling.ALL_ATTENTION_FUNCTIONS = ATTENTION
    transformers.cache_utils, transformers.modeling_utils = utils, modeling
    fakes = {"torch": _torch(), **{module.__name__: module for module in (transformers, utils, modeling)}, **more}
    absent = {name: fake for name, fake in fakes.items() if importlib.util.find_spec(name.partition(".")[0]) is None}
    sys.modules.update(absent)
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


def fake_lmcache() -> dict[str, types.ModuleType]:
    """Modules for `standing_in`: LMCache's registry and the bases of its interface."""
    registered: dict[str, Any] = {}
    serde: Any = types.ModuleType("lmcache.v1.distributed.serde")
    for name in ("AsyncSerdeProcessor", "Deserializer", "SerdeProcessor", "Serializer"):
        setattr(serde, name, type(name, (), {"__module__": "fake"}))
    serde.register_serde_factory = registered.__setitem__
    serde.get_registered_serde_types = lambda: list(registered)
    packages = ("lmcache", "lmcache.v1", "lmcache.v1.distributed")
    return {**{name: types.ModuleType(name) for name in packages}, serde.__name__: serde}
