# SPDX-License-Identifier: Apache-2.0
"""Writes SmolLM2-135M-Instruct as a Hugging Face directory that vLLM can serve, from the GGUF file of its package.

PYTHONPATH=bindings/python/src build/vllm/bin/python examples/vllm_pd/convert.py build/vllm-models/smollm2
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from spectrumkv.models import fetch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    if (out / ".complete").is_file():
        print(f"convert: {out} is there")
        return
    gguf = fetch("smollm2")
    source = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    config = source.config
    # The weights are plain float32 from here on; the note on how the file held them would send vLLM looking for GGUF.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.dtype = torch.float32
    model = AutoModelForCausalLM.from_config(config)
    model.load_state_dict(source.state_dict())
    model.save_pretrained(out)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(out)
    (out / ".complete").touch()
    print(f"convert: wrote {out}")


if __name__ == "__main__":
    main()
