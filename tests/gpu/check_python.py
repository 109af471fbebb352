# SPDX-License-Identifier: Apache-2.0
"""The Python package on a GPU's tensors: torch (and CuPy where it is installed), each on its current stream.

Run by scripts/gpu-verify.sh. Exit code 0: all right; 77: something is not installed; else what failed was printed."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

import spectrumkv as skv

LAYERS, TOKENS, HEADS, DIM, BLOCK = 3, 500, 4, 128, 16
REQUIRED = bool(os.environ.get("SPECTRUMKV_REQUIRE_GPU"))


def check(condition: bool, what: str) -> None:
    print("ok  " if condition else "FAIL", what, flush=True)
    if not condition:
        raise SystemExit(1)


def refused(call: Callable[[], object], error: type[Exception]) -> bool:
    try:
        call()
    except error as caught:
        print("     ", caught)
        return True
    return False


def with_torch(torch: Any) -> None:
    check("torch" in type(torch.zeros(1)).__module__, "torch tensors name their library")
    torch.manual_seed(1)
    gpu, cpu = skv.Engine(device=0), skv.Engine()
    print("     ", gpu.describe())
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        shape = (TOKENS, HEADS, DIM)
        host = [(torch.randn(shape).to(dtype), torch.randn(shape).to(dtype)) for _ in range(LAYERS)]
        cuda = [(k.cuda(), v.cuda()) for k, v in host]
        cache = skv.Cache.from_arrays(cuda)
        check(cache.device == 0, f"{dtype}: a cache of torch tensors is on device 0")
        torch.cuda.synchronize()
        budget = 0.5 if dtype == torch.float32 else 0.28
        plan = skv.Plan(gpu, budget=budget, unproven=True).solve(cache)
        host_cache = skv.Cache.from_arrays(host)
        want = cpu.encode(host_cache, skv.Plan(cpu, budget=budget, unproven=True).solve(host_cache))
        got = gpu.encode(cache, plan)
        check(got.device == 0 and bytes(got) == bytes(want), f"{dtype}: payload bytes equal the CPU's ({len(got)})")
        view = torch.as_tensor(got, device="cuda")
        check(bytes(view.cpu().numpy()) == bytes(want), f"{dtype}: torch reads the payload in place")

        back = [(torch.zeros_like(k), torch.zeros_like(v)) for k, v in cuda]
        expected = [(torch.zeros_like(k), torch.zeros_like(v)) for k, v in host]
        cpu.decode(want, skv.Cache.from_arrays(expected))
        gpu.decode(got, skv.Cache.from_arrays(back))
        same = all(torch.equal(a.cpu(), b) for x, y in zip(back, expected) for a, b in zip(x, y))
        check(same, f"{dtype}: decoded tensors equal the CPU's")

        # Bytes that arrived in device memory, and bytes that arrived in the host's.
        arrived = view.clone()
        for source in (gpu.open(arrived), skv.Payload.open(bytes(want))):
            pages = [tuple(torch.zeros(64, BLOCK, HEADS, DIM, dtype=dtype, device="cuda") for _ in "kv") for _ in host]
            blocks = [63 - 2 * i for i in range((TOKENS + BLOCK - 1) // BLOCK)]
            paged = skv.Cache.from_arrays(pages, layout="bthd", tokens=TOKENS, blocks=blocks)
            gpu.decode(source, paged)
            rows = [torch.cat([page[b] for b in blocks])[:TOKENS].cpu() for pair in pages for page in pair]
            wanted = [tensor for pair in expected for tensor in pair]
            check(all(map(torch.equal, rows, wanted)), f"{dtype}: into pages, from device {source.device}")
        arrived[len(want) // 2] ^= 1
        untouched = [tuple(torch.zeros_like(k) for _ in "kv") for k, _ in cuda]
        damaged = gpu.open(arrived)
        check(
            refused(lambda d=damaged, u=untouched: gpu.decode(d, skv.Cache.from_arrays(u)), skv.ChecksumError)
            and not any(tensor.any() for pair in untouched for tensor in pair),
            f"{dtype}: a flipped bit writes nothing",
        )

    # The current stream orders: the tensors are still being made when encode is called.
    stream = torch.cuda.Stream()
    sizes = (4000, HEADS, DIM)
    final = torch.randn(sizes).half()
    target = [(torch.zeros(sizes, dtype=torch.float16, device="cuda"),) * 1 for _ in range(LAYERS)]
    made = skv.Cache.from_arrays([(pair[0], None) for pair in target])
    host_made = skv.Cache.from_arrays([(final, None)] * LAYERS)
    uniform = skv.Plan(gpu, strategy="uniform-6", unproven=True).solve(made)
    on_gpu = final.cuda()
    busy = torch.randn(4096, 4096, device="cuda")
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        for _ in range(20):
            busy = busy @ busy
            busy = busy / busy.norm()
        for (tensor,) in target:
            tensor.copy_(on_gpu)
        late = gpu.encode(made, uniform)
    check(made.stream == torch.cuda.current_stream().cuda_stream, "outside, the stream is the outer one again")
    want = cpu.encode(host_made, skv.Plan(cpu, strategy="uniform-6", unproven=True).solve(host_made))
    check(bytes(late) == bytes(want), "encode waits for what torch's current stream still writes")
    check(refused(lambda: cpu.encode(made, uniform), skv.ArgumentError), "a CPU engine refuses device memory")
    host_only = skv.Cache.from_arrays([(final, None)] * LAYERS)
    check(refused(lambda: gpu.encode(host_only, uniform), skv.ArgumentError), "a CUDA engine refuses pageable memory")
    # Bytes into torch's own memory.
    room = torch.empty(uniform.nbytes, dtype=torch.uint8, device="cuda")
    into = gpu.encode(made, uniform, out=room)
    check(bytes(room.cpu().numpy()) == bytes(into), "encoding into a torch tensor")


def with_cupy(cupy: Any) -> None:
    gpu = skv.Engine(device=0)
    k = cupy.random.standard_normal((TOKENS, HEADS, DIM), dtype=cupy.float32)
    cache = skv.Cache.from_arrays([(k, k + 1)])
    plan = skv.Plan(gpu, strategy="uniform-8")
    cupy.cuda.Device().synchronize()
    plan.solve(cache)
    with cupy.cuda.Stream(non_blocking=True) as stream:
        check(cache.stream == stream.ptr, "CuPy's current stream is used")
        payload = gpu.encode(cache, plan)
    out = cupy.zeros_like(k), cupy.zeros_like(k)
    gpu.decode(payload, skv.Cache.from_arrays([out]))
    check(float(abs(out[0] - k).max()) < 0.05, "CuPy arrays come back")


def main() -> int:
    try:
        skv.Engine(device=0).close()
    except skv.ResourceError as error:
        print(f"no GPU to test on: {error.status.name}: {error}")
        return 1 if REQUIRED else 77
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        print(f"torch is missing: {error}")
        return 77
    with_torch(torch)
    try:
        cupy = importlib.import_module("cupy")
    except ImportError as error:
        print(f"skipped: CuPy is not installed: {error}")
    else:
        with_cupy(cupy)
    return 0


if __name__ == "__main__":
    sys.exit(main())
