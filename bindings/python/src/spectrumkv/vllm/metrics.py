# SPDX-License-Identifier: Apache-2.0
"""The connector's counters in vLLM's log and at its ``/metrics``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from vllm.distributed.kv_transfer.kv_connector.v1.metrics import KVConnectorPromMetrics, KVConnectorStats
from vllm.v1.metrics.utils import create_metric_per_engine

from spectrumkv.vllm.stats import COUNTERS, TIMES, merge, summary

# Seconds: from a transfer between processes of one host to one that is about to miss its deadline.
_BUCKETS: Final = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]


@dataclass
class SpectrumKVStats(KVConnectorStats):  # type: ignore[misc,unused-ignore]
    """One interval's counts, merged over workers."""

    data: dict[str, Any] = field(default_factory=dict)

    def reset(self) -> None:
        self.data = {}

    def aggregate(self, other: Any) -> SpectrumKVStats:
        merge(self.data, other.data)
        return self

    def reduce(self) -> dict[str, int | float]:
        return summary(self.data)

    def is_empty(self) -> bool:
        return not self.data


class SpectrumKVPromMetrics(KVConnectorPromMetrics):  # type: ignore[misc,unused-ignore]
    """``vllm:spectrumkv_*``."""

    def __init__(
        self,
        vllm_config: Any,
        metric_types: Any,
        labelnames: list[str],
        per_engine_labelvalues: dict[int, list[object]],
    ) -> None:
        super().__init__(vllm_config, metric_types, labelnames, per_engine_labelvalues)
        self._counters = {
            name: create_metric_per_engine(
                self._counter_cls(name=f"vllm:spectrumkv_{name}", documentation=text, labelnames=labelnames),
                per_engine_labelvalues,
            )
            for name, text in COUNTERS.items()
        }
        self._histograms = {
            name: create_metric_per_engine(
                self._histogram_cls(
                    name=f"vllm:spectrumkv_{name}", documentation=text, buckets=_BUCKETS, labelnames=labelnames
                ),
                per_engine_labelvalues,
            )
            for name, text in TIMES.items()
        }

    def observe(self, transfer_stats_data: dict[str, Any], engine_idx: int = 0) -> None:
        for name, counter in self._counters.items():
            if transfer_stats_data.get(name):
                counter[engine_idx].inc(transfer_stats_data[name])
        for name, histogram in self._histograms.items():
            for value in transfer_stats_data.get(name, ()):
                histogram[engine_idx].observe(value)
