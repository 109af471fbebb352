# SPDX-License-Identifier: Apache-2.0
"""Session files of llama.cpp beside its own: bytes, milliseconds to save and load, and the logits of what follows.

scripts/setup.sh
PYTHONPATH=bindings/python/src build/venv/bin/python bench/stacks/llama_sessions.py
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as api
import numpy as np

import spectrumkv as skv
from spectrumkv.llamacpp import LlamaContext, load_session, save_session
from spectrumkv.models import fetch, full_precision
from spectrumkv.quality import kl_divergence

ROOT = Path(__file__).parents[2]
TEXT = ROOT / "examples" / "text" / "us-constitution-and-declaration.txt"
PROFILE = ROOT / "docs" / "results" / "profiles" / "smollm2-135m.json"
REPEATS = 9


def timed(call: Callable[[], Any]) -> float:
    """The median of milliseconds."""
    spent = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        spent.append(1e3 * (time.perf_counter() - start))
    return statistics.median(spent)


class Native:
    """llama_state_seq_save_file and llama_state_seq_load_file."""

    def __init__(self, context: LlamaContext, tokens: list[int]) -> None:
        self.context, self.tokens = context._context, (api.llama_token * len(tokens))(*tokens)

    def save(self, file: Path) -> None:
        if not api.llama_state_seq_save_file(self.context, str(file).encode(), 0, self.tokens, len(self.tokens)):
            raise RuntimeError("llama_state_seq_save_file failed")

    def load(self, file: Path) -> None:
        out, count = (api.llama_token * len(self.tokens))(), ctypes.c_size_t()
        if not api.llama_state_seq_load_file(self.context, str(file).encode(), 0, out, len(out), count):
            raise RuntimeError("llama_state_seq_load_file failed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--forced", type=int, default=128, help="tokens of the text that follow, teacher-forced")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    path = full_precision(fetch("smollm2"))
    profile = skv.Profile.open(PROFILE.read_text())
    with (
        LlamaContext(path, n_ctx=options.tokens + options.forced + 256, threads=options.threads) as context,
        skv.Engine(threads=options.threads) as engine,
        tempfile.TemporaryDirectory() as folder,
    ):
        text = context.tokenize(TEXT.read_text())
        tokens, rest = text[: options.tokens], text[options.tokens : options.tokens + options.forced]
        with context.capture_queries(64):
            context.evaluate(tokens, 0)
        scores = skv.Scores()
        for layer, queries in enumerate(context.queries):
            scores.set_queries(layer, queries)
        state, native = context.export_state(), Native(context, tokens)

        def logits() -> np.ndarray:
            out = context.evaluate(rest, len(tokens), "all")
            assert out is not None
            return out

        reference = logits()
        arms: list[tuple[str, dict[str, Any] | None]] = [
            ("llama.cpp's own", None),
            ("raw", {}),
            ("0.50", {"budget": 0.50, "profile": profile, "scores": scores}),
            ("0.28", {"budget": 0.28, "profile": profile, "scores": scores}),
            ("0.28, no queries", {"budget": 0.28, "profile": profile}),
            ("0.28 packed", {"budget": 0.28, "profile": profile, "scores": scores, "pack": skv.Pack.ALWAYS}),
        ]
        print(
            f"{path.name}, {options.tokens} tokens, f16 cache; llama-cpp-python {version('llama-cpp-python')},"
            f" spectrumkv {skv.__version__}, {engine.describe()}\n"
        )
        print("| file | bytes | smaller | save | load | logits | KL | top-1 |")
        print("|---|---:|---:|---:|---:|---|---:|---:|")
        base: tuple[int, float, float] | None = None
        for name, arguments in arms:
            file = Path(folder) / "session"
            context.import_state(state)
            if arguments is None:
                save, load = timed(lambda: native.save(file)), timed(lambda: native.load(file))  # noqa: B023
            else:
                save = timed(lambda: save_session(file, context, tokens, engine=engine, **arguments))  # noqa: B023
                load = timed(lambda: load_session(file, context, tokens, engine=engine))  # noqa: B023
            size = file.stat().st_size
            base = base or (size, save, load)
            got = logits()
            print(
                f"| {name} | {size:,} | {base[0] / size:.2f}x | {save / base[1]:.1f} ({save:.0f} ms) | {load / base[2]:.1f} ({load:.0f} ms)"
                f" | {'bit-equal' if np.array_equal(reference, got) else 'close'} | {kl_divergence(reference, got):.5f}"
                f" | {100 * float((reference.argmax(1) == got.argmax(1)).mean()):.1f} % |",
                flush=True,
            )


if __name__ == "__main__":
    main()
