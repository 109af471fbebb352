# SPDX-License-Identifier: Apache-2.0
"""`SpectrumKVConnector`: what vLLM loads. Translates between vLLM's interface and the two halves."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorHandshakeMetadata,
    KVConnectorMetadata,
    KVConnectorRole,
)
from vllm.logger import init_logger

from spectrumkv.constants import Status
from spectrumkv.errors import ArgumentError
from spectrumkv.vllm.config import Settings
from spectrumkv.vllm.handover import Source
from spectrumkv.vllm.identity import fingerprint_of
from spectrumkv.vllm.layout import Geometry, Layer, Pages, Tile, amx_refusal, layer_of
from spectrumkv.vllm.metrics import SpectrumKVPromMetrics, SpectrumKVStats
from spectrumkv.vllm.queries import Recorder
from spectrumkv.vllm.scheduler import SchedulerSide, Step
from spectrumkv.vllm.stats import Tally
from spectrumkv.vllm.tiles import check_vec
from spectrumkv.vllm.worker import WorkerSide

# Under vLLM's own logger: its configuration shows nothing of others.
logger = init_logger("vllm.spectrumkv")


@dataclass
class SpectrumKVMetadata(KVConnectorMetadata):  # type: ignore[misc,unused-ignore]
    """Scheduler to workers."""

    step: Step = field(default_factory=Step)


@dataclass
class SpectrumKVHandshake(KVConnectorHandshakeMetadata):  # type: ignore[misc,unused-ignore]
    """A worker to its scheduler: where it can be pulled from."""

    source: Source


class SpectrumKVConnector(KVConnectorBase_V1):  # type: ignore[misc,unused-ignore]
    """Moves the KV caches of finished prefills, compressed. See the package's documentation and docs/guides/vllm.md."""

    def __init__(self, vllm_config: Any, role: KVConnectorRole, kv_cache_config: Any) -> None:
        super().__init__(vllm_config=vllm_config, role=role, kv_cache_config=kv_cache_config)
        transfer = self._kv_transfer_config
        self._settings = Settings.parse(transfer.kv_connector_extra_config)
        self._producer, self._consumer = bool(transfer.is_kv_producer), bool(transfer.is_kv_consumer)
        self._fingerprint = _fingerprint(vllm_config, self._settings)
        self._scheduler: SchedulerSide | None = None
        self._worker: WorkerSide | None = None
        self._tally = Tally()
        _need(
            len(kv_cache_config.kv_cache_groups) == 1, "KV caches of several groups: --disable-hybrid-kv-cache-manager"
        )
        _need(vllm_config.parallel_config.pipeline_parallel_size == 1, "pipeline-parallel instances are not supported")
        _need(
            getattr(vllm_config.parallel_config, "decode_context_parallel_size", 1) == 1,
            "context-parallel instances are not supported",
        )
        if role == KVConnectorRole.SCHEDULER:
            self._scheduler = SchedulerSide(
                self._settings,
                self._fingerprint,
                vllm_config.cache_config.block_size,
                producer=self._producer,
                consumer=self._consumer,
                tally=self._tally,
            )
            policy = getattr(transfer, "kv_load_failure_policy", None)
            if self._consumer and policy == "fail":
                logger.warning(
                    'kv_load_failure_policy is "fail": a request whose KV cache cannot be loaded ends with an error.'
                    ' "recompute" computes it here instead.'
                )
            logger.info(
                "SpectrumKV: model %s, budget %s%s",
                self._fingerprint.hex(),
                self._settings.budget,
                f", profile {self._settings.profile}" if self._settings.profile else "",
            )

    # ------------------------------------------------------------------------------------------------------ worker

    def register_kv_caches(self, kv_caches: Mapping[str, Any]) -> None:
        config = self._vllm_config
        rank = config.parallel_config.rank % config.parallel_config.tensor_parallel_size
        spec = self._kv_cache_config.kv_cache_groups[0].kv_cache_spec
        specs = getattr(spec, "kv_cache_specs", None)
        layers = []
        seen = set()
        for name in sorted(kv_caches, key=_natural):
            tensor = kv_caches[name]
            if isinstance(tensor, list | tuple) or not hasattr(tensor, "data_ptr"):
                raise ArgumentError(Status.E_LAYOUT, f"{name}: state of {type(tensor).__name__}, wanted one KV tensor")
            place = (tensor.data_ptr(), tuple(tensor.shape), tuple(tensor.stride()))
            if place in seen:
                continue  # a layer that shares another one's cache
            seen.add(place)
            layers.append(self._layer(name, tensor, specs[name] if specs and name in specs else spec))
        ranks = config.parallel_config.tensor_parallel_size
        # Latent rows are the same on all ranks; so are heads of which there are fewer than ranks.
        total = 1 if layers[0].v is None else config.model_config.get_total_num_kv_heads()
        pages = Pages(
            tuple(layers),
            config.cache_config.block_size,
            rank * layers[0].heads if total >= ranks else rank * total // ranks,
            self._fingerprint,
            max(ranks // total, 1),
        )
        self._worker = WorkerSide(self._settings, pages, rank, producer=self._producer, consumer=self._consumer)
        if self._worker.recorder is not None:
            self._hook(self._worker.recorder, layers)
        source = self._worker.source
        logger.info(
            "SpectrumKV: %d layers of %d heads from %d, blocks of %d tokens, %s%s",
            len(layers),
            layers[0].heads,
            pages.first_head,
            layers[0].block_tokens,
            layers[0].dtype.name,
            f", pulls at {source.uri}" if source else "",
        )

    def _hook(self, recorder: Recorder, layers: list[Layer]) -> None:
        """Has the queries of every layer recorded, or says why scores will be those of keys and values."""
        attentions = getattr(getattr(self._vllm_config, "compilation_config", None), "static_forward_context", {})
        for index, layer in enumerate(layers):
            attention = attentions.get(layer.name)
            if layer.v is None or attention is None or not recorder.hook(index, attention):
                logger.info(
                    "SpectrumKV: %s shows no queries that could be used: keys and values are scored", layer.name
                )
                recorder.stop()
                return

    def _layer(self, name: str, tensor: Any, spec: Any) -> Layer:
        v_dim = getattr(spec, "head_size_v", None)
        if "MLA" in type(spec).__name__:
            v_dim = 0
        geometry = Geometry(spec.num_kv_heads, spec.head_size, spec.head_size if v_dim is None else v_dim)
        block_size = self._vllm_config.cache_config.block_size
        if tensor.device.type != "cpu":
            return layer_of(name, tensor, geometry, block_size)
        from vllm.v1.attention.backends.cpu_attn import _get_attn_isa  # noqa: PLC0415

        layer = layer_of(name, tensor, geometry, block_size, Tile.VEC)
        isa = _get_attn_isa(tensor.dtype, layer.block_tokens, geometry.k_dim)
        if isa == "amx":
            raise amx_refusal(name)
        check_vec(name, tensor, geometry, layer, isa)
        return layer

    def get_handshake_metadata(self) -> KVConnectorHandshakeMetadata | None:
        source = self._worker.source if self._worker else None
        return None if source is None else SpectrumKVHandshake(source)

    def bind_connector_metadata(self, connector_metadata: KVConnectorMetadata) -> None:
        super().bind_connector_metadata(connector_metadata)
        assert isinstance(connector_metadata, SpectrumKVMetadata)
        if self._worker is not None:
            # Before the step's forward: a pull may be under way already.
            self._worker.send(connector_metadata.step)

    def start_load_kv(self, forward_context: Any, **_kwargs: Any) -> None:
        metadata = self._get_connector_metadata()
        assert isinstance(metadata, SpectrumKVMetadata)
        assert self._worker is not None
        self._worker.load(metadata.step)
        if forward_context.attn_metadata is None:
            self._worker.wait()

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Nothing: loads are asynchronous, a request is scheduled when its load has ended."""

    def save_kv_layer(self, layer_name: str, kv_layer: Any, attn_metadata: Any, **kwargs: Any) -> None:
        """Nothing: requests are sent when they have finished."""

    def wait_for_save(self) -> None:
        """Nothing, as above."""

    def get_finished(self, finished_req_ids: set[str]) -> tuple[set[str] | None, set[str] | None]:
        if self._worker is None:
            return None, None
        sent, loaded = self._worker.finished(finished_req_ids)
        return sent or None, loaded or None

    def get_block_ids_with_load_errors(self) -> set[int]:
        return set() if self._worker is None else self._worker.take_failures()[1]

    def get_kv_connector_stats(self) -> SpectrumKVStats | None:
        data = self._tally.take() if self._worker is None else self._worker.take_stats()
        return SpectrumKVStats(data=data) if data else None

    def shutdown(self) -> None:
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    # --------------------------------------------------------------------------------------------------- scheduler

    def set_xfer_handshake_metadata(self, metadata: dict[int, KVConnectorHandshakeMetadata]) -> None:
        assert self._scheduler is not None
        sources = []
        for _, handshake in sorted(metadata.items()):
            assert isinstance(handshake, SpectrumKVHandshake)
            sources.append(handshake.source)
        self._scheduler.set_sources(sources)

    def get_num_new_matched_tokens(self, request: Any, num_computed_tokens: int) -> tuple[int | None, bool]:
        assert self._scheduler is not None
        return self._scheduler.matched(request, num_computed_tokens)

    def update_state_after_alloc(self, request: Any, blocks: Any, num_external_tokens: int) -> None:
        assert self._scheduler is not None
        self._scheduler.allocated(request, blocks.get_block_ids()[0], num_external_tokens)

    def build_connector_meta(self, scheduler_output: Any) -> KVConnectorMetadata:
        assert self._scheduler is not None
        return SpectrumKVMetadata(self._scheduler.take_step(scheduler_output))

    def request_finished(self, request: Any, block_ids: list[int]) -> tuple[bool, dict[str, Any] | None]:
        assert self._scheduler is not None
        return self._scheduler.finished(request, block_ids)

    # ----------------------------------------------------------------------------------------------------- metrics

    @classmethod
    def build_kv_connector_stats(cls, data: dict[str, Any] | None = None) -> SpectrumKVStats | None:
        return SpectrumKVStats(data=data or {})

    @classmethod
    def build_prom_metrics(
        cls, vllm_config: Any, metric_types: Any, labelnames: list[str], per_engine_labelvalues: dict[int, list[object]]
    ) -> SpectrumKVPromMetrics:
        return SpectrumKVPromMetrics(vllm_config, metric_types, labelnames, per_engine_labelvalues)


def _fingerprint(vllm_config: Any, settings: Settings) -> bytes:
    if settings.fingerprint is not None:
        raw = bytes.fromhex(settings.fingerprint)
        _need(len(raw) == 32, f"fingerprint of {len(raw)} bytes: wanted 32, as 64 hexadecimal digits")
        return raw
    model = vllm_config.model_config
    return fingerprint_of(model.model, model.revision, model.hf_config.to_dict())


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts layer 10 after layer 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _need(condition: bool, message: str) -> None:
    if not condition:
        raise ArgumentError(Status.E_UNAVAILABLE, f"SpectrumKVConnector: {message}")
