# SPDX-License-Identifier: Apache-2.0
"""The gate on tensors alone: keys with constant offsets break the paper's codec and not the default one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import spectrumkv as skv
from spectrumkv.eval import p4
from spectrumkv.eval.arms import Arm
from spectrumkv.eval.p4 import LOGIT_SNR_FLOOR, Layer, measure


def worst(layers: list[Layer], decoded: list[Layer]) -> float:
    values = [head["logit_snr_db"] for a, b in zip(layers, decoded) for head in measure(a, b)]
    return min(value for value in values if value is not None)


def paper_uniform(engine: skv.Engine, layers: list[Layer]) -> list[Layer]:
    """4 bits everywhere in the paper's code."""
    pairs = [(layer.k, layer.v) for layer in layers]
    none = skv.Transform.NONE
    with skv.Cache.from_arrays(pairs) as cache:
        plan = skv.Plan(
            engine, strategy="uniform-4", code=skv.Code.PAPER, k_transforms=none, v_transforms=none, unproven=True
        )
        payload = engine.encode(cache, plan.solve(cache))
    decoded = [Layer(np.zeros_like(layer.k), np.zeros_like(layer.v), layer.q) for layer in layers]
    engine.decode(payload, skv.Cache.from_arrays([(layer.k, layer.v) for layer in decoded]))
    return decoded


@pytest.mark.parametrize("seed", range(3))
def test_the_default_codec_survives_key_offsets(engine: skv.Engine, seed: int) -> None:
    plain = p4.synthetic(seed=seed)
    for layers in (plain, p4.injected(plain, "offsets"), p4.injected(plain, "scales")):
        decoded, payload, _ = p4.transfer(engine, layers, Arm("error-aware", 0.28))
        assert payload.nbytes <= 0.28 * payload.raw_bytes
        assert worst(layers, decoded) > LOGIT_SNR_FLOOR + 7


@pytest.mark.parametrize("seed", range(3))
def test_the_paper_s_codec_breaks_on_key_offsets(engine: skv.Engine, seed: int) -> None:
    plain = p4.synthetic(seed=seed)
    hard = p4.injected(plain, "offsets")
    for layers, breaks in ((plain, False), (hard, True)):
        greedy, _, _ = p4.transfer(engine, layers, Arm("greedy", 0.3))
        for decoded in (greedy, paper_uniform(engine, layers)):
            snr = worst(layers, decoded)
            assert snr < LOGIT_SNR_FLOOR - 6 if breaks else snr > LOGIT_SNR_FLOOR


# --------------------------------------------------------------------------------------------------- measures


def test_a_shift_of_all_logits_of_a_query_is_no_error() -> None:
    (layer,) = p4.synthetic(tokens=80, layers=1)
    shifted = Layer(layer.k.astype("f8") + np.arange(64), layer.v, layer.q)
    for head in measure(Layer(layer.k.astype("f8"), layer.v, layer.q), shifted):
        assert head["logit_snr_db"] is None or head["logit_snr_db"] > 200
        assert head["attention_kl"] == pytest.approx(0, abs=1e-12)
        assert head["output_snr_db"] is None or head["output_snr_db"] > 200


def test_the_snr_of_a_known_error() -> None:
    rng = np.random.default_rng(0)
    layer = Layer(rng.normal(size=(40, 1, 8)), rng.normal(size=(40, 1, 8)), rng.normal(size=(5, 2, 8)))
    (head,) = measure(layer, Layer(layer.k * 1.1, layer.v * 0.9, layer.q))
    assert head["logit_snr_db"] == pytest.approx(20.0)  # an error of a tenth, whatever the mean
    (head,) = measure(layer, Layer(layer.k, layer.v * 0.9, layer.q))
    assert head["logit_snr_db"] is None
    assert head["attention_kl"] == 0
    assert head["output_snr_db"] == pytest.approx(20.0)


def test_a_query_does_not_see_later_keys() -> None:
    (layer,) = p4.synthetic(tokens=64, layers=1)
    other = layer.k.copy()
    other[-1] += 9
    changed = Layer(other, layer.v, layer.q)
    # Only the last of the 64 queries sees the last key: silenced, it sees an error of its mean alone.
    silent = layer.q.copy()
    silent[-1] = 0
    for head in measure(Layer(layer.k, layer.v, silent), Layer(changed.k, changed.v, silent)):
        assert head["logit_snr_db"] is None
    for head in measure(layer, changed):
        assert head["logit_snr_db"] is not None


def test_worthless_weights_have_a_finite_kl() -> None:
    (layer,) = p4.synthetic(tokens=80, layers=1)
    for head in measure(layer, Layer(layer.k.astype("f8") * -1e4, layer.v, layer.q)):
        assert np.isfinite(head["attention_kl"]) and head["attention_kl"] > 10


# -------------------------------------------------------------------------------------------------- recorded


def test_recorded_tensors_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    k, q = np.zeros((20, 2, 8), "f2"), np.zeros((4, 6, 8), "f4")
    for arrays, words in (
        ({"x": k}, "no array k0"),
        ({"k0": k, "v0": k}, "no array q0"),
        ({"k0": k, "v0": k[1:], "q0": q}, "wanted"),
        ({"k0": k, "v0": k, "q0": q[:, :5]}, "multiple"),
    ):
        np.savez(path, **arrays)
        with pytest.raises(ValueError, match=words):
            p4.recorded(path)
    np.savez(path, k0=k, v0=k, q0=q)
    assert len(p4.recorded(path)) == 1
