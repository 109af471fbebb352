# SPDX-License-Identifier: Apache-2.0
"""Runs a stress program in each language and fails when its memory, descriptors or threads grew.

    watch.py OPERATIONS [--leak memory|ends] NAME=COMMAND ...

Each command is a program that does so many operations of a mix that is the same in every language, stops after every EVERY of
them, collects its garbage, prints "sample N" and waits for a line; what it holds is read from outside, in /proc:

    OPERATIONS EVERY [memory|ends]

Operation n is one of sixteen, by n % 16:

    0-5  a cache is made, a plan solved, the payload encoded (every other time into the caller's memory), opened, decoded, closed
    6    refused: a buffer that is too short, bytes that end early, a byte that was changed
    7    refused: use after close, closing twice (C has no closed handles: NULL and a conn that is gone)
    8-9  a payload is sent, accepted (once into the caller's memory), received and compared
    10   an offer is rejected
    11   the sender cancels before the offer is accepted
    12   the receiver cancels while bytes move
    13   a payload under construction is sent and closed before its last layer
    14   a request is let go of while it is live, with the payload and the bytes it reads: dropped, or left to the garbage collector
    15   the ends are closed with a send and a wait under way, and opened anew over inproc, unix and tcp in turns

With "memory" or "ends" the program keeps the payloads of 0-5, or the ends of 15: this must be found, and is success with --leak.

A tenth of the operations is warm-up. The limits are per run, whatever its length: at a million operations 4 MiB are 4 bytes each.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

# What may be added after the warm-up: MiB resident, threads. Descriptors: none. Garbage-collected heaps grow in steps, and their run
# times start threads when they want to.
LIMITS = {"c": (4, 0), "rust": (4, 0), "python": (8, 0), "go": (24, 8), "purego": (24, 8), "java": (48, 8)}
SAMPLES = 10
# Seconds without a sample after which a program hangs. (Every wait of theirs ends within 60.)
SILENCE = 1800


@dataclass
class Sample:
    operations: int
    kib: int
    descriptors: int
    threads: int


def sample(pid: int, operations: int, most: tuple[int, int]) -> Sample:
    """What a process holds now. Descriptors and threads that are just being closed have ten seconds to become this few."""
    end = time.monotonic() + 10
    while True:
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
        )
        descriptors = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
        found = Sample(operations, int(status["VmRSS"].split()[0]), descriptors, int(status["Threads"]))
        if (found.descriptors <= most[0] and found.threads <= most[1]) or time.monotonic() > end:
            return found
        time.sleep(0.1)


def run(name: str, command: list[str], operations: int, leak: str | None) -> tuple[list[Sample], float]:
    arguments = [str(operations // SAMPLES * SAMPLES), str(operations // SAMPLES), *([leak] if leak else [])]
    start = time.monotonic()
    samples: list[Sample] = []
    with subprocess.Popen([*command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        while True:
            watch = threading.Timer(SILENCE, process.kill)
            watch.start()
            line = process.stdout.readline()
            watch.cancel()
            if not line.startswith("sample "):
                break
            most = (sys.maxsize, sys.maxsize)
            if len(samples) == SAMPLES - 1:
                most = (samples[0].descriptors, samples[0].threads + LIMITS[name][1])
            samples.append(sample(process.pid, int(line.split()[1]), most))
            process.stdin.write("\n")
            process.stdin.flush()
        if line:
            process.kill()
    if process.returncode != 0 or line or len(samples) != SAMPLES:
        raise SystemExit(
            f"{shlex.join([*command, *arguments])}: exit {process.returncode} after {len(samples)} samples, last line {line!r},"
            f" wanted 0 after {SAMPLES}"
        )
    return samples, time.monotonic() - start


def grown(name: str, samples: list[Sample]) -> list[str]:
    """What is more than the limits allow."""
    first, last = samples[0], samples[-1]  # the warm-up's end, and the end
    mib, threads = LIMITS[name]
    problems = []
    for what, got, was, more in (
        ("KiB resident", last.kib, first.kib, mib * 1024),
        ("descriptors", last.descriptors, first.descriptors, 0),
        ("threads", last.threads, first.threads, threads),
    ):
        if got > was + more:
            problems.append(
                f"{name}: leak: {got} {what} after {last.operations} operations, {was} after {first.operations}:"
                f" wanted at most {more} more"
            )
    return problems


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("operations", type=int)
    parser.add_argument("--leak", choices=["memory", "ends"])
    parser.add_argument("programs", nargs="+", metavar="NAME=COMMAND")
    options = parser.parse_args()
    if options.operations < SAMPLES:
        parser.error(f"got {options.operations} operations, wanted {SAMPLES} or more")
    failed = False
    print("| language | operations | seconds | MiB resident | descriptors | threads |\n|---|---:|---:|---:|---:|---:|")
    for program in options.programs:
        name, command = program.split("=", 1)
        samples, seconds = run(name, shlex.split(command), options.operations, options.leak)
        first, last = samples[0], samples[-1]
        print(
            f"| {name} | {last.operations:,} | {seconds:.0f} | {first.kib / 1024:.1f} → {last.kib / 1024:.1f}"
            f" | {first.descriptors} → {last.descriptors} | {first.threads} → {last.threads} |",
            flush=True,
        )
        problems = grown(name, samples)
        for problem in problems:
            print(problem, file=sys.stderr, flush=True)
        if options.leak and not problems:
            print(f"{name}: leaked {options.leak} on purpose, and nothing was noticed", file=sys.stderr)
        failed = failed or bool(problems) != bool(options.leak)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
