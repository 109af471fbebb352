# SPDX-License-Identifier: Apache-2.0
"""A payload encoded in each language decodes to the same SHA-256 in every other, over files and over TCP.

    interop_test.py [--calls] NAME=COMMAND ...

With --calls nothing is compared: what one call costs is measured (skv_payload_get, which does next to nothing).

Each command is a program with five commands of its own:

    encode TENSORS OUT    views TENSORS (float16, [layer, K or V, token, head, channel]), encodes at a budget of 0.4, writes OUT
    decode IN ...         decodes each payload into zeroed memory of such a layout, prints the SHA-256 of that memory
    send TENSORS URI      encodes, connects and sends
    calls IN COUNT        opens IN, calls skv_payload_get COUNT times, prints nanoseconds a call
    receive URI COUNT     listens, prints its URI, then accepts COUNT peers one after another and prints as decode does
"""

from __future__ import annotations

import hashlib
import shlex
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

LAYERS, TOKENS, HEADS, DIM = 3, 200, 2, 64
TIMEOUT = 120


def named(arguments: list[str]) -> dict[str, list[str]]:
    """NAME=COMMAND ... as a table."""
    programs = {name: shlex.split(command) for name, command in (argument.split("=", 1) for argument in arguments)}
    if len(programs) < 2:
        raise SystemExit(__doc__)
    return programs


def run(command: list[str], *arguments: str) -> str:
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join([*command, *arguments])}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def over_tcp(receiver: list[str], senders: list[Callable[[str], object]]) -> list[str]:
    """What the receiver says of each payload that a sender sends to its URI."""
    process = subprocess.Popen(
        [*receiver, "receive", "tcp://127.0.0.1:0", str(len(senders))], stdout=subprocess.PIPE, text=True
    )
    watch = threading.Timer(TIMEOUT, process.kill)
    watch.start()
    try:
        assert process.stdout is not None
        uri = process.stdout.readline().strip()
        digests = []
        for send in senders:
            send(uri)
            digests.append(process.stdout.readline().strip())
        if process.wait(TIMEOUT) != 0:
            raise SystemExit(f"{' '.join(receiver)} receive: exit {process.returncode}")
        return digests
    finally:
        watch.cancel()
        process.kill()
        process.wait()


def measure(programs: dict[str, list[str]]) -> None:
    """The median of five rounds, in which the programs take turns, so that a busy moment hits none of them alone."""
    with tempfile.TemporaryDirectory() as folder:
        tensors, payload = Path(folder) / "tensors", Path(folder) / "payload.skv"
        np.zeros(LAYERS * 2 * TOKENS * HEADS * DIM, np.float16).tofile(tensors)
        run(next(iter(programs.values())), "encode", str(tensors), str(payload))
        found: dict[str, list[float]] = {name: [] for name in programs}
        for _ in range(5):
            for name, command in programs.items():
                found[name].append(float(run(command, "calls", str(payload), "200000")))
    medians = {name: statistics.median(rounds) for name, rounds in found.items()}
    base = next(iter(medians.values()))
    print("| language | ns a call | of it the binding |\n|---|---:|---:|")
    for name, median in medians.items():
        print(f"| {name} | {median:.0f} | {max(median - base, 0):.0f} |")


def main() -> int:
    if calls := "--calls" in sys.argv:
        sys.argv.remove("--calls")
    programs = named(sys.argv[1:])
    if calls:
        measure(programs)
        return 0
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        tensors = Path(folder) / "tensors"
        rng = np.random.default_rng(20)
        rng.normal(0, 1, LAYERS * 2 * TOKENS * HEADS * DIM).astype(np.float16).tofile(tensors)
        files = {}
        for name, command in programs.items():
            files[name] = Path(folder) / f"{name}.skv"
            run(command, "encode", str(tensors), str(files[name]))
        digests = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
        if len(set(digests.values())) != 1:
            wrong += 1
            print(f"payloads differ: {digests}")

        reference = ""
        print(f"{'decoded by':>12} | encoded by {' '.join(programs)}: SHA-256 of what was decoded")
        for name, command in programs.items():
            for way in ("file", "tcp"):
                if way == "file":
                    found = run(command, "decode", *map(str, files.values())).split()
                else:
                    found = over_tcp(
                        command,
                        [
                            lambda uri, sender=sender: run(sender, "send", str(tensors), uri)
                            for sender in programs.values()
                        ],
                    )
                reference = reference or found[0]
                right = len(found) == len(programs) and set(found) == {reference} and len(reference) == 64
                wrong += not right
                cells = " ".join(digest[:8] for digest in found)
                print(f"{name:>7} {way:>4} | {cells}{'' if right else '   WRONG'}", flush=True)
        zero = hashlib.sha256(bytes(LAYERS * 2 * TOKENS * HEADS * DIM * 2)).hexdigest()
        if reference == zero:
            wrong += 1
            print("nothing was decoded")
    size = len(programs)
    print(
        f"{size * size} pairs over files and {size * size} over TCP, payloads equal: {'all right' if not wrong else 'WRONG'}"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
