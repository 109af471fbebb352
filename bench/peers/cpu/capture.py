# SPDX-License-Identifier: Apache-2.0
"""Evaluates a prompt with SmolLM2-135M and keeps its cache and queries: ``python -m cpu.capture OUT.npz``. Needs llama.cpp."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from spectrumkv.eval import text
from spectrumkv.eval.prompt import prefill
from spectrumkv.eval.session import model_file
from spectrumkv.eval.steps import Steps
from spectrumkv.llamacpp import LlamaContext
from spectrumkv.state_blob import parse

TOKENS = 2048
QUERIES = 64


def main() -> int:
    """Entry point."""
    target = Path(sys.argv[1])
    model = model_file("smollm2", "as-is", Steps(Console(stderr=True)))
    path, _ = text.find()
    with LlamaContext(model, n_ctx=TOKENS + 256, threads=2) as context:
        content = path.read_text(encoding="utf-8")[: 10 * TOKENS + 1000]
        tokens = text.windows(context.tokenize(content), TOKENS, 1)[0]
        prompt = prefill(context, tokens, QUERIES)
    stream = parse(prompt.state).streams[0]
    halves = [
        [plane.values(heads).astype(np.float16) for plane in planes]
        for *planes, heads in zip(stream.keys, stream.values, prompt.kv_heads)
    ]
    queries: dict[str, Any] = {f"q{layer}": own for layer, own in enumerate(prompt.queries)}
    kept = target.with_suffix(".part.npz")
    np.savez(kept, kv=np.array(halves), name=f"SmolLM2-135M, {TOKENS} tokens of {path.name}, repeated", **queries)
    kept.replace(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
