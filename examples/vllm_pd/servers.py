# SPDX-License-Identifier: Apache-2.0
"""Starts and ends ``vllm serve`` and the proxy."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
START = 600.0  # seconds: loading on a machine that does other things too


class Process:
    """A server in a process group of its own, logging to a file."""

    def __init__(self, name: str, command: list[str], logs: Path) -> None:
        self.name = name
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = logs / f"{name}.log"
        with self.log.open("wb") as file:
            self._process = subprocess.Popen(
                [*command, "--port", str(self.port)],
                stdout=file,
                stderr=file,
                start_new_session=True,
                env=environment(),
            )

    def ready(self, path: str) -> Process:
        """Waits until it answers; what does not is ended."""
        try:
            self._wait(path)
        except BaseException:
            self.kill()
            raise
        return self

    def _wait(self, path: str) -> None:
        end = time.monotonic() + START
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise RuntimeError(f"{self.name} ended with {self._process.returncode}:\n{self.tail()}")
            try:
                urllib.request.urlopen(self.url + path, timeout=5).close()
                return
            except urllib.error.HTTPError:
                return  # it answers, and that is all that is asked here
            except OSError:
                time.sleep(0.5)
        raise RuntimeError(f"{self.name} does not answer after {START:.0f} s:\n{self.tail()}")

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])

    def kill(self) -> None:
        """SIGKILL to all of its processes, as a crash or the OOM killer would."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """Ends it in order, and in any case."""
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(20)
        self.kill()

    def holdings(self) -> tuple[float, int, int]:
        """Resident MiB, open descriptors and threads of all of its processes."""
        memory, files, threads = 0.0, 0, 0
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # processes end
                fields = (place / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == self._process.pid:  # its session
                    memory += int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
                    threads += int(fields[17])
                    files += len(list((place / "fd").iterdir()))
        return memory, files, threads

    def metric(self, name: str) -> float:
        """Sum of a metric's samples at ``/metrics``; 0 when there are none."""
        text = urllib.request.urlopen(self.url + "/metrics", timeout=30).read().decode()
        lines = (line for line in text.splitlines() if line.partition("{")[0].partition(" ")[0] == name)
        return sum(float(line.rpartition(" ")[2]) for line in lines)


def environment() -> dict[str, str]:
    """Small and quiet: one thread each, 1 GiB of KV cache, no downloads, no reports."""
    source = str(ROOT / "bindings" / "python" / "src")
    path = os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        "PYTHONPATH": f"{source}:{path}" if path else source,
        "VLLM_CPU_KVCACHE_SPACE": os.environ.get("VLLM_CPU_KVCACHE_SPACE", "1"),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }


def vllm(name: str, model: Path, transfer: dict[str, Any], logs: Path, *more: str) -> Process:
    """One instance. ``transfer``: its ``--kv-transfer-config``."""
    # What `vllm serve` runs. The command itself asks for a package called vllm, which the CPU build (vllm-cpu) is not.
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), "--served-model-name", "smollm2",
        "--dtype", "float32", "--block-size", "32", "--enforce-eager", "--max-model-len", "2048", "--max-num-seqs", "16",
        "--max-logprobs", "-1", "--kv-transfer-config", json.dumps(transfer), *more,
    ]  # fmt: skip
    return Process(name, command, logs)


def connector(role: str, **extra: Any) -> dict[str, Any]:
    """`vllm`'s ``transfer`` for our connector."""
    return {
        "kv_connector": "SpectrumKVConnector",
        "kv_connector_module_path": "spectrumkv.vllm",
        "kv_role": role,
        "kv_load_failure_policy": "recompute",
        "kv_connector_extra_config": extra,
    }


def proxy(prefill: str, decode: str, logs: Path, *more: str) -> Process:
    """The proxy in front of two instances."""
    command = [sys.executable, str(HERE / "proxy.py"), "--prefill", prefill, "--decode", decode, *more]
    return Process("proxy", command, logs).ready("/")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
