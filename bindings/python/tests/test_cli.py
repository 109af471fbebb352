# SPDX-License-Identifier: Apache-2.0
"""The command, on synthetic data."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from typer.testing import Result

import spectrumkv as skv
from conftest import encode, kv_arrays, llama_state
from spectrumkv import sections
from spectrumkv.cli.inspect import strip

MODEL = bytes(range(32)).hex()


def write_npz(path: Path, dtype: str = "float16", **extra: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    layers = kv_arrays(layers=2, tokens=200, dtype=dtype)
    np.savez(path, **{f"{n}{i}": a for i, pair in enumerate(layers) for n, a in zip("kv", pair)}, **extra)
    return layers


def test_doctor(run: Callable[..., Result]) -> None:
    text = run("doctor").output
    assert "everything works" in text
    assert "scalar" in text
    report = json.loads(run("doctor", "--json").output)
    assert report["ok"]
    names = {check["name"] for check in report["checks"]}
    assert {"library", "ABI", "SIMD targets", "round trip", "plane inproc", "plane inline, TCP"} <= names


def test_doctor_without_a_library() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "spectrumkv", "doctor"],
        env={"SPECTRUMKV_LIBRARY": "/nowhere/x.so", "PYTHONPATH": str(Path(skv.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "/nowhere/x.so" in result.stdout
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_npz_through_a_file(run: Callable[..., Result], tmp_path: Path, dtype: str) -> None:
    source, file, back = tmp_path / "in.npz", tmp_path / "x.skv", tmp_path / "out.npz"
    layers = write_npz(source, dtype)
    text = run(
        "encode", source, file, "--unproven", "--budget", 0.5, "--fingerprint", MODEL, "--request-id", "ab" * 16
    ).output
    assert "payload" in text and "K rows" in text
    run("inspect", file)
    run("decode", file, back, "--fingerprint", MODEL)
    run("decode", file, tmp_path / "no.npz", "--fingerprint", "00" * 32, code=1)
    assert not (tmp_path / "no.npz").exists()
    got = np.load(back)
    for i, (k, v) in enumerate(layers):
        assert got[f"k{i}"].dtype == k.dtype
        assert np.abs(got[f"k{i}"].astype(np.float32) - k.astype(np.float32)).max() < 0.4
        assert np.abs(got[f"v{i}"].astype(np.float32) - v.astype(np.float32)).max() < 0.6


def test_npz_raw_is_lossless_and_queries_are_used(run: Callable[..., Result], tmp_path: Path) -> None:
    source, file, back = tmp_path / "in.npz", tmp_path / "x.skv", tmp_path / "out.npz"
    queries = np.random.default_rng(2).normal(0, 1, (32, 4, 64)).astype(np.float32)
    layers = write_npz(source, q0=queries, q1=queries)
    run("encode", source, file, "--strategy", "raw")
    run("decode", file, back)
    got = np.load(back)
    assert all(np.array_equal(got[f"{n}{i}"], a) for i, pair in enumerate(layers) for n, a in zip("kv", pair))
    run("encode", source, file, "--unproven")
    assert skv.Payload.load(file).receipt().scored is skv.Scored.QUERIES


def test_bfloat16_npz(run: Callable[..., Result], tmp_path: Path) -> None:
    layers = kv_arrays(layers=1, dtype=ml_dtypes.bfloat16)  # type: ignore[arg-type]
    np.savez(tmp_path / "in.npz", k0=layers[0][0].view(np.uint16), v0=layers[0][1].view(np.uint16))
    run("encode", tmp_path / "in.npz", tmp_path / "x.skv", "--strategy", "raw", "--dtype", "bf16")
    run("decode", tmp_path / "x.skv", tmp_path / "out.npz")
    assert np.array_equal(np.load(tmp_path / "out.npz")["k0"], layers[0][0].view(np.uint16))


@pytest.mark.parametrize("v_trans", [0, 1])
def test_llama_state_through_a_file(run: Callable[..., Result], tmp_path: Path, v_trans: int) -> None:
    layers = kv_arrays(layers=2, tokens=200)
    state, file = tmp_path / "state.bin", tmp_path / "x.skv"
    state.write_bytes(llama_state(layers, v_trans))
    run("encode", state, file, "--heads", 2, "--layers", 2, "--strategy", "raw")
    run("decode", file, tmp_path / "out.bin", "--v-trans", v_trans)
    assert (tmp_path / "out.bin").read_bytes() == state.read_bytes()
    run("decode", file, tmp_path / "other.bin", "--v-trans", 1 - v_trans)
    assert (tmp_path / "other.bin").read_bytes() == llama_state(layers, 1 - v_trans)
    run("encode", state, file, "--heads", "2,2", "--budget", 0.3, "--unproven")
    assert skv.Payload.load(file).nbytes <= 0.3 * skv.Payload.load(file).raw_bytes


def test_a_llama_view_checks_and_keeps_its_memory() -> None:
    state = llama_state(kv_arrays(layers=2, tokens=50), 0)
    with skv.Engine() as engine:
        source = skv.Cache.from_llama(bytearray(state), 2, 2)
        gc.collect()
        assert source.blob == state
        payload = encode(engine, source, budget=None, strategy="raw")
        with pytest.raises(skv.ArgumentError, match="read-only"):
            engine.decode(payload, source)
        size = skv.Cache.llama_blob_bytes(payload, 0)
        assert size == len(state)
        with pytest.raises(skv.ResourceError):
            skv.Cache.to_llama(payload, 0, out=bytearray(size - 1))
        with pytest.raises(skv.ArgumentError, match="read-only"):
            skv.Cache.to_llama(payload, 0, out=bytes(size))
        with pytest.raises(skv.ArgumentError):
            skv.Cache.to_llama(payload, 2)
        out = np.zeros(size + 32, np.uint8)
        target = skv.Cache.to_llama(payload, 0, "f16", out=out)
        engine.decode(payload, target)
        assert target.blob == state
        assert out[:size].tobytes() == state
    with pytest.raises(skv.PayloadError):
        skv.Cache.from_llama(state[:-1], 2, 2)
    with pytest.raises(skv.ArgumentError):
        skv.Cache.from_llama(state, 2, 3)
    with pytest.raises(skv.ArgumentError, match="layers"):
        skv.Cache.from_llama(state, 2)
    with pytest.raises(skv.ArgumentError, match=r"llama\.cpp"):
        _ = skv.Cache(1).blob


def test_inspect_json_accounts_for_every_byte(run: Callable[..., Result], tmp_path: Path) -> None:
    file = tmp_path / "x.skv"
    with skv.Engine() as engine:
        payload = encode(engine, skv.Cache.from_arrays(kv_arrays(tokens=333), fingerprint=MODEL), budget=0.4)
        paper = encode(engine, skv.Cache.from_arrays(kv_arrays(tokens=333)), budget=0.6, strategy="greedy")
    payload.save(file)
    report = json.loads(run("inspect", file, "--json").output)
    assert report["bytes"] == payload.nbytes == sum(report["sections"].values())
    assert report["fingerprint"] == MODEL
    assert report["digests"] == "ok"
    for index, segment in enumerate(report["segments"]):
        assert segment["nbytes"] == sum(segment["sections"].values())
        assert b"".join(bytes([tier]) * n for tier, n in segment["k_tiers"]) == payload.tiers(index, skv.Half.K)
    assert len(json.loads(run("inspect", file, "--json", "--layer", 1).output)["segments"]) == 1
    assert sum(sections.sizes(paper).values()) == paper.nbytes


def test_inspect_shows_letters_when_it_is_no_terminal(run: Callable[..., Result], tmp_path: Path) -> None:
    file = tmp_path / "x.skv"
    with skv.Engine() as engine:
        encode(engine, skv.Cache.from_arrays(kv_arrays(tokens=40)), budget=None, strategy="uniform-4").save(file)
    text = run("inspect", file).output
    assert " K RRRR" + "4" * 36 in text
    assert "\x1b[" not in text
    assert strip(bytes([5] * 4 + [2] * 96), 10) == [skv.Tier.FOUR_BIT] * 10


def test_inspect_reports_damage(run: Callable[..., Result], tmp_path: Path) -> None:
    file = tmp_path / "x.skv"
    with skv.Engine() as engine:
        data = bytearray(bytes(encode(engine, skv.Cache.from_arrays(kv_arrays()))))
    data[-20] ^= 1
    file.write_bytes(data)
    assert "DAMAGED" in run("inspect", file, code=1).output
    run("decode", file, tmp_path / "out.npz", code=1)
    assert not (tmp_path / "out.npz").exists()
    file.write_bytes(b"hello")
    assert "SKV_E_" in run("inspect", file, code=1).output


def test_mistakes_are_one_line(run: Callable[..., Result], tmp_path: Path) -> None:
    state = tmp_path / "state.bin"
    state.write_bytes(llama_state(kv_arrays(layers=1, tokens=20), 0))
    target = tmp_path / "x.skv"
    assert "--heads" in run("encode", state, target, code=1).output
    assert "--layers" in run("encode", state, target, "--heads", 2, code=1).output
    assert "SKV_E_" in run("encode", state, target, "--heads", 7, "--layers", 1, code=1).output
    assert "no verdict" in run("encode", state, target, "--heads", 2, "--layers", 1, code=1).output
    small = run("encode", state, target, "--heads", 2, "--layers", 1, "--budget", 0.01, "--unproven", code=1)
    assert "floor" in small.output
    assert "SKV_E_KEY" in run("encode", state, target, "--heads", 2, "--layers", 1, "--strategy", "x", code=1).output
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    assert "k0" in run("encode", tmp_path / "a.npz", target, code=1).output
    assert not target.exists()


@pytest.mark.parametrize("command", ["doctor", "encode", "decode", "inspect", "demo"])
def test_help(run: Callable[..., Result], command: str) -> None:
    assert command in run("--help").output
    assert len(run(command, "--help").output) > 200
