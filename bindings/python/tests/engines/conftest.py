# SPDX-License-Identifier: Apache-2.0
"""Real models for transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from spectrumkv import models


def _converted(name: str) -> Path:
    """A model as a Hugging Face folder, made once from its GGUF file, which takes minutes to read for a large vocabulary."""
    path = models.fetch(name)
    folder = path.with_suffix(".hf")
    if not (folder / "done").exists():
        model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype="float32")
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.hf_quantizer = None
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(folder)
        (folder / "done").touch()
    return folder


@pytest.fixture(scope="session")
def load() -> Callable[[str], tuple[Any, Any]]:
    """Of a model in `spectrumkv.models`: the model in float32, and its tokenizer."""

    def load(name: str) -> tuple[Any, Any]:
        folder = _converted(name)
        return AutoModelForCausalLM.from_pretrained(folder, dtype="float32"), AutoTokenizer.from_pretrained(folder)

    return load
