# SPDX-License-Identifier: Apache-2.0
"""Caches of transformers as payloads and files. On the real packages where they are installed (label engines), else on fakes."""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import spectrumkv as skv
from conftest import dropping, kv_arrays
from fake_torch import standing_in
from spectrumkv.constants import Half, Status

with standing_in():
    import torch
    import transformers
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    from spectrumkv import transformers as skvt

FAKE = transformers.__version__ == "fake"
MODEL, OTHER = bytes(range(32)), bytes(range(1, 33))
TOKENS, WINDOW, HEADS, DIM = 300, 129, 2, 64


class Config:
    """Of a model with a full and a sliding layer in turn."""

    sliding_window = WINDOW

    def __init__(self, layers: int, hybrid: bool) -> None:
        kinds = ("full_attention", "sliding_attention") if hybrid else ("full_attention",)
        self.layer_types = [kinds[i % len(kinds)] for i in range(layers)]
        self.num_hidden_layers = layers

    def get_text_config(self, decoder: bool = True) -> Config:
        return self


def real_config(config: Config) -> Any:
    if FAKE:
        return config
    from transformers import Gemma3TextConfig

    return Gemma3TextConfig(
        num_hidden_layers=config.num_hidden_layers, layer_types=config.layer_types, sliding_window=WINDOW
    )


def filled(config: Any, dtype: str = "float16", batch: int = 1, tokens: int = TOKENS) -> Any:
    cache = transformers.DynamicCache(config=config)
    rng = np.random.default_rng(3)
    offsets = rng.normal(0, 3, (1, HEADS, 1, DIM))
    for layer in range(config.num_hidden_layers):
        k, v = rng.normal(0, 1, (2, batch, HEADS, tokens, DIM))
        cache.update(*(torch.tensor((half).astype(dtype)) for half in (k + offsets, v)), layer)
    return cache


@pytest.fixture(params=[False, True], ids=["full", "hybrid"])
def config(request: pytest.FixtureRequest) -> Any:
    return real_config(Config(4, request.param))


def same(a: Any, b: Any) -> bool:
    return all(
        torch.equal(x.keys, y.keys) and torch.equal(x.values, y.values) and x.get_seq_length() == y.get_seq_length()
        for x, y in zip(a.layers, b.layers, strict=True)
    )


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_raw_files_give_bit_equal_caches(config: Any, dtype: str, tmp_path: Path) -> None:
    cache, ids = filled(config, dtype), list(range(TOKENS))
    receipt = skvt.save_prompt(tmp_path / "a.skv", cache, ids, MODEL)
    assert receipt.k_rows[skv.Tier.RAW] == sum(layer.keys.shape[-2] for layer in cache.layers)
    back = skvt.load_prompt(tmp_path / "a.skv", config, [*ids, 7, 8], MODEL)
    assert same(cache, back)
    assert [type(layer) for layer in back.layers] == [type(layer) for layer in cache.layers]
    assert str(back.layers[0].keys.dtype).endswith(dtype)
    assert [path.name for path in tmp_path.iterdir()] == ["a.skv"]


def test_budget_holds_and_values_stay_close(config: Any, tmp_path: Path) -> None:
    cache, ids = filled(config), list(range(TOKENS))
    receipt = skvt.save_prompt(tmp_path / "a.skv", cache, ids, MODEL, budget=0.5, unproven=True)
    assert (tmp_path / "a.skv").stat().st_size == receipt.payload_bytes <= 0.5 * receipt.raw_bytes
    back = skvt.load_prompt(tmp_path / "a.skv", config, ids, MODEL)
    assert not same(cache, back)
    for a, b in zip(cache.layers, back.layers):
        assert float(abs(np.asarray(a.values, np.float32) - np.asarray(b.values, np.float32)).max()) < 0.25


def test_sliding_layers_keep_their_positions() -> None:
    config = real_config(Config(2, hybrid=True))
    cache = filled(config)
    with skvt.encode(cache) as payload:
        full, sliding = payload.segment(0), payload.segment(1)
        assert (full.first_position, full.tokens, full.group) == (0, TOKENS, 0)
        assert (sliding.first_position, sliding.tokens, sliding.group) == (TOKENS - WINDOW + 1, WINDOW - 1, 1)
        with pytest.raises(skv.IdentityError, match=r"wanted the last 300 of 300"):
            skvt.decode(payload, real_config(Config(2, hybrid=False)))


def test_rows_of_a_batch_are_separate(config: Any) -> None:
    cache = filled(config, batch=3)
    with skvt.encode(cache, row=2) as payload:
        back = skvt.decode(payload, config)
    for a, b in zip(cache.layers, back.layers):
        assert torch.equal(a.keys[2:], b.keys)
        assert torch.equal(a.values[2:], b.values)
    with pytest.raises(skv.ArgumentError, match="row 3"):
        skvt.encode(cache, row=3)


def test_another_model_or_prompt_is_refused(config: Any, tmp_path: Path) -> None:
    cache, ids, path = filled(config), list(range(TOKENS)), tmp_path / "a.skv"
    skvt.save_prompt(path, cache, ids, MODEL)
    for model, tokens, status in (
        (OTHER, ids, Status.E_MODEL),
        (MODEL, [1, *ids[1:]], Status.E_REQUEST),
        (MODEL, ids[:-1], Status.E_REQUEST),
    ):
        with pytest.raises(skv.IdentityError) as error:
            skvt.load_prompt(path, config, tokens, model)
        assert error.value.status == status
    with pytest.raises(skv.IdentityError, match="4 layers for a model of 2"):
        skvt.load_prompt(path, real_config(Config(2, hybrid=True)), ids, MODEL)
    with pytest.raises(skv.ArgumentError, match="299 tokens for a cache of 300"):
        skvt.save_prompt(path, cache, ids[1:], MODEL)
    with pytest.raises(skv.ArgumentError, match="those of one"):
        skvt.save_prompt(path, cache, [ids, ids], MODEL)


def test_damaged_files_are_refused(config: Any, tmp_path: Path) -> None:
    path, ids = tmp_path / "a.skv", list(range(TOKENS))
    skvt.save_prompt(path, filled(config), ids, MODEL)
    whole = path.read_bytes()
    for damaged, error in (
        (whole[:-5], skv.PayloadError),
        (whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:], skv.ChecksumError),
        (b"", skv.PayloadError),
    ):
        path.write_bytes(damaged)
        with pytest.raises(error):
            skvt.load_prompt(path, config, ids, MODEL)


def test_a_failed_save_leaves_the_old_file(config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, ids = tmp_path / "a.skv", list(range(TOKENS))
    skvt.save_prompt(path, filled(config), ids, MODEL)
    before = path.read_bytes()

    def full(self: Path, data: Any) -> int:
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        skvt.save_prompt(path, filled(config), ids, MODEL, budget=0.5, unproven=True)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["a.skv"]


def test_other_kinds_of_layer_are_refused(config: Any) -> None:
    class Indexed(DynamicLayer):  # type: ignore[misc,valid-type,unused-ignore]
        pass

    cache = filled(config)
    cache.layers[1] = Indexed()
    with pytest.raises(skv.ArgumentError, match="layer 1 is a Indexed: wanted DynamicLayer or"):
        skvt.encode(cache)
    with pytest.raises(skv.ArgumentError, match="layer 0 holds no tokens"):
        skvt.encode(transformers.DynamicCache(config=config))


def test_dropped_tokens_are_refused(engine: skv.Engine) -> None:
    config = real_config(Config(2, hybrid=False))
    with dropping(engine, kv_arrays(2, 64, HEADS, DIM)) as payload, pytest.raises(skv.BudgetError, match="cannot mask"):
        skvt.decode(payload, config)


def test_low_budgets_want_a_verdict(config: Any) -> None:
    with pytest.raises(skv.BudgetError) as error:
        skvt.encode(filled(config), budget=0.3)
    assert error.value.status == Status.E_PERMITTED


class Attention:
    """What a forward pass of a model's attention looks like from outside."""

    def __init__(self, layer: int) -> None:
        self.layer_idx = layer
        self.hooks: list[Any] = []

    def register_forward_hook(self, hook: Any, with_kwargs: bool) -> Any:
        assert with_kwargs
        self.hooks.append(hook)
        return types.SimpleNamespace(remove=lambda: self.hooks.remove(hook))

    def __call__(self, cache: Any, query: Any) -> None:
        attend = ALL_ATTENTION_FUNCTIONS["test"]
        window = getattr(cache.layers[self.layer_idx], "sliding_window", None)
        output = attend(self, query, None, None, None, scaling=0.125, sliding_window=window)
        options = {"past_key_values": cache, "hidden_states": query}
        for hook in self.hooks:
            hook(self, (), options, output)


class Model:
    def __init__(self, layers: int) -> None:
        self.attention = [Attention(layer) for layer in range(layers)]
        self.config = types.SimpleNamespace(_attn_implementation="test")

    def modules(self) -> Iterator[Any]:
        yield self
        yield from self.attention


@pytest.fixture
def model(config: Any) -> Iterator[Model]:
    def attend(module: Any, query: Any, *rest: Any, **options: Any) -> Any:
        return query, None

    ALL_ATTENTION_FUNCTIONS["test"] = attend
    made = Model(config.num_hidden_layers)
    yield made
    assert ALL_ATTENTION_FUNCTIONS["test"] is attend  # observers took their wrapper away
    del ALL_ATTENTION_FUNCTIONS["test"]
    assert not any(attention.hooks for attention in made.attention)


def queries_of(count: int, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return torch.tensor(rng.normal(0, 1, (1, 4, count, DIM)).astype("float32"))


def test_observed_queries_score_and_prove(config: Any, model: Model) -> None:
    cache = filled(config)
    with skvt.Observer(model, queries=16) as seen:
        for chunk in range(3):  # the last 16 of 3 x 10
            for attention in model.attention:
                attention(cache, queries_of(10, seed=chunk))
    scores = seen.scores()
    assert {tuple(kept.shape) for kept in seen._queries.values()} == {(1, 4, 16, DIM)}
    last = np.concatenate([np.asarray(queries_of(10, 1))[:, :, 4:], np.asarray(queries_of(10, 2))], axis=2)
    assert np.array_equal(np.asarray(seen._queries[0]), last)
    with skvt.encode(cache, budget=0.4, scores=scores) as payload:
        receipt = payload.receipt()
    assert receipt.scored == skv.Scored.QUERIES
    assert receipt.proof == skv.Proof.LOGITS


class Press:
    """A scorer as kvpress has them: more is more important."""

    def __init__(self, sign: float) -> None:
        self.sign = sign
        self.prepared = False

    def post_init_from_model(self, model: Any) -> None:
        self.prepared = True

    def score(self, module: Any, hidden: Any, keys: Any, values: Any, attentions: Any, options: Any) -> Any:
        row = self.sign * (1 + np.arange(keys.shape[2], dtype="float32") % 50)
        return torch.tensor(np.broadcast_to(row, tuple(keys.shape[:3])).copy())


@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["positive", "negative"])
def test_a_presss_scores_are_the_weights(config: Any, model: Model, sign: float, engine: skv.Engine) -> None:
    cache, press = filled(config), Press(sign)
    with skvt.Observer(model, press=press) as seen:
        for attention in model.attention:
            attention(cache, queries_of(64, seed=9))
    assert press.prepared
    scores = seen.scores()
    with skvt.view(cache) as view:
        engine.score(view, scores)
        weights = np.array(scores.get(0, Half.K, TOKENS))
    assert weights.mean() == pytest.approx(1)
    important = np.argsort(weights)[-6:] % 50
    assert set(important) == ({49} if sign > 0 else {0})
    assert (seen._weights.keys() == set(range(4))) == all(not layer.is_sliding for layer in cache.layers)
    with skvt.encode(cache, budget=0.4, scores=scores) as payload:  # the queries prove, the press weighs
        receipt = payload.receipt()
        tiers = np.frombuffer(payload.tiers(0, Half.V), np.uint8)[4:]
    assert receipt.proof == skv.Proof.LOGITS
    rank = np.argsort(np.argsort(weights[4:]))
    assert np.corrcoef(rank, tiers)[0, 1] > 0.4


def test_presses_and_models_that_do_not_fit(config: Any, model: Model) -> None:
    class Wrong(Press):
        def score(self, *arguments: Any) -> Any:
            return super().score(*arguments)[:, :, 1:]

    cache = filled(config)
    with (
        pytest.raises(skv.ArgumentError, match="Wrong gave scores of shape"),
        skvt.Observer(model, press=Wrong(1.0)),
    ):
        model.attention[0](cache, queries_of(8, 1))
    model.config._attn_implementation = "eager"
    with pytest.raises(skv.ArgumentError, match="implementation 'eager': wanted one of"), skvt.Observer(model):
        pass
    model.config._attn_implementation = "test"
    with skvt.Observer(model) as first:
        with pytest.raises(skv.StateError, match="observed already"), skvt.Observer(model):
            pass
        model.attention[0](cache, queries_of(8, 1))
    assert first._queries
    with pytest.raises(skv.StateError, match="no attention was seen"):
        skvt.Observer(model).scores()


def test_fingerprints_tell_weights_apart() -> None:
    def named(**weights: Any) -> bytes:
        return skvt.fingerprint(types.SimpleNamespace(state_dict=lambda: weights))

    a = torch.tensor(np.arange(6, dtype="float32").reshape(2, 3))
    b = torch.tensor(np.arange(6, dtype="float32").reshape(3, 2))
    assert len(named(a=a)) == 32
    assert named(a=a, b=b) == named(b=b, a=a)
    assert len({named(a=a), named(b=a), named(a=b), named(a=a, b=a), named(a=a + 1)}) == 5


def test_known_layers_are_the_packages_own() -> None:
    assert (DynamicLayer, DynamicSlidingWindowLayer) == skvt._KNOWN
