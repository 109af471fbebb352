# SPDX-License-Identifier: Apache-2.0
"""Precision that follows a payload, and precision that is cut from it: planned, encoded, sent and applied."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

import spectrumkv as skv
from conftest import empty_like, encode, kv_arrays

TOKENS = 320


def worst(a: list[tuple[np.ndarray, np.ndarray]], b: list[tuple[np.ndarray, np.ndarray]]) -> float:
    return max(
        float(np.abs(x.astype(np.float32) - y.astype(np.float32)).max()) for p, q in zip(a, b) for x, y in zip(p, q)
    )


def decoded(
    engine: skv.Engine, payload: skv.Payload, like: list[tuple[np.ndarray, np.ndarray]]
) -> list[tuple[np.ndarray, np.ndarray]]:
    target = empty_like(like)
    with skv.Cache.from_arrays(target) as cache:
        engine.decode(payload, cache)
    return target


def test_an_upgrade_adds_precision_within_its_budget(engine: skv.Engine) -> None:
    layers = kv_arrays()
    with skv.Cache.from_arrays(layers) as cache:
        base = encode(engine, cache, budget=0.24)
        before, better = worst(layers, decoded(engine, base, layers)), base
        for budget in (0.05, 0.1, 0.2):
            plan = skv.Plan(engine, budget=budget).upgrade(better, cache)
            upgrade = engine.encode_upgrade(cache, better, plan)
            assert upgrade.upgrade
            assert not better.upgrade
            assert len(upgrade) == plan.nbytes <= budget * base.raw_bytes
            receipt = upgrade.receipt()
            assert receipt.payload_bytes == len(upgrade)
            assert receipt.budget_bytes == int(budget * base.raw_bytes)
            with pytest.raises(skv.StateError):
                decoded(engine, upgrade, layers)
            better = better.apply(upgrade)
            for layer in range(2):
                for half in skv.Half:
                    assert better.tiers(layer, half) == plan.tiers(layer, half, TOKENS)
        assert worst(layers, decoded(engine, better, layers)) < before / 4


def test_the_callers_tokens_are_raised(engine: skv.Engine) -> None:
    layers = kv_arrays()
    with skv.Cache.from_arrays(layers) as cache:
        base = encode(engine, cache, budget=None, strategy="uniform-4")
        plan = skv.Plan(engine).upgrade(base, cache)
        empty = plan.nbytes
        tiers = bytearray(base.tiers(1, skv.Half.K))
        tiers[100:110] = bytes([skv.Tier.RAW]) * 10
        plan.set_tiers(1, skv.Half.K, tiers)
        assert empty + 10 * 2 * 64 * 2 <= plan.nbytes <= empty + 10 * 2 * 64 * 2 + 64
        result = base.apply(engine.encode_upgrade(cache, base, plan))
        target = decoded(engine, result, layers)
        assert target[1][0][100:110].tobytes() == layers[1][0][100:110].tobytes()
        assert target[1][0][110].tobytes() != layers[1][0][110].tobytes()
        tiers[50] = skv.Tier.TWO_BIT
        with pytest.raises(skv.ArgumentError, match="wanted no less"):
            plan.set_tiers(1, skv.Half.K, tiers)


def test_another_base_is_refused_by_its_own_status(engine: skv.Engine) -> None:
    layers = kv_arrays()
    with skv.Cache.from_arrays(layers) as cache:
        base, other = encode(engine, cache, budget=0.3), encode(engine, cache, budget=0.35)
        plan = skv.Plan(engine, budget=0.1).upgrade(base, cache)
        upgrade = engine.encode_upgrade(cache, base, plan)
        for refused in (lambda: other.apply(upgrade), lambda: engine.encode_upgrade(cache, other, plan)):
            with pytest.raises(skv.IdentityError) as caught:
                refused()
            assert caught.value.status is skv.Status.E_BASE
        layers[0][0][:] = layers[0][0][::-1].copy()
        with pytest.raises(skv.IdentityError, match="does not hold what the base was encoded from"):
            engine.encode_upgrade(cache, base, plan)
        damaged = bytearray(bytes(upgrade))
        damaged[-1] ^= 1
        with pytest.raises(skv.ChecksumError):
            base.apply(skv.Payload.open(damaged))


def test_a_payload_is_cut_without_its_cache(engine: skv.Engine) -> None:
    layers = kv_arrays()
    with skv.Cache.from_arrays(layers) as cache:
        whole = encode(engine, cache, budget=None, strategy="uniform-8")
        low = encode(engine, cache, budget=None, strategy="uniform-4")
    with pytest.raises(skv.BudgetError, match="verdict"):
        skv.Plan(engine, strategy="uniform-4").truncate(whole)
    plan = skv.Plan(engine, strategy="uniform-4", unproven=True).truncate(whole)
    cut = whole.truncate(plan)
    assert bytes(cut) == bytes(low)
    plan = skv.Plan(engine, budget=0.35, unproven=True).truncate(whole)
    cut = whole.truncate(plan)
    assert 0.34 * whole.raw_bytes < len(cut) == plan.nbytes <= 0.35 * whole.raw_bytes
    with pytest.raises(skv.BudgetError, match="floor"):
        skv.Plan(engine, budget=0.1, unproven=True).truncate(whole)
    with pytest.raises(skv.StateError):
        cut.truncate(skv.Plan(engine))


def test_inspect_says_what_an_upgrade_raises(engine: skv.Engine, run: Callable[..., Result], tmp_path: Path) -> None:
    with skv.Cache.from_arrays(kv_arrays(layers=1)) as cache:
        base = encode(engine, cache, budget=None, strategy="uniform-4")
        plan = skv.Plan(engine).upgrade(base, cache)
        plan.set_tiers(0, skv.Half.V, bytes([5] * 4 + [4] * 20 + [2] * (TOKENS - 24)))
        file = tmp_path / "upgrade.skv"
        engine.encode_upgrade(cache, base, plan).save(file)
    assert json.loads(run("inspect", file, "--json").output)["raised"] == {"k_rows": {}, "v_rows": {"eight_bit": 20}}
    text = run("inspect", file).output
    assert "20 to eight_bit" in text
    assert "none" in text


def test_packed_payloads_are_upgraded_and_cut_like_any(engine: skv.Engine) -> None:
    layers = kv_arrays()
    with skv.Cache.from_arrays(layers) as cache:
        base = encode(engine, cache, budget=0.3)
        plan = skv.Plan(engine, budget=0.1).upgrade(base, cache)
        upgrade = engine.encode_upgrade(cache, base, plan)
        wanted = bytes(base.apply(upgrade))
        packed, packed_upgrade = (skv.Payload.open(bytes(engine.pack(p))) for p in (base, upgrade))
        assert packed_upgrade.upgrade
        assert bytes(packed.apply(packed_upgrade)) == wanted
        again = skv.Plan(engine, budget=0.1).upgrade(packed, cache)
        assert bytes(engine.encode_upgrade(cache, packed, again)) == bytes(upgrade)
    cut = skv.Plan(engine, strategy="uniform-4")
    assert bytes(packed.truncate(cut.truncate(packed))) == bytes(base.truncate(cut.truncate(base)))


@pytest.mark.parametrize("plane", ["inproc", "tcp"])
def test_an_upgrade_is_sent_like_any_payload(engine: skv.Engine, tmp_path: Path, plane: str) -> None:
    """Base, then upgrade, over one conn; the second layer by layer."""
    layers = kv_arrays()
    with skv.Cache.from_arrays(layers, request_id=b"r" * 16) as cache:
        base = encode(engine, cache, budget=0.24)
        plan = skv.Plan(engine, budget=0.2).upgrade(base, cache)
        upgrade = engine.encode_upgrade(cache, base, plan)
    wanted = bytes(base.apply(upgrade))
    uri = f"inproc://{tmp_path.name}" if plane == "inproc" else "tcp://127.0.0.1:0"
    with skv.Endpoint() as server, skv.Endpoint() as client:
        bound = server.listen(uri)
        with client.connect(bound, 5) as a, server.accept(5) as b:

            def send() -> None:
                for key, payload in ((1, base), (2, upgrade)):
                    with a.send(key, payload, 10) as request:
                        request.result(10)

            sender = threading.Thread(target=send)
            sender.start()
            got = []
            for early in (False, True):
                offer = b.recv_offer(10)
                offer.result(10)
                assert offer.layers == 2
                assert offer.identity[1] == b"r" * 16
                offer.accept(early_layers=early)
                if early:
                    assert offer.wait_layer(0, 10)
                    arriving = offer.payload()
                    offer.result(10)
                    got.append(arriving)
                else:
                    offer.result(10)
                    got.append(offer.payload())
            sender.join()
    assert [p.upgrade for p in got] == [False, True]
    assert bytes(got[1]) == bytes(upgrade)
    assert bytes(got[0].apply(got[1])) == wanted
    assert got[1].receipt().wire_ns > 0


@pytest.mark.e2e
def test_the_example_gets_better_while_it_runs(root: Path) -> None:
    run = subprocess.run(
        [sys.executable, root / "examples" / "upgrade.py", "--tokens", "512", "--read", "32"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    steps = [line.split() for line in run.stdout.splitlines()[1:]]
    assert [step[0] for step in steps] == ["base", "+1", "+2"]
    assert [float(step[2]) for step in steps] == [0.22, 0.06, 0.12]
    kl = [float(step[5]) for step in steps]
    assert kl[2] < kl[1] < kl[0]
    assert kl[2] < kl[0] / 4
