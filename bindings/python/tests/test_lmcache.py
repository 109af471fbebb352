# SPDX-License-Identifier: Apache-2.0
"""LMCache's contract for serdes. On the real packages where they are installed (label engines), else on fakes."""

from __future__ import annotations

import json
import select
import types
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import spectrumkv as skv
from fake_torch import fake_lmcache, standing_in
from spectrumkv.constants import Status

with standing_in(**fake_lmcache()):
    import torch
    from lmcache.v1.distributed.serde import AsyncSerdeProcessor

    from spectrumkv import lmcache as skvl

LAYERS, TOKENS, HEADS, DIM = 4, 256, 2, 64


@dataclass(frozen=True)
class Key:
    """An ObjectKey's fields."""

    chunk_hash: bytes = b"\x01" * 32
    model_name: str = "org/model"
    kv_rank: int = 0
    object_group_id: int = 0
    cache_salt: str = ""


@dataclass
class Memory:
    """What a serde touches of a MemoryObj."""

    tensor: Any


KEY = Key()


def layout(*shapes: tuple[int, ...], dtype: Any = None) -> Any:
    return types.SimpleNamespace(shapes=list(shapes), dtypes=[dtype or torch.float16] * len(shapes))


def chunk(dtype: str = "float16", tokens: int = TOKENS, kv: int = 2) -> Any:
    rng = np.random.default_rng(5)
    values = rng.normal(0, 1, (kv, LAYERS, tokens, HEADS * DIM))
    values[0] += rng.normal(0, 3, (1, 1, HEADS * DIM))
    return torch.tensor(values.astype(dtype))


def zeros(size: int) -> Any:
    return torch.tensor(np.zeros(size, np.uint8))


def pair(**options: Any) -> tuple[Any, Any]:
    codec = skvl._Codec(**{"head_dim": DIM, **options})
    return skvl.SpectrumKVSerializer(codec), skvl.SpectrumKVDeserializer(codec)


def difference(a: Any, b: Any) -> float:
    return float(np.abs(np.asarray(a, np.float32) - np.asarray(b, np.float32)).max())


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize(("budget", "worst"), [(None, 0.06), (0.35, 1.5)], ids=str)
def test_round_trip_takes_exactly_the_estimate(dtype: str, budget: float | None, worst: float) -> None:
    serializer, deserializer = pair(budget=budget, unproven=True)
    source = chunk(dtype)
    size = serializer.estimate_serialized_size(layout(source.shape, dtype=source.dtype))
    raw = 2 * source.numel()
    assert size <= (budget or 0.55) * raw
    buffer = torch.tensor(np.full(size + 64, 0xAA, np.uint8))
    assert serializer.serialize(Memory(source), Memory(buffer), KEY) == size
    assert set(np.asarray(buffer)[size:].tolist()) == {0xAA}
    for stored in (buffer[:size], buffer):  # as long as stored, or a buffer with something behind it
        back = torch.tensor(np.zeros(tuple(source.shape), dtype))
        deserializer.deserialize(Memory(stored), Memory(back), KEY)
        assert 0 < difference(source, back) < worst


def test_without_keys_and_into_unaligned_memory() -> None:
    serializer, deserializer = pair()
    source = chunk()
    size = serializer.estimate_serialized_size(layout(source.shape))
    for shift in (0, 3):
        buffer = zeros(size + 32)[shift : shift + size]
        assert serializer.serialize(Memory(source), Memory(buffer)) == size
        back = torch.tensor(np.zeros(tuple(source.shape), np.float16))
        deserializer.deserialize(Memory(buffer), Memory(back))
        assert difference(source, back) < 0.06


def test_a_latent_cache_has_no_values() -> None:
    serializer, deserializer = pair()
    source = chunk(kv=1)
    buffer = zeros(serializer.estimate_serialized_size(layout(source.shape)))
    serializer.serialize(Memory(source), Memory(buffer), KEY)
    back = torch.tensor(np.zeros(tuple(source.shape), np.float16))
    deserializer.deserialize(Memory(buffer), Memory(back), KEY)
    assert difference(source, back) < 0.1


def test_groups_of_layers_make_one_payload() -> None:
    class Groups:
        def __init__(self, tensors: list[Any]) -> None:
            self.tensors = tensors
            self.meta = types.SimpleNamespace(shapes=[tensor.shape for tensor in tensors])

        def get_tensor(self, index: int) -> Any:
            return self.tensors[index]

    serializer, deserializer = pair()
    source = Groups([chunk(), chunk(tokens=128)])
    buffer = zeros(serializer.estimate_serialized_size(layout(*source.meta.shapes)))
    serializer.serialize(source, Memory(buffer), KEY)
    back = Groups([torch.tensor(np.zeros(tuple(shape), np.float16)) for shape in source.meta.shapes])
    deserializer.deserialize(Memory(buffer), back, KEY)
    assert max(map(difference, source.tensors, back.tensors)) < 0.06


def test_small_chunks_are_stored_at_8_bits() -> None:
    serializer, deserializer = pair(budget=0.28, unproven=True)
    source = chunk(tokens=3)
    size = serializer.estimate_serialized_size(layout(source.shape))
    assert size > 0.28 * 2 * source.numel()
    buffer = zeros(size)
    assert serializer.serialize(Memory(source), Memory(buffer), KEY) == size
    back = torch.tensor(np.zeros(tuple(source.shape), np.float16))
    deserializer.deserialize(Memory(buffer), Memory(back), KEY)
    assert difference(source, back) < 0.06


@pytest.mark.parametrize(
    "other",
    [
        replace(KEY, chunk_hash=b"\x02" * 32),
        replace(KEY, model_name="org/other"),
        replace(KEY, kv_rank=1),
        replace(KEY, object_group_id=1),
        replace(KEY, cache_salt="tenant"),
    ],
    ids=["chunk", "model", "rank", "group", "salt"],
)
def test_a_chunk_of_another_key_is_refused(other: Key) -> None:
    serializer, deserializer = pair()
    source = chunk()
    buffer = zeros(serializer.estimate_serialized_size(layout(source.shape)))
    serializer.serialize(Memory(source), Memory(buffer), KEY)
    back = torch.tensor(np.zeros(tuple(source.shape), np.float16))
    with pytest.raises(skv.IdentityError):
        deserializer.deserialize(Memory(buffer), Memory(back), other)
    assert not np.asarray(back).any()


def test_damaged_bytes_are_refused_and_write_nothing() -> None:
    serializer, deserializer = pair()
    source = chunk()
    size = serializer.estimate_serialized_size(layout(source.shape))
    buffer = zeros(size)
    serializer.serialize(Memory(source), Memory(buffer), KEY)
    whole = np.asarray(buffer).copy()
    back = torch.tensor(np.zeros(tuple(source.shape), np.float16))
    total = int.from_bytes(whole[16:24].tobytes(), "little")
    for at in (*range(0, 128, 5), 16, 23, 200, total // 2, total - 1):
        damaged = whole.copy()
        damaged[at] ^= 0x40
        with pytest.raises((skv.PayloadError, skv.ChecksumError, skv.VersionError)):
            deserializer.deserialize(Memory(torch.tensor(damaged)), Memory(back), KEY)
    for length in (0, 1, 16, 127, total - 1):
        with pytest.raises(skv.PayloadError):
            deserializer.deserialize(Memory(torch.tensor(whole[:length])), Memory(back), KEY)
    assert not np.asarray(back).any()


def test_missing_tensors_shapes_and_room() -> None:
    serializer, deserializer = pair()
    source = chunk()
    size = serializer.estimate_serialized_size(layout(source.shape))
    with pytest.raises(ValueError, match="the source has no tensor"):
        serializer.serialize(Memory(None), Memory(zeros(size)), KEY)
    with pytest.raises(ValueError, match="the destination has no tensor"):
        deserializer.deserialize(Memory(zeros(size)), Memory(None), KEY)
    with pytest.raises(skv.ArgumentError, match="wanted as many") as error:
        serializer.serialize(Memory(source), Memory(zeros(size - 1)), KEY)
    assert error.value.status == Status.E_TOO_SMALL
    for shape in ((3, LAYERS, TOKENS, HEADS * DIM), (2, TOKENS, HEADS * DIM), (2, LAYERS, TOKENS, DIM + 8)):
        with pytest.raises(skv.ArgumentError, match="wanted"):
            serializer.estimate_serialized_size(layout(shape))
    source[0, 1, 7, 9] = np.inf
    with pytest.raises(skv.NonFiniteError):
        serializer.serialize(Memory(source), Memory(zeros(size)), KEY)


def test_low_budgets_want_proof(tmp_path: Path) -> None:
    source = chunk()
    with pytest.raises(skv.BudgetError) as error:
        pair(budget=0.3)[0].estimate_serialized_size(layout(source.shape))
    assert error.value.status == Status.E_PERMITTED

    profile = skv.Profile(bytes(range(32)), LAYERS)
    profile.set_verdict(skv.Probe.NEEDLE, skv.Verdict.YES, 3, 3)
    (tmp_path / "model.json").write_text(profile.save())
    assert json.loads(profile.save())["model"] == bytes(range(32)).hex()
    serializer, deserializer = pair(budget=0.3, profile=str(tmp_path / "model.json"))
    buffer = zeros(serializer.estimate_serialized_size(layout(source.shape)))
    assert serializer.serialize(Memory(source), Memory(buffer), KEY) <= 0.3 * 2 * source.numel()
    back = torch.tensor(np.zeros(tuple(source.shape), np.float16))
    deserializer.deserialize(Memory(buffer), Memory(back), KEY)
    assert skv.Payload.open(np.asarray(buffer)[: int.from_bytes(bytes(buffer[16:24]), "little")]).identity[0] == bytes(
        range(32)
    )


def test_the_factory_says_what_it_wants() -> None:
    assert "spectrumkv" in skvl.get_registered_serde_types()
    for options in ({}, {"head_dim": DIM, "budgets": 0.3}):
        with pytest.raises(skv.ArgumentError, match="wanted head_dim"):
            skvl._factory(options)
    for options, error in (({"head_dim": 60}, "head_dim 60"), ({"head_dim": DIM, "budget": 28}, "budget 28")):
        with pytest.raises(skv.ArgumentError, match=error):
            skvl._factory(options)


def ready(fd: int) -> bool:
    return bool(select.select([fd], [], [], 30)[0])


@pytest.mark.skipif(
    AsyncSerdeProcessor.__module__ == "fake", reason="lmcache is not installed: scripts/setup.sh --stacks"
)
def test_the_processor_reports_success_and_failure() -> None:
    from lmcache.v1.distributed.serde import SerdeConfig, create_serde_processor

    processor = create_serde_processor(SerdeConfig(type="spectrumkv", kwargs={"head_dim": DIM, "max_workers": 2}))
    try:
        source = [Memory(chunk()), Memory(chunk())]
        size = processor.estimate_serialized_size(layout(source[0].tensor.shape))
        stored = [Memory(zeros(size)) for _ in source]
        keys = [KEY, replace(KEY, chunk_hash=b"\x03" * 32)]
        assert processor.get_serialize_event_fd() != processor.get_deserialize_event_fd()
        task = processor.submit_serialize(source, stored, keys)
        assert ready(processor.get_serialize_event_fd())
        assert processor.query_serialize_result(task) is True
        assert processor.query_serialize_result(task) is None
        back = [Memory(torch.zeros(tuple(each.tensor.shape), dtype=torch.float16)) for each in source]
        for order, success in ((keys, True), (keys[::-1], False)):
            task = processor.submit_deserialize(stored, back, order)
            assert ready(processor.get_deserialize_event_fd())
            while (result := processor.query_deserialize_result(task)) is None:
                pass
            assert result is success
        assert all(difference(a.tensor, b.tensor) < 0.06 for a, b in zip(source, back))
    finally:
        processor.close()
