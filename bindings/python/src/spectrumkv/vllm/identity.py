# SPDX-License-Identifier: Apache-2.0
"""The fingerprint of the model that a vLLM instance serves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

# Of the configuration, what says nothing of the model: where it lies, who wrote it, how its numbers are held.
_IRRELEVANT: Final = {"_name_or_path", "name_or_path", "transformers_version", "torch_dtype", "dtype"}

# Weight files are sampled: their size, their first bytes (safetensors: every tensor's name and shape) and pieces at equal
# distances, which tell fine-tunes of one architecture apart without reading gigabytes at start-up.
_HEAD: Final = 1 << 16
_PIECE: Final = 1 << 12
_PIECES: Final = 64


def fingerprint_of(model: str, revision: str | None, config: Mapping[str, Any]) -> bytes:
    """32 bytes that name a model.

    Args:
        model: a folder, or a name (then the name and revision count in the weights' place).
        config: the model's configuration, as JSON.
    """
    state = hashlib.sha256(b"spectrumkv-vllm-1\0")
    known = {key: value for key, value in config.items() if key not in _IRRELEVANT}
    state.update(json.dumps(known, sort_keys=True, default=str).encode())
    folder = Path(model)
    files = sorted(
        path
        for path in (folder.iterdir() if folder.is_dir() else ())
        if path.suffix in {".safetensors", ".bin", ".pt", ".gguf"} and path.is_file()
    )
    if not files:
        state.update(f"\0{model}\0{revision}".encode())
    for path in files:
        size = path.stat().st_size
        state.update(f"\0{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            state.update(file.read(_HEAD))
            for piece in range(_PIECES):
                file.seek(size * piece // _PIECES)
                state.update(file.read(_PIECE))
    return state.digest()
