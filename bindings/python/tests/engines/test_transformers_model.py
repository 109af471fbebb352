# SPDX-License-Identifier: Apache-2.0
"""Real models in transformers: caches saved, loaded and generated from."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import spectrumkv as skv
from spectrumkv import models
from spectrumkv import transformers as skvt

GENERATED = 16


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


class Loaded:
    """A model, a prompt of all but the last token, its cache, and what is generated from it."""

    def __init__(self, model: Any, tokenizer: Any, root: Path, tokens: int) -> None:
        self.model = model
        text = (root / "examples" / "text" / "us-constitution-and-declaration.txt").read_text()
        self.ids = tokenizer(text[: 8 * tokens], return_tensors="pt").input_ids[:, :tokens]
        self.prefix = self.ids[:, :-1]
        self.name = skvt.fingerprint(self.model)
        with torch.no_grad(), skvt.Observer(self.model) as self.seen:
            self.cache = self.model(self.prefix, use_cache=True).past_key_values
        self.wanted = self.generate(copy.deepcopy(self.cache))

    def generate(self, cache: Any) -> list[int]:
        out = self.model.generate(
            self.ids, past_key_values=cache, max_new_tokens=GENERATED, min_new_tokens=GENERATED, do_sample=False
        )
        return [int(token) for token in out[0, self.ids.shape[1] :]]

    def logits(self, cache: Any) -> torch.Tensor:
        """Of the generated tokens, teacher-forced."""
        fed = torch.tensor([[int(self.ids[0, -1]), *self.wanted[:-1]]])
        with torch.no_grad():
            return self.model(fed, past_key_values=cache).logits[0].float().log_softmax(-1)


@pytest.fixture(
    scope="module",
    params=[("smollm2", torch.float32), ("smollm2", torch.bfloat16), ("gemma3-270m", torch.float32)],
    ids=str,
)
def loaded(request: pytest.FixtureRequest, root: Path, load: Callable[[str], tuple[Any, Any]]) -> Iterator[Loaded]:
    torch.set_num_threads(1)
    name, dtype = request.param
    model, tokenizer = load(name)
    # beyond Gemma's window of 512
    yield Loaded(model.to(dtype), tokenizer, root, tokens=560 if name.startswith("gemma") else 256)


def test_raw_files_give_bit_equal_tensors_and_the_same_tokens(loaded: Loaded, tmp_path: Path) -> None:
    skvt.save_prompt(tmp_path / "a.skv", loaded.cache, loaded.prefix, loaded.name)
    back = skvt.load_prompt(tmp_path / "a.skv", loaded.model, loaded.ids, loaded.name)
    for a, b in zip(loaded.cache.layers, back.layers, strict=True):
        assert type(a) is type(b)
        assert a.get_seq_length() == b.get_seq_length() == loaded.prefix.shape[1]
        assert torch.equal(a.keys, b.keys)
        assert torch.equal(a.values, b.values)
    assert loaded.generate(back) == loaded.wanted


def test_hybrid_layers_are_what_gemma_has(loaded: Loaded) -> None:
    kinds = {type(layer).__name__ for layer in loaded.cache.layers}
    gemma = loaded.model.config.model_type.startswith("gemma3")
    assert kinds == {"DynamicLayer", *(["DynamicSlidingWindowLayer"] if gemma else [])}


def test_a_budget_changes_little(loaded: Loaded, tmp_path: Path) -> None:
    wanted = loaded.logits(copy.deepcopy(loaded.cache))
    # Gemma's one kv-head of 256 channels: the logit probe does not allow 4 bits everywhere, so a little more is asked for.
    budget = 0.28 if loaded.model.config.model_type == "llama" else 0.4
    receipt = skvt.save_prompt(
        tmp_path / "a.skv", loaded.cache, loaded.prefix, loaded.name, budget=budget, scores=loaded.seen.scores()
    )
    assert (tmp_path / "a.skv").stat().st_size == receipt.payload_bytes <= budget * receipt.raw_bytes
    assert receipt.proof == skv.Proof.LOGITS
    got = loaded.logits(skvt.load_prompt(tmp_path / "a.skv", loaded.model, loaded.ids, loaded.name))
    assert float((wanted.exp() * (wanted - got)).sum(-1).mean()) < 0.05
    assert float((wanted.argmax(-1) == got.argmax(-1)).float().mean()) > 0.8


@pytest.mark.parametrize(
    "loaded", [("smollm2", torch.float32)], indirect=True, ids=str
)  # kvpress knows no sliding windows
@pytest.mark.parametrize("press", ["SnapKVPress", "KnormPress", "ExpectedAttentionPress", "TOVAPress"])
def test_kvpress_scorers_are_importance(loaded: Loaded, press: str, tmp_path: Path) -> None:
    kvpress = pytest.importorskip("kvpress", reason="kvpress is not installed: run scripts/setup.sh --stacks")
    with torch.no_grad(), skvt.Observer(loaded.model, press=getattr(kvpress, press)()) as seen:
        cache = loaded.model(loaded.prefix, use_cache=True).past_key_values
    assert torch.equal(cache.layers[0].keys, loaded.cache.layers[0].keys)  # nothing was pruned
    with skvt.encode(cache, budget=0.4, scores=seen.scores(), fingerprint=loaded.name) as payload:
        receipt = payload.receipt()
        back = skvt.decode(payload, loaded.model, fingerprint=loaded.name)
    assert receipt.scored == skv.Scored.CALLER
    wanted, got = loaded.logits(copy.deepcopy(loaded.cache)), loaded.logits(back)
    assert float((wanted.exp() * (wanted - got)).sum(-1).mean()) < 0.05


def test_another_models_file_is_refused(loaded: Loaded, tmp_path: Path) -> None:
    skvt.save_prompt(tmp_path / "a.skv", loaded.cache, loaded.prefix, loaded.name)
    other = bytes([loaded.name[0] ^ 1]) + loaded.name[1:]
    with pytest.raises(skv.IdentityError):
        skvt.load_prompt(tmp_path / "a.skv", loaded.model, loaded.ids, other)
    with pytest.raises(skv.IdentityError):
        skvt.load_prompt(tmp_path / "a.skv", loaded.model, loaded.ids[:, 1:], loaded.name)
