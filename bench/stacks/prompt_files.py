# SPDX-License-Identifier: Apache-2.0
"""Prompt files of transformers beside torch.save of the same cache: bytes, seconds to save and load, and what generation makes of them.

scripts/setup.sh --stacks
PYTHONPATH=bindings/python/src build/stacks/bin/python bench/stacks/prompt_files.py
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

import spectrumkv as skv
from spectrumkv import models
from spectrumkv import transformers as skvt

TEXT = Path(__file__).parents[2] / "examples" / "text" / "us-constitution-and-declaration.txt"
REPEATS = 7


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """The result, and the median of milliseconds."""
    spent = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        result = call()
        spent.append(1e3 * (time.perf_counter() - start))
    return result, statistics.median(spent)


class Window:
    """One prompt: its cache, and what is generated and forced from it."""

    def __init__(self, model: Any, name: bytes, ids: torch.Tensor, rest: torch.Tensor, generate: int) -> None:
        self.model, self.name, self.ids, self.generate = model, name, ids, generate
        self.fed = torch.cat([ids[:, -1:], rest], dim=1)
        with skvt.Observer(model) as seen:
            self.cache = model(ids[:, :-1], use_cache=True).past_key_values
        self.scores = seen.scores()
        self.wanted, self.reference = self.generated(self.cache), self.forced(self.cache)

    def generated(self, held: Any) -> list[int]:
        length = {"max_new_tokens": self.generate, "min_new_tokens": self.generate}
        out = self.model.generate(self.ids, past_key_values=copy.deepcopy(held), do_sample=False, **length)
        return [int(token) for token in out[0, self.ids.shape[1] :]]

    def forced(self, held: Any) -> torch.Tensor:
        return self.model(self.fed, past_key_values=copy.deepcopy(held)).logits[0].float().log_softmax(-1)

    def run(self, file: Path, arm: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if arm == "torch.save":
            pairs = [(layer.keys, layer.values) for layer in self.cache.layers]
            _, save = timed(lambda: torch.save(pairs, file))
            back, load = timed(lambda: DynamicCache(torch.load(file)))
        else:
            scores = self.scores if "budget" in arguments else None
            _, save = timed(
                lambda: skvt.save_prompt(file, self.cache, self.ids[:, :-1], self.name, scores=scores, **arguments)
            )
            back, load = timed(lambda: skvt.load_prompt(file, self.model, self.ids, self.name))
        got, logits = self.generated(back), self.forced(back)
        return {
            "bytes": file.stat().st_size,
            "save": save,
            "load": load,
            "equal": all(
                torch.equal(a.keys, b.keys) and torch.equal(a.values, b.values)
                for a, b in zip(self.cache.layers, back.layers)
            ),
            "until": next((i for i, pair in enumerate(zip(self.wanted, got)) if pair[0] != pair[1]), len(got)),
            "top1": float((self.reference.argmax(-1) == logits.argmax(-1)).float().mean()),
            "kl": float((self.reference.exp() * (self.reference - logits)).sum(-1).mean()),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    parser.add_argument("--tokens", type=int, default=768, help="of each prompt")
    parser.add_argument("--windows", type=int, default=4, help="prompts, one after the other in the text")
    parser.add_argument("--generate", type=int, default=32)
    parser.add_argument("--forced", type=int, default=64, help="tokens of the text that follow, teacher-forced")
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = models.fetch(options.model)
    dtype = getattr(torch, options.dtype)
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=dtype)
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    text = tokenizer(TEXT.read_text(), return_tensors="pt").input_ids
    name = skvt.fingerprint(model)
    step = options.tokens + options.forced
    arms: list[tuple[str, dict[str, Any]]] = [
        ("torch.save", {}),
        ("raw", {}),
        ("0.50", {"budget": 0.50}),
        ("0.28", {"budget": 0.28}),
        ("0.28 packed", {"budget": 0.28, "pack": skv.Pack.ALWAYS}),
    ]
    rows: dict[str, list[dict[str, Any]]] = {arm: [] for arm, _ in arms}
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        for window in range(options.windows):
            begin = window * step
            ids, rest = text[:, begin : begin + options.tokens], text[:, begin + options.tokens : begin + step]
            measured = Window(model, name, ids, rest, options.generate)
            for arm, arguments in arms:
                rows[arm].append(measured.run(Path(folder) / "prompt", arm, arguments))
    print(
        f"{path.name}, {options.dtype}, {options.tokens} tokens, {options.windows} windows; torch {torch.__version__},"
        f" transformers {transformers.__version__}, spectrumkv {skv.__version__}, {skv.Engine().describe()}\n"
    )
    print("| file | bytes | smaller | save ms | load ms | tensors | greedy tokens until they differ | top-1 | KL |")
    print("|---|---:|---:|---:|---:|---|---|---:|---:|")
    native = statistics.mean(row["bytes"] for row in rows["torch.save"])
    for arm, measured in rows.items():
        mean = {key: statistics.mean(row[key] for row in measured) for key in ("bytes", "save", "load", "top1", "kl")}
        print(
            f"| {arm} | {mean['bytes']:,.0f} | {native / mean['bytes']:.2f}x | {mean['save']:.1f} | {mean['load']:.1f}"
            f" | {'bit-equal' if all(row['equal'] for row in measured) else 'close'}"
            f" | {', '.join(str(row['until']) for row in measured)} of {options.generate}"
            f" | {100 * mean['top1']:.1f} % | {mean['kl']:.5f} |"
        )


if __name__ == "__main__":
    main()
