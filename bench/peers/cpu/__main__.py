# SPDX-License-Identifier: Apache-2.0
"""Encode and decode of every peer beside memcpy of the same tensor, in turns in one process on one thread, and every peer's error.

    bench/peers/cpu.sh --json OUT [--quick]

Each round goes through all peers: memcpy, encode, memcpy, decode. A ratio is the median over the rounds of memcpy's time over the
phase's, a rate the tensor's 16-bit bytes over the median time. Time is the process's on a core: all is done by one thread, so that is what
passes on the clock, less what other processes take of the core meanwhile. A peer that needs more than 0.6 s for the whole tensor is timed
on its first layers. Errors are of the whole tensor. ``--check`` exits 1 when a peer does not give back what it should.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from ctypes import memmove
from pathlib import Path
from typing import Any

import spectrumkv as skv
from cpu import blosc, errors, ggml, ours, stacks, tensors, torch_rows
from cpu.peer import MissingError, Peer, Tensor
from cpu.verdict import verdict
from spectrumkv.eval.machine import machine
from spectrumkv.eval.results import write

PATIENCE = 0.6
"""Seconds a round that a peer may take of the tensor."""
SLACK = 1.2
"""Of half a step: scales are rounded too, in 8 bits to about a tenth of a step at the ends."""

Row = dict[str, Any]


def found(versions: dict[str, str], skipped: dict[str, str]) -> list[Peer]:
    """This library, without which there is nothing to compare, and every peer that is here; ``skipped`` says what is not, and why."""
    made = ours.peers()
    families: dict[str, Callable[[], list[Any]]] = {
        "ggml": lambda: ggml.peers(versions),
        "PyTorch": lambda: torch_rows.peers(versions),
        "the paper's released code": lambda: torch_rows.released(versions),
        "FBGEMM": lambda: torch_rows.fbgemm(versions),
        "LMCache": lambda: stacks.lmcache(versions, skipped),
        "transformers": lambda: stacks.transformers(versions, skipped),
        "Blosc2": lambda: blosc.peers(versions),
    }
    for name, make in families.items():
        try:
            made += make()
        except MissingError as error:
            skipped[name] = str(error).strip()
    for name, why in skipped.items():
        print(f"SKIPPED {name}: {why}", file=sys.stderr)
    return made


def clocked(work: Callable[[int], Any], layers: int) -> tuple[float, Any]:
    """Seconds that the process's threads took of a core, and what it returned."""
    start = time.process_time()
    result = work(layers)
    return time.process_time() - start, result


def check(peers: list[Peer]) -> int:
    """Every peer's round trip on tiny tensors. Returns how many fail."""
    failures = 0
    for tensor in tensors.tiny():
        for peer in peers:
            tensor.back[:] = 1
            try:
                peer.bind(tensor)
                size = peer.encode(tensor.layers)
                peer.decode(tensor.layers)
                peer.release()
                worst = errors.worst(tensor.back, tensor.data)
                most = SLACK * peer.half_step
                # a scale or two a row of 64, this library's vectors of two short chunks and its headers
                room = (1.02 if peer.lossless else peer.stored_bits / 16 + 0.25) * tensor.data.nbytes + 2048
                wrong = [] if worst <= most else [f"error: wanted at most {most:g}"]
                wrong += [] if 0 < size <= room else [f"bytes: wanted at most {room:.0f}"]
            except Exception as error:  # a peer of others may raise anything; the check names all that fail
                size, worst, wrong = 0, float("nan"), [f"{type(error).__name__}: {error}"]
            failures += bool(wrong)
            said = f"FAILED {'; '.join(wrong)}" if wrong else "ok"
            print(
                f"{tensor.name}: {peer.name}: {size} of {tensor.data.nbytes} bytes, error {worst:.4f} of a row: {said}"
            )
    return failures


def share(peer: Peer, tensor: Tensor) -> int:
    """How many layers a round takes of a peer, which is warm then."""
    if peer.whole:
        peer.encode(tensor.layers)
        peer.decode(tensor.layers)
        return tensor.layers
    for _ in range(2):  # the first compiles, looks up, makes memory
        seconds = clocked(peer.encode, 1)[0] + clocked(peer.decode, 1)[0]
    peer.release()
    return max(1, min(tensor.layers, int(PATIENCE / max(seconds, 1e-9))))


def measure(tensor: Tensor, peers: list[Peer], rounds: int) -> tuple[list[Row], float]:
    """The rows of one tensor, and memcpy's GB/s."""
    print(f"{tensor.name}: {list(tensor.data.shape)}, {tensor.data.nbytes / 2**20:.0f} MiB", file=sys.stderr)
    wanted = errors.reference(tensor) if tensor.queries else None
    copy = ours.Memmove()
    copy.bind(tensor)
    rows: list[Row] = []
    layers: list[int] = []
    for peer in peers:
        peer.bind(tensor)
        layers.append(share(peer, tensor))
        tensor.back[:] = 1
        size = peer.encode(tensor.layers)
        peer.decode(tensor.layers)
        peer.release()
        row = {
            "method": peer.name, "bits": peer.bits, "about": peer.about, "own": peer.own, "yardstick": peer.yardstick,
            "lossless": peer.lossless, "bytes": size, "of_raw": size / tensor.data.nbytes, "layers_timed": layers[-1],
            "k_error": errors.relative(tensor.back[:, 0], tensor.data[:, 0]),
            "v_error": errors.relative(tensor.back[:, 1], tensor.data[:, 1]),
        }  # fmt: skip
        if wanted is not None:
            row["logit_error_nats"], row["output_error"] = errors.attention(tensor, wanted)
        rows.append(row)
        print(
            f"  {peer.name}: {row['of_raw']:.4f} of raw, K {row['k_error']:.4f} V {row['v_error']:.4f}", file=sys.stderr
        )
    copies: list[float] = []
    spent: list[dict[str, list[float]]] = [
        {"encode": [], "decode": [], "encode_ratio": [], "decode_ratio": []} for _ in peers
    ]
    gc.disable()
    for turn in range(rounds):
        for peer, count, times in zip(peers, layers, spent):
            of_whole = count / tensor.layers
            for phase, work in (("encode", peer.encode), ("decode", peer.decode)):
                # into the memory that the phase does not read; copying over what is to be decoded would cost what is kept in it
                copied, _ = clocked(_into_back(tensor), tensor.layers)
                took, _ = clocked(work, count)
                copies.append(copied)
                times[phase].append(took / of_whole)
                times[f"{phase}_ratio"].append(copied * of_whole / took)
            peer.release()
        gc.collect()
        print(f"  round {turn + 1} of {rounds}", file=sys.stderr)
    gc.enable()
    for row, times in zip(rows, spent):
        for phase in ("encode", "decode"):
            row[f"{phase}_gbps"] = tensor.data.nbytes / statistics.median(times[phase]) / 1e9
            row[f"{phase}_vs_memcpy"] = statistics.median(times[f"{phase}_ratio"])
    for row in rows:
        row["verdict"] = verdict(row, rows)
    return rows, tensor.data.nbytes / statistics.median(copies) / 1e9


def _into_back(tensor: Tensor) -> Callable[[int], Any]:
    source, target = tensor.data.ctypes.data, tensor.back.ctypes.data
    return lambda layers: memmove(target, source, layers * tensor.layer_bytes)


def summary(content: Row) -> dict[str, Row]:
    """By peer and tensor, what a guard against regressions compares: ratios only."""
    made: dict[str, Row] = {}
    for tensor in content["tensors"]:
        for row in tensor["rows"]:
            kept = {key: row[key] for key in ("of_raw", "encode_vs_memcpy", "decode_vs_memcpy")}
            if row["verdict"]:
                kept |= {key: row["verdict"][key] for key in ("beside", "encode_times", "decode_times", "twice")}
            made.setdefault(row["method"], {})[tensor["name"]] = kept
    return made


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="bench/peers/cpu.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="where results go")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 32 MiB")
    parser.add_argument("--rounds", type=int, help="default 7")
    parser.add_argument("--check", action="store_true", help="round trips of a tiny tensor; nothing is timed")
    parser.add_argument(
        "--only", default="", help="names of peers that contain one of these, between commas; memcpy always"
    )
    parser.add_argument(
        "--need", default="", help="exit 77 (with SPECTRUMKV_ENGINES=required: 1) if this family is skipped"
    )
    parser.add_argument("--prompt", type=Path, help="what cpu.capture kept; given by cpu.sh")
    options = parser.parse_args()
    if not options.check and options.prompt is None:
        parser.error("--prompt is missing: run bench/peers/cpu.sh")
    return options


def main() -> int:
    """Entry point."""
    options = parse()
    versions: dict[str, str] = {"spectrumkv": skv.__version__, "python": sys.version.split()[0]}
    skipped: dict[str, str] = {}
    peers = found(versions, skipped)
    if options.need in skipped:
        return 1 if os.environ.get("SPECTRUMKV_ENGINES") == "required" else 77
    if options.only:
        parts = options.only.split(",")
        peers = [peer for peer in peers if peer.name == "memcpy" or any(part in peer.name for part in parts)]
    if options.check:
        failures = check(peers)
        print(f"{len(peers)} peers, {failures} failures, skipped: {', '.join(skipped) or 'none'}")
        return 1 if failures else 0
    rounds = options.rounds or (3 if options.quick else 7)
    content: Row = {
        "kind": "peers-cpu", "machine": machine(), "engine": skv.Engine(threads=1).describe(), "versions": versions,
        "settings": {"rounds": rounds, "quick": options.quick, "threads": 1}, "skipped": skipped, "load": [os.getloadavg()[0]], "tensors": [],
    }  # fmt: skip
    for tensor in tensors.timed(options.prompt, options.quick):
        rows, gbps = measure(tensor, peers, rounds)
        content["tensors"].append(
            {
                "name": tensor.name,
                "shape": list(tensor.data.shape),
                "bytes": tensor.data.nbytes,
                "memcpy_gbps": gbps,
                "rows": rows,
            }
        )
    content["load"].append(os.getloadavg()[0])
    content["peers"] = summary(content)
    if options.json:
        write(options.json, content)
    else:
        print(json.dumps(content, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
