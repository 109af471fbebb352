# SPDX-License-Identifier: Apache-2.0
"""vLLM connector: moves the KV cache of a finished prefill to the decode instance that pulls it.

Nothing to patch in vLLM::

    vllm serve MODEL --kv-transfer-config '{"kv_connector": "SpectrumKVConnector",
        "kv_connector_module_path": "spectrumkv.vllm", "kv_role": "kv_producer", "kv_load_failure_policy": "recompute",
        "kv_connector_extra_config": {"listen": "tcp://127.0.0.1:0", "budget": 0.4, "profile": "profile.json"}}'

The prefill side encodes a request's blocks when the request has finished, frees them, and keeps the payload until it is pulled.
The reply's ``kv_transfer_params`` name it; given to the decode side they make it pull the payload into blocks of its own. What
cannot be loaded is recomputed there. `config.Settings` lists the keys of ``kv_connector_extra_config``.

Importing this package needs no vLLM; `SpectrumKVConnector` does.
"""

from __future__ import annotations

from typing import Any

__all__ = ["SpectrumKVConnector"]


def __getattr__(name: str) -> Any:
    if name == "SpectrumKVConnector":
        from spectrumkv.vllm.connector import SpectrumKVConnector  # noqa: PLC0415

        return SpectrumKVConnector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
