#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Quantizers that people write themselves, on the GPU, beside a device-to-device copy of the same tensor.

    python bench/peers/gpu_quantizers.py [--rounds N] [--tokens 512,4096]

Absmax over each row of one token and kv-head, 8 bits and 4 bits (two codes a byte), scales in f16, in torch.compile and in
Triton: no transforms, no budget, no digests, no relayout into pages, so less work than this library's encode. The tensor is
bench/cuda_bench's: Qwen2.5-7B, 28 layers, K and V, 4 kv-heads of 128, f16. Every round times all in turn by CUDA events; each
figure is the median of its rounds. JSON on stdout. Exits 77 without torch, Triton or a GPU.

``--check`` compares both with plain arithmetic on a small tensor and times nothing. It needs no GPU: Triton then interprets
(TRITON_INTERPRET=1).
"""

# ruff: noqa: N803, PLC0415 (Triton writes constants so; torch and Triton may be missing)
from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable
from typing import Any

LAYERS, HALVES, HEADS, DIM = 28, 2, 4, 128  # Qwen2.5-7B
ROWS_A_PROGRAM = 32  # 8 KiB of f16: what a Triton program keeps in registers


def plain_quantize(torch: Any, x: Any, bits: int) -> tuple[Any, Any]:
    """Rows ``[n, DIM]`` to codes (uint8; two a byte for 4 bits, even channels low) and f16 scales ``[n, 1]``."""
    top = 2 ** (bits - 1) - 1
    scale = (x.abs().amax(dim=1, keepdim=True).float() / top).clamp(min=1e-7).half()
    codes = torch.clamp(torch.floor(x.float() / scale.float() + 0.5), -top, top).to(torch.int32) + (top + 1)
    if bits == 4:
        codes = codes[:, 0::2] | codes[:, 1::2] << 4
    return codes.to(torch.uint8), scale


def plain_dequantize(torch: Any, codes: Any, scale: Any, bits: int) -> Any:
    """The way back, to f16."""
    top = 2 ** (bits - 1) - 1
    wide = codes.to(torch.int32)
    if bits == 4:
        wide = torch.stack((wide & 15, wide >> 4), dim=2).reshape(codes.shape[0], -1)
    return ((wide - (top + 1)).float() * scale.float()).half()


def triton_pair(bits: int) -> tuple[Callable[..., None], Callable[..., None]]:
    """``quantize(x, codes, scale)`` and ``dequantize(codes, scale, x)`` as Triton kernels."""
    import triton
    import triton.language as tl

    top = 2 ** (bits - 1) - 1

    @triton.jit
    def quantize(
        x_at, codes_at, scale_at, rows, TOP: tl.constexpr, DIM: tl.constexpr, FOUR: tl.constexpr, R: tl.constexpr
    ):
        row = tl.program_id(0) * R + tl.arange(0, R)
        inside = (row < rows)[:, None]
        if FOUR:
            pair = tl.arange(0, DIM // 2)
            low = tl.load(x_at + row[:, None] * DIM + 2 * pair[None, :], mask=inside, other=0.0).to(tl.float32)
            high = tl.load(x_at + row[:, None] * DIM + 2 * pair[None, :] + 1, mask=inside, other=0.0).to(tl.float32)
            most = tl.maximum(tl.max(tl.abs(low), 1), tl.max(tl.abs(high), 1))
        else:
            channel = tl.arange(0, DIM)
            low = tl.load(x_at + row[:, None] * DIM + channel[None, :], mask=inside, other=0.0).to(tl.float32)
            high = low
            most = tl.max(tl.abs(low), 1)
        scale = tl.maximum(most / TOP, 1e-7).to(tl.float16)
        wide = scale.to(tl.float32)[:, None]
        a = tl.minimum(tl.maximum(tl.floor(low / wide + 0.5), -TOP), TOP).to(tl.int32) + (TOP + 1)
        tl.store(scale_at + row, scale, mask=row < rows)
        if FOUR:
            b = tl.minimum(tl.maximum(tl.floor(high / wide + 0.5), -TOP), TOP).to(tl.int32) + (TOP + 1)
            out = codes_at + row[:, None] * (DIM // 2) + tl.arange(0, DIM // 2)[None, :]
            tl.store(out, (a | (b << 4)).to(tl.uint8), mask=inside)
        else:
            tl.store(codes_at + row[:, None] * DIM + tl.arange(0, DIM)[None, :], a.to(tl.uint8), mask=inside)

    @triton.jit
    def dequantize(
        codes_at, scale_at, x_at, rows, TOP: tl.constexpr, DIM: tl.constexpr, FOUR: tl.constexpr, R: tl.constexpr
    ):
        row = tl.program_id(0) * R + tl.arange(0, R)
        inside = (row < rows)[:, None]
        scale = tl.load(scale_at + row, mask=row < rows, other=0.0).to(tl.float32)[:, None]
        if FOUR:
            pair = tl.arange(0, DIM // 2)
            codes = tl.load(codes_at + row[:, None] * (DIM // 2) + pair[None, :], mask=inside, other=0).to(tl.int32)
            out = x_at + row[:, None] * DIM + 2 * pair[None, :]
            tl.store(out, (((codes & 15) - (TOP + 1)).to(tl.float32) * scale).to(tl.float16), mask=inside)
            tl.store(out + 1, (((codes >> 4) - (TOP + 1)).to(tl.float32) * scale).to(tl.float16), mask=inside)
        else:
            channel = tl.arange(0, DIM)
            codes = tl.load(codes_at + row[:, None] * DIM + channel[None, :], mask=inside, other=0).to(tl.int32)
            out = x_at + row[:, None] * DIM + channel[None, :]
            tl.store(out, ((codes - (TOP + 1)).to(tl.float32) * scale).to(tl.float16), mask=inside)

    def grid(rows: int) -> tuple[int]:
        return ((rows + ROWS_A_PROGRAM - 1) // ROWS_A_PROGRAM,)

    def forth(x: Any, codes: Any, scale: Any) -> None:
        quantize[grid(len(x))](x, codes, scale, len(x), TOP=top, DIM=DIM, FOUR=bits == 4, R=ROWS_A_PROGRAM)

    def back(codes: Any, scale: Any, x: Any) -> None:
        dequantize[grid(len(x))](codes, scale, x, len(x), TOP=top, DIM=DIM, FOUR=bits == 4, R=ROWS_A_PROGRAM)

    return forth, back


def check(torch: Any) -> int:
    """Both peers against plain arithmetic. Returns how many disagree."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(1)
    x = torch.randn(1000, DIM, device=device).half()
    wrong = 0
    for bits in (8, 4):
        codes, scale = plain_quantize(torch, x, bits)
        back = plain_dequantize(torch, codes, scale, bits)
        error = ((back.float() - x.float()).norm() / x.float().norm()).item()
        mine, mine_scale, mine_back = torch.empty_like(codes), torch.empty_like(scale), torch.empty_like(x)
        forth, decode = triton_pair(bits)
        forth(x, mine, mine_scale)
        decode(mine, mine_scale, mine_back)
        # A quotient of exactly one half may round either way where the division differs in its last bit.
        same = (mine == codes).float().mean().item() > 0.999 and torch.equal(mine_scale, scale)
        near = (mine_back.float() - back.float()).abs().max().item() <= 1.01 * scale.float().max().item()
        wrong += not (same and near and error < (0.02 if bits == 8 else 0.2))
        print(
            f"{bits} bits on {device}: relative error {error:.4f}, Triton {'agrees' if same and near else 'DISAGREES'}"
        )
    return wrong


def measure(torch: Any, tokens: int, rounds: int) -> dict[str, Any]:
    """Medians of all peers on one size."""
    torch.manual_seed(1)
    x = torch.randn(LAYERS * HALVES * tokens * HEADS, DIM, device="cuda").half()
    target = torch.empty_like(x)
    work: dict[str, Callable[[], Any]] = {"copy": lambda: target.copy_(x)}
    for bits in (8, 4):
        codes, scale = plain_quantize(torch, x, bits)
        out, out_scale = torch.empty_like(codes), torch.empty_like(scale)
        forth, back = triton_pair(bits)
        compiled_forth = torch.compile(
            lambda x, bits=bits: plain_quantize(torch, x, bits), mode="max-autotune-no-cudagraphs"
        )
        compiled_back = torch.compile(
            lambda codes, scale, bits=bits: plain_dequantize(torch, codes, scale, bits),
            mode="max-autotune-no-cudagraphs",
        )
        work[f"torch.compile encode {bits}"] = lambda f=compiled_forth: f(x)
        work[f"torch.compile decode {bits}"] = lambda f=compiled_back, c=codes, s=scale: f(c, s)
        work[f"triton encode {bits}"] = lambda f=forth, c=out, s=out_scale: f(x, c, s)
        work[f"triton decode {bits}"] = lambda f=back, c=codes, s=scale: f(c, s, target)
    for job in work.values():  # compilation, and the clocks
        for _ in range(3):
            job()
    torch.cuda.synchronize()
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, job in work.items():
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            job()
            end.record()
            end.synchronize()
            times[name].append(begin.elapsed_time(end) / 1e3)
    medians = {name: statistics.median(values) for name, values in times.items()}
    size = x.numel() * 2
    return {
        "tokens": tokens,
        "bytes": size,
        "phases": {
            name: {"us": seconds * 1e6, "GBps_of_cache": size / seconds / 1e9, "vs_copy": medians["copy"] / seconds}
            for name, seconds in medians.items()
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="default 15")
    parser.add_argument("--tokens", default="512,4096", help="default 512,4096")
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    try:
        import torch
    except ImportError:
        print("torch is not installed", file=sys.stderr)
        return 77
    if not torch.cuda.is_available():
        if not given.check:
            print("no GPU", file=sys.stderr)
            return 77
        os.environ["TRITON_INTERPRET"] = "1"
    try:
        import triton
    except ImportError:
        print("Triton is not installed", file=sys.stderr)
        return 77
    if given.check:
        return min(check(torch), 1)
    cases = [measure(torch, int(tokens), given.rounds) for tokens in given.tokens.split(",")]
    versions = {"torch": torch.__version__, "triton": triton.__version__}
    print(
        json.dumps({"gpu": torch.cuda.get_device_name(), "rounds": given.rounds, "versions": versions, "cases": cases})
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
