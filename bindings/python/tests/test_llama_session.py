# SPDX-License-Identifier: Apache-2.0
"""Session files of llama.cpp: on a stand-in for its C API, and on the real model (e2e)."""

from __future__ import annotations

import ctypes
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import spectrumkv as skv
from conftest import dropping, kv_arrays, llama_state
from spectrumkv import models
from spectrumkv.constants import Status

llamacpp = pytest.importorskip("spectrumkv.llamacpp", reason="llama-cpp-python is not installed: run scripts/setup.sh")

from spectrumkv import llama_session  # noqa: E402

TOKENS, LAYERS, HEADS, DIM = 100, 3, 2, 64


class Api:
    """llama.cpp's functions on sequences; a context is a dictionary. Refuses states of another v_trans, as llama.cpp does."""

    def llama_state_seq_get_size(self, context: Any, sequence: int) -> int:
        return len(context["state"])

    def llama_state_seq_get_data(self, context: Any, out: Any, size: int, sequence: int) -> int:
        ctypes.memmove(out, context["state"], size)
        return size

    def llama_state_seq_set_data(self, context: Any, data: Any, size: int, sequence: int) -> int:
        state = ctypes.string_at(data, size)
        context["refused"] += (refused := llama_session.parse(state).streams[0].v_trans != context["v_trans"])
        if refused:
            return 0
        context["state"] = state
        return size

    def llama_get_memory(self, context: Any) -> Any:
        return context

    def llama_memory_seq_rm(self, context: Any, sequence: int, first: int, last: int) -> bool:
        context["state"] = b""
        return True


@pytest.fixture(autouse=True)
def api(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("e2e") is None:
        monkeypatch.setattr(llama_session, "api", Api())


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"weights")
    return path


def llama(weights: Path, tokens: int = 0, v_trans: int = 0, **more: Any) -> Any:
    """What `llama_session` touches of a ``llama_cpp.Llama``."""
    state = llama_state(kv_arrays(LAYERS, tokens, HEADS, DIM), v_trans) if tokens else b""
    ids = np.zeros(512, np.intc)
    ids[:tokens] = np.arange(tokens)
    made = types.SimpleNamespace(
        ctx={"state": state, "v_trans": v_trans, "refused": 0},
        context_params=types.SimpleNamespace(type_k=1, type_v=1),
        metadata={
            "general.architecture": "llama",
            "llama.attention.head_count": "4",
            "llama.attention.head_count_kv": str(HEADS),
        },
        model_path=str(weights),
        input_ids=ids,
        n_tokens=tokens,
    )
    for name, value in more.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize("v_trans", [0, 1], ids=["flash", "plain"])
def test_a_raw_session_restores_the_state_bit_by_bit(weights: Path, tmp_path: Path, v_trans: int) -> None:
    source, target = llama(weights, TOKENS, v_trans), llama(weights, 0, v_trans)
    receipt = llamacpp.save_session(tmp_path / "a.skv", source)
    assert receipt.ratio < 1.02
    prompt = [*range(TOKENS), 7, 8]
    assert llamacpp.load_session(tmp_path / "a.skv", target, prompt) == TOKENS
    assert target.ctx["state"] == source.ctx["state"]
    assert target.n_tokens == TOKENS
    assert target.input_ids[:TOKENS].tolist() == prompt[:TOKENS]
    assert target._requires_eval


def test_a_budget_holds(weights: Path, tmp_path: Path) -> None:
    source = llama(weights, TOKENS)
    with pytest.raises(skv.BudgetError) as error:
        llamacpp.save_session(tmp_path / "a.skv", source, budget=0.35)
    assert error.value.status == Status.E_PERMITTED
    receipt = llamacpp.save_session(tmp_path / "a.skv", source, budget=0.35, unproven=True)
    assert (tmp_path / "a.skv").stat().st_size == receipt.payload_bytes <= 0.35 * receipt.raw_bytes


def test_flash_attention_and_dtype_may_differ(weights: Path, tmp_path: Path) -> None:
    source = llama(weights, TOKENS, v_trans=0)
    llamacpp.save_session(tmp_path / "a.skv", source)
    target = llama(weights, 0, v_trans=1, context_params=types.SimpleNamespace(type_k=0, type_v=0))
    assert llamacpp.load_session(tmp_path / "a.skv", target, range(TOKENS)) == TOKENS
    (wanted,), (got,) = (llama_session.parse(each.ctx["state"]).streams for each in (source, target))
    assert got.v_trans == 1
    for a, b in zip(wanted.keys + wanted.values, got.keys + got.values):
        assert np.array_equal(a.values(HEADS), b.values(HEADS))


def test_others_are_refused_and_the_context_stays(weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.skv"
    llamacpp.save_session(path, llama(weights, TOKENS))
    (tmp_path / "other.gguf").write_bytes(b"other weights")
    whole, ids = path.read_bytes(), list(range(TOKENS))
    for file, prompt, weights_of, error in (
        (whole, [*ids[:-1], 5], "model.gguf", skv.IdentityError),
        (whole, ids[:-1], "model.gguf", skv.IdentityError),
        (whole, ids, "other.gguf", skv.IdentityError),
        (whole[:-1], ids, "model.gguf", skv.PayloadError),
        (whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:], ids, "model.gguf", skv.ChecksumError),
    ):
        path.write_bytes(file)
        target = llama(tmp_path / weights_of, 10)
        before = dict(target.ctx)
        with pytest.raises(error):
            llamacpp.load_session(path, target, prompt)
        assert target.ctx == before
        assert target.n_tokens == 10


def test_a_state_that_llama_cpp_refuses(weights: Path, tmp_path: Path) -> None:
    llamacpp.save_session(tmp_path / "a.skv", llama(weights, TOKENS))
    target = llama(weights, 10, v_trans=0)
    target.ctx["v_trans"] = 2
    with pytest.raises(skv.StateError, match=r"refused a state of 100 tokens"):
        llamacpp.load_session(tmp_path / "a.skv", target, range(TOKENS))
    assert target.ctx["refused"] == 2
    assert target.n_tokens == 0


def test_dropped_tokens_are_refused(weights: Path, engine: skv.Engine) -> None:
    target = llama(weights, 10)
    before = dict(target.ctx)
    with (
        dropping(engine, kv_arrays(LAYERS, 64, HEADS, DIM)) as payload,
        pytest.raises(skv.BudgetError, match="cannot mask"),
    ):
        llamacpp.decode_session(payload, target, range(64))
    assert target.ctx == before


def test_what_does_not_fit(weights: Path, tmp_path: Path) -> None:
    cases: list[tuple[Any, str]] = [
        (llama(weights, TOKENS, n_tokens=99), "99 tokens for a state of 100"),
        (llama(weights, TOKENS, context_params=types.SimpleNamespace(type_k=8, type_v=8)), "ggml types"),
        (llama(weights, TOKENS, context_params=types.SimpleNamespace(type_k=1, type_v=0)), "ggml types"),
    ]
    uneven = llama(weights, TOKENS)
    uneven.metadata["llama.attention.head_count_kv"] = "[1, 2, 1]"
    cases.append((uneven, "wanted the same in every layer"))
    for source, message in cases:
        with pytest.raises(skv.ArgumentError, match=message):
            llamacpp.save_session(tmp_path / "a.skv", source)
    assert not (tmp_path / "a.skv").exists()


def test_fingerprints_survive_a_folder_that_cannot_be_written(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *_: Any, **__: Any) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_text", refuse)
    assert len(models.fingerprint_of(weights)) == 32
    assert [path.name for path in weights.parent.iterdir()] == ["model.gguf"]


# ---------------------------------------------------------------------------------------------------- the real model


@pytest.fixture(scope="module")
def prompt(root: Path) -> Iterator[tuple[Path, list[int]]]:
    from llama_cpp import Llama

    path = models.fetch("smollm2")
    text = (root / "examples" / "text" / "us-constitution-and-declaration.txt").read_bytes()[:2000]
    yield path, Llama(str(path), vocab_only=True, verbose=False).tokenize(text)[:300]


@pytest.mark.e2e
@pytest.mark.parametrize("flash", [True, False], ids=["flash", "plain"])
def test_llama_continues_a_session_of_another_object(
    prompt: tuple[Path, list[int]], tmp_path: Path, flash: bool
) -> None:
    from llama_cpp import Llama

    path, tokens = prompt

    def made() -> Any:
        return Llama(str(path), n_ctx=512, n_batch=64, n_threads=1, flash_attn=flash, verbose=False)

    def continued(llama: Any) -> list[int]:
        out = []
        for token in llama.generate(tokens, top_k=1):
            out.append(token)
            if len(out) == 12:
                return out
        raise AssertionError("the model stopped")

    first = made()
    first.eval(tokens[:-1])
    raw = llamacpp.save_session(tmp_path / "raw.skv", first)
    small = llamacpp.save_session(tmp_path / "small.skv", first, budget=0.28, unproven=True)
    assert raw.ratio < 1.001
    assert small.ratio <= 0.28
    wanted = continued(first)

    second = made()
    assert llamacpp.load_session(tmp_path / "raw.skv", second, tokens) == len(tokens) - 1
    assert second.n_tokens == len(tokens) - 1  # so that one token is left to evaluate
    assert continued(second) == wanted
    assert llamacpp.load_session(tmp_path / "small.skv", second, tokens) == len(tokens) - 1
    assert len(continued(second)) == 12
    with pytest.raises(skv.IdentityError):
        llamacpp.load_session(tmp_path / "small.skv", second, tokens[5:])

    next(first.generate(tokens, top_k=1))  # now it holds the whole prompt
    llamacpp.save_session(tmp_path / "whole.skv", first)
    for _ in range(2):  # over what it generated itself
        assert llamacpp.load_session(tmp_path / "whole.skv", second, tokens) == len(tokens)
        assert continued(second) == wanted
