# SPDX-License-Identifier: Apache-2.0
"""LMCache's storage manager on a CPU: chunks go to files through our serde and come back."""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("lmcache", reason="lmcache is not installed: run scripts/setup.sh --stacks")

from lmcache.v1.distributed.api import GroupedObjectKeys, MemoryLayoutDesc, ObjectKey, PrefetchTaskSpec
from lmcache.v1.distributed.config import (
    EvictionConfig,
    L1ManagerConfig,
    L1MemoryManagerConfig,
    StorageManagerConfig,
)
from lmcache.v1.distributed.l2_adapters.config import add_l2_adapters_args, parse_args_to_l2_adapters_config
from lmcache.v1.distributed.storage_manager import StorageManager

import spectrumkv.lmcache  # noqa: F401  registers the serde

SHAPE = torch.Size([2, 4, 256, 128])
LAYOUT = MemoryLayoutDesc(shapes=[SHAPE], dtypes=[torch.bfloat16])


def until(predicate: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        result = predicate()
        if result:
            return result
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    made: list[Any] = []

    def make(**serde: Any) -> Any:
        spec = {"type": "fs", "base_path": str(tmp_path), "serde": {"type": "spectrumkv", **serde}}
        parser = add_l2_adapters_args(argparse.ArgumentParser())
        adapters = parse_args_to_l2_adapters_config(parser.parse_args(["--l2-adapter", json.dumps(spec)]))
        memory = L1MemoryManagerConfig(size_in_bytes=256 << 20, use_lazy=True, init_size_in_bytes=64 << 20, shm_name="")
        config = StorageManagerConfig(
            l1_manager_config=L1ManagerConfig(memory_config=memory),
            eviction_config=EvictionConfig(eviction_policy="LRU"),
            l2_adapter_config=adapters,
        )
        made.append(StorageManager(config))
        return made[-1]

    yield make
    for manager in made:
        manager.close()


def key(number: int) -> ObjectKey:
    return ObjectKey(chunk_hash=ObjectKey.IntHash2Bytes(number), model_name="org/model", kv_rank=0)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size]


def prefetched(manager: Any, keys: list[ObjectKey]) -> int:
    """Leading keys that came back from the files."""
    spec = PrefetchTaskSpec(key_groups=[GroupedObjectKeys(keys=keys, object_group_id=0, layout_desc=LAYOUT)])
    handle = manager.submit_prefetch_task(spec)
    found = until(lambda: manager.query_prefetch_status(handle))
    return int(found.l2_hit_cells[0].count_leading_ones())


def test_chunks_go_to_files_and_come_back(store: Callable[..., Any], tmp_path: Path) -> None:
    manager = store(head_dim=64, budget=0.4, unproven=True)
    keys = [key(1), key(2)]
    torch.manual_seed(0)
    chunks = [torch.randn(SHAPE).bfloat16() for _ in keys]
    reserved = manager.reserve_write(keys, LAYOUT)
    for each, chunk in zip(keys, chunks):
        reserved[each].tensor.view(SHAPE).copy_(chunk)
    manager.finish_write(keys)
    until(lambda: len(files(tmp_path)) == len(keys))
    until(lambda: manager.report_status()["store_controller"]["in_flight_task_count"] == 0)
    for path in files(tmp_path):
        assert path.stat().st_size == int(0.4 * 2 * SHAPE.numel())

    manager.clear(force=True)
    assert manager.report_status()["l1_manager"]["total_object_count"] == 0
    assert prefetched(manager, keys) == len(keys)
    with manager.read_prefetched_results(keys) as memory:
        for chunk, each in zip(chunks, memory, strict=True):
            got = each.tensor.view(SHAPE).float()
            assert 0 < float((got - chunk.float()).pow(2).mean().sqrt()) < 0.2
    manager.finish_read_prefetched(keys)


def test_a_damaged_file_is_a_miss(store: Callable[..., Any], tmp_path: Path) -> None:
    manager = store(head_dim=64)
    keys = [key(7)]
    reserved = manager.reserve_write(keys, LAYOUT)
    reserved[keys[0]].tensor.view(SHAPE).copy_(torch.randn(SHAPE).bfloat16())
    manager.finish_write(keys)
    (path,) = until(lambda: files(tmp_path))
    until(lambda: manager.report_status()["store_controller"]["in_flight_task_count"] == 0)
    manager.clear(force=True)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert prefetched(manager, keys) == 0


def test_the_server_knows_the_serde(tmp_path: Path) -> None:
    """``python -m spectrumkv.lmcache server``: LMCache's own command."""
    serde = {"type": "spectrumkv", "head_dim": 64, "budget": 0.4, "unproven": True}
    adapter = {"type": "fs", "base_path": str(tmp_path), "serde": serde}
    ports = [free_port(), free_port()]
    command = [sys.executable, "-m", "spectrumkv.lmcache", "server", "--host", "127.0.0.1", "--port", str(ports[0])]
    command += [
        "--http-host",
        "127.0.0.1",
        "--http-port",
        str(ports[1]),
        "--l1-size-gb",
        "0.25",
        "--eviction-policy",
        "LRU",
    ]
    command += ["--disable-observability", "--l2-adapter", json.dumps(adapter)]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **QUIET})

    def status() -> Any:
        if server.poll() is not None:
            raise AssertionError((tmp_path / "log").read_text())
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{ports[1]}/status", timeout=5) as answer:
                return json.load(answer)
        except OSError:
            return None

    try:
        (l2,) = find(until(status, 240), "l2_adapters")
        assert l2["type"] == "FSL2Adapter"
        assert l2["serde_wrapped"] is True
    finally:
        server.kill()
        server.wait()


QUIET = {"LMCACHE_TRACK_USAGE": "false", "LMCACHE_DISABLE_BANNER": "1"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find(tree: Any, name: str) -> Any:
    """The value of a key, at whatever depth."""
    if isinstance(tree, dict):
        if name in tree:
            return tree[name]
        return next((found for value in tree.values() if (found := find(value, name)) is not None), None)
    return None
