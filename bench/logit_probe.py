#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the logit probe says of 4 bits on a real model, as it is and with keys made harder, with this library's code and
with the paper's.

    PYTHONPATH=bindings/python/src build/venv/bin/python bench/logit_probe.py TEXT [--model NAME_OR_GGUF] [--tokens N] [--queries N]
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from spectrumkv import Cache, Engine
from spectrumkv.constants import Code
from spectrumkv.eval.calibrate import probe_logits
from spectrumkv.eval.inject import INJECTIONS, injections, settle
from spectrumkv.eval.prompt import Prompt, prefill
from spectrumkv.eval.transfer import injected
from spectrumkv.llamacpp import LlamaContext
from spectrumkv.models import fetch, full_precision


def harder(prompt: Prompt, context: LlamaContext, name: str) -> Prompt:
    """The prompt of the model whose keys are injected; it computes the same."""
    layers = injections(name, prompt.kv_heads, context.rotary_pairs)
    return injected(replace(prompt, state=settle(prompt.state, layers)), layers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--tokens", type=int, default=1792)
    parser.add_argument("--queries", type=int, default=64)
    options = parser.parse_args()
    path = full_precision(fetch(options.model))
    text = options.text.read_text(encoding="utf-8")
    with LlamaContext(path, n_ctx=options.tokens + 64, threads=1) as context, Engine(threads=1) as engine:
        prompt = prefill(context, context.tokenize(text)[: options.tokens], options.queries)
        for name in INJECTIONS:
            hard = prompt if name == "none" else harder(prompt, context, name)
            with Cache.from_llama(hard.state, hard.kv_heads) as cache:
                for code in Code:
                    found = probe_logits(engine, cache, hard, code)
                    print(
                        f"{path.name}, injected {name:8} {code.name.lower():9} 4 bits: {found.int4.name.lower():4}"
                        f" worst head {found.worst_snr_db:5.1f} dB (layer {found.worst_layer}, head {found.worst_head}),"
                        f" {found.escalated_layers} layers to 8 bits",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
