# SPDX-License-Identifier: Apache-2.0
"""What bench/peers/cpu.sh says of other quantizers: which rows are compared, and what an error is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[3] / "bench" / "peers"))

from cpu import errors
from cpu.peer import Tensor
from cpu.verdict import verdict


def row(method: str, of_raw: float, error: float, speed: float, **more: bool) -> dict[str, Any]:
    flags = {"own": False, "yardstick": False, "lossless": False} | more
    speeds = {"encode_vs_memcpy": speed, "decode_vs_memcpy": 2 * speed}
    return {"method": method, "of_raw": of_raw, "k_error": error, "v_error": error} | speeds | flags


OURS = [
    row("4", 0.26, 0.1, 0.5, own=True),
    row("8", 0.52, 0.01, 0.4, own=True),
    row("8 plain", 0.51, 0.02, 0.7, own=True),
    row("raw", 1.0, 0.0, 1.0, own=True, lossless=True),
]


def test_a_peer_is_compared_with_the_fastest_row_that_is_no_larger_and_no_worse() -> None:
    found = verdict(row("peer", 0.53, 0.02, 0.35), OURS)
    assert found is not None
    assert (found["beside"], found["twice"], found["peer_smaller"]) == ("8 plain", True, False)
    assert found["encode_times"] == pytest.approx(2)
    better = verdict(row("peer", 0.53, 0.01, 0.35), OURS)
    assert better is not None
    assert (better["beside"], better["twice"]) == ("8", False)


def test_a_smaller_peer_of_equal_error_is_said_to_be_smaller() -> None:
    found = verdict(row("peer", 0.4, 0.05, 0.1), OURS)
    assert found is not None
    assert (found["beside"], found["peer_smaller"]) == ("8 plain", True)


def test_a_lossless_peer_is_compared_with_lossless_rows_only_and_copies_with_none() -> None:
    found = verdict(row("peer", 1.0, 0.0, 0.1, lossless=True), OURS)
    assert found is not None
    assert found["beside"] == "raw"
    assert verdict(row("copy", 1.0, 0.0, 1.0, yardstick=True), OURS) is None
    assert verdict(OURS[0], OURS) is None


def made() -> Tensor:
    random = np.random.default_rng(3)
    data = random.standard_normal((1, 2, 32, 2, 16), np.float32).astype(np.float16)
    tensor = Tensor("small", data, [random.standard_normal((4, 6, 16), np.float32)], 32)
    tensor.back[:] = data
    return tensor


def test_a_row_that_is_no_number_is_an_infinite_error() -> None:
    tensor = made()
    assert errors.worst(tensor.back, tensor.data) == 0
    tensor.back[0, 1, 5, 1, 3] = np.nan
    assert errors.worst(tensor.back, tensor.data) == np.inf


def test_attention_does_not_see_what_softmax_takes_away_and_sees_the_rest() -> None:
    tensor = made()
    wanted = errors.reference(tensor)
    assert errors.attention(tensor, wanted) == (0, 0)
    tensor.back[:, 0] += np.float16(0.5)  # every key by the same: every logit of a query by the same
    logits, output = errors.attention(tensor, wanted)
    assert logits < 2e-3 and output < 2e-3
    tensor.back[:] = tensor.data
    tensor.back[0, 0, 7, 0] += np.float16(0.5)
    logits, output = errors.attention(tensor, wanted)
    assert logits > 1e-2 and output > 1e-2
