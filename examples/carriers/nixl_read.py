# SPDX-License-Identifier: Apache-2.0
"""NIXL carries a payload: the decode process reads it out of the prefill process's memory.

    scripts/setup.sh --stacks
    PYTHONPATH=bindings/python/src build/stacks/bin/python examples/carriers/nixl_read.py

Agents' metadata, the address and the size travel over a pipe here; a router would carry them in its own messages. NIXL moves memory; what the
bytes are, for which model and prompt, and whether they arrived whole, the payload says.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from typing import Any

from cache import check, encoded, need

import spectrumkv as skv

WAIT = 30.0  # seconds
os.environ.setdefault("NIXL_LOG_LEVEL", "WARN")


def agent(name: str) -> Any:
    api = need("nixl_cu12._api")
    return api.nixl_agent(name, api.nixl_agent_config(backends=["UCX"]))


def prefill(pipe: Any) -> None:
    payloads = [encoded(None), encoded(0.28)]
    owner = agent("prefill")
    views = [skv.describe(payload.data) for payload in payloads]
    registered = owner.register_memory([(view.pointer, view.nbytes, 0, "") for view in views], "DRAM")
    pipe.send((owner.get_agent_metadata(), [(view.pointer, view.nbytes) for view in views]))
    if not pipe.poll(WAIT):
        raise SystemExit("the reader did not answer")
    owner.deregister_memory(registered)
    leave()


def decode(pipe: Any) -> None:
    reader = agent("decode")
    if not pipe.poll(WAIT):
        raise SystemExit("nothing was offered")
    metadata, places = pipe.recv()
    owner = reader.add_remote_agent(metadata)
    for budget, (address, size) in zip((None, 0.28), places):
        memory = skv.aligned_bytearray(size)
        here = skv.describe(memory).pointer
        registered = reader.register_memory([(here, size, 0, "")], "DRAM")
        into, of = (reader.get_xfer_descs([(at, size, 0)], "DRAM") for at in (here, address))
        transfer = reader.initialize_xfer("READ", into, of, owner)
        state, end = reader.transfer(transfer), time.monotonic() + WAIT
        while state == "PROC" and time.monotonic() < end:
            state = reader.check_xfer_state(transfer)
        if state != "DONE":
            raise SystemExit(f"the transfer is {state}, wanted DONE")
        reader.release_xfer_handle(transfer)
        reader.deregister_memory(registered)
        check(memory, budget, "NIXL")
    pipe.send("done")
    leave()


def leave() -> None:
    """Ends this process here: NIXL 1.5.1 alone (an agent made and dropped) crashes at exit on machines without a GPU."""
    sys.stdout.flush()
    os._exit(0)


def main() -> int:
    need("nixl_cu12._api")
    processes = multiprocessing.get_context("spawn")
    here, there = processes.Pipe()
    both = [processes.Process(target=prefill, args=(here,)), processes.Process(target=decode, args=(there,))]
    for process in both:
        process.start()
    try:
        for process in reversed(both):
            process.join(2 * WAIT)
        return next((process.exitcode or 0 for process in both if process.exitcode != 0), 0)
    finally:
        for process in both:
            if process.is_alive():
                process.kill()


if __name__ == "__main__":
    sys.exit(main())
