# SPDX-License-Identifier: Apache-2.0
"""Mooncake's store carries a payload: one process puts it, another one gets it straight into its own memory.

    scripts/setup.sh --stacks
    PYTHONPATH=bindings/python/src build/stacks/bin/python examples/carriers/mooncake_store.py

Starts a master of its own on loopback. The store keeps bytes for whoever knows the key; what they are, for which model and prompt, and whether they
arrived whole, the payload says.
"""

from __future__ import annotations

import multiprocessing
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cache import REQUEST, check, encoded, need

import spectrumkv as skv

KEY = REQUEST.hex()
WAIT = 30.0  # seconds
SEGMENT = BUFFER = 64 << 20


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def master() -> Iterator[str]:
    """A Mooncake master on loopback, until the end of the block."""
    program = Path(need("mooncake").__file__).parent / "mooncake_master"
    port = free_port()
    options = [
        f"--rpc_port={port}",
        "--rpc_address=127.0.0.1",
        f"--metrics_port={free_port()}",
        "--metrics_host=127.0.0.1",
    ]
    process = subprocess.Popen([str(program), *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + WAIT
        while time.monotonic() < end and process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.1)
        else:
            raise SystemExit(f"mooncake_master did not come up (exit {process.poll()})")
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def store(master: str, segment: int) -> Any:
    made = need("mooncake.store").MooncakeDistributedStore()
    status = made.setup("127.0.0.1", "P2PHANDSHAKE", segment, BUFFER, "tcp", "", master)
    if status != 0:
        raise SystemExit(f"MooncakeDistributedStore.setup: {status}")
    return made


def prefill(master: str, ready: Any, done: Any) -> None:
    made = store(master, SEGMENT)
    for name, budget in (("raw", None), ("small", 0.28)):
        payload = encoded(budget)
        status = made.put(f"{KEY}/{name}", bytes(payload))
        if status != 0:
            raise SystemExit(f"put: {status}")
    ready.set()
    done.wait(WAIT)  # its segment holds the bytes
    made.close()


def decode(master: str) -> None:
    made = store(master, 0)
    for name, budget in (("raw", None), ("small", 0.28)):
        size = made.get_size(f"{KEY}/{name}")
        if size <= 0:
            raise SystemExit(f"get_size: {size}")
        memory = skv.aligned_bytearray(size)
        address = skv.describe(memory).pointer
        if made.register_buffer(address, size) != 0:
            raise SystemExit("register_buffer failed")
        got = made.get_into(f"{KEY}/{name}", address, size)
        made.unregister_buffer(address)
        if got != size:
            raise SystemExit(f"get_into: {got}, wanted {size}")
        check(memory, budget, "Mooncake store")
    made.close()


def main() -> int:
    need("mooncake.store")
    processes = multiprocessing.get_context("spawn")
    with master() as where:
        ready, done = processes.Event(), processes.Event()
        writer = processes.Process(target=prefill, args=(where, ready, done))
        reader = processes.Process(target=decode, args=(where,))
        writer.start()
        try:
            if not ready.wait(WAIT):
                raise SystemExit("nothing was put")
            reader.start()
            reader.join(WAIT)
            done.set()
            writer.join(WAIT)
            return reader.exitcode or writer.exitcode or 0
        finally:
            for process in (writer, reader):
                if process.is_alive():
                    process.kill()


if __name__ == "__main__":
    sys.exit(main())
