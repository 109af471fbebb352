# SPDX-License-Identifier: Apache-2.0
"""One end of Mooncake's transfer engine or of NIXL's UCX backend, moving raw bytes. Runs under a Python that has them and
knows nothing of this library. Commands and results are JSON lines, as between the other processes."""

from __future__ import annotations

import base64
import ctypes
import json
import os
import sys
import time
from typing import Any

out = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)  # whatever else prints


def say(kind: str, **message: Any) -> None:
    """Sends a result."""
    out.write(json.dumps({"kind": kind, **message}) + "\n")


class Mooncake:
    """TCP, without a metadata server."""

    def __init__(self, address: str, memory: Any, size: int) -> None:
        os.environ.setdefault("MC_FORCE_TCP", "1")
        from mooncake.engine import TransferEngine  # noqa: PLC0415

        self.engine = TransferEngine()
        self.at, self.size = ctypes.addressof(memory), size
        if self.engine.initialize(address, "P2PHANDSHAKE", "tcp", "") != 0:
            raise RuntimeError("mooncake: initialize failed")
        if self.engine.register_memory(self.at, size) != 0:
            raise RuntimeError("mooncake: register_memory failed")
        self.name = f"{address}:{self.engine.get_rpc_port()}"

    def card(self) -> dict[str, Any]:
        return {"name": self.name, "at": self.at}

    def meet(self, card: dict[str, Any]) -> None:
        self.peer = card

    def move(self) -> None:
        if self.engine.transfer_sync_write(self.peer["name"], self.at, self.peer["at"], self.size) != 0:
            raise RuntimeError("mooncake: transfer_sync_write failed")


class Nixl:
    """The UCX backend."""

    def __init__(self, address: str, memory: Any, size: int) -> None:
        # Two namespaces of one machine share its memory, which is not the link that is emulated.
        os.environ.setdefault("UCX_TLS", "tcp,self")
        from nixl._api import nixl_agent, nixl_agent_config  # noqa: PLC0415

        self.agent = nixl_agent(address, nixl_agent_config(backends=["UCX"]))
        at = ctypes.addressof(memory)
        self.mine = self.agent.get_reg_descs([(at, size, 0, "")], "DRAM")
        self.agent.register_memory(self.mine)
        self.local = self.agent.get_xfer_descs([(at, size, 0)], "DRAM")

    def card(self) -> dict[str, Any]:
        return {
            "agent": base64.b64encode(self.agent.get_agent_metadata()).decode(),
            "descs": base64.b64encode(self.agent.get_serialized_descs(self.local)).decode(),
        }

    def meet(self, card: dict[str, Any]) -> None:
        name = self.agent.add_remote_agent(base64.b64decode(card["agent"]))
        remote = self.agent.deserialize_descs(base64.b64decode(card["descs"]))
        self.handle = self.agent.initialize_xfer("WRITE", self.local, remote, name)

    def move(self) -> None:
        state = self.agent.transfer(self.handle)
        while state == "PROC":
            state = self.agent.check_xfer_state(self.handle)
        if state != "DONE":
            raise RuntimeError(f"nixl: {state}")


def main() -> int:
    """Entry point of the process."""
    end: Mooncake | Nixl | None = None
    memory: Any = None
    try:
        for line in sys.stdin:
            command = json.loads(line)
            kind = command["kind"]
            if kind == "start":
                memory = (ctypes.c_char * command["bytes"])()
                ctypes.memset(memory, command["fill"], command["bytes"])
                peer = Mooncake if command["peer"] == "mooncake" else Nixl
                end = peer(command["address"], memory, command["bytes"])
                say("ready", card=end.card())
            elif kind == "meet":
                assert end is not None
                end.meet(command["card"])
                say("met")
            elif kind == "move":
                assert end is not None
                start = time.monotonic_ns()
                end.move()
                say("result", ms=(time.monotonic_ns() - start) / 1e6)
            elif kind == "check":
                want = bytes([command["fill"]])
                say("result", good=all(memory[i] == want for i in range(0, len(memory), 997)))
            else:
                break
    except BaseException as error:
        say("error", text=f"{type(error).__name__}: {error}")
    os._exit(0)  # their threads do not always end


if __name__ == "__main__":
    sys.exit(main())
