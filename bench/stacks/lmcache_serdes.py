# SPDX-License-Identifier: Apache-2.0
"""LMCache's serdes that run on a CPU, and ours, on the same chunks of a real model's cache: bytes, error, speed, and the model's logits.

scripts/setup.sh --stacks
PYTHONPATH=bindings/python/src build/stacks/bin/python bench/stacks/lmcache_serdes.py
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lmcache
import torch
from lmcache.v1.distributed.api import MemoryLayoutDesc, ObjectKey
from lmcache.v1.distributed.serde import (
    Fp8QuantizationDeserializer,
    Fp8QuantizationSerializer,
    TurboQuantDeserializer,
    TurboQuantSerdeConfig,
    TurboQuantSerializer,
)
from lmcache.v1.distributed.serde.asym_k16_v8 import AsymK16V8MultiDeserializer, AsymK16V8MultiSerializer
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

import spectrumkv as skv
from spectrumkv import models
from spectrumkv.lmcache import SpectrumKVDeserializer, SpectrumKVSerializer, _Codec

ROOT = Path(__file__).parents[2]
TEXT = ROOT / "examples" / "text" / "us-constitution-and-declaration.txt"
PROFILE = ROOT / "docs" / "results" / "profiles" / "smollm2-135m.json"
CHUNK = 256  # LMCache's own default
REPEATS = 5


@dataclass
class Memory:
    """What a serde touches of a MemoryObj."""

    tensor: Any


class Halves:
    """LMCache's serde of separate K and V, asked like the others."""

    def __init__(self) -> None:
        self.to, self.back = AsymK16V8MultiSerializer(), AsymK16V8MultiDeserializer()

    def estimate_serialized_size(self, layout: Any) -> int:
        half = MemoryLayoutDesc(shapes=[layout.shapes[0][1:]], dtypes=layout.dtypes)
        return self.to.estimate_serialized_size((half, half))

    def serialize(self, src: Memory, dst: Memory, key: Any) -> int:
        return self.to.serialize((Memory(src.tensor[0]), Memory(src.tensor[1])), dst, key)

    def deserialize(self, src: Memory, dst: Memory, key: Any) -> None:
        self.back.deserialize(src, (Memory(dst.tensor[0]), Memory(dst.tensor[1])), key)


def spectrumkv(head_dim: int, **options: Any) -> tuple[Any, Any]:
    codec = _Codec(head_dim, **options)
    return SpectrumKVSerializer(codec), SpectrumKVDeserializer(codec)


def serdes(head_dim: int) -> dict[str, Any]:
    turbo = TurboQuantSerdeConfig(head_dim=head_dim)
    return {
        "fp8 (e4m3)": lambda: (Fp8QuantizationSerializer(), Fp8QuantizationDeserializer()),
        "fp8 (e5m2)": lambda: (
            Fp8QuantizationSerializer(torch.float8_e5m2),
            Fp8QuantizationDeserializer(torch.float8_e5m2),
        ),
        "asym_k16_v8": lambda: (Halves(), Halves()),
        "turboquant k8v4": lambda: (TurboQuantSerializer(turbo), TurboQuantDeserializer(turbo)),
        "spectrumkv (8 bits)": lambda: spectrumkv(head_dim),
        "spectrumkv 0.50": lambda: spectrumkv(head_dim, budget=0.50, profile=PROFILE),
        "spectrumkv 0.40": lambda: spectrumkv(head_dim, budget=0.40, profile=PROFILE),
        "spectrumkv 0.33": lambda: spectrumkv(head_dim, budget=0.33, profile=PROFILE),
        "spectrumkv 0.28": lambda: spectrumkv(head_dim, budget=0.28, profile=PROFILE),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chunks", type=int, default=4, help="of 256 tokens in a row")
    parser.add_argument("--forced", type=int, default=64, help="tokens of the text that follow, teacher-forced")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    path = models.fetch("smollm2")
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    count = CHUNK * options.chunks
    text = tokenizer(TEXT.read_text(), return_tensors="pt").input_ids[:, : count + options.forced]
    with torch.no_grad():
        cache = model(text[:, :count], use_cache=True).past_key_values

    # [2, layers, tokens, kv-heads * channels] in bfloat16, what LMCache's chunks of a served model are
    whole = torch.stack(
        [
            torch.stack([half[0].transpose(0, 1).flatten(1) for half in halves])
            for halves in zip(*[(c.keys, c.values) for c in cache.layers])
        ]
    ).bfloat16()
    heads, dim = cache.layers[0].keys.shape[1], cache.layers[0].keys.shape[3]

    def logits(held: torch.Tensor) -> torch.Tensor:
        halves = held.float().unflatten(-1, (heads, dim)).transpose(2, 3)[:, :, None]
        made = DynamicCache([(halves[0, layer], halves[1, layer]) for layer in range(halves.shape[1])])
        with torch.no_grad():
            return model(text[:, count:], past_key_values=made).logits[0].log_softmax(-1)

    reference = logits(whole)
    chunks = [whole[:, :, at : at + CHUNK].contiguous() for at in range(0, count, CHUNK)]
    layout = MemoryLayoutDesc(shapes=[chunks[0].shape], dtypes=[chunks[0].dtype])
    keys = [ObjectKey(ObjectKey.IntHash2Bytes(i), "smollm2", 0) for i in range(len(chunks))]
    print(
        f"{path.name}, {len(chunks)} chunks of {tuple(chunks[0].shape)} bfloat16, 1 thread; lmcache {lmcache.__version__},"
        f" torch {torch.__version__}, spectrumkv {skv.__version__}, {skv.Engine(threads=1).describe()}\n"
    )
    print("| serde | of raw | error K | error V | serialize | deserialize | KL | top-1 |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    base: tuple[float, float] | None = None
    for name, make in serdes(dim).items():
        try:
            serializer, deserializer = make()
            size = serializer.estimate_serialized_size(layout)
            back, spent = [], ([], [])
            for _ in range(REPEATS):
                back = []
                for chunk, key in zip(chunks, keys):
                    stored, out = Memory(torch.zeros(size, dtype=torch.uint8)), Memory(torch.zeros_like(chunk))
                    start = time.perf_counter()
                    written = serializer.serialize(Memory(chunk), stored, key)
                    middle = time.perf_counter()
                    deserializer.deserialize(stored, out, key)
                    spent[0].append(middle - start)
                    spent[1].append(time.perf_counter() - middle)
                    back.append(out.tensor)
        except Exception as error:  # which of LMCache's serdes run here is what the table says
            print(
                f"| {name} | does not run here: {type(error).__name__}: {str(error).splitlines()[0][:90]} | | | | | | |"
            )
            continue
        medians = statistics.median(spent[0]), statistics.median(spent[1])
        base = base or medians
        held = torch.cat(back, dim=2)
        noise, signal = (held.float() - whole.float()), whole.float()
        errors = [float(noise[half].norm() / signal[half].norm()) for half in (0, 1)]
        got = logits(held)
        print(
            f"| {name} | {written / (2 * chunks[0].numel()):.4f} | {100 * errors[0]:.2f} % | {100 * errors[1]:.2f} %"
            f" | {medians[0] / base[0]:.2f} ({1e3 * medians[0]:.1f} ms) | {medians[1] / base[1]:.2f} ({1e3 * medians[1]:.1f} ms)"
            f" | {float((reference.exp() * (reference - got)).sum(-1).mean()):.5f}"
            f" | {100 * float((reference.argmax(-1) == got.argmax(-1)).float().mean()):.1f} % |",
            flush=True,
        )


if __name__ == "__main__":
    main()
