#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prefill and decode as two processes: torch's CUDA tensors go from one GPU to the other over plane nccl, or stay on one
shared GPU (two processes with an NCCL_HOSTID each: correct, and slow, because NCCL then goes through a socket).

    gpu_pd.py [--tokens N] [--layers N] [--rounds N] [--nccl PATH]

Each round encodes on the prefill's GPU, layer by layer, and sends every layer while the next is encoded; the other process
decodes into its own tensors and compares them with what its CPU engine makes of the same bytes. Prints what was measured.
Exit code 0: all right; 77: no GPU, no torch or no NCCL, said in words; 1: something differed.
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import os
import queue
import sys
import time
from typing import Any

import spectrumkv as skv

HEADS, DIM = 8, 128
TIMEOUT = 60.0


def give_up(why: str) -> int:
    print(f"gpu_pd: NOTHING WAS SHOWN: {why}", file=sys.stderr)
    return 77


def settle_environment(rank: int, gpus: int) -> None:
    """Before NCCL is loaded. Ranks that share a GPU must look like two hosts."""
    if gpus > 1:
        return
    os.environ["NCCL_HOSTID"] = f"spectrumkv-{rank}"
    os.environ["NCCL_SOCKET_IFNAME"] = "lo"
    os.environ["NCCL_NET"] = "Socket"


def tensors(
    torch: Any, device: int, layers: int, tokens: int, seed: int
) -> list[tuple[Any, Any]]:
    generator = torch.Generator(device=f"cuda:{device}").manual_seed(seed)
    shape = (tokens, HEADS, DIM)

    def make() -> Any:
        return torch.randn(shape, generator=generator, device=f"cuda:{device}").to(
            torch.float16
        )

    return [(make(), make()) for _ in range(layers)]


def endpoint(device: int, nccl: str | None) -> skv.Endpoint:
    libraries = {skv.Plane.NCCL: nccl} if nccl else None
    return skv.Endpoint(planes=[skv.Plane.NCCL], device=device, libraries=libraries)


def prefill(arguments: argparse.Namespace, gpus: int, uri: str, results: Any) -> None:
    settle_environment(0, gpus)
    import torch

    torch.cuda.set_device(0)
    engine = skv.Engine(device=0)
    source = tensors(torch, 0, arguments.layers, arguments.tokens, seed=1)
    cache = skv.Cache.from_arrays(source)
    plan = skv.Plan(engine, budget=0.3, unproven=True).solve(cache)
    with endpoint(0, arguments.nccl) as end, end.connect(uri, TIMEOUT) as conn:
        for key in range(arguments.rounds):
            stream = torch.cuda.Stream()
            with torch.cuda.stream(stream):
                payload = skv.Payload.create(cache, plan)
                torch.cuda.synchronize()
                begin = time.monotonic()
                request = conn.send_layers(key, payload, TIMEOUT)
                for layer in range(arguments.layers):
                    engine.encode_layer(cache, plan, layer, payload)
                encoded = time.monotonic() - begin
            request.result(TIMEOUT)
            results.put(
                ("prefill", key, len(payload), encoded, time.monotonic() - begin)
            )


def decode(arguments: argparse.Namespace, gpus: int, ready: Any, results: Any) -> None:
    settle_environment(1, gpus)
    import torch

    device = 1 if gpus > 1 else 0
    torch.cuda.set_device(device)
    engine, cpu = skv.Engine(device=device), skv.Engine()
    with endpoint(device, arguments.nccl) as end:
        ready.put(end.listen("tcp://127.0.0.1:0"))
        with end.accept(TIMEOUT) as conn:
            for key in range(arguments.rounds):
                into = [
                    (torch.zeros_like(k), torch.zeros_like(v))
                    for k, v in tensors(
                        torch, device, arguments.layers, arguments.tokens, 2
                    )
                ]
                payload = conn.receive(TIMEOUT)
                begin = time.monotonic()
                engine.decode(payload, skv.Cache.from_arrays(into))
                torch.cuda.synchronize()
                seconds = time.monotonic() - begin
                wanted = [
                    (
                        torch.zeros_like(k, device="cpu"),
                        torch.zeros_like(v, device="cpu"),
                    )
                    for k, v in into
                ]
                cpu.decode(
                    skv.Payload.open(bytes(payload)), skv.Cache.from_arrays(wanted)
                )
                same = all(
                    torch.equal(a.cpu(), b)
                    for x, y in zip(into, wanted)
                    for a, b in zip(x, y)
                )
                receipt = payload.receipt()
                results.put(
                    (
                        "decode",
                        key,
                        conn.plane.name,
                        same,
                        seconds,
                        receipt.wire_ns / 1e9,
                        receipt.raw_bytes,
                    )
                )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument(
        "--rounds", type=int, default=5, help="the first one makes the communicator"
    )
    parser.add_argument(
        "--nccl", help="path of libnccl.so.2 (default: torch's, or the system's)"
    )
    arguments = parser.parse_args()
    try:
        import torch
    except ImportError:
        return give_up("torch is not installed (pip install torch)")
    if not torch.cuda.is_available():
        return give_up("no GPU: torch.cuda.is_available() is False on this machine")
    gpus = torch.cuda.device_count()
    context = mp.get_context("spawn")
    ready, results = context.Queue(), context.Queue()
    receiver = context.Process(target=decode, args=(arguments, gpus, ready, results))
    receiver.start()
    sender = None
    good = True
    try:
        uri = ready.get(timeout=TIMEOUT)
        sender = context.Process(target=prefill, args=(arguments, gpus, uri, results))
        sender.start()
        print(
            f"{'two GPUs' if gpus > 1 else 'one GPU, shared by two processes'}: {arguments.layers} layers, {arguments.tokens} tokens"
        )
        for _ in range(2 * arguments.rounds):
            who, key, *facts = results.get(timeout=2 * TIMEOUT)
            if who == "prefill":
                size, encoded, total = facts
                print(
                    f"  round {key}: {size / 1e6:.1f} MB, encoded in {encoded * 1e3:.1f} ms, with the transfer {total * 1e3:.1f} ms"
                )
            else:
                plane, same, seconds, wire, raw = facts
                good = good and same and plane == "NCCL"
                print(
                    f"  round {key}: plane {plane}, wire {wire * 1e3:.1f} ms = {raw / wire / 1e9:.2f} GB/s of raw cache, decoded in"
                    f" {seconds * 1e3:.1f} ms, bytes {'equal the CPU' if same else 'DIFFER'}"
                )
    except (queue.Empty, OSError) as error:  # the processes must not be left behind
        print(f"gpu_pd: {type(error).__name__}: {error}", file=sys.stderr)
        good = False
    for process in (sender, receiver):
        if process is None:
            continue
        process.join(10)
        if process.is_alive():
            process.kill()
            good = False
        good = good and process.exitcode == 0
    print("all bytes as they must be" if good else "FAILED")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
