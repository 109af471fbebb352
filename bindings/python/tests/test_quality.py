# SPDX-License-Identifier: Apache-2.0
"""The measures against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from spectrumkv import quality


def test_kl_of_equal_logits_is_zero_whatever_their_offset() -> None:
    logits = np.random.default_rng(0).normal(size=(130, 50)).astype(np.float32)
    assert quality.kl_divergence(logits, logits) == 0.0
    assert quality.kl_divergence(logits, logits + np.float32(7)) == pytest.approx(0.0, abs=1e-9)


def test_kl_is_the_textbook_sum() -> None:
    p = np.array([0.5, 0.25, 0.25])
    q = np.array([0.25, 0.5, 0.25])
    wanted = 0.5 * np.log(2) + 0.25 * np.log(0.5)
    assert quality.kl_divergence(np.log(p)[None], np.log(q)[None]) == pytest.approx(wanted)


def test_perplexity_of_a_uniform_model_is_the_vocabulary() -> None:
    logits = np.zeros((70, 11), np.float32)
    targets = np.arange(70) % 11
    assert quality.perplexity(logits, targets) == pytest.approx(11.0)
    assert quality.ppl_delta(logits, logits, targets) == 0.0


def test_ppl_delta_is_relative() -> None:
    reference = np.log(np.array([[0.5, 0.5]]))
    worse = np.log(np.array([[0.25, 0.75]]))
    assert quality.ppl_delta(reference, worse, np.array([0])) == pytest.approx(1.0)


def test_top1_counts_rows() -> None:
    a = np.array([[1.0, 2.0], [2.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    b = np.array([[1.0, 2.0], [1.0, 2.0], [0.0, 3.0], [2.0, 0.0]])
    assert quality.top1_agreement(a, b) == 0.75


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="wanted equal"):
        quality.kl_divergence(np.zeros((2, 3)), np.zeros((3, 3)))
    with pytest.raises(ValueError, match="targets"):
        quality.perplexity(np.zeros((2, 3)), np.zeros(3, np.int64))


def test_bootstrap_interval_holds_the_mean() -> None:
    values = np.random.default_rng(1).normal(3.0, 1.0, 400)
    low, high = quality.bootstrap_interval(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(4 / np.sqrt(400), rel=0.3)
