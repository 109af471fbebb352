# SPDX-License-Identifier: Apache-2.0
"""`SpectrumKVConnector` between stand-ins for vLLM's modules: what it makes of their calls. examples/vllm_pd runs the real ones."""

from __future__ import annotations

import enum
import importlib
import logging
import pickle
import sys
import time
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import spectrumkv as skv

LAYERS, HEADS, DIM, BLOCK, BLOCKS = 3, 2, 64, 16, 12
PROMPT = list(range(40))


class Role(enum.Enum):
    SCHEDULER = 0
    WORKER = 1


class Base:
    """As vLLM's base class behaves, in the parts that the connector relies on."""

    def __init__(self, vllm_config: Any, role: Role, kv_cache_config: Any) -> None:
        self._vllm_config = vllm_config
        self._kv_transfer_config = vllm_config.kv_transfer_config
        self._kv_cache_config = kv_cache_config
        self._connector_metadata: Any = None

    def bind_connector_metadata(self, connector_metadata: Any) -> None:
        self._connector_metadata = connector_metadata

    def _get_connector_metadata(self) -> Any:
        assert self._connector_metadata is not None
        return self._connector_metadata


class Stats:
    def __init__(self, data: dict[str, Any] | None = None) -> None:
        self.data = data or {}


class PromMetrics:
    def __init__(self, config: Any, types: Any, labelnames: list[str], values: dict[int, list[object]]) -> None:
        self._counter_cls, self._histogram_cls = types["counter"], types["histogram"]


class Status(enum.Enum):
    FINISHED_LENGTH_CAPPED = 1
    RUNNING = 2


class Tensor(np.ndarray):
    """Looks like a torch tensor of some accelerator."""

    device = SimpleNamespace(type="fake")

    def data_ptr(self) -> int:
        return self.ctypes.data

    def stride(self) -> tuple[int, ...]:
        return tuple(step // self.itemsize for step in self.strides)


@pytest.fixture
def connector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The connector's class, imported over the stand-ins."""
    v1 = "vllm.distributed.kv_transfer.kv_connector.v1"
    names = ("Metadata", "HandshakeMetadata")
    modules = {
        f"{v1}.base": {
            "KVConnectorBase_V1": Base,
            "KVConnectorRole": Role,
            **{f"KVConnector{name}": type(name, (), {}) for name in names},
        },
        f"{v1}.metrics": {"KVConnectorStats": Stats, "KVConnectorPromMetrics": PromMetrics},
        "vllm.logger": {"init_logger": logging.getLogger},
        "vllm.v1.metrics.utils": {"create_metric_per_engine": lambda metric, values: dict.fromkeys(values, metric)},
    }
    for name, members in modules.items():
        parts = name.split(".")
        for i in range(1, len(parts) + 1):
            monkeypatch.setitem(sys.modules, ".".join(parts[:i]), ModuleType(".".join(parts[:i])))
        for member, value in members.items():
            setattr(sys.modules[name], member, value)
    ours = ("spectrumkv.vllm.connector", "spectrumkv.vllm.metrics")
    for name in ours:
        monkeypatch.delitem(sys.modules, name, raising=False)
    package = importlib.import_module("spectrumkv.vllm")
    yield package.SpectrumKVConnector
    for name in ours:
        sys.modules.pop(name, None)


def config(
    role: str, ranks: int = 1, rank: int = 0, groups: int = 1, attentions: dict[str, Any] | None = None, **extra: Any
) -> tuple[Any, Any]:
    """vLLM's configuration, and that of its KV cache."""
    producer, consumer = role in {"kv_producer", "kv_both"}, role in {"kv_consumer", "kv_both"}
    transfer = SimpleNamespace(
        kv_connector_extra_config={"heartbeat": 0.3, **extra},
        is_kv_producer=producer,
        is_kv_consumer=consumer,
        kv_load_failure_policy="recompute",
    )
    model = SimpleNamespace(
        model="org/model",
        revision=None,
        hf_config=SimpleNamespace(to_dict=lambda: {"hidden_size": 128}),
        get_total_num_kv_heads=lambda: HEADS * ranks,
    )
    parallel = SimpleNamespace(tensor_parallel_size=ranks, pipeline_parallel_size=1, rank=rank)
    spec = SimpleNamespace(num_kv_heads=HEADS, head_size=DIM, head_size_v=DIM)
    return (
        SimpleNamespace(
            kv_transfer_config=transfer,
            model_config=model,
            parallel_config=parallel,
            cache_config=SimpleNamespace(block_size=BLOCK),
            compilation_config=SimpleNamespace(static_forward_context=attentions or {}),
        ),
        SimpleNamespace(kv_cache_groups=[SimpleNamespace(kv_cache_spec=spec)] * groups),
    )


class Instance:
    """A scheduler and one worker, stepped as vLLM does."""

    def __init__(self, connector: Any, role: str, **extra: Any) -> None:
        self.scheduler = connector(config(role, **extra)[0], Role.SCHEDULER, config(role)[1])
        self.worker = connector(config(role, **extra)[0], Role.WORKER, config(role)[1])
        self.caches = {
            f"model.layers.{i}.attn": np.zeros((BLOCKS, HEADS, BLOCK, 2 * DIM), "float32").view(Tensor)
            for i in (10, 2, 1)
        }
        shared = {**self.caches, "model.layers.11.attn": self.caches["model.layers.10.attn"]}
        self.worker.register_kv_caches(shared)
        handshake = self.worker.get_handshake_metadata()
        if handshake is not None:
            self.scheduler.set_xfer_handshake_metadata({0: pickle.loads(pickle.dumps(handshake))})

    def bind(self, output: Any = None) -> None:
        """How a step begins. ``output``: vLLM's SchedulerOutput."""
        self.worker.bind_connector_metadata(pickle.loads(pickle.dumps(self.scheduler.build_connector_meta(output))))

    def step(self, *ended: str) -> tuple[set[str] | None, set[str] | None, set[int]]:
        """A step without tokens: attn_metadata is None."""
        self.bind()
        self.worker.start_load_kv(SimpleNamespace(attn_metadata=None), extra=1)
        self.worker.wait_for_layer_load("model.layers.1.attn")
        self.worker.save_kv_layer("model.layers.1.attn", None, None)
        self.worker.wait_for_save()
        sent, loaded = self.worker.get_finished(set(ended))
        return sent, loaded, self.worker.get_block_ids_with_load_errors()

    def until(self, index: int) -> tuple[set[str] | None, set[str] | None, set[int]]:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            found = self.step()
            if found[index]:
                return found
        raise AssertionError("nothing finished")


def request(**params: Any) -> Any:
    return SimpleNamespace(
        request_id="r",
        prompt_token_ids=list(PROMPT),
        kv_transfer_params=params,
        num_computed_tokens=len(PROMPT),
        status=Status.FINISHED_LENGTH_CAPPED,
        lora_request=None,
        mm_features=[],
    )


def blocks(ids: list[int]) -> Any:
    return SimpleNamespace(get_block_ids=lambda: (ids,))


@pytest.fixture
def pair(connector: Any) -> Iterator[tuple[Instance, Instance]]:
    prefill, decode = Instance(connector, "kv_producer"), Instance(connector, "kv_consumer")
    yield prefill, decode
    prefill.worker.shutdown()
    decode.worker.shutdown()


def test_a_prompt_moves_through_vllms_own_calls(pair: tuple[Instance, Instance]) -> None:
    prefill, decode = pair
    rng = np.random.default_rng(1)
    for cache in prefill.caches.values():
        cache[...] = rng.normal(size=cache.shape)
    hold, params = prefill.scheduler.request_finished(request(do_remote_decode=True), [3, 7, 5])
    assert hold
    assert prefill.until(0)[0] == {"r"}
    assert prefill.step() == (None, None, set())

    asked = request(**params)
    assert decode.scheduler.get_num_new_matched_tokens(asked, 0) == (len(PROMPT), True)
    decode.scheduler.update_state_after_alloc(asked, blocks([1, 2, 9]), len(PROMPT))
    assert decode.until(1) == (None, {"r"}, set())
    for name, cache in decode.caches.items():
        got = np.concatenate([cache[b].transpose(1, 0, 2) for b in (1, 2, 9)])[: len(PROMPT)]
        wanted = np.concatenate([prefill.caches[name][b].transpose(1, 0, 2) for b in (3, 7, 5)])[: len(PROMPT)]
        assert np.array_equal(got, wanted)
    stats = decode.worker.get_kv_connector_stats()
    assert stats.reduce()["loaded"] == 1
    assert decode.worker.get_kv_connector_stats() is None


@pytest.mark.parametrize(
    ("wish", "layers", "used"),
    [
        ({}, 3, True),
        ({"spectrumkv": {"budget": 0.9}}, 3, True),
        ({"spectrumkv": {"budget": "raw"}}, 3, False),
        ({}, 2, False),
    ],
)
def test_queries_are_recorded_where_the_model_computes_them(
    connector: Any, wish: dict[str, Any], layers: int, used: bool
) -> None:
    """Of prompts that are to be sent with fewer bits, and when every layer shows them."""
    calls: list[str] = []
    names = [f"model.layers.{i}.attn" for i in (1, 2, 10)]

    def forward(layer: str, *_args: Any, **_kwargs: Any) -> str:
        calls.append(layer)
        return "output"

    attentions = {
        name: SimpleNamespace(impl=SimpleNamespace(scale=0.125, forward=forward), sliding_window=None)
        for name in names[:layers]
    }
    prefill = Instance(connector, "kv_producer", attentions=attentions, budget=0.95, unproven=True)
    try:
        asked = request(do_remote_decode=True, **wish)
        prefill.scheduler.update_state_after_alloc(asked, blocks([5, 2, 7]), 0)
        output = SimpleNamespace(
            scheduled_new_reqs=[SimpleNamespace(req_id="r", block_ids=([5, 2, 7],), num_computed_tokens=0)],
            scheduled_cached_reqs=SimpleNamespace(
                req_ids=[], resumed_req_ids=set(), new_block_ids=[], num_computed_tokens=[]
            ),
            num_scheduled_tokens={"r": len(PROMPT)},
        )
        prefill.bind(output)
        metadata = SimpleNamespace(
            query_start_loc=np.array([0, len(PROMPT)]),
            seq_lens=np.array([len(PROMPT)]),
            block_table=np.array([[5, 2, 7, 0]], "int32"),
        )
        queries = np.random.default_rng(1).normal(size=(len(PROMPT), 2 * HEADS, DIM)).astype("float32")
        for name, attention in attentions.items():
            assert attention.impl.forward(name, queries, None, None, None, metadata, output=None) == "output"
        assert calls == names[:layers]
        assert prefill.scheduler.request_finished(asked, [5, 2, 7])[0]
        prefill.until(0)
        counted = prefill.worker.get_kv_connector_stats().data
        assert counted["encoded"] == 1
        assert counted.get("queries_used", 0) == used
    finally:
        prefill.worker.shutdown()


def test_a_failure_names_the_blocks_no_later_than_the_request(pair: tuple[Instance, Instance]) -> None:
    prefill, decode = pair
    _, params = prefill.scheduler.request_finished(request(do_remote_decode=True), [3, 7, 5])
    prefill.worker.shutdown()
    asked = request(**params)
    decode.scheduler.get_num_new_matched_tokens(asked, 0)
    decode.scheduler.update_state_after_alloc(asked, blocks([1, 2, 9]), len(PROMPT))
    assert decode.until(1) == (None, {"r"}, {1, 2, 9})
    assert decode.worker.get_block_ids_with_load_errors() == set()
    # vLLM asks again, and recomputes.
    assert decode.scheduler.get_num_new_matched_tokens(asked, 0) == (0, False)


def test_ranks_hold_consecutive_heads(connector: Any) -> None:
    worker = connector(config("kv_producer", ranks=2, rank=1)[0], Role.WORKER, config("kv_producer")[1])
    worker.register_kv_caches({"l.0": np.zeros((BLOCKS, HEADS, BLOCK, 2 * DIM), "float16").view(Tensor)})
    source = worker.get_handshake_metadata().source
    assert (source.first_head, source.heads) == (HEADS, HEADS)
    worker.shutdown()


def test_layers_come_in_the_models_order(pair: tuple[Instance, Instance]) -> None:
    names = [layer.name for layer in pair[0].worker._worker.pages.layers]
    assert names == ["model.layers.1.attn", "model.layers.2.attn", "model.layers.10.attn"]


def test_what_is_not_supported_is_refused_at_the_start(connector: Any) -> None:
    with pytest.raises(skv.ArgumentError, match="several groups"):
        connector(config("kv_both")[0], Role.SCHEDULER, config("kv_both", groups=2)[1])
    with pytest.raises(skv.ArgumentError, match="bugdet"):
        connector(config("kv_both", bugdet=1)[0], Role.SCHEDULER, config("kv_both")[1])
    with pytest.raises(skv.ArgumentError, match="fingerprint of 2 bytes"):
        connector(config("kv_both", fingerprint="abcd")[0], Role.SCHEDULER, config("kv_both")[1])
    pipeline = config("kv_both")
    pipeline[0].parallel_config.pipeline_parallel_size = 2
    with pytest.raises(skv.ArgumentError, match="pipeline"):
        connector(*pipeline[:1], Role.SCHEDULER, pipeline[1])
    worker = connector(config("kv_both")[0], Role.WORKER, config("kv_both")[1])
    with pytest.raises(skv.ArgumentError, match="wanted one KV tensor"):
        worker.register_kv_caches({"mamba": [np.zeros(3), np.zeros(4)]})


def test_counters_reach_prometheus(connector: Any) -> None:
    seen: dict[str, list[float]] = {}

    class Metric:
        def __init__(self, name: str, **_: Any) -> None:
            self.name = name

        def inc(self, value: float) -> None:
            seen.setdefault(self.name, []).append(value)

        observe = inc

    metrics = connector.build_prom_metrics(None, {"counter": Metric, "histogram": Metric}, [], {0: []})
    metrics = metrics or pytest.fail("no metrics")
    metrics.observe({"loaded": 2, "load_seconds": [0.5, 0.25]}, 0)
    assert seen == {"vllm:spectrumkv_loaded": [2], "vllm:spectrumkv_load_seconds": [0.5, 0.25]}
